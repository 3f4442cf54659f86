//! What a user is told about each kind of bad data set, in one table.

use std::os::unix::ffi::OsStrExt as _;

use crate::dataset::{LoadOptions, load};
use crate::fixture::{Fixture, ORCA_CSV, orca_csv};
use crate::manifest::Manifest;
use crate::select::Selection;

/// Everything that is said about the data set `set`, or `set.csv`, in the fixture.
fn said(fixture: &Fixture, selection: &Selection) -> String {
    let csv = fixture.at("set.csv");
    let path = if csv.exists() { csv } else { fixture.at("set") };
    let set = match load(&path, &LoadOptions { lookup: &|_| None }) {
        Ok(set) => set,
        Err(defects) => return fixture.relative(defects),
    };
    if set.defects.is_empty() {
        return match selection.apply(set.tasks, &path) {
            Ok(tasks) => format!("ACCEPTED: {} tasks", tasks.len()),
            Err(defects) => fixture.relative(defects),
        };
    }
    let lines = set.defects.iter().map(|(task, defects)| format!("[{task}] {defects}"));
    fixture.relative(lines.collect::<Vec<_>>().join("\n"))
}

fn config(text: &str) -> Fixture {
    Fixture::harbor("set/a").file("set/a/task.toml", text)
}

/// Rows of an id, the weight of the only test, and the path of an additional file.
fn rows(rows: &[(&str, &str, &str)]) -> Fixture {
    let columns =
        ["task_id", "prompt", "dockerfile", "test_functions", "test_weights", "additional_files"];
    let row = |(id, weight, path): &(&str, &str, &str)| {
        let weights = format!("{{\"test_it\": {weight}}}");
        let files = format!("{{\"{path}\": \"\"}}");
        let cells = [id, "Do it.", "FROM scratch", "def test_it(): pass", &weights, &files];
        columns
            .iter()
            .zip(cells)
            .map(|(name, cell)| ((*name).to_owned(), cell.to_owned()))
            .collect()
    };
    Fixture::new().file("set.csv", orca_csv(&rows.iter().map(row).collect::<Vec<_>>()))
}

fn harbor_cases() -> Vec<(&'static str, Fixture)> {
    let task = || Fixture::harbor("set/a");
    vec![
        ("unknown key", config("[environment]\nmemroy_mb = 512")),
        ("unknown table", config("[enviroment]\ncpus = 1")),
        ("wrong type", config("[agent]\ntimeout_sec = \"600\"\n[metadata]\ntags = \"x\"")),
        (
            "out of range",
            config("[environment]\nmemory_mb = 2\ncpus = 0\n[agent]\ntimeout_sec = -1"),
        ),
        ("bad TOML syntax", config("[environment\ncpus = 1\nmemory_mb = = 2")),
        ("unknown schema", config("schema_version = \"2.0\"")),
        ("bad name", config("[task]\nname = \"no-organisation\"")),
        ("variable that is not set", config("[verifier.env]\nKEY = \"${API_KEY}\"")),
        ("network that cannot be had", config("environment.network_mode = \"allowlist\"")),
        ("contradiction", config("environment = { memory = \"2G\", memory_mb = 512 }")),
        (
            "shared verifier with an environment of its own",
            config(
                "[verifier]\nenvironment_mode = \"shared\"\nenvironment = { docker_image = \"x\" }",
            ),
        ),
        ("bad image", config("[environment]\ndocker_image = \"ubuntu 24\"")),
        ("step without files", config("[[steps]]\nname = \"one\"\n[[steps]]\nname = \"one\"")),
        ("steps/ without [[steps]]", task().file("set/a/steps/one/instruction.md", "x")),
        ("no task.toml", task().without("set/a/task.toml")),
        ("no instruction", task().without("set/a/instruction.md")),
        ("empty instruction", task().file("set/a/instruction.md", " \n")),
        ("instruction not UTF-8", task().file("set/a/instruction.md", b"fine\nnot \xff\n")),
        ("oversized instruction", task().file("set/a/instruction.md", vec![b'x'; (1 << 20) + 1])),
        ("no tests", task().without("set/a/tests")),
        (
            "solution without solve.sh",
            task().file("set/a/solution/x", "").without("set/a/solution/solve.sh"),
        ),
        ("no Dockerfile", task().without("set/a/environment/Dockerfile")),
        ("Dockerfile without FROM", task().file("set/a/environment/Dockerfile", "RUN true\n")),
        ("several services", task().file("set/a/environment/docker-compose.yaml", "services: {}")),
        ("known-bad that is no script", task().file("set/a/known-bad/notes.md", "")),
        ("symbolic link in a folder", task().link("set/a/environment/passwd", "/etc/passwd")),
        (
            "symbolic link for a file",
            task().without("set/a/instruction.md").link("set/a/instruction.md", "/etc/passwd"),
        ),
        (
            "symbolic link for a folder",
            task().without("set/a/tests").link("set/a/tests", "../../etc"),
        ),
        ("pipe", {
            let fixture = task();
            let path = fixture.at("set/a/tests/pipe");
            assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
            fixture
        }),
        ("name not UTF-8", {
            let fixture = task();
            let name = std::ffi::OsStr::from_bytes(b"x\xff");
            std::fs::write(fixture.at("set/a/tests").join(name), "").unwrap();
            fixture
        }),
        ("oversized file", {
            let fixture = task();
            let file = std::fs::File::create(fixture.at("set/a/environment/huge")).unwrap();
            file.set_len(crate::caps::FILE_BYTES_MAX + 1).unwrap();
            fixture
        }),
        ("too many files", {
            let mut fixture = task();
            for i in 0..crate::caps::TASK_FILES_MAX {
                fixture = fixture.file(&format!("set/a/environment/{i}"), "");
            }
            fixture
        }),
        ("too deep", task().file(&format!("set/a/environment/{}x", "d/".repeat(17)), "")),
    ]
}

