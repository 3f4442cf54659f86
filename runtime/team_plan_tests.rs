use orcapack_actors::model::settings::EndpointKind;
use orcapack_actors::team::settings::{Mode, Prompts};
use orcapack_tasks::dataset::{self, LoadOptions};
use orcapack_tasks::generate::{FAMILIES, Order, Split};

use super::*;
use crate::config_layers::Loaded;
use crate::config_layers::tests::{faults, loaded};

const TEAM: &[&str] = &["-d", "ds", "-a", "team"];

fn team(toml: Option<&str>, args: &[&str]) -> Loaded {
    loaded(toml, &[TEAM, args].concat()).expect("a team")
}

#[test]
fn one_model_on_the_command_line_plays_every_role() {
    let loaded = team(None, &["-m", "vllm/Qwen/Qwen3-14B", "--set", "models.main.temperature=0.2"]);
    let plan = loaded.team.unwrap();
    assert_eq!(plan.models(), "Qwen/Qwen3-14B");
    assert_eq!(plan.roles, EndpointNames::same("main"));
    let [endpoint] = plan.endpoints.try_into().expect("one endpoint");
    assert_eq!((endpoint.kind, endpoint.name.as_str()), (EndpointKind::Vllm, "main"));
    assert_eq!(endpoint.url, "http://127.0.0.1:8000/v1");
    assert_eq!((endpoint.sampling.temperature, endpoint.api_key), (Some(0.2), None));
}

#[test]
fn a_team_of_several_models_has_the_endpoints_that_its_roles_name() {
    let toml = "
        [team]
        mode = 'stateless'
        subagent_tokens_max = 500
        [team.roles]
        orchestrator = 'big'
        explorer = 'fixed'
        coder = 'big'
        [models.big]
        kind = 'sglang'
        model = 'b'
        url = 'http://gpu:1/v1/'
        seed = 7
        extra = { reasoning_effort = 'low', stop = ['a', 1, { b = true }] }
        price = { input = 0.25, output = 2 }
        [models.fixed]
        kind = 'literal'
        [models.unused]
        kind = 'openai'
        model = 'x'
        api_key = '${NOT_SET}'
    ";
    let plan = team(Some(toml), &["--set", "models.big.price.cached_input=0.1"]).team.unwrap();
    assert_eq!((plan.settings.mode, plan.settings.subagent_tokens_max), (Mode::Stateless, 500));
    let names: Vec<&str> = plan.endpoints.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["big", "fixed"], "an unused one needs no key");
    assert_eq!(plan.models(), "orchestrator b, explorer literal, coder b");
    let big = &plan.endpoints[0];
    assert_eq!(big.url, "http://gpu:1/v1", "a path is put after it");
    assert_eq!(big.sampling.seed, Some(7));
    let extra = serde_json::json!({ "reasoning_effort": "low", "stop": ["a", 1, { "b": true }] });
    assert_eq!(serde_json::Value::from(big.extra.clone()), extra);
    let price = big.price.unwrap();
    assert_eq!((price.input, price.cached_input, price.output), (0.25, 0.1, 2.0));
}

#[test]
fn a_single_model_of_another_name_needs_no_roles() {
    let plan = team(Some("[models.qwen]\nkind = 'vllm'\nmodel = 'q'\n"), &[]).team.unwrap();
    assert_eq!(plan.roles, EndpointNames::same("qwen"));
}

#[test]
fn a_key_is_used_and_never_shown() {
    let Loaded { config, team: plan, .. } = team(None, &["-m", "anthropic/claude-sonnet-4-5"]);
    let plan = plan.unwrap();
    assert_eq!(plan.endpoints[0].api_key, Some(Secret::new("sk-ant-1234")));
    let toml = config.to_toml().unwrap();
    assert!(toml.contains("api_key = \"${ANTHROPIC_API_KEY}\""), "{toml}");
    let json = serde_json::to_string(&config).unwrap();
    for shown in [toml, json, format!("{config:?}"), format!("{plan:?}")] {
        assert!(!shown.contains("1234"), "{shown}");
    }
}

#[test]
fn the_key_of_an_account_goes_to_its_own_service_only() {
    let args = ["-m", "anthropic/claude", "--set", "models.main.url=http://proxy:4000/v1"];
    let Loaded { config, team, .. } = team(None, &args);
    assert_eq!(team.unwrap().endpoints[0].api_key, None);
    assert_eq!(config.models["main"].key, None);
}

