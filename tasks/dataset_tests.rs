use super::*;
use crate::fixture::{Fixture, ORCA_CSV};
use crate::manifest::Measured;

fn loaded(fixture: &Fixture, path: &str) -> DataSet {
    match load(&fixture.at(path), &LoadOptions { lookup: &|_| None }) {
        Ok(set) => set,
        Err(defects) => panic!("{}", fixture.relative(defects)),
    }
}

fn names(set: &DataSet) -> Vec<&str> {
    set.tasks.iter().map(|task| task.name.as_str()).collect()
}

fn defects(fixture: &Fixture, set: &DataSet) -> Vec<String> {
    set.defects.iter().map(|(label, why)| format!("{label}: {}", fixture.relative(why))).collect()
}

#[test]
fn tasks_of_every_format_are_found_to_depth_three_and_sorted_by_name() {
    let fixture = Fixture::terminal_bench("set/z/y/x")
        .with_harbor("set/b")
        .with_harbor("set/a/c")
        .with_harbor("set/a/c/inner")
        .with_harbor("set/1/2/3/too-deep")
        .with_harbor("set/target/x")
        .with_harbor("set/.git/x")
        .file("set/README.md", "")
        .file("rows.csv", ORCA_CSV);
    let set = loaded(&fixture, "set");
    assert_eq!((set.name.as_str(), names(&set)), ("set", vec!["b", "c", "x"]));
    assert!(set.defects.is_empty(), "{:?}", set.defects);
    assert_eq!(names(&loaded(&fixture, "set/b")), ["b"]);
    let rows = loaded(&fixture, "rows.csv");
    assert_eq!((rows.name.as_str(), names(&rows)), ("rows", vec!["row_1"]));
}

#[test]
fn a_bad_task_does_not_keep_the_good_ones_away() {
    let fixture =
        Fixture::harbor("set/good").with_harbor("set/bad").file("set/bad/task.toml", "x=1");
    let set = loaded(&fixture, "set");
    assert_eq!(names(&set), ["good"]);
    let [(label, _)] = set.defects.as_slice() else { panic!("one defect") };
    assert_eq!(label, "bad");
}

#[test]
fn of_two_tasks_with_one_name_the_later_is_refused() {
    let name = "task.name = 'org/x'";
    let fixture = Fixture::harbor("set/1").with_harbor("set/2");
    let fixture = fixture.file("set/1/task.toml", name).file("set/2/task.toml", name);
    let set = loaded(&fixture, "set");
    assert_eq!(names(&set), ["org/x"]);
    assert_eq!(
        defects(&fixture, &set),
        ["org/x: set/2: expected a name that no other task has, found \"org/x\", the name of set/1"
            .to_owned()]
    );
}

#[test]
fn a_manifest_names_the_set_and_holds_its_tasks_to_their_digests() {
    let fixture = Fixture::harbor("set/a").with_harbor("set/b");
    let mut manifest = Manifest::of(&loaded(&fixture, "set")).unwrap();
    manifest.name = "org/two".to_owned();
    let fixture = fixture.file("set/dataset.toml", manifest.to_toml());
    assert_eq!(
        Manifest::read(&fixture.at("set/dataset.toml")).unwrap().to_toml(),
        manifest.to_toml()
    );
    let set = loaded(&fixture, "set");
    assert_eq!((set.name.as_str(), names(&set)), ("org/two", vec!["a", "b"]));

    let fixture = fixture
        .without("set/a")
        .with_harbor("set/not-listed")
        .file("set/b/tests/test.sh", "changed");
    let set = loaded(&fixture, "set");
    assert!(set.tasks.is_empty());
    let found =
        crate::manifest::package_digest(&harbor::read(&fixture.at("set/b"), &|_| None).unwrap())
            .unwrap();
    let expected = manifest.tasks[1].digest;
    assert_eq!(
        defects(&fixture, &set),
        [
            "a: set/dataset.toml:6: expected the task \"a\" in this folder, found none".to_owned(),
            format!("b: set/dataset.toml:10: expected {expected}, found {found}"),
        ]
    );
}

/// Of the tasks in `set`, in a folder beside it.
fn stage(fixture: &Fixture, more: &str) -> String {
    let mut manifest = Manifest::of(&loaded(fixture, "set")).unwrap();
    manifest.name = "stage".to_owned();
    manifest.roots = vec![PathBuf::from("../set")];
    manifest.tasks[0].measured = Some(Measured { passed: 1, attempts: 3 });
    format!("{more}{}", manifest.to_toml())
}

