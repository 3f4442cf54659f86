//! Symbolic links, broken and mended, and hard links.

use crate::generate::families::trees::{Files, STEMS, commands, grow, lying, prose, rooms, tree};
use crate::generate::random::Random;
use crate::generate::template::{Made, output, text};

pub(super) fn broken(values: &[&'static str], random: &mut Random) -> Made {
    let (folder, out) = (values[0], values[1]);
    let folders = rooms(random, folder);
    let files = grow(random, &folders, &["txt", "csv"], 24);
    let names = random.some(&STEMS, 20);
    let missing = |at: usize| format!("{}-gone.txt", STEMS[at]);
    let base = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    // Of each link: its folder, its target, and whether that exists.
    let mut links: Vec<(String, String, bool)> = Vec::new();
    for (at, level) in folders.iter().enumerate() {
        let inside = files.iter().find(|(path, _)| {
            path.strip_prefix(&format!("{level}/")).is_some_and(|rest| !rest.contains('/'))
        });
        let near = inside.map_or_else(String::new, |(path, _)| base(path));
        let (far, _) = random.pick(&files);
        links.push((level.clone(), near, true));
        links.push((level.clone(), format!("/app/{far}"), true));
        // As seen from the working folder it is there, but not as seen from the link.
        links.push((level.clone(), far.clone(), false));
        links.push((level.clone(), missing(random.within(0..=39)), false));
        if at > 0 {
            links.push((level.clone(), "..".to_owned(), true));
        }
    }
    links.push((folder.to_owned(), format!("/app/{folder}/{}", missing(3)), false));
    let mut named: Vec<(String, String, bool)> = Vec::new();
    for (at, (level, target, works)) in links.into_iter().enumerate() {
        let name = format!("{level}/{}-{at}", names[at % names.len()]);
        named.push((name, target, works));
    }
    // Links to links of both kinds.
    for at in [0, 2, 3] {
        let (path, _, works) = &named[at];
        let (target, works) = (base(path), *works);
        named.push((format!("{folder}/again-{at}"), target, works));
    }
    let setup =
        named.iter().map(|(path, target, _)| format!("ln -s {target} {path}")).collect::<Vec<_>>();
    named.sort_unstable();
    let gone = named.iter().filter(|(_, _, works)| !works).map(|(path, _, _)| &**path);
    let left = named.iter().filter(|(_, _, works)| *works);
    let left: Vec<String> = left.map(|(path, target, _)| format!("{path} {target}")).collect();
    Made {
        start: lying(&files),
        setup,
        end: vec![
            text(out, &gone.collect::<Vec<_>>().join("\n")),
            output(
                &format!("find {folder} -type l -printf '%p %l\\n' | LC_ALL=C sort"),
                &left.join("\n"),
            ),
            tree(".", folder, &files),
        ],
        solution: vec![
            format!("find {folder} -xtype l | LC_ALL=C sort > {out}"),
            format!("xargs rm < {out}"),
        ],
        hard_coded: vec![
            format!("find {folder} -type l | LC_ALL=C sort > {out}"),
            format!("find {folder} -type l -delete"),
        ],
        near_miss: vec![
            format!(
                "for l in $(find {folder} -type l); do [ -e $(readlink $l) ] || echo $l; done | \
                 LC_ALL=C sort > {out}"
            ),
            format!("xargs rm < {out}"),
        ],
        ..Made::default()
    }
}

pub(super) fn hard_link(values: &[&'static str], random: &mut Random) -> Made {
    let (folder, master) = (values[0], values[1]);
    let folders = rooms(random, folder);
    let mut files = grow(random, &folders, &["txt", "csv"], 26);
    let content = prose(random, 10..=30);
    // As long as the other, and different at the end only.
    let lure = format!("{}?", &content[..content.len() - 1]);
    let path = format!("{folder}/{master}");
    files.push((path.clone(), content.clone()));
    let mut same = vec![path.clone()];
    let names = random.some(&STEMS, 9);
    for (at, name) in names.into_iter().enumerate() {
        let copy = format!("{}/{name}-{}.txt", folders[at % folders.len()], random.within(2..=9));
        let is_lure = at == 3 || at == 5;
        if !is_lure {
            same.push(copy.clone());
        }
        files.push((copy, if is_lure { lure.clone() } else { content.clone() }));
    }
    same.sort_unstable();
    let find = |link: &str| {
        vec![format!(
            "find {folder} -type f ! -path {path} -exec cmp -s {path} {{}} \\; -exec ln {link} \
             {{}} \\;"
        )]
    };
    Made {
        start: lying(&files),
        end: vec![
            tree(".", folder, &files),
            // What is written to one name is read under all. Numbers of inodes don't tell: in a
            // stack of file systems, names of one file that came up in other ways can differ.
            output(
                &format!("echo written >> {path}; grep -rlx written {folder} | LC_ALL=C sort"),
                &same.join("\n"),
            ),
        ],
        solution: find(&format!("-f {path}")),
        hard_coded: vec![format!("ln -f {path} {}", same[same.len() - 1])],
        near_miss: find(&format!("-sf /app/{path}")),
        ..Made::default()
    }
}

pub(super) fn moved(values: &[&'static str], random: &mut Random) -> Made {
    let (folder, old, new) = (values[0], values[1], values[2]);
    let folders = rooms(random, folder);
    let targets = rooms(random, new);
    let mut files: Files = grow(random, &targets, &["txt", "csv"], 20);
    files.push((format!("{old}-2/kept.txt"), prose(random, 1..=2)));
    let mut own = Files::new();
    for level in &folders {
        own.push((format!("{level}/readme.txt"), prose(random, 1..=2)));
    }
    let names = random.some(&STEMS, 30);
    let (mut setup, mut mended, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    for (at, name) in names.into_iter().enumerate() {
        let link = format!("{}/{name}", folders[at % folders.len()]);
        let inside = match at % 6 {
            0..=2 => files[at % 20].0[new.len()..].to_owned(),
            3 => targets[at % targets.len()][new.len()..].to_owned(),
            _ => String::new(),
        };
        let target = match at % 6 {
            4 => format!("/app/{old}-2/kept.txt"),
            5 => random.pick(&["readme.txt", "/etc/hostname", "../nothing"]).to_string(),
            _ => format!("/app/{old}{inside}"),
        };
        setup.push(format!("ln -s {target} {link}"));
        if at % 6 < 4 {
            mended.push(format!("{link} relative /app/{new}{inside}"));
        } else {
            kept.push(format!("{link} {target}"));
        }
    }
    mended.sort_unstable();
    kept.sort_unstable();
    let paths = |lines: &[String]| -> String {
        let first = |line: &String| line.split(' ').next().unwrap_or("").to_owned();
        lines.iter().map(first).collect::<Vec<_>>().join(" ")
    };
    let script = |link: &str| {
        commands(&format!(
            r#"find {folder} -type l | while IFS= read -r l; do
  t=$(readlink "$l")
  case "$t" in
    /app/{old}|/app/{old}/*) {link};;
  esac
done"#
        ))
    };
    let start = lying(&[files.clone(), own.clone()].concat());
    Made {
        start,
        setup,
        end: vec![
            output(
                &format!(
                    "for l in {}; do case \"$(readlink $l)\" in /*) k=absolute;; *) \
                     k=relative;; esac; echo \"$l $k $(readlink -e $l)\"; done",
                    paths(&mended)
                ),
                &mended.join("\n"),
            ),
            output(
                &format!("for l in {}; do echo \"$l $(readlink $l)\"; done", paths(&kept)),
                &kept.join("\n"),
            ),
            output(&format!("find {folder} -type l | wc -l"), "30"),
            tree(".", folder, &own),
        ],
        solution: script(&format!("ln -sfnr \"/app/{new}${{t#/app/{old}}}\" \"$l\"")),
        hard_coded: vec![format!("ln -s {new} {old}")],
        near_miss: script(&format!("ln -sfn \"../{new}${{t#/app/{old}}}\" \"$l\"")),
        ..Made::default()
    }
}
