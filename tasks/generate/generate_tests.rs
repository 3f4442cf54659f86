use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::dataset::{self, LoadOptions};
use crate::file_tree::hex;

fn order(split: Split, count: usize, seed: u64) -> Order {
    of(files(), split, count, seed)
}

fn of(family: &'static Family, split: Split, count: usize, seed: u64) -> Order {
    Order { family, difficulty: None, split, count, seed }
}

fn files() -> &'static Family {
    FAMILIES.iter().find(|family| family.name == "files").unwrap()
}

/// The bytes of all files of a task.
fn bytes(instance: &Instance) -> BTreeMap<String, Vec<u8>> {
    let read = |entry: &crate::FileEntry| entry.read().unwrap().to_vec();
    instance.files.iter().map(|(path, entry)| (path.to_owned(), read(entry))).collect()
}

/// All that a split of a family has: template, parameters, phrasing. Nothing is made of them.
fn all(family: &'static Family, split: Split) -> Vec<(&'static Template, usize, usize)> {
    let order = of(family, split, 0, 0);
    let templates = family.templates.iter();
    let of =
        |template| order.stock(template).left.into_iter().map(move |(at, p)| (template, at, p));
    templates.flat_map(of).collect()
}

const SPLITS: [Split; 2] = [Split::Train, Split::HeldOut];

#[test]
fn more_than_there_are_is_refused_with_their_number() {
    let [train, held_out] = SPLITS.map(|split| all(files(), split).len());
    for (split, there_are) in [(Split::Train, train), (Split::HeldOut, held_out)] {
        let refused = order(split, there_are + 1, 5).instances().unwrap_err();
        assert_eq!(refused, TooMany { there_are });
    }
    assert!(train > 30_000 && held_out > 10_000, "{train}, {held_out}");
    // Down to the last one, each is another.
    let templates = &files().templates[2..3];
    let family = Box::leak(Box::new(Family { name: "files", about: "", templates }));
    let order = Order { family, ..order(Split::Train, 0, 1) };
    let TooMany { there_are } = Order { count: 1000, ..order }.instances().unwrap_err();
    let made = Order { count: there_are, ..order }.instances().unwrap();
    let names: BTreeSet<String> = made.into_iter().map(|made| made.name).collect();
    assert_eq!(names.len(), there_are);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn the_same_seed_makes_the_same_bytes_and_a_larger_count_only_adds(
        seed: u64, at in 0..FAMILIES.len(), count in 1..40_usize, more in 0..40_usize,
    ) {
        let make = |count| of(&FAMILIES[at], Split::Train, count, seed).instances().unwrap();
        let (some, more) = (make(count), make(count + more));
        for (one, other) in some.iter().zip(&more) {
            prop_assert_eq!(&one.name, &other.name);
            prop_assert_eq!(bytes(one), bytes(other));
        }
        let names: BTreeSet<&str> = more.iter().map(|instance| instance.name.as_str()).collect();
        prop_assert_eq!(names.len(), more.len());
        let others = of(&FAMILIES[at], Split::Train, count, seed ^ 1).instances().unwrap();
        let names = |made: &[Instance]| made.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
        prop_assert!(count < 4 || names(&some) != names(&others), "the seed decides");
    }
}

#[test]
fn train_and_held_out_share_no_parameters() {
    for family in &FAMILIES {
        let parameters = |split| -> BTreeSet<(&str, usize)> {
            all(family, split).into_iter().map(|(template, at, _)| (template.name, at)).collect()
        };
        let [train, held_out] = SPLITS.map(parameters);
        assert_eq!(train.intersection(&held_out).count(), 0);
        for template in family.templates {
            let of = |set: &BTreeSet<(&str, usize)>| {
                set.iter().filter(|(name, _)| *name == template.name).count()
            };
            let (train, held_out) = (of(&train), of(&held_out));
            let name = format!("{} of {}", template.name, family.name);
            assert_eq!(train + held_out, template.space(), "{name}");
            assert!(held_out > 0 && held_out < train, "{name}: {held_out} of {}", template.space());
        }
    }
}

#[test]
fn each_family_has_enough_of_each_split() {
    for family in &FAMILIES {
        let [train, held_out] = SPLITS.map(|split| all(family, split).len());
        assert!(train >= 200 && held_out >= 60, "{}: {train}, {held_out}", family.name);
    }
}

#[test]
fn no_two_instances_say_the_same() {
    let mut said = BTreeSet::new();
    for (family, split) in FAMILIES.iter().flat_map(|family| SPLITS.map(|split| (family, split))) {
        let length_max = if family.name == "files" { 80 } else { 1200 };
        for (template, at, phrasing) in all(family, split) {
            let text = template.instruction(phrasing, &template.values(at));
            let numbered =
                (0..template.parameters.len()).any(|at| text.contains(&format!("{{{at}}}")));
            assert!(text.len() < length_max && !numbered, "{text}");
            assert!(said.insert(text), "{} {at} {phrasing} says what another does", template.name);
        }
    }
}

