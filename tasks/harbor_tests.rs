use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::fixture::Fixture;
use crate::task::{Grading, ImageSource, VerifierMode};

fn no_variables(_: &str) -> Option<String> {
    None
}

fn read_ok(fixture: &Fixture) -> Task {
    match read(&fixture.at("a"), &no_variables) {
        Ok(task) => task,
        Err(defects) => panic!("{defects}"),
    }
}

fn defects(fixture: &Fixture) -> String {
    fixture.relative(read(&fixture.at("a"), &no_variables).unwrap_err())
}

#[test]
fn a_bare_task_has_harbors_defaults() {
    let task = read_ok(&Fixture::harbor("a"));
    assert_eq!(task.name, "a");
    assert_eq!(task.environment.network, NetworkPolicy::Public);
    assert_eq!(task.environment.build_timeout, Duration::from_secs(600));
    assert!(!task.keep_processes && task.has_solution());
    let [step] = task.steps.as_slice() else { panic!("one step") };
    assert_eq!((step.name.as_str(), step.instruction.as_str()), ("", "Make it work.\n"));
    assert_eq!(step.agent, AgentSpec { timeout: Duration::from_secs(600), user: None });
    assert_eq!(step.verifier.timeout, Duration::from_secs(600));
    assert!(matches!(step.verifier.mode, VerifierMode::Shared));
    assert_eq!(step.verifier.grading, Grading::RewardFile);
}

#[test]
fn every_table_of_the_format_is_read() {
    let toml = r#"
schema_version = "1.4"
source = "somewhere"
artifacts = ["/app/out", { source = "/app/log", service = "main" }]

[task]
name = "org/everything"
version = "2"
description = "All there is"
authors = [{ name = "A", email = "a@example.org" }]
keywords = ["x", "y"]

[metadata]
difficulty = "hard"
category = "files"
tags = ["y", "z"]
anything = [{ at = "all" }]
[metadata.orcapack]
keep_processes = true

[environment]
build_timeout_sec = 30
docker_image = "registry.example.org:5000/a/b:1@sha256:00"
os = "Linux"
cpus = 2
memory = "2G"
storage_mb = 512
gpus = 0
mcp_servers = []
env = { A = "${HOME_DIR:-/root}/x", B = "b" }
workdir = "/app"
network_mode = "no-network"
[environment.healthcheck]
command = "test -e /ready"
interval_sec = 0.5
retries = 7

[agent]
timeout_sec = 12.5
user = 1000
network_mode = "no-network"

[verifier]
timeout_sec = 34
env = { C = "c" }
user = "root"
environment_mode = "separate"
collect = [{ command = "dump", timeout_sec = 5, user = "db" }]
[verifier.environment]
docker_image = "grader:1"
memory_mb = 64

[solution]
env = { D = "d" }
"#;
    let task = read_ok(&Fixture::harbor("a").file("a/task.toml", toml));
    assert_eq!(task.name, "org/everything");
    assert_eq!(task.tags, ["y", "z", "x"]);
    assert_eq!(task.difficulty.as_deref(), Some("hard"));
    assert!(task.keep_processes);
    let environment = &task.environment;
    assert_eq!((environment.cpus, environment.memory_mb), (Some(2.0), Some(2048)));
    assert_eq!(environment.env["A"], "/root/x");
    assert_eq!(environment.network, NetworkPolicy::None);
    let check = environment.healthcheck.as_ref().unwrap();
    assert_eq!((check.interval, check.retries), (Duration::from_millis(500), 7));
    let step = &task.steps[0];
    assert_eq!(step.agent.user.as_deref(), Some("1000"));
    assert_eq!(step.artifacts, ["/app/out", "/app/log"]);
    assert_eq!(step.solution.as_ref().unwrap().env["D"], "d");
    assert_eq!(step.verifier.collect.len(), 1);
    let VerifierMode::Separate(Some(own)) = &step.verifier.mode else { panic!("separate") };
    assert_eq!((own.memory_mb, own.network), (Some(64), NetworkPolicy::Public));
    assert_eq!(own.image, ImageSource::Prebuilt("grader:1".to_owned()));
}

