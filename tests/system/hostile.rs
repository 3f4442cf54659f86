//! Solutions that go for the reward instead of the task. Each ends in the honest reward, or in a
//! typed record without one, never in the reward that it was after, and leaves nothing behind.

use std::fs;

use crate::program::{HONEST_SOLUTION, HONEST_TEST, ResultRow, Task, World};

/// A cheat that went through this test would be graded a little later than it is done.
const SLOW_TEST: &str = "echo 0 > /logs/verifier/reward.txt\nsleep 0.3\n";

/// A task in which nothing may take longer than a moment.
fn brief(solve: &str) -> Task {
    let limits = "agent.timeout_sec = 1.5\nverifier.timeout_sec = 5.0";
    Task::new("cheat", solve).toml(limits)
}

/// Runs one solution without a second chance, in a small sandbox.
fn run(task: Task) -> (ResultRow, World) {
    let world = World::new(&[task]);
    let settings = [
        "retries.exec_transport=0",
        "retries.grader=0",
        "retries.oom=0",
        "retries.daemon=0",
        "sandbox.memory_mb=128",
        "sandbox.storage_mb=32",
        "sandbox.pids=64",
    ];
    let args: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    let ended = world.eval(&args);
    assert!(matches!(ended.code, Some(0 | 3)), "{ended:?}");
    world.assert_nothing_left();
    let mut results = world.results();
    assert_eq!(results.len(), 1);
    (results.remove(0), world)
}

/// The honest reward of a cheat is 0.
fn assert_gets_nothing(task: Task) {
    let (result, _) = run(task);
    assert_eq!((result.outcome.as_str(), result.reward), ("graded", Some(0.0)), "{result:?}");
}

/// The environment may be lost to the cheat, but then there is no reward at all.
fn assert_gets_no_more(task: Task) {
    let (result, _) = run(task);
    match (result.outcome.as_str(), result.class.as_deref()) {
        ("infrastructure_failure", Some("exec_transport" | "oom")) => {}
        _ => assert_eq!(result.reward, Some(0.0), "{result:?}"),
    }
}

#[test]
fn a_reward_file_of_the_agent_is_not_read() {
    let cheat = "mkdir -p /logs/verifier\n\
                 echo 1 > /logs/verifier/reward.txt\n\
                 echo 1 > /logs/verifier/reward.json\n";
    assert_gets_nothing(brief(cheat));
    // Even where the test itself writes none.
    assert_gets_nothing(brief(cheat).file("tests/test.sh", "exit 1\n"));
}

#[test]
fn processes_that_the_agent_leaves_do_not_live_to_see_the_verifier() {
    let forge = "while :; do echo 1 > /logs/verifier/reward.txt; done";
    for start in [
        format!("({forge}) &\n"),
        format!("(setsid bash -c '{forge}' > /dev/null 2>&1 < /dev/null & disown)\n"),
        format!("trap '' TERM HUP INT\nsetsid setsid bash -c '{forge}' &\nexec sleep 0.1\n"),
    ] {
        assert_gets_nothing(brief(&start).file("tests/test.sh", SLOW_TEST));
    }
}

#[test]
fn what_would_change_how_tests_run_is_gone_when_they_do() {
    let paths = "/conftest.py /pytest.ini /setup.cfg /tests/conftest.py \
                 /tests/__pycache__/test_outputs.pyc /root/.config/pip/pip.conf \
                 /usr/lib/python3/dist-packages/sitecustomize.py \
                 /usr/local/lib/python3.12/site-packages/usercustomize.py";
    let plant = format!(
        "for path in {paths}; do mkdir -p \"${{path%/*}}/\" && echo x > \"$path\"; done\n\
         echo 'import os' > /usr/local/lib/python3.12/site-packages/a.pth\n\
         ls {paths} > /dev/null && touch /planted\n"
    );
    let obey = format!(
        "echo 0 > /logs/verifier/reward.txt\n\
         [ -e /planted ] || echo 9 > /logs/verifier/reward.txt\n\
         for path in {paths} /usr/local/lib/python3.12/site-packages/a.pth; do\n\
         if [ -e \"$path\" ]; then echo 1 > /logs/verifier/reward.txt; fi\ndone\n"
    );
    assert_gets_nothing(brief(&plant).file("tests/test.sh", obey));
}

#[test]
fn a_library_for_every_process_is_gone_when_the_tests_run() {
    let obey = "echo 0 > /logs/verifier/reward.txt\n\
                if [ -e /etc/ld.so.preload ]; then echo 1 > /logs/verifier/reward.txt; fi\n";
    let plant = "echo /app/forge.so > /etc/ld.so.preload\n";
    assert_gets_nothing(brief(plant).file("tests/test.sh", obey));
}

#[test]
fn folders_that_are_not_what_they_seem_do_not_catch_the_tests() {
    let own_test = "mkdir -p /app/t /app/v\n\
                    echo 'echo 1 > /logs/verifier/reward.txt' > /app/t/test.sh\n\
                    echo 1 > /app/v/reward.txt\n";
    for trick in [
        "rm -rf /tests; ln -s /app/t /tests\n",
        "rm -rf /tests; ln -s /nowhere /tests\n",
        "rm -rf /tests; cp -r /app/t /tests; chmod 0 /tests /tests/test.sh; chattr +i /tests\n",
        "rm -rf /tests; touch /tests; chmod 0 /tests\n",
        "rm -rf /logs/verifier; ln -s /app/v /logs/verifier\n",
        "rm -rf /logs; mkdir /app/logs; mv /app/v /app/logs/verifier; ln -s /app/logs /logs\n",
        "rm -rf /logs; touch /logs\n",
        "mount --bind /app/t /tests\n",
    ] {
        let (result, _) = run(brief(&format!("{own_test}{trick}exit 0\n")));
        let typed = result.class.as_deref() == Some("grader") && trick.contains("touch /logs");
        assert!(typed || result.reward == Some(0.0), "{trick}{result:?}");
    }
}

