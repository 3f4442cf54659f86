use super::*;
use crate::fixture::Fixture;
use crate::task::NetworkPolicy;

const COMPOSE: &str = r#"
services:
  client:
    build:
      context: .
      dockerfile: Dockerfile
    image: ${T_BENCH_TASK_DOCKER_CLIENT_IMAGE_NAME}
    container_name: ${T_BENCH_TASK_DOCKER_CLIENT_CONTAINER_NAME}
    command: [ "sh", "-c", "sleep infinity" ]
    environment:
      - TEST_DIR=${T_BENCH_TEST_DIR}
      - LOGS=${T_BENCH_CONTAINER_LOGS_PATH}/x
    volumes:
      - ${T_BENCH_TASK_LOGS_PATH}:${T_BENCH_CONTAINER_LOGS_PATH}
      - ${T_BENCH_TASK_AGENT_LOGS_PATH}:${T_BENCH_CONTAINER_AGENT_LOGS_PATH}
"#;

fn read_ok(fixture: &Fixture) -> Task {
    match read(&fixture.at("a"), &|_| None) {
        Ok(task) => task,
        Err(defects) => panic!("{defects}"),
    }
}

fn defects(fixture: &Fixture) -> String {
    fixture.relative(read(&fixture.at("a"), &|_| None).unwrap_err())
}

#[test]
fn a_task_is_read_with_its_tests_kept_out_of_the_build_context() {
    let yaml = r#"
instruction: |-
  Make it
  work.
author_name: A
author_email: a@example.org
difficulty: medium
category: files
tags: [x, y]
parser_name: pytest
max_agent_timeout_sec: 900.0
max_test_timeout_sec: 180
run_tests_in_same_shell: false
disable_asciinema: true
expert_time_estimate_min: 5
junior_time_estimate_min: null
"#;
    let fixture = Fixture::terminal_bench("a")
        .file("a/task.yaml", yaml)
        .file("a/docker-compose.yaml", COMPOSE)
        .file("a/data/input.txt", "1");
    let task = read_ok(&fixture);
    assert_eq!((task.name.as_str(), task.format), ("a", Format::TerminalBench1));
    assert_eq!(task.environment.env, BTreeMap::from([("LOGS".into(), "/logs/x".into())]));
    let ImageSource::Dockerfile(context) = &task.environment.image else { panic!("built") };
    let context: Vec<&str> = context.iter().map(|(path, _)| path).collect();
    assert_eq!(context, ["Dockerfile", "data/input.txt"]);
    let step = &task.steps[0];
    assert_eq!(step.instruction, "Make it\nwork.");
    assert_eq!(step.agent.timeout, Duration::from_secs(900));
    assert_eq!(step.verifier.timeout, Duration::from_secs(180));
    assert_eq!(step.verifier.script, "/tests/run-tests.sh");
    assert_eq!(step.verifier.env["TEST_DIR"], "/tests");
    let tests: Vec<&str> = step.verifier.tests.iter().map(|(path, _)| path).collect();
    assert_eq!(tests, ["run-tests.sh", "test_outputs.py"]);
    let solution = step.solution.as_ref().unwrap();
    assert_eq!(&*solution.files.get("solve.sh").unwrap().read().unwrap(), b"true\n");
}

#[test]
fn of_several_descriptions_the_base_is_the_instruction() {
    let yaml = "descriptions:\n  - key: hard\n    description: Less\n  - key: base\n    description: More\n";
    let fixture = Fixture::terminal_bench("a").file("a/task.yaml", yaml);
    assert_eq!(read_ok(&fixture).steps[0].instruction, "More");
}

#[test]
fn blocking_commands_become_a_script_and_key_presses_are_refused() {
    let commands = "- command: cd /app\n  block: true\n- command: |\n    make\n    make install\n  block: true\n  min_timeout_sec: 3.0\n";
    let fixture =
        Fixture::terminal_bench("a").without("a/solution.sh").file("a/solution.yaml", commands);
    let solution = read_ok(&fixture).steps.remove(0).solution.unwrap();
    let script = solution.files.get("solve.sh").unwrap().read().unwrap();
    assert_eq!(&*script, b"#!/bin/bash\ncd /app\nmake\nmake install\n");
    let fixture = fixture.file(
        "a/solution.yaml",
        "- command: vim x\n  block: true\n- command: ihello\n  append_enter: false\n",
    );
    assert_eq!(
        defects(&fixture),
        "a/solution.yaml:3: [1]: expected commands with `block: true`, which can be run as a script, \
         found key presses: \"ihello\""
    );
}

#[test]
fn a_compose_file_beyond_the_standard_one_is_refused() {
    let compose = r#"
services:
  client:
    build: ./image
    command: nginx
    privileged: true
    volumes: ["/:/host"]
    environment: { A: "${NOT_SET}" }
  db:
    image: postgres
"#;
    let fixture = Fixture::terminal_bench("a").file("a/docker-compose.yaml", compose);
    insta::assert_snapshot!(defects(&fixture), @r#"
    a/docker-compose.yaml:4: services.client.build: expected ".", the task's folder, found another
    a/docker-compose.yaml:5: services.client.command: expected `sleep infinity`, which is what every environment runs, found `nginx`
    a/docker-compose.yaml:6: services.client.privileged: expected one of: image, container_name, build, command, volumes, network_mode, environment, found unknown key `privileged`
    a/docker-compose.yaml:7: services.client.volumes: expected only the logs' volumes, as nothing of the host is mounted, found "/:/host"
    a/docker-compose.yaml:8: services.client.environment: expected a text with ${VAR}s that are set, or ${VAR:-default}, found `${NOT_SET}`, which is not set and has no default
    a/docker-compose.yaml:10: services.db: expected the one service `client`, as several are not run together, found the service `db`
    "#);
    let compose = COMPOSE.replace("    image:", "    network_mode: none\n    image:");
    let fixture = Fixture::terminal_bench("a").file("a/docker-compose.yaml", compose);
    assert_eq!(read_ok(&fixture).environment.network, NetworkPolicy::None);
}