#[test]
fn a_steps_tables_and_tests_go_over_the_tasks() {
    let toml = r#"
multi_step_reward_strategy = "final"
artifacts = ["/all"]
[environment]
[agent]
timeout_sec = 10
user = "dev"
[verifier]
env = { A = "task", B = "task" }
[[steps]]
name = "second"
min_reward = { reward = 0.5 }
artifacts = ["/one"]
agent = { timeout_sec = 20 }
verifier = { env = { B = "step" }, timeout_sec = 3 }
[[steps]]
name = "first"
healthcheck = { command = "true" }
"#;
    let task = read_ok(
        &Fixture::harbor("a")
            .without("a/instruction.md")
            .file("a/task.toml", toml)
            .file("a/tests/shared.py", "shared")
            .file("a/steps/second/instruction.md", "Two.")
            .file("a/steps/second/tests/test.sh", "own")
            .file("a/steps/second/solution/solve.sh", "true")
            .file("a/steps/second/workdir/setup.sh", "true")
            .file("a/steps/first/instruction.md", "One."),
    );
    assert_eq!(task.reward_strategy, RewardStrategy::Final);
    let [second, first] = task.steps.as_slice() else { panic!("two steps") };
    assert_eq!((second.name.as_str(), first.name.as_str()), ("second", "first"));
    assert_eq!((second.min_reward, first.min_reward), (Some(0.5), None));
    assert_eq!(second.agent.timeout, Duration::from_secs(20));
    assert_eq!(first.agent.timeout, Duration::from_secs(10));
    assert_eq!(second.agent.user.as_deref(), Some("dev"));
    let env = |step: &Step| [step.verifier.env["A"].clone(), step.verifier.env["B"].clone()];
    assert_eq!(env(second), ["task", "step"]);
    assert_eq!(env(first), ["task", "task"]);
    let test_of = |step: &Step| step.verifier.tests.get("test.sh").unwrap().read().unwrap();
    assert_eq!(&*test_of(second), b"own");
    assert!(test_of(first).starts_with(b"echo 1"));
    assert!(second.verifier.tests.get("shared.py").is_some());
    assert_eq!(second.artifacts, ["/all", "/one"]);
    assert!(second.workdir_files.get("setup.sh").is_some());
    assert!(first.healthcheck.is_some() && first.solution.is_none() && !task.has_solution());
}

#[test]
fn a_dockerfile_among_the_tests_is_the_separate_verifiers_own_image() {
    let toml = "[environment]\nmemory_mb = 99\n[verifier]\nenvironment_mode = 'separate'";
    let fixture = Fixture::harbor("a").file("a/task.toml", toml);
    let mode = |fixture: &Fixture| read_ok(fixture).steps.remove(0).verifier.mode;
    assert!(matches!(mode(&fixture), VerifierMode::Separate(None)));
    let fixture = fixture.file("a/tests/Dockerfile", "FROM grader\n");
    let VerifierMode::Separate(Some(own)) = mode(&fixture) else { panic!("its own image") };
    assert_eq!(own.memory_mb, Some(99));
    let ImageSource::Dockerfile(context) = own.image else { panic!("built") };
    assert!(context.get("test.sh").is_some());
}

#[test]
fn scripts_in_known_bad_are_wrong_solutions() {
    let fixture = Fixture::harbor("a")
        .file("a/known-bad/lazy.sh", "exit 0\n")
        .file("a/known-bad/rude.sh", "exit 1\n");
    let task = read_ok(&fixture);
    let names: Vec<&str> = task.known_bad.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["lazy", "rude"]);
    assert_eq!(&*task.known_bad[1].1.get("solve.sh").unwrap().read().unwrap(), b"exit 1\n");
}

