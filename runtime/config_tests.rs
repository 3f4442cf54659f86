use clap::Parser as _;
use orcapack_actors::model::settings::{
    EndpointKind, EngineBounds, Mistakes, PolicySettings, Price, Sampling,
};
use orcapack_actors::team::settings::{Mode, Prompts};
use orcapack_tasks::FailureClass;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::cli::{Cli, Command};
use crate::config_models::ModelConfig;

/// `eval` with these arguments and this `eval.toml`, on a machine that is the same everywhere.
/// `DIR` in an argument or a message is the folder of the file.
fn eval(toml: Option<&str>, args: &[&str]) -> Result<EvalConfig, String> {
    loaded(toml, args).map(|loaded| loaded.config)
}

/// The same, with the plan of a team.
pub(crate) fn loaded(toml: Option<&str>, args: &[&str]) -> Result<Loaded, String> {
    configured("eval", toml, args, |command| {
        let Command::Eval(args) = command else { panic!("not eval") };
        load(&args, &host(), None)
    })
}

/// What `load` makes of the command `name` with these arguments and this `NAME.toml`.
pub(crate) fn configured<T>(
    name: &str,
    toml: Option<&str>,
    args: &[&str],
    load: impl FnOnce(Command) -> Result<T, Defects>,
) -> Result<T, String> {
    let dir = tempfile::tempdir().unwrap();
    let dir_text = dir.path().display().to_string();
    let mut line = vec!["orcapack".to_owned(), name.to_owned()];
    if let Some(toml) = toml {
        let file = format!("{dir_text}/{name}.toml");
        fs::write(&file, toml).unwrap();
        line.extend(["-c".to_owned(), file]);
    }
    line.extend(args.iter().map(|arg| arg.replace("DIR", &dir_text)));
    let cli = Cli::try_parse_from(line).map_err(|error| error.to_string())?;
    load(cli.command).map_err(|defects| defects.to_string().replace(&dir_text, "DIR"))
}

pub(crate) fn host() -> Host {
    Host {
        cpus: 8,
        cache_dir: PathBuf::from("cache"),
        working_dir: PathBuf::from("/home/ada"),
        now: "2026-03-01T14:05:09[UTC]".parse().unwrap(),
        variables: |name| match name {
            "ANTHROPIC_API_KEY" => Some("sk-ant-1234".to_owned()),
            "EMPTY" => Some(String::new()),
            "TWO_LINES" => Some("sk-1\nsk-2".to_owned()),
            _ => None,
        },
    }
}

/// What each of these is told, under its name.
pub(crate) fn faults(table: &[(&str, Option<&str>, &[&str])]) -> String {
    let mut report = String::new();
    for (name, toml, args) in table {
        let message = eval(*toml, args).expect_err(name);
        report.push_str(&format!("## {name}\n{message}\n\n"));
    }
    report
}

