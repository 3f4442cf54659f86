use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Dockerfile, Defects> {
    Dockerfile::parse(Path::new("Dockerfile"), text)
}

/// The steps over a base that says `PATH=/bin`.
fn plan(text: &str) -> Plan {
    let base = ImageConfig { env: map([("PATH", "/bin")]), ..ImageConfig::default() };
    parse(text).and_then(|dockerfile| dockerfile.plan(&base)).expect(text)
}

fn refused(text: &str) -> Vec<String> {
    parse(text).expect_err(text).0.iter().map(ToString::to_string).collect()
}

fn map<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

fn runs(plan: &Plan) -> Vec<&Run> {
    plan.steps
        .iter()
        .filter_map(|s| if let Action::Run(run) = &s.action { Some(run) } else { None })
        .collect()
}

fn copies(plan: &Plan) -> Vec<&Copy> {
    plan.steps
        .iter()
        .filter_map(|s| if let Action::Copy(c) = &s.action { Some(c) } else { None })
        .collect()
}

#[test]
fn a_whole_dockerfile_becomes_steps_that_need_no_state() {
    let text = "\
ARG TAG=24.04
FROM ghcr.io/x/ubuntu:${TAG} AS base
LABEL a=b
ENV HOME=/root PATH=/opt/bin:$PATH
workdir /app
ARG N=2
USER 1000:1000
RUN make -j$N \\
    # all of it
    all
WORKDIR src
SHELL [\"bash\", \"-euc\"]
RUN [\"ls\", \"$HOME\"]
COPY --chown=$HOME:g --chmod=0755 a 'b' ./
CMD [\"bash\"]
";
    let dockerfile = parse(text).unwrap();
    assert_eq!(dockerfile.from, "ghcr.io/x/ubuntu:24.04");
    let plan = plan(text);
    let env = map([("HOME", "/root"), ("N", "2"), ("PATH", "/opt/bin:/bin")]);
    let run = |argv: &[&str], cwd: &str| {
        Action::Run(Run {
            argv: argv.iter().map(ToString::to_string).collect(),
            env: env.clone(),
            cwd: cwd.to_owned(),
            user: Some("1000:1000".to_owned()),
        })
    };
    let want = [
        (5, Action::MakeFolder("/app".to_owned())),
        (8, run(&["/bin/sh", "-c", "make -j$N     all"], "/app")),
        (11, Action::MakeFolder("/app/src".to_owned())),
        (13, run(&["ls", "$HOME"], "/app/src")),
        (
            14,
            Action::Copy(Copy {
                sources: vec!["a".to_owned(), "b".to_owned()],
                destination: "/app/src/".to_owned(),
                owner: Some("/root:g".to_owned()),
                mode: Some(0o755),
            }),
        ),
    ];
    let got: Vec<_> = plan.steps.into_iter().map(|step| (step.line, step.action)).collect();
    assert_eq!(got, want);
    assert_eq!(plan.config.workdir, "/app/src");
    assert_eq!(plan.config.user.as_deref(), Some("1000:1000"));
    assert!(!plan.config.env.contains_key("N"), "an ARG is no part of the image");
}

#[test]
fn env_wins_over_arg_and_one_line_sees_the_environment_before_it() {
    let plan = plan("FROM a\nARG A=arg\nENV A=x\nENV A=y B=$A\nARG A=z\nENV C $A  \"d\"\nRUN c");
    let env = map([("A", "y"), ("B", "x"), ("C", "y  d"), ("PATH", "/bin")]);
    assert_eq!(runs(&plan)[0].env, env);
}

/// The values are those that the builder of Docker 28.2 gave for the same text.
#[test]
fn words_become_what_docker_makes_of_them() {
    let text = r#"ARG V=1
FROM scratch
ARG V
ARG W=${V:-no}x
ENV A=1 B="two words" C=three\ words D='$A' E=$A
ENV F=${NONE:-d$A} G=${A:+set} H="q\"$A\"\n" I=a$ J=$1x K=${V}-$W
ENV L old form  "q" \
  # comment
  $A
ENV M=${NONE:-"inq"} N='it'"s" O=a"$B"c
ENV P=$A$A Q=\$A R="\$A" S="$"
WORKDIR /a/../b
WORKDIR c/./d
USER ${A}000:g
"#;
    let config = parse(text).unwrap().plan(&ImageConfig::default()).unwrap().config;
    let want = map([
        ("A", "1"),
        ("B", "two words"),
        ("C", "three words"),
        ("D", "$A"),
        ("E", ""),
        ("F", "d1"),
        ("G", "set"),
        ("H", "q\"1\"\\n"),
        ("I", "a$"),
        ("J", "x"),
        ("K", "1-1x"),
        ("L", "old form  q   1"),
        ("M", "inq"),
        ("N", "its"),
        ("O", "atwo wordsc"),
        ("P", "11"),
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("Q", "$A"),
        ("R", "$A"),
        ("S", "$"),
    ]);
    assert_eq!(config.env, want);
    assert_eq!((config.workdir.as_str(), config.user.as_deref()), ("/b/c/d", Some("1000:g")));
}

#[test]
fn an_arg_above_from_is_known_below_only_where_it_is_named() {
    let text = "ARG A=1\nFROM a:$A\nENV B=$A\nARG A TARGETOS\nENV C=$A-$TARGETOS\n";
    assert_eq!(plan(text).config.env, map([("B", ""), ("C", "1-linux"), ("PATH", "/bin")]));
}

#[test]
fn copy_destinations_are_absolute_and_say_whether_they_are_folders() {
    let text =
        "FROM a\nCOPY a b\nWORKDIR w\nCOPY . .\nCOPY ./x/ /y/../z\nCOPY [\"a b\", \"c/\"]\nADD f /";
    let plan = plan(text);
    let got: Vec<_> =
        copies(&plan).iter().map(|c| (c.sources[0].as_str(), c.destination.as_str())).collect();
    let want = [("a", "/b"), ("", "/w/"), ("x", "/z"), ("a b", "/w/c/"), ("f", "/")];
    assert_eq!(got, want);
}

#[test]
fn a_heredoc_is_given_to_the_shell() {
    let text = "FROM a\nRUN <<-END\n\techo 1\n\techo $X\nEND\nRUN cat <<E >f && b\nUSER x\nE\n";
    let plan = plan(text);
    let commands: Vec<_> = runs(&plan).iter().map(|run| run.argv[2].as_str()).collect();
    assert_eq!(commands, ["echo 1\necho $X\n", "cat <<E >f && b\nUSER x\nE"]);
}

#[test]
fn every_defect_is_named_with_its_line_at_once() {
    let text = "\
FROM a
RUN --mount=type=cache,target=/x y
ADD https://x.y/z /z
COPY --from=b c d
ONBUILD RUN x
COPPY a b
WORKDIR $NONE
COPY ../a b
COPY --chmod=u+x a b
ENV A='x
FROM b
";
    let want = [
        "Dockerfile:2: RUN: expected no flag, found `--mount`",
        "Dockerfile:3: ADD: expected files of the build context (fetch addresses with RUN), found \
         `https://x.y/z`",
        "Dockerfile:4: COPY: expected files of the build context, found `--from`",
        "Dockerfile:5: ONBUILD: expected an instruction of this image, found one for other images",
        "Dockerfile:6: COPPY: expected a Dockerfile instruction, found `COPPY`",
        "Dockerfile:7: WORKDIR: expected a value that is not empty, found `$NONE`, which is empty",
        "Dockerfile:8: COPY: expected a path inside the build context, found `../a`",
        "Dockerfile:9: COPY: expected `--chmod` with an octal number such as 755, found `u+x`",
        "Dockerfile:10: ENV: expected a closing single quote, found the end of the word",
        "Dockerfile:11: FROM: expected one stage, found a second `FROM`",
    ];
    assert_eq!(refused(text), want);
}

#[test]
fn what_cannot_be_built_as_docker_would_is_refused() {
    let cases = [
        ("", "a `FROM`"),
        ("RUN x\nFROM a", "`FROM` first"),
        ("FROM", "`IMAGE` or"),
        ("FROM a b c", "`IMAGE` or"),
        ("FROM $NONE", "an image"),
        ("FROM --platform=linux/s390x a", "the platform"),
        ("FROM a\nRUN", "a command"),
        ("FROM a\nRUN []", "a command"),
        ("FROM a\nRUN <<E\nx", "a line `E`"),
        ("FROM a\nRUN <<E\n#!/x\nE", "shell commands"),
        ("FROM a\nCOPY <<E /f\nx\nE", "build context"),
        ("FROM a\nCOPY a", "one source"),
        ("FROM a\nCOPY a b c", "ends with `/`"),
        ("FROM a\nADD a.tar.gz /", "does not unpack"),
        ("FROM a\nADD a* /", "wildcards"),
        ("FROM a\nSHELL bash -c", "a JSON list"),
        ("FROM a\nENV A", "`NAME=VALUE`"),
        ("# escape=x\nFROM a", "a backtick"),
    ];
    for (text, expected) in cases {
        let defects = refused(text);
        assert!(defects[0].contains(expected), "{text:?} gave {defects:?}");
    }
}

#[test]
fn a_doubling_environment_is_refused_before_it_is_large() {
    let text = format!("FROM a\nENV A=0123456789\n{}", "ENV A=$A$A\n".repeat(60));
    assert!(refused(&text).iter().any(|defect| defect.contains("32 KiB")));
    let wide: String = (0..40).map(|i| format!("ENV A{i}={}\n", "x".repeat(2000))).collect();
    assert!(refused(&format!("FROM a\n{wide}")).iter().any(|defect| defect.contains("64 KiB")));
    assert!(refused(&format!("FROM a\n{}", "RUN a\n".repeat(1000)))[0].contains("1000"));
}

#[test]
fn words_that_only_the_base_makes_wrong_are_refused_by_the_plan() {
    let dockerfile = parse("FROM a\nENV S=${S:-f}\nADD $S /f").unwrap();
    let base = ImageConfig { env: map([("S", "http://x/f")]), ..ImageConfig::default() };
    assert!(dockerfile.plan(&base).is_err());
}

/// Text that looks like a Dockerfile more often than chance would have it.
fn dockerfile_like() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "FROM a",
        "\n",
        "RUN ",
        "COPY ",
        "ADD ",
        "ENV ",
        "ARG ",
        "<<E",
        "\nE\n",
        "\\",
        "\\\n",
        "# ",
        "escape=`\n",
        "$",
        "${",
        "}",
        ":-",
        "'",
        "\"",
        "[\"",
        "\"]",
        "A",
        "=",
        " ",
        "/",
        "..",
        "--chmod=",
        "--chown=",
        "é",
        "\t",
        "WORKDIR ",
        "USER ",
        "SHELL ",
        "\0",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_panics(text in prop_oneof![any::<String>(), dockerfile_like()]) {
        if let Ok(dockerfile) = parse(&text) {
            let _ = dockerfile.plan(&ImageConfig::default());
        }
        if let Ok(dockerfile) = parse(&format!("FROM a\n{text}")) {
            let plan = dockerfile.plan(&ImageConfig::default()).expect("planned by parse");
            for step in plan.steps {
                if let Action::Copy(copy) = step.action {
                    prop_assert!(copy.destination.starts_with('/'));
                    let leaves = |source: &String| source.split('/').any(|part| part == "..");
                    prop_assert!(!copy.sources.iter().any(leaves));
                }
            }
        }
    }
}

#[test]
fn the_built_in_tasks_need_no_container_engine() {
    let builtin = Path::new(env!("CARGO_MANIFEST_DIR")).join("builtin");
    let mut read = 0;
    for entry in std::fs::read_dir(builtin).unwrap() {
        let file = entry.unwrap().path().join("environment/Dockerfile");
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        if let Err(defects) = Dockerfile::parse(&file, &text) {
            panic!("{defects}");
        }
        read += 1;
    }
    assert!(read >= 20, "{read} Dockerfiles");
}