#[test]
fn values_of_one_kind_differ_and_each_number_has_its_own() {
    for template in FAMILIES.iter().flat_map(|family| family.templates) {
        let mut seen = BTreeSet::new();
        for number in 0..template.space() {
            let values = template.values(number);
            let kinds = template.parameters.iter().map(|kind| kind.values);
            let distinct: BTreeSet<_> = kinds.zip(&values).collect();
            assert_eq!(distinct.len(), values.len(), "{}: {values:?}", template.name);
            assert!(seen.insert(values));
        }
    }
}

#[test]
fn difficulties_of_files_are_how_many_commands_the_solution_takes() {
    for (difficulty, commands) in [(Difficulty::Easy, 1..=1), (Difficulty::Medium, 2..=3)] {
        let order = Order { difficulty: Some(difficulty), ..order(Split::Train, 60, 3) };
        for instance in order.instances().unwrap() {
            let solution = bytes(&instance).remove("solution/solve.sh").unwrap();
            let lines = String::from_utf8(solution).unwrap().lines().count() - 1;
            assert!(commands.contains(&lines), "{}: {lines}", instance.name);
        }
    }
}

#[test]
fn written_tasks_are_read_back_whole() {
    for family in &FAMILIES {
        let dir = tempfile::tempdir().unwrap();
        let made = of(family, Split::HeldOut, 40, 9).instances().unwrap();
        made.iter().for_each(|instance| instance.write(dir.path()).unwrap());
        let options = LoadOptions { lookup: &|_| None };
        let set = dataset::load(dir.path(), &options).unwrap();
        assert_eq!((set.tasks.len(), set.defects.len()), (40, 0), "{:?}", set.defects);
        for task in &set.tasks {
            assert!(task.has_solution());
            let known_bad: Vec<&str> = task.known_bad.iter().map(|(name, _)| &**name).collect();
            assert_eq!(known_bad, ["hard-coded", "near-miss", "nothing"]);
        }
        let again = made[0].write(dir.path()).unwrap_err().to_string();
        assert!(again.contains("expected a folder that is not there yet"), "{again}");
        assert!(!Path::new(&dir.path().join(format!(".{}.partial", made[0].name))).exists());
    }
}

/// Of the bytes of the first instances of each split: others would be other tasks under the same
/// names.
#[test]
fn the_instances_of_each_family_are_pinned() {
    let digest = |family| {
        let mut hasher = Sha256::new();
        let made = SPLITS.map(|split| of(family, split, 30, 1).instances().unwrap());
        for (path, bytes) in made.iter().flatten().flat_map(bytes) {
            hasher.update(format!("{path}\0{}\n", bytes.len()));
            hasher.update(bytes);
        }
        hex(&hasher.finalize())[..16].to_owned()
    };
    let digests = FAMILIES.iter().map(|family| format!("{} {}", family.name, digest(family)));
    insta::assert_snapshot!(digests.collect::<Vec<_>>().join("\n"), @r"
    files ed5f8de80746c96c
    archives 1d014f13adb5f8bd
    builds 08d0a94433b92cf3
    checksums 23de22bf6b45c516
    config 8b8ddb7bbbb63767
    git 917abdc9e6b63c15
    globs cf8741600483f9db
    logs 0adf8e34a3cb76cf
    permissions 4be91d009e563af1
    processes c039a217e23ef975
    python-bugs e3406be4b8d6c8c2
    schedules a00b7b14ad982156
    shell-bugs f5bdff809a68ba31
    sqlite 85679148b409c87f
    tables 5621054397cf6616
    text 9831fa3a3ec97f31
    ");
}

#[test]
fn an_instance_is_pinned() {
    let made = order(Split::Train, 7, 1).instances().unwrap();
    let files = bytes(&made[6]);
    let text = |path: &str| String::from_utf8(files[path].clone()).unwrap();
    insta::assert_snapshot!(
        [made[6].name.clone(), text("instruction.md"), text("tests/test.sh")].join("\n"),
        @r#"
    files-words-39-0
    Count the words of pen. Write the number into odd.

    #!/bin/bash
    # The reward is 1 when every test passes, else 0.
    reward=1
    result() { # STATUS NAME
      if [ "$1" = 0 ]; then echo "ok: $2"; else echo "not ok: $2"; reward=0; fi
    }
    cd /app || exit
    [ -f odd ] && text=$(cat odd) && [ "${text//[[:space:]]}" = 8 ]
    result $? 'number in odd'
    [ -f pen ] && [ "$(cat pen)" = 'moon fish
    dog red
    king gold
    king moon' ]
    result $? 'text of pen'
    echo $reward > /logs/verifier/reward.txt
    "#
    );
}
