use orcapack_actors::team::settings::Mode;

use super::*;
use crate::config_layers::Loaded;
use crate::config_layers::tests::loaded;

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
    let Loaded { config, team: plan } = team(None, &["-m", "anthropic/claude-sonnet-4-5"]);
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
    let Loaded { config, team } = team(None, &args);
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
    let Loaded { config, team } = team(None, &args);
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