#[test]
fn a_report_that_is_none_is_no_pass() {
    for report in [
        "echo 1 > /app/one; ln -s /app/one /logs/verifier/reward.json",
        "echo 1 > /app/one; ln /app/one /logs/verifier/one; ln -s one /logs/verifier/reward.txt",
        "mkfifo /logs/verifier/reward.txt",
        "mkdir /logs/verifier/reward.json; echo 1 > /logs/verifier/reward.json/reward.json",
        "{ printf 1; head -c 2097152 /dev/zero | tr '\\0' ' '; } > /logs/verifier/reward.json",
        "truncate -s 1T /logs/verifier/reward.json",
        "echo NaN > /logs/verifier/reward.json",
        "echo Infinity > /logs/verifier/reward.txt",
        "echo '{\"reward\": {\"reward\": 1}}' > /logs/verifier/reward.json",
        "echo '{\"reward\": true}' > /logs/verifier/reward.json",
        "printf '1\\377' > /logs/verifier/reward.txt",
        "printf '\\377\\3761' > /logs/verifier/reward.json",
        ": > /logs/verifier/reward.txt",
        ":",
    ] {
        let (result, world) = run(brief("true\n").file("tests/test.sh", report));
        assert_eq!((&*result.outcome, result.reward), ("graded", Some(0.0)), "{report}");
        let note = world.attempts().remove(0).note;
        assert!(note.is_some_and(|note| note.contains("reward")), "{report}: no note");
    }
}

#[test]
fn the_guest_agent_is_out_of_reach() {
    for attack in [
        "for fd in 0 1 2 3 4 5; do echo forged > /proc/1/fd/$fd; done\n",
        "printf '\\0\\0\\0\\0' > /proc/1/mem\n",
        "dd if=/dev/zero of=/proc/1/mem bs=4096 count=1 seek=1024\n",
        "cat /proc/1/environ /proc/1/maps\n",
        "kill -9 1; kill -TERM 1; kill -STOP 1; kill -SEGV 1\n",
        "kill -9 -1\n",
        "kill -STOP -1\n",
        "for p in /proc/[0-9]*; do kill -9 ${p#/proc/}; kill -STOP ${p#/proc/}; done\n",
        "echo 1000 > /proc/1/oom_score_adj; echo c > /proc/sysrq-trigger\n",
    ] {
        assert_gets_no_more(brief(attack));
    }
}

#[test]
fn a_fork_bomb_ends_with_its_sandbox() {
    let bomb = "bomb() { bomb | bomb & }; bomb; wait\n";
    assert_gets_no_more(brief(bomb));
    let daemons =
        "f() { while :; do setsid bash -c \"$1\" _ \"$1\" & done; }; f 'sleep 9 & sleep 9'\n";
    assert_gets_no_more(brief(daemons));
}

#[test]
fn memory_that_runs_out_is_the_agents_own() {
    assert_gets_no_more(brief("tail /dev/zero\n"));
}

#[test]
fn a_full_disk_is_worth_nothing() {
    for fill in [
        "head -c 1G /dev/zero > /big\n",
        "i=0; while : > /app/file-$i; do i=$((i + 1)); done\n",
        "head -c 1G /dev/zero > /tmp/big; head -c 1G /dev/zero > /dev/shm/big\n",
    ] {
        assert_gets_no_more(brief(fill));
    }
}

#[test]
fn a_flood_of_output_is_cut_and_the_rest_counts() {
    let flood = "head -c 100000000 /dev/zero | tr '\\0' x\n\
                 head -c 100000000 /dev/zero | tr '\\0' y >&2\n";
    let (result, world) = run(Task::new("flood", &format!("{HONEST_SOLUTION}{flood}")));
    assert_eq!(result.reward, Some(1.0), "{result:?}");
    let kept = fs::metadata(world.run("trajectories/0.1.json")).unwrap().len();
    assert!(kept < 1 << 20, "{kept} bytes kept");
    // The same from the tests.
    let test = format!("{flood}{HONEST_TEST}");
    let (result, _) = run(Task::new("flood", HONEST_SOLUTION).file("tests/test.sh", test));
    assert_eq!(result.reward, Some(1.0), "{result:?}");
}

#[test]
fn a_daemon_that_holds_the_pipes_does_not_hold_up_the_end() {
    // Held up, it would be over its time limit.
    let (result, _) = run(brief(&format!("{HONEST_SOLUTION}setsid sleep 1000 &\n")));
    assert_eq!((&*result.outcome, result.reward), ("graded", Some(1.0)), "{result:?}");
}

#[test]
fn tests_that_do_not_end_are_no_pass() {
    let hang = "echo 1 > /logs/verifier/reward.txt\nsleep 1000\n";
    let task = Task::new("hang", "true\n").toml("verifier.timeout_sec = 0.5");
    assert_gets_nothing(task.file("tests/test.sh", hang));
}
