//! `orcapack tasks curriculum` over the ledgers of real runs, and what is done with what it writes.

use std::fs;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::program::{Ended, HONEST_SOLUTION, Task, World};

/// A task whose first so many known-bad solutions are right after all, of 3.
pub fn passed(name: &str, family: &str, passes: usize) -> Task {
    let task = Task::new(name, HONEST_SOLUTION).toml(&format!("metadata.category = \"{family}\""));
    (0..3).fold(task, |task, number| {
        let answer = if number < passes { HONEST_SOLUTION } else { "echo 41 > /app/answer\n" };
        task.file(&format!("known-bad/{number}.sh"), answer)
    })
}

/// One task for each number of passes of 3.
pub fn tasks() -> [Task; 4] {
    [("never", 0), ("once", 1), ("twice", 2), ("always", 3)]
        .map(|(name, passes)| passed(name, if passes < 2 { "hard" } else { "easy" }, passes))
}

/// With the run `base`, of 3 attempts at each.
pub fn measured() -> World {
    let world = World::new(&tasks());
    let ended = world.eval(&["-a", "known-bad", "-k", "3", "-q"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    world.rename("base");
    fs::create_dir(world.path("stages")).unwrap();
    world
}

fn curriculum(world: &World, args: &[&str]) -> Ended {
    world.orcapack(&[&["tasks", "curriculum"], args].concat())
}

#[track_caller]
fn refused(ended: &Ended, said: &[&str]) {
    assert_eq!(ended.code, Some(2), "{ended:?}");
    for part in said {
        assert!(ended.stderr.contains(part), "{part}: {ended:?}");
    }
}

#[test]
fn a_curriculum_is_the_tasks_that_were_passed_at_times_and_runs_from_anywhere() {
    let world = measured();
    let line = ["runs/base", "-o", "stages/one.toml"];
    let cut = curriculum(&world, &[&line[..], &["--json"]].concat());
    assert_eq!(cut.code, Some(0), "{cut:?}");
    let told: Value = serde_json::from_str(&cut.stdout).unwrap();
    assert_eq!(told["histogram"], json!([1, 1, 1, 1]));
    let kept = json!([{"task": "once", "passed": 1}, {"task": "twice", "passed": 2}]);
    assert_eq!((&told["kept"], &told["name"]), (&kept, &json!("one")));
    let text = fs::read_to_string(world.path("stages/one.toml")).unwrap();
    assert!(text.contains("roots = [\"../tasks\"]\n"), "{text}");
    assert!(text.contains("passed = 2\nattempts = 3\n"), "{text}");

    // The same again is no other file; another band is.
    let again = curriculum(&world, &line);
    assert_eq!(again.code, Some(0), "{again:?}");
    assert!(again.stdout.ends_with("2 tasks in stages/one.toml\n"), "{again:?}");
    refused(&curriculum(&world, &[&line[..], &["--max", "3"]].concat()), &["where nothing is yet"]);
    assert_eq!(fs::read_to_string(world.path("stages/one.toml")).unwrap(), text);

    // The folder may move with its tasks, and the manifest is asked for from another place.
    let manifest = world.path("stages/one.toml").display().to_string();
    let solved = world.eval(&["-d", &manifest, "-a", "oracle"]);
    assert_eq!(solved.code, Some(0), "{solved:?}");
    let names: Vec<String> = world.results().into_iter().map(|row| row.task).collect();
    assert_eq!(names, ["once", "twice"]);

    // A curriculum of a curriculum lies where the first one's tasks do.
    let second =
        curriculum(&world, &["runs/r", "--min", "1", "--max", "1", "--of", "1", "-o", "two.toml"]);
    assert_eq!(second.code, Some(0), "{second:?}");
    let text = fs::read_to_string(world.path("two.toml")).unwrap();
    assert!(text.contains("roots = [\"tasks\"]\n"), "{text}");
}

#[test]
fn runs_add_up_and_what_is_excluded_or_too_short_is_told() {
    let world = measured();
    let again = world.eval(&["-a", "oracle", "-k", "2", "-t", "once", "-t", "never", "-q"]);
    assert_eq!(again.code, Some(0), "{again:?}");
    fs::write(world.path("known"), "# by heart\nalways\nnever # not yet\nunknown\n").unwrap();
    let line = ["runs/base", "runs/r", "--max", "4", "--of", "5", "-o", "cut.toml", "-x", "known"];
    let cut = curriculum(&world, &line);
    assert_eq!(cut.code, Some(0), "{cut:?}");
    for line in [
        "3 of 5  1      kept\n",
        "left out: twice: 3 attempts with a reward, 5 are needed\n",
        "excluded: always\n",
        "excluded: never\n",
        "1 task in cut.toml\n",
    ] {
        assert!(cut.stdout.contains(line), "{line}: {cut:?}");
    }
    // What stage one has is none of stage two's.
    let line = ["runs/base", "-x", "cut.toml", "-o", "rest.toml"];
    let cut = curriculum(&world, &line);
    assert!(cut.stdout.contains("excluded: once\n"), "{cut:?}");
}

#[test]
fn a_run_that_has_not_ended_is_told_and_its_tasks_are_left_out() {
    let world = measured();
    let ledger = Connection::open(world.path("runs/base/run.db")).unwrap();
    let sql = "DELETE FROM results WHERE rollout = (SELECT max(rollout) FROM rollouts
               WHERE task = 'twice')";
    assert_eq!(ledger.execute(sql, []).unwrap(), 1);
    let cut = curriculum(&world, &["runs/base", "-o", "one.toml"]);
    assert_eq!(cut.code, Some(0), "{cut:?}");
    assert!(cut.stderr.contains("warning: runs/base: 1 of 12 rollouts have not ended"), "{cut:?}");
    assert!(cut.stdout.contains("left out: twice: 2 attempts"), "{cut:?}");
}

#[test]
fn what_cannot_be_cut_is_refused_and_nothing_is_written() {
    let world = measured();
    let out = ["-o", "one.toml"];
    let cut = |args: &[&str]| curriculum(&world, &[args, &out].concat());
    refused(&cut(&["runs/absent"]), &["runs/absent", "run.json"]);
    refused(&cut(&["tasks"]), &["expected the directory of a run"]);
    refused(
        &cut(&["runs/base", "--min", "3", "--max", "2"]),
        &["--min", "found min 3, max 2, of 3"],
    );
    refused(&cut(&["runs/base", "--max", "4"]), &["max 4, of 3"]);
    refused(&cut(&["runs/base", "-x", "absent.txt"]), &["absent.txt"]);
    refused(&cut(&["runs/base", "runs/../runs/base"]), &["expected each run once"]);
    refused(&cut(&["runs/base", "--of", "0"]), &["0 is not in 1..=10000"]);
    refused(&curriculum(&world, &["runs/base", "-o", "stage"]), &["ends in .toml"]);
    let empty = ["runs/base", "--min", "1", "--max", "1", "--of", "2", "-x", "names"];
    fs::write(world.path("names"), "once\n").unwrap();
    refused(&cut(&empty), &["no task passed 1 to 1 of 2", "2 of 2  2      too easy"]);

    // The same name, other files.
    passed("once", "hard", 2).write(&world.path("tasks"));
    refused(&cut(&["runs/base"]), &["tasks/once", "with which it was measured"]);
    let again = world.eval(&["-a", "oracle", "-k", "2", "-t", "once", "-q"]);
    assert_eq!(again.code, Some(0), "{again:?}");
    refused(&cut(&["runs/base", "runs/r", "--of", "5"]), &["runs/r: expected once with sha256:"]);
    fs::rename(world.path("tasks"), world.path("gone")).unwrap();
    refused(&cut(&["runs/base"]), &["the tasks of runs/base", "found nothing"]);

    // Not a run of eval, and no ledger.
    let run = world.path("runs/base/run.json");
    let text = fs::read_to_string(&run).unwrap();
    fs::write(&run, text.replace("\"command\": \"eval\"", "\"command\": \"sft\"")).unwrap();
    refused(&cut(&["runs/base"]), &["expected a run of eval, found one of sft"]);
    fs::write(&run, text).unwrap();
    fs::write(world.path("runs/base/run.db"), "no ledger").unwrap();
    refused(&cut(&["runs/base"]), &["run.db"]);
    fs::remove_file(world.path("runs/base/run.db")).unwrap();
    refused(&cut(&["runs/base"]), &["expected the ledger of a run"]);
    assert!(!world.path("one.toml").exists());
}