#[test]
fn bad_configurations_are_told_all_their_faults_with_place_and_remedy() {
    let table: &[(&str, Option<&str>, &[&str])] = &[
        ("no tasks at all", None, &[]),
        ("TOML syntax", Some("[run]\ndataset = \"ds\"\nname = \n[agent\nkind = 'nop'"), &[]),
        (
            "unknown keys",
            Some("[run]\ndataset = 'ds'\n[rollout]\nn_attempts = 2\n[sandbox]\nmemory = 1\n"),
            &["--set", "rollouts.n_concurent=2"],
        ),
        (
            "wrong types, all at once",
            Some(
                "[run]\ndataset = 'ds'\nname = 7\n[select]\ntags = 'easy'\ninclude = ['a', 3]\n\
                 [rollouts]\nn_concurrent = 2.5\npartial_reward = 'yes'\nn_attempts = true\n",
            ),
            &[],
        ),
        (
            "out of range",
            Some(
                "[run]\ndataset = 'ds'\n[sandbox]\ncpus = 0\nmemory_mb = 8\npids = 5000000\n\
                 [timeouts]\nmultiplier = nan\ndrain_sec = -1\n[retries]\noom = -1\n",
            ),
            &["-n", "0", "-k", "10001"],
        ),
        ("a section that is no table", Some("run = 3\nagent = []\n"), &["-d", "ds"]),
        (
            "bad names",
            Some("[agent]\nkind = 'human'\n[sandbox]\ndriver = 'podman'\n"),
            &["-d", "ds", "--name", "../up"],
        ),
        ("--set without value", None, &["--set", "sandbox.cpus", "--set", "=2", "--set", "a="]),
        ("--set of a wrong value", None, &["-d", "ds", "--set", "sandbox.cpus=many"]),
        ("--set through a value", Some("[run]\nname = 'a'"), &["--set", "run.name.x=1"]),
        ("--set of a key that is none", None, &["-d", "ds", "--set", "a b=1"]),
        ("no such file", None, &["-c", "DIR/absent.toml"]),
        ("a model that no agent uses", None, &["-d", "ds", "-m", "large", "-a", "nop"]),
        ("resume without a name", None, &["--resume"]),
        ("resume of a run that is not", None, &["--resume", "--name", "x", "--runs-dir", "DIR"]),
        ("a path that is empty", None, &["--set", "run.dataset=''", "--set", "run.name=''"]),
    ];
    insta::assert_snapshot!(faults(table), @r#"
    ## no tasks at all
    command line: run.dataset: expected tasks: this key, or -d PATH, or -p PATH, found none

    ## TOML syntax
    DIR/eval.toml:3: expected valid TOML, found string values must be quoted, expected literal string
    DIR/eval.toml:4: expected valid TOML, found unclosed table, expected `]`

    ## unknown keys
    DIR/eval.toml:3: rollout: expected one of: models, team, run, select, agent, rollouts, sandbox, timeouts, retries, found unknown key `rollout` (did you mean `rollouts`?)
    DIR/eval.toml:6: sandbox.memory: expected one of: driver, cpus, memory_mb, pids, storage_mb, start_timeout_sec, create_concurrency, verify_concurrency, create_rate_per_sec, breaker_failures, breaker_cooldown_sec, cache_dir, found unknown key `memory`
    --set: rollouts.n_concurent: expected one of: n_concurrent, n_attempts, partial_reward, found unknown key `n_concurent` (did you mean `n_concurrent`?)

    ## wrong types, all at once
    DIR/eval.toml:3: run.name: expected a string, found 7
    DIR/eval.toml:5: select.tags: expected an array of strings, found the string "easy"
    DIR/eval.toml:6: select.include[1]: expected a string, found 3
    DIR/eval.toml:8: rollouts.n_concurrent: expected an integer from 1 to 100000, found 2.5
    DIR/eval.toml:9: rollouts.partial_reward: expected true or false, found the string "yes"
    DIR/eval.toml:10: rollouts.n_attempts: expected an integer from 1 to 10000, found true

    ## out of range
    DIR/eval.toml:4: sandbox.cpus: expected a number from 0.01 to 1024, found 0
    DIR/eval.toml:5: sandbox.memory_mb: expected an integer from 16 to 4194304, found 8
    DIR/eval.toml:6: sandbox.pids: expected an integer from 16 to 4194304, found 5000000
    DIR/eval.toml:8: timeouts.multiplier: expected a number from 0.01 to 1000, found NaN
    DIR/eval.toml:9: timeouts.drain_sec: expected a number of seconds from 0 to 86400, found -1
    DIR/eval.toml:11: retries.oom: expected an integer from 0 to 1000, found -1
    --n-attempts: rollouts.n_attempts: expected an integer from 1 to 10000, found 10001
    --n-concurrent: rollouts.n_concurrent: expected an integer from 1 to 100000, found 0

    ## a section that is no table
    --dataset: run.dataset: expected a path of tables, found `run`, which is 3

    ## bad names
    DIR/eval.toml:2: agent.kind: expected "oracle" or "nop" or "known-bad" or "team", found the string "human"
    DIR/eval.toml:4: sandbox.driver: expected "auto" or "docker" or "process", found the string "podman"
    --name: run.name: expected 1 to 64 letters, digits, `.`, `_` and `-`, the first of them a letter or a digit, found "../up"

    ## --set without value
    --set: expected KEY=VALUE, such as sandbox.cpus=2, found `sandbox.cpus`
    --set: expected KEY=VALUE, such as sandbox.cpus=2, found `=2`
    --set: expected KEY=VALUE, such as sandbox.cpus=2, found `a=`

    ## --set of a wrong value
    --set: sandbox.cpus: expected a number from 0.01 to 1024, found the string "many"

    ## --set through a value
    --set: run.name.x: expected a path of tables, found `name`, which is the string "a"

    ## --set of a key that is none
    --set: a b: expected a dotted key, such as `trainer.steps`, found `a b`

    ## no such file
    DIR/absent.toml: expected a readable file, found No such file or directory (os error 2)

    ## a model that no agent uses
    --model: expected no model: agent `nop` uses none, found `large`

    ## resume without a name
    --resume: run.name: expected the run to resume: --name NAME, found none

    ## resume of a run that is not
    DIR/x/config.toml: expected the configuration of the run to resume, found No such file or directory (os error 2)

    ## a path that is empty
    --set: run.dataset: expected a path, found an empty string
    --set: run.name: expected 1 to 64 letters, digits, `.`, `_` and `-`, the first of them a letter or a digit, found ""
    "#);
}

#[test]
fn flags_that_exclude_each_other_are_refused() {
    for args in [["--resume", "--clean"], ["-d=a", "-p=b"], ["-q", "-v"]] {
        let message = eval(None, &args).expect_err("refused");
        assert!(message.contains("cannot be used with"), "{message}");
    }
}

#[test]
fn each_layer_goes_over_the_one_before() {
    let toml = "[run]\ndataset = 'file'\n[sandbox]\npids = 100\n[rollouts]\nn_concurrent = 10\nn_attempts = 10\n";
    let args = [
        "--set",
        "rollouts.n_attempts=20",
        "--set",
        "sandbox.pids=200",
        "--set",
        "sandbox.pids=300",
    ];
    let config = eval(Some(toml), &[&args[..], &["-k", "30"]].concat()).unwrap();
    assert_eq!(config.rollouts.n_concurrent, 10, "file over default");
    assert_eq!(config.sandbox.pids, 300, "the last --set over the file");
    assert_eq!(config.rollouts.n_attempts, 30, "flag over --set");
    assert_eq!(config.sandbox.breaker_failures, 5, "default");
}

#[test]
fn defaults_are_the_documented_ones() {
    let config = eval(None, &["-d", "ds"]).unwrap();
    insta::assert_snapshot!(config.to_toml().unwrap(), @r#"
    [run]
    name = "2026-03-01_14-05-09-oracle"
    runs_dir = "runs"
    dataset = "/home/ada/ds"

    [select]
    include = []
    exclude = []
    tags = []
    difficulties = []
    categories = []

    [agent]
    kind = "oracle"
    think_sec = 0

    [rollouts]
    n_concurrent = 4
    n_attempts = 1
    partial_reward = false

    [sandbox]
    driver = "auto"
    cpus = 1.0
    memory_mb = 1024
    pids = 512
    storage_mb = 2048
    start_timeout_sec = 120
    create_concurrency = 8
    verify_concurrency = 16
    create_rate_per_sec = 0.0
    breaker_failures = 5
    breaker_cooldown_sec = 10
    cache_dir = "/home/ada/cache"

    [timeouts]
    multiplier = 1.0
    drain_sec = 20

    [retries]
    image = 1
    daemon = 10
    start_timeout = 2
    oom = 1
    exec_transport = 3
    node_lost = 10
    model_endpoint = 5
    grader = 1
    internal = 1

    [team]
    mode = "stateful"
    prompts = "standard"
    orchestrator_turns_max = 50
    orchestrator_answer_tokens_max = 4096
    subagent_answer_tokens_max = 4096
    tokens_max = 5000000
    subagent_tokens_max = 1000000
    observation_chars_max = 12000
    bootstrap_chars_max = 24000
    time_reserve_sec = 30
    restarts_max = 5
    restart_window_sec = 60

    [team.roles]
    orchestrator = "main"
    explorer = "main"
    coder = "main"
    "#);
}

#[test]
fn a_value_that_looks_like_toml_is_still_a_name_when_a_flag_gives_it() {
    let config = eval(None, &["-d", "true", "--name", "12", "-t", "a\"b", "-t", "3"]).unwrap();
    assert_eq!(config.run.dataset, Path::new("/home/ada/true"));
    assert_eq!(config.run.name, "12");
    assert_eq!(config.select.include, ["a\"b", "3"]);
}

#[test]
fn resume_starts_from_the_configuration_of_the_run() {
    let runs = tempfile::tempdir().unwrap();
    let runs_dir = runs.path().to_str().unwrap();
    let first = eval(None, &["-d", "ds", "-k", "5", "--name", "r", "--runs-dir", runs_dir]);
    let first = first.unwrap();
    fs::create_dir(runs.path().join("r")).unwrap();
    fs::write(runs.path().join("r/config.toml"), first.to_toml().unwrap()).unwrap();

    let line = ["--resume", "--name", "r", "--runs-dir", runs_dir];
    assert_eq!(eval(None, &line), Ok(first.clone()));
    let changed = eval(None, &[&line[..], &["-n", "9"]].concat()).unwrap();
    assert_eq!(changed.rollouts.n_concurrent, 9);
    assert_eq!(changed.rollouts.n_attempts, 5);
}

fn any_model() -> impl Strategy<Value = ModelConfig> {
    let number = || proptest::option::of(0.0_f64..1.0);
    let parts = (
        (
            0_usize..EndpointKind::NAMES.len(),
            "[!-~]{1,12}",
            "[a-z]{1,9}",
            0_usize..3,
            proptest::bool::ANY,
        ),
        (number(), number(), proptest::option::of(0..=i64::MAX as u64)),
        (1_u64..4000, 1_u32..1000, 1_usize..1000, number()),
        (0_usize..4, "[ -~]{0,9}", -5_i64..5),
    );
    parts.prop_map(|(names, sampling, bounds, extra)| {
        let kind = EndpointKind::NAMES[names.0].1;
        let plain = ModelConfig::defaults(kind);
        let served = config_models::is_served(kind);
        let price = |input| Price { input, cached_input: input / 3.0, output: 2.0 };
        let replay = kind == EndpointKind::Replay;
        let embedded = kind == EndpointKind::Embedded;
        let asked = served || replay || embedded;
        let mut model = ModelConfig {
            run: replay.then(|| PathBuf::from("/").join(&names.1)),
            price: bounds.3.map(price).filter(|_| asked),
            in_flight_max: if asked { bounds.2 } else { plain.in_flight_max },
            ..plain
        };
        if kind == EndpointKind::Solution {
            let share = sampling.0.unwrap_or(1.0);
            model.mistakes = Mistakes { share, known_bad: sampling.1.map(|_| names.2.clone()) };
            model.sampling.seed = sampling.2;
        }
        if served {
            model.model = names.1;
            model.url = if names.4 { format!("http://{}/v1", names.2) } else { model.url };
            model.key = match names.3 {
                0 => None,
                1 => Some(KeySource::Variable(names.2.to_uppercase())),
                _ => Some(KeySource::File(PathBuf::from("/keys").join(&names.2))),
            };
            let value = [json!(extra.1), json!(extra.2), json!([extra.2, {"a": true}]), json!(0.5)];
            model.extra.insert("k".to_owned(), value[extra.0].clone());
        } else if embedded {
            model.model = names.2.clone();
            let optional = names.4.then_some(bounds.2 + 1);
            model.policy = Some(PolicySettings {
                checkpoint: PathBuf::from("/").join(&names.2),
                bounds: EngineBounds {
                    slots: bounds.2,
                    context_tokens_max: optional,
                    kept_mb: (!names.4).then_some(bounds.0),
                    threads: optional,
                },
                chat_template_kwargs: [(extra.1.clone(), json!(extra.2))].into_iter().collect(),
            });
        }
        if served || embedded {
            model.sampling = Sampling {
                temperature: sampling.0,
                top_p: sampling.1,
                seed: sampling.2.filter(|_| kind != EndpointKind::Anthropic),
            };
            model.try_timeout = std::time::Duration::from_millis(bounds.0 * 250);
            model.tries_max = bounds.1;
        }
        model
    })
}

fn any_config() -> impl Strategy<Value = EvalConfig> {
    let names = || proptest::collection::vec("[ -~]{0,8}", 0..3);
    let millis = || (100_u64..10_000_000).prop_map(std::time::Duration::from_millis);
    let parts = (
        ("[a-z0-9][a-zA-Z0-9._-]{0,20}", "[ -~]{1,20}"),
        (names(), names(), names(), proptest::option::of(1_usize..1000)),
        (0_usize..4, millis(), 0_usize..3, proptest::bool::ANY),
        (0.01_f64..1024.0, 16_u64..100_000, 0.0_f64..1000.0),
        (proptest::option::of(millis()), proptest::option::of(millis()), 0.01_f64..1000.0),
        proptest::collection::vec(0_u32..1000, 9),
        (
            proptest::collection::btree_map("[a-z][a-z0-9._-]{0,9}", any_model(), 0..4),
            ("[a-z]{1,4}", 1_u64..1_000_000, proptest::bool::ANY, millis()),
        ),
    );
    parts.prop_map(|(run, select, agent, sandbox, timeouts, retries, (models, team))| {
        let mut config = EvalConfig::defaults(3, PathBuf::from("/cache"));
        config.run.name = run.0;
        config.run.dataset = PathBuf::from("/").join(run.1);
        config.select.include = select.0;
        config.select.tags = select.1;
        config.select.categories = select.2;
        config.select.n_tasks = select.3;
        config.agent.kind = AgentKind::NAMES[agent.0].1;
        config.agent.think = agent.1;
        config.sandbox.driver = crate::config::SandboxDriver::NAMES[agent.2].1;
        config.rollouts.partial_reward = agent.3;
        config.sandbox.cpus = sandbox.0;
        config.sandbox.memory_mb = sandbox.1;
        config.sandbox.create_rate_per_sec = sandbox.2;
        config.timeouts.agent = timeouts.0;
        config.timeouts.verifier = timeouts.1;
        config.timeouts.multiplier = timeouts.2;
        config.retries.image = retries[0];
        config.retries.daemon = retries[1];
        config.retries.start_timeout = retries[2];
        config.retries.oom = retries[3];
        config.retries.exec_transport = retries[4];
        config.retries.node_lost = retries[5];
        config.retries.model_endpoint = retries[6];
        config.retries.grader = retries[7];
        config.retries.internal = retries[8];
        config.models = models;
        config.team.roles.coder = team.0;
        config.team.settings.tokens_max = team.1;
        config.team.settings.mode = if team.2 { Mode::Stateless } else { Mode::Stateful };
        config.team.settings.prompts = Prompts::NAMES[usize::from(team.2)].1;
        config.team.settings.time_reserve = team.3;
        config
    })
}

proptest! {
    #[test]
    fn the_effective_configuration_reads_back_as_itself(config in any_config()) {
        let text = config.to_toml().unwrap();
        let doc = TomlDoc::parse(Path::new("config.toml"), &text).unwrap();
        // Another base: what is read must come from the text.
        let read = EvalConfig::read(doc, EvalConfig::defaults(64, PathBuf::from("/other")));
        prop_assert_eq!(read, Ok(config));
    }
}

#[test]
fn each_failure_class_has_its_retry_limit() {
    let limits = FailureClass::ALL.map(|class| {
        let key = format!("retries.{class}=77");
        let config = eval(None, &["-d", "ds", "--set", &key]).unwrap();
        config.retries.of(class)
    });
    assert_eq!(limits, [77; 9]);
}