#[test]
fn a_key_in_a_file_is_its_only_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    std::fs::write(&file, "sk-file\n").unwrap();
    let setting = format!("models.main.api_key_file={}", file.display());
    let args = ["-m", "openai/gpt-5-mini", "--set", &setting];
    let Loaded { config, team, .. } = team(None, &args);
    assert_eq!(team.unwrap().endpoints[0].api_key, Some(Secret::new("sk-file")));
    let toml = config.to_toml().unwrap();
    assert!(toml.contains(&file.display().to_string()) && !toml.contains("sk-file"), "{toml}");
}

#[test]
fn a_recorded_run_is_a_model_too() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("trajectories")).unwrap();
    let model = format!("replay/{}", dir.path().display());
    let plan = team(None, &["-m", &model]).team.unwrap();
    assert_eq!(plan.endpoints[0].run.as_deref(), Some(dir.path()));
    assert_eq!(plan.models(), "replay");
}

#[test]
fn other_agents_have_no_plan_and_need_no_keys() {
    let toml = "[models.main]\nkind = 'openai'\nmodel = 'x'\napi_key = '${NOT_SET}'\n";
    let loaded = loaded(Some(toml), &["-d", "ds", "-a", "oracle"]).unwrap();
    assert_eq!(loaded.team, None);
    assert_eq!(loaded.config.models.len(), 1, "it is kept for who edits the file");
}

#[test]
fn a_resumed_team_starts_from_the_models_of_the_run() {
    let runs = tempfile::tempdir().unwrap();
    let runs_dir = runs.path().to_str().unwrap();
    let line = ["--name", "r", "--runs-dir", runs_dir];
    let first = team(None, &[&line[..], &["-m", "vllm/q", "--set", "team.tokens_max=9"]].concat());
    std::fs::create_dir(runs.path().join("r")).unwrap();
    std::fs::write(runs.path().join("r/config.toml"), first.config.to_toml().unwrap()).unwrap();
    let resume = |args: &[&str]| loaded(None, &[&line[..], &["--resume"], args].concat()).unwrap();
    assert_eq!(resume(&[]), first);
    let changed = resume(&["--set", "models.main.in_flight_max=3"]);
    assert_eq!(changed.team.unwrap().endpoints[0].in_flight_max, 3);
    assert_eq!(resume(&["-m", "vllm/q"]), first, "the same model may be named again");
    assert_eq!(resume(&["-m", "sglang/q"]).config.models["main"].kind, EndpointKind::Sglang);
}

#[test]
fn a_demonstrator_plans_for_literal_subagents_over_tasks_that_have_what_it_shows() {
    let toml = "
        [team]
        prompts = 'compact'
        [team.roles]
        orchestrator = 'demo'
        explorer = 'fixed'
        coder = 'fixed'
        [models.demo]
        kind = 'solution'
        mistakes = 0.25
        known_bad = 'hasty'
        seed = 3
        [models.fixed]
        kind = 'literal'
    ";
    let plan = team(Some(toml), &[]).team.unwrap();
    assert_eq!(plan.settings.prompts, Prompts::Compact);
    assert_eq!(plan.models(), "orchestrator solution, explorer literal, coder literal");
    let mistakes = Mistakes { share: 0.25, known_bad: Some("hasty".to_owned()) };
    let [demo, _] = &*plan.endpoints else { panic!("two endpoints") };
    assert_eq!((&demo.mistakes, demo.sampling.seed), (&mistakes, Some(3)));

    let dir = tempfile::tempdir().unwrap();
    let (family, split) = (&FAMILIES[0], Split::Train);
    let order = Order { family, difficulty: None, split, count: 1, seed: 0 };
    order.instances().unwrap()[0].write(dir.path()).unwrap();
    let lookup = LoadOptions { lookup: &|_| None };
    let mut task = dataset::load(dir.path(), &lookup).unwrap().tasks.remove(0);
    let lacks = "a known-bad solution `hasty` for `demo` to demonstrate";
    assert_eq!(plan.lacking(&task).as_deref(), Some(lacks));
    task.known_bad[0].0 = "hasty".to_owned();
    assert_eq!(plan.lacking(&task), None);
    task.steps[0].solution = None;
    assert_eq!(plan.lacking(&task).as_deref(), Some("a solution for `demo` to demonstrate"));
}