fn other_cases() -> Vec<(&'static str, Fixture)> {
    let bench = || Fixture::terminal_bench("set/a");
    let listed = |task: &str| {
        let manifest = format!("schema_version = \"1.0\"\n[dataset]\nname = \"org/set\"\n{task}");
        Fixture::harbor("set/a").file("set/dataset.toml", manifest)
    };
    let zeros = "0".repeat(64);
    vec![
        ("bad YAML", bench().file("set/a/task.yaml", "instruction: [\n")),
        ("unknown YAML key", bench().file("set/a/task.yaml", "instruction: x\ntag: [y]\n")),
        (
            "unknown parser",
            bench().file("set/a/task.yaml", "instruction: x\nparser_name: swebench\n"),
        ),
        (
            "no run-tests.sh, no Dockerfile",
            bench().without("set/a/run-tests.sh").without("set/a/Dockerfile"),
        ),
        (
            "compose file with privileges",
            bench().file(
                "set/a/docker-compose.yaml",
                "services:\n  client:\n    build: .\n    privileged: true\n",
            ),
        ),
        (
            "solution of key presses",
            bench().without("set/a/solution.sh").file(
                "set/a/solution.yaml",
                "- command: ':wq'\n  append_enter: true\n  block: false\n",
            ),
        ),
        ("path escape", rows(&[("e", "1", "../../etc/passwd")])),
        ("bad weights", rows(&[("w", "0.9", "x")])),
        ("duplicate rows", rows(&[("d", "1", "x"), ("d", "1", "x")])),
        ("short row", { Fixture::new().file("set.csv", format!("{ORCA_CSV}short,Do it.\n")) }),
        ("duplicate names", {
            let name = "task.name = \"org/x\"";
            config(name).with_harbor("set/b").file("set/b/task.toml", name)
        }),
        (
            "manifest with another digest",
            listed(&format!("[[tasks]]\nname = \"a\"\ndigest = \"sha256:{zeros}\"")),
        ),
        (
            "manifest with a missing task",
            listed(&format!("[[tasks]]\nname = \"z\"\ndigest = \"sha256:{zeros}\"")),
        ),
        ("manifest with a bad digest", listed("[[tasks]]\nname = \"a\"\ndigest = \"md5:0\"")),
        ("empty data set", Fixture::new().file("set/README.md", "")),
        ("no data set", Fixture::new()),
        ("neither folder nor CSV", Fixture::new().file("set", "")),
    ]
}

#[test]
fn every_fault_is_told_by_file_key_expected_and_found() {
    let mut table = String::new();
    for (name, fixture) in harbor_cases().into_iter().chain(other_cases()) {
        let said = said(&fixture, &Selection::default());
        assert!(!said.starts_with("ACCEPTED"), "{name}: {said}");
        table.push_str(&format!("-- {name}\n{said}\n"));
    }
    let selection = Selection { include: vec!["b*".to_owned()], ..Selection::default() };
    let said = said(&Fixture::harbor("set/a"), &selection);
    table.push_str(&format!("-- glob without match\n{said}\n"));
    insta::assert_snapshot!(table);
}

#[test]
fn a_manifest_that_is_no_manifest_is_refused_whole() {
    let fixture = Fixture::new().file("dataset.toml", "[[tasks]]\nname = \"a\"\n");
    let defects = Manifest::read(&fixture.at("dataset.toml")).unwrap_err();
    insta::assert_snapshot!(fixture.relative(defects), @r"
    dataset.toml: dataset.name: expected a string that is not empty, found nothing
    dataset.toml:1: tasks[0].digest: expected a string that is not empty, found nothing
    ");
}