#[test]
fn a_manifest_elsewhere_says_where_its_tasks_lie_and_how_they_were_measured() {
    let fixture = Fixture::harbor("set/a");
    let text = stage(&fixture, "");
    let fixture = fixture.with_harbor("set/not-listed").file("stages/one.toml", &text);
    let file = fixture.at("stages/one.toml");
    let manifest = Manifest::read(&file).unwrap();
    assert_eq!(manifest.to_toml(), text);
    assert_eq!(manifest.tasks[0].measured, Some(Measured { passed: 1, attempts: 3 }));
    let set = loaded(&fixture, "stages/one.toml");
    assert_eq!((set.name.as_str(), names(&set)), ("stage", vec!["a"]));
    assert!(set.defects.is_empty(), "{:?}", set.defects);
    assert_eq!(roots(&file).unwrap(), [fixture.at("stages/../set")]);
    // A folder with such a manifest is that data set too.
    let fixture = fixture.file("stages/dataset.toml", &text);
    assert_eq!(names(&loaded(&fixture, "stages")), ["a"]);
    assert_eq!(roots(&fixture.at("set")).unwrap(), [fixture.at("set")]);
}

#[test]
fn of_tasks_of_one_name_in_several_roots_the_listed_one_is_meant() {
    let fixture = Fixture::harbor("set/a");
    let text = stage(&fixture, "").replace("[\"../set\"]", "[\"../other\", \"../set\"]");
    let fixture = fixture
        .with_harbor("other/a")
        .file("other/a/tests/test.sh", "another")
        .file("stages/one.toml", &text);
    let set = loaded(&fixture, "stages/one.toml");
    assert_eq!(
        (names(&set), set.tasks[0].source.clone()),
        (vec!["a"], fixture.at("stages/../set/a"))
    );
    assert!(set.defects.is_empty(), "{:?}", set.defects);
}

#[test]
fn faults_of_a_manifests_own_keys_are_told_with_their_lines() {
    let fixture = Fixture::harbor("set/a");
    let text = stage(&fixture, "");
    let said = |text: String| {
        let fixture = Fixture::harbor("set/a").file("stages/one.toml", text);
        let loaded = load(&fixture.at("stages/one.toml"), &LoadOptions { lookup: &|_| None });
        match loaded {
            Ok(set) => defects(&fixture, &set).join("\n"),
            Err(defects) => fixture.relative(defects),
        }
    };
    let with = |from: &str, to: &str| said(text.replace(from, to));
    for (said, expected) in [
        (
            with("[\"../set\"]", "7"),
            "stages/one.toml:2: roots: expected an array of strings, found 7",
        ),
        (
            with("\"../set\"", "\"\""),
            "stages/one.toml:2: roots: expected paths of folders or CSV files, found an empty string",
        ),
        (
            with("../set", "../absent"),
            "stages/one.toml: roots: expected folders of tasks and CSV files, found stages/../absent: nothing that can be read",
        ),
        (
            with("../set", "one.toml"),
            "stages/one.toml: roots: expected folders of tasks and CSV files, found stages/one.toml: another manifest",
        ),
        (
            with("passed = 1", "passed = 4"),
            "stages/one.toml:10: tasks[0].passed: expected an integer from 0 to 3, found 4",
        ),
        (
            with("passed = 1\n", ""),
            "stages/one.toml:7: tasks[0].passed: expected an integer from 0 to 3, found nothing",
        ),
        (
            with("attempts = 3", "attempts = \"3\""),
            "expected an integer from 1 to 4294967295, found the string \"3\"",
        ),
        (with("passed = 1", "pased = 1"), "tasks[0].pased"),
        (with("roots =", "rots ="), "stages/one.toml:2: rots"),
        (
            with("name = \"a\"", "name = \"b\""),
            "b: stages/one.toml:7: expected the task \"b\" in one of the roots, found none",
        ),
    ] {
        assert!(said.contains(expected), "{said}\nis not\n{expected}");
    }
}

#[test]
fn a_harbor_tasks_package_digest_is_harbors() {
    // Computed with coreutils: `printf '%s\0%s\n' PATH SHA256` for each file in order, through
    // sha256sum.
    let fixture = Fixture::harbor("a").file("a/known-bad/x.sh", "not packaged");
    let task = harbor::read(&fixture.at("a"), &|_| None).unwrap();
    insta::assert_snapshot!(crate::manifest::package_digest(&task).unwrap(), @r"sha256:d5ad2be2a866e534fb00ff28035f98c6f71a2f2b5547ff0f366368d459fc9656");
}