#[test]
fn what_cannot_be_run_here_is_refused_with_its_reason() {
    let toml = r#"
[environment]
env = { A = "${NOT_SET}" }
os = "windows"
gpus = 2
network_mode = "allowlist"
allowed_hosts = ["example.org"]
skills_dir = "/skills"
[[environment.mcp_servers]]
name = "m"
[agent]
network_mode = "no-network"
[[verifier.collect]]
command = "dump"
service = "db"
[[artifacts]]
source = "/x/../y"
destination = "y"
"#;
    let fixture = Fixture::harbor("a")
        .file("a/task.toml", toml)
        .file("a/environment/docker-compose.yaml", "services: {}");
    insta::assert_snapshot!(defects(&fixture), @r#"
    a/task.toml:2: environment.docker_image: expected an environment of one container, by Dockerfile or docker_image, found environment/docker-compose.yaml
    a/task.toml:3: environment.env.A: expected a text with ${VAR}s that are set, or ${VAR:-default}, found `${NOT_SET}`, which is not set and has no default
    a/task.toml:4: environment.os: expected "linux", the only system that is run, found "windows"
    a/task.toml:5: environment.gpus: expected 0, as environments have no GPU, found 2
    a/task.toml:6: environment.network_mode: expected "public" or "no-network", as hosts are not filtered, found "allowlist"
    a/task.toml:8: environment.skills_dir: expected no skills folder, as agents here take none, found one
    a/task.toml:9: environment.mcp_servers: expected none, as MCP servers are not run, found 1
    a/task.toml:12: agent.network_mode: expected the network_mode of [environment], as it is not changed between phases, found another
    a/task.toml:15: verifier.collect[0].service: expected "main", the only service that is run, found "db"
    a/task.toml:16: artifacts: expected paths in the environment, without `..`, found "/x/../y"
    a/task.toml:18: artifacts[0].destination: expected none, as artifacts are kept whole and under their own paths, found one
    "#);
}

#[test]
fn the_digest_is_of_what_the_task_is_and_not_of_where_it_lies() {
    let digest = |fixture: &Fixture, name| read(&fixture.at(name), &no_variables).unwrap().digest;
    let one = Fixture::harbor("a").with_harbor("b").file("a/environment/x.pyc", "litter");
    assert_eq!(digest(&one, "a"), digest(&one, "b"));
    let changed = Fixture::harbor("a").file("a/environment/x", "");
    assert_ne!(digest(&one, "a"), digest(&changed, "a"));
    let changed = Fixture::harbor("a").file("a/task.toml", "[agent]\ntimeout_sec = 599");
    assert_ne!(digest(&one, "a"), digest(&changed, "a"));
}

#[test]
fn large_files_stay_on_disk_and_are_checked_when_read() {
    let large = vec![7; crate::caps::INLINE_BYTES_MAX as usize + 1];
    let fixture = Fixture::harbor("a").file("a/environment/large", &large);
    let task = read_ok(&fixture);
    let ImageSource::Dockerfile(context) = task.environment.image else { panic!("built") };
    let entry = context.get("large").unwrap();
    assert!(matches!(entry.content, crate::file_tree::Content::OnDisk(_)));
    assert_eq!(&*entry.read().unwrap(), large.as_slice());
    let _changed = fixture.file("a/environment/large", "small now");
    assert!(entry.read().unwrap_err().to_string().ends_with("has changed since the task was read"));
}

/// Lines of a `task.toml` that are each fine or foul, in any order.
fn any_config() -> impl Strategy<Value = String> {
    let tables = "\\[(environment|agent|verifier|task|metadata|solution|steps|environment.healthcheck)\\]\
                  |\\[\\[(steps|artifacts|verifier.collect|environment.mcp_servers)\\]\\]";
    let keys = "(timeout_sec|env|name|memory|memory_mb|cpus|user|artifacts|network_mode|healthcheck|\
                environment|steps|collect|min_reward|tags|retries|schema_version)";
    let values = "[0-9]{1,25}|-?[0-9]\\.[0-9]|1e400|nan|inf|true|\\[\\]|\\{ ?\\}|\\[1, \"a\"\\]|\
                  \"(public|9G|\\$\\{A|\\$\\{A:-b\\}|\\.\\./x|org/name)?\"|1979-05-27";
    let line = prop_oneof![
        tables.prop_map(|table| table),
        (keys, values).prop_map(|(key, value)| format!("{key} = {value}")),
    ];
    proptest::collection::vec(line, 0..8).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn no_config_makes_reading_panic(config in any_config()) {
        let fixture = Fixture::harbor("a").file("a/task.toml", config);
        let _ = read(&fixture.at("a"), &no_variables);
    }
}