#[test]
fn bad_teams_are_told_all_their_faults_and_no_key_is_repeated() {
    let table: &[(&str, Option<&str>, &[&str])] = &[
        ("a team without a model", None, &["-d", "ds", "-a", "team"]),
        ("a model that is none", None, &["-d", "ds", "-a", "team", "-m", "opnai/gpt-5"]),
        ("a model of no name", None, &["-d", "ds", "-a", "team", "-m", "gpt-5"]),
        ("a model that plans nothing", None, &["-d", "ds", "-a", "team", "-m", "literal/x"]),
        (
            "two ways to say a model",
            Some("[run]\ndataset = 'ds'\n[agent]\nkind = 'team'\n[models.big]\nkind = 'vllm'\n"),
            &["-m", "openai/gpt-5"],
        ),
        (
            "models that cannot be",
            Some(
                "[run]\ndataset = 'ds'\n[agent]\nkind = 'team'\n\
                 [models.main]\nkind = 'openai'\nurl = 'ftp://x'\ntemperature = 3\n\
                 extra = { at = 2026-01-01, ok = [1, nan] }\nprice = { input = 1, ouput = 2 }\n\
                 [models.past]\nkind = 'replay'\ntemperature = 0\n\
                 [models.fixed]\nkind = 'literal'\nmodel = 'x'\n\
                 [models.claude]\nkind = 'anthropic'\nmodel = 'c'\nseed = 1\ntop_p = 2\n\
                 [models.none]\nmodel = 'x'\n[models.odd]\nkind = 'openia'\nmodel = 'x'\n",
            ),
            &[],
        ),
        (
            "urls that say too much",
            Some(
                "[run]\ndataset = 'ds'\n[agent]\nkind = 'team'\n\
                 [models.main]\nkind = 'vllm'\nmodel = 'a'\nurl = 'http://me:pass@h/v1'\n\
                 [models.two]\nkind = 'vllm'\nmodel = 'a'\nurl = 'http://h/v1?key=pass'\n",
            ),
            &[],
        ),
        (
            "keys that are written down, not set, or not there",
            Some(
                "[run]\ndataset = 'ds'\n[agent]\nkind = 'team'\n\
                 [models.main]\nkind = 'openai'\nmodel = 'a'\napi_key = 'sk-1234'\n\
                 [models.b]\nkind = 'openai'\nmodel = 'a'\napi_key = 77\napi_key_file = 'k'\n",
            ),
            &["--set", "models.c.kind=openai", "--set", "models.c.api_key=sk-5678"],
        ),
        (
            "accounts without a key",
            Some(
                "[run]\ndataset = 'ds'\n[agent]\nkind = 'team'\n[team.roles]\nexplorer = 'b'\n\
                 coder = 'c'\n[models.main]\nkind = 'openai'\nmodel = 'a'\napi_key = '${KEY}'\n\
                 [models.b]\nkind = 'openai'\nmodel = 'a'\n\
                 [models.c]\nkind = 'openai'\nmodel = 'a'\napi_key_file = 'absent.key'\n",
            ),
            &[],
        ),
        (
            "keys that are none",
            Some(
                "[run]\ndataset = 'ds'\n[agent]\nkind = 'team'\n[team.roles]\nexplorer = 'b'\n\
                 [models.main]\nkind = 'openai'\nmodel = 'a'\napi_key = '${TWO_LINES}'\n\
                 [models.b]\nkind = 'openai'\nmodel = 'a'\napi_key = '${EMPTY}'\n",
            ),
            &[],
        ),
        (
            "roles that nobody can play",
            Some(
                "[run]\ndataset = 'ds'\n[agent]\nkind = 'team'\n[team]\nmode = 'stateles'\n\
                 tokens_max = 0\n[team.roles]\norchestrator = 'fixed'\ncoder = 'mian'\n\
                 reviewer = 'main'\n[models.main]\nkind = 'vllm'\nmodel = 'a'\n\
                 [models.fixed]\nkind = 'literal'\n",
            ),
            &[],
        ),
        (
            "a demonstrator out of place",
            Some(
                "[run]\ndataset = 'ds'\n[agent]\nkind = 'team'\n[team]\nprompts = 'short'\n\
                 [team.roles]\norchestrator = 'demo'\nexplorer = 'demo'\ncoder = 'fixed'\n\
                 [models.demo]\nkind = 'solution'\nmistakes = 1.5\nmodel = 'x'\n\
                 [models.fixed]\nkind = 'literal'\n",
            ),
            &[],
        ),
        ("a demonstrator alone", None, &["-d", "ds", "-a", "team", "-m", "solution/x"]),
        (
            "a recorded run that is not",
            None,
            &["-d", "ds", "-a", "team", "-m", "replay/runs/earlier"],
        ),
        (
            "policies that are none",
            Some(
                "[run]\ndataset = 'ds'\n[agent]\nkind = 'team'\n[team.roles]\nexplorer = 'b'\n\
                 [models.main]\nkind = 'embedded'\ncheckpoint = 'nowhere'\nslots = 0\n\
                 url = 'http://h'\n[models.b]\nkind = 'embedded'\n",
            ),
            &[],
        ),
    ];
    let report = faults(table);
    for secret in ["1234", "5678", "pass@", "=pass"] {
        assert!(!report.contains(secret), "{secret}");
    }
    insta::assert_snapshot!(report, @r#"
    ## a team without a model
    --agent: agent.kind: expected a model for the team: -m KIND/MODEL, such as -m openai/gpt-5-mini, or a table [models.main] with kind and model, found none

    ## a model that is none
    --model: expected KIND/MODEL, such as openai/gpt-5-mini, vllm/Qwen/Qwen3-14B or anthropic/claude-sonnet-4-5, replay/RUN_DIRECTORY, or embedded/POLICY_DIRECTORY, found `opnai/gpt-5` (did you mean `openai/gpt-5`?)

    ## a model of no name
    --model: expected KIND/MODEL, such as openai/gpt-5-mini, vllm/Qwen/Qwen3-14B or anthropic/claude-sonnet-4-5, replay/RUN_DIRECTORY, or embedded/POLICY_DIRECTORY, found `gpt-5`

    ## a model that plans nothing
    --model: expected KIND/MODEL, such as openai/gpt-5-mini, vllm/Qwen/Qwen3-14B or anthropic/claude-sonnet-4-5, replay/RUN_DIRECTORY, or embedded/POLICY_DIRECTORY, found `literal/x`, which cannot plan

    ## two ways to say a model
    --model: expected no models in the configuration beside it, found [models.big]

    ## models that cannot be
    DIR/eval.toml:5: models.main.api_key: expected a key for https://api.openai.com/v1: this one, api_key_file, or OPENAI_API_KEY in the environment, found none
    DIR/eval.toml:5: models.main.model: expected a string that is not empty, found nothing
    DIR/eval.toml:7: models.main.url: expected http:// or https://, a host, and a path up to the version, no more, found "ftp://x"
    DIR/eval.toml:8: models.main.temperature: expected a number from 0 to 2, found 3
    DIR/eval.toml:9: models.main.extra.at: expected a value that JSON has too, found the date-time 2026-01-01
    DIR/eval.toml:9: models.main.extra.ok[1]: expected a value that JSON has too, found NaN
    DIR/eval.toml:10: models.main.price.ouput: expected one of: input, cached_input, output, found unknown key `ouput` (did you mean `output`?)
    DIR/eval.toml:10: models.main.price.output: expected US dollars for a million tokens, found nothing
    DIR/eval.toml:11: models.past.run: expected a string that is not empty, found nothing
    DIR/eval.toml:13: models.past.temperature: expected one of: kind, run, in_flight_max, price, found unknown key `temperature`
    DIR/eval.toml:16: models.fixed.model: expected one of: kind, found unknown key `model`
    DIR/eval.toml:20: models.claude.seed: expected one of: kind, model, url, api_key, api_key_file, temperature, top_p, extra, try_timeout_sec, tries_max, in_flight_max, price, found unknown key `seed`
    DIR/eval.toml:21: models.claude.top_p: expected a number from 0 to 1, found 2
    DIR/eval.toml:22: models.none.kind: expected "openai" or "vllm" or "sglang" or "anthropic" or "replay" or "literal" or "embedded" or "solution", found nothing
    DIR/eval.toml:25: models.odd.kind: expected "openai" or "vllm" or "sglang" or "anthropic" or "replay" or "literal" or "embedded" or "solution", found the string "openia"

    ## urls that say too much
    DIR/eval.toml:8: models.main.url: expected http:// or https://, a host, and a path up to the version, no more, found a name or a password before the host
    DIR/eval.toml:12: models.two.url: expected http:// or https://, a host, and a path up to the version, no more, found a query or a fragment

    ## keys that are written down, not set, or not there
    DIR/eval.toml:8: models.main.api_key: expected `${NAME}` of an environment variable, or api_key_file = "PATH", found a literal text, which a key must never be
    DIR/eval.toml:12: models.b.api_key: expected `${NAME}` of an environment variable, or api_key_file = "PATH", found a value of another type
    DIR/eval.toml:13: models.b.api_key_file: expected one of api_key and api_key_file, found both
    --set: models.c.api_key: expected `${NAME}` of an environment variable, or api_key_file = "PATH", found a literal text, which a key must never be
    --set: models.c.model: expected a string that is not empty, found nothing

    ## accounts without a key
    DIR/eval.toml:11: models.main.api_key: expected where a key is to be found, found ${KEY}, which is not set
    DIR/eval.toml:12: models.b.api_key: expected a key for https://api.openai.com/v1: this one, api_key_file, or OPENAI_API_KEY in the environment, found none
    DIR/eval.toml:18: models.c.api_key_file: expected where a key is to be found, found /home/ada/absent.key, which cannot be read: No such file or directory (os error 2)

    ## keys that are none
    DIR/eval.toml:10: models.main.api_key: expected where a key is to be found, found ${TWO_LINES}, which holds more than a line of visible ASCII
    DIR/eval.toml:14: models.b.api_key: expected where a key is to be found, found ${EMPTY}, which is empty

    ## roles that nobody can play
    DIR/eval.toml:6: team.mode: expected "stateful" or "stateless", found the string "stateles"
    DIR/eval.toml:7: team.tokens_max: expected an integer from 1 to 1000000000000, found 0
    DIR/eval.toml:9: team.roles.orchestrator: expected a model that can plan, found `fixed`, which is literal
    DIR/eval.toml:10: team.roles.coder: expected the name of a model, one of: fixed, main, found `mian` (did you mean `main`?)
    DIR/eval.toml:11: team.roles.reviewer: expected one of: orchestrator, explorer, coder, found unknown key `reviewer`

    ## a demonstrator out of place
    DIR/eval.toml:6: team.prompts: expected "standard" or "compact", found the string "short"
    DIR/eval.toml:9: team.roles.explorer: expected a model that can run commands, found `demo`, which is solution
    DIR/eval.toml:13: models.demo.mistakes: expected a number from 0 to 1, found 1.5
    DIR/eval.toml:14: models.demo.model: expected one of: kind, mistakes, known_bad, seed, found unknown key `model`

    ## a demonstrator alone
    --model: expected KIND/MODEL, such as openai/gpt-5-mini, vllm/Qwen/Qwen3-14B or anthropic/claude-sonnet-4-5, replay/RUN_DIRECTORY, or embedded/POLICY_DIRECTORY, found `solution/x`, which cannot run commands

    ## a recorded run that is not
    --model: models.main.run: expected the directory of a run, found /home/ada/runs/earlier, which has no trajectories

    ## policies that are none
    DIR/eval.toml:9: models.main.checkpoint: expected the directory of a policy, found /home/ada/nowhere/chat_template.jinja: expected a file, or `chat_template` in tokenizer_config.json, found neither
    DIR/eval.toml:9: models.main.checkpoint: expected the directory of a policy, found /home/ada/nowhere/config.json: expected a file, found nothing
    DIR/eval.toml:10: models.main.slots: expected an integer from 1 to 4096, found 0
    DIR/eval.toml:11: models.main.url: expected one of: kind, checkpoint, chat_template_kwargs, slots, context_tokens_max, kept_mb, threads, seed, temperature, top_p, try_timeout_sec, tries_max, in_flight_max, price, found unknown key `url`
    DIR/eval.toml:12: models.b.checkpoint: expected a string that is not empty, found nothing
    "#);
}
