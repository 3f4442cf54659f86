use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::dataset::{self, LoadOptions};

fn order(split: Split, count: usize, seed: u64) -> Order {
    Order { family: &FAMILIES[0], difficulty: None, split, count, seed }
}

/// The bytes of all files of a task.
fn bytes(instance: &Instance) -> BTreeMap<String, Vec<u8>> {
    let read = |entry: &crate::FileEntry| entry.read().unwrap().to_vec();
    instance.files.iter().map(|(path, entry)| (path.to_owned(), read(entry))).collect()
}

/// All that a split has: template, parameters, phrasing. Nothing is made of them.
fn all(split: Split) -> Vec<(&'static Template, usize, usize)> {
    let order = order(split, 0, 0);
    let templates = FAMILIES[0].templates.iter();
    let of =
        |template| order.stock(template).left.into_iter().map(move |(at, p)| (template, at, p));
    templates.flat_map(of).collect()
}

#[test]
fn more_than_there_are_is_refused_with_their_number() {
    let [train, held_out] = [Split::Train, Split::HeldOut].map(|split| all(split).len());
    for (split, there_are) in [(Split::Train, train), (Split::HeldOut, held_out)] {
        let refused = order(split, there_are + 1, 5).instances().unwrap_err();
        assert_eq!(refused, TooMany { there_are });
    }
    assert!(train > 30_000 && held_out > 10_000, "{train}, {held_out}");
    // Down to the last one, each is another.
    let templates = &FAMILIES[0].templates[2..3];
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
        seed: u64, count in 1..60_usize, more in 0..40_usize,
    ) {
        let make = |count| order(Split::Train, count, seed).instances().unwrap();
        let (some, more) = (make(count), make(count + more));
        for (one, other) in some.iter().zip(&more) {
            prop_assert_eq!(&one.name, &other.name);
            prop_assert_eq!(bytes(one), bytes(other));
        }
        let names: BTreeSet<&str> = more.iter().map(|instance| instance.name.as_str()).collect();
        prop_assert_eq!(names.len(), more.len());
        let others = order(Split::Train, count, seed ^ 1).instances().unwrap();
        let names = |made: &[Instance]| made.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
        prop_assert!(count < 4 || names(&some) != names(&others), "the seed decides");
    }
}

#[test]
fn train_and_held_out_share_no_parameters() {
    let parameters = |split| -> BTreeSet<(&str, usize)> {
        all(split).into_iter().map(|(template, at, _)| (template.name, at)).collect()
    };
    let [train, held_out] = [Split::Train, Split::HeldOut].map(parameters);
    assert_eq!(train.intersection(&held_out).count(), 0);
    for template in FAMILIES[0].templates {
        let of = |set: &BTreeSet<(&str, usize)>| {
            set.iter().filter(|(name, _)| *name == template.name).count()
        };
        let (train, held_out) = (of(&train), of(&held_out));
        assert_eq!(train + held_out, template.space(), "{}", template.name);
        let share = held_out as f64 / template.space() as f64;
        assert!((0.1..0.4).contains(&share), "{}: {share}", template.name);
    }
}

#[test]
fn no_two_instances_say_the_same() {
    let mut said = BTreeSet::new();
    for (template, at, phrasing) in [Split::Train, Split::HeldOut].into_iter().flat_map(all) {
        let text = template.instruction(phrasing, &template.values(at));
        assert!(text.len() < 80 && !text.contains('{'), "{text}");
        assert!(said.insert(text), "{} {at} {phrasing}", template.name);
    }
}

#[test]
fn values_of_one_kind_differ_and_each_number_has_its_own() {
    for template in FAMILIES[0].templates {
        let mut seen = BTreeSet::new();
        for number in 0..template.space() {
            let values = template.values(number);
            let distinct: BTreeSet<&str> = values.iter().copied().collect();
            assert_eq!(distinct.len(), values.len(), "{}: {values:?}", template.name);
            assert!(seen.insert(values));
        }
    }
}

#[test]
fn difficulties_are_how_many_commands_the_solution_takes() {
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
    let dir = tempfile::tempdir().unwrap();
    let made = order(Split::HeldOut, 40, 9).instances().unwrap();
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

/// Another text would be other tasks under the same names.
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
