use orcapack_actors::model::settings::EndpointKind;
use orcapack_tasks::Digest;

use super::*;
use crate::config_models::ModelConfig;

fn config() -> EvalConfig {
    EvalConfig::defaults(2, "/cache".into())
}

#[test]
fn a_run_over_other_tasks_is_another_kind_of_run() {
    let config = config();
    let other = RunKind::of_eval(&config, &Digest::of(b"other tasks"));
    let same = RunKind::of_eval(&config, &Digest::of(b"tasks"));
    assert!(same.differences(&other).to_string().starts_with("  selected tasks: "));
    assert!(same.differences(&same).is_empty());
}

#[test]
fn a_team_of_other_models_or_bounds_is_another_kind_of_run() {
    let team = |change: fn(&mut ModelConfig)| {
        let mut config = config();
        config.agent.kind = AgentKind::Team;
        let mut model = ModelConfig::defaults(EndpointKind::Vllm);
        model.model = "qwen".to_owned();
        change(&mut model);
        config.models.insert("main".to_owned(), model);
        config
    };
    let of = |config: &EvalConfig| RunKind::of_eval(config, &Digest::of(b"tasks"));
    let first = of(&team(|_| {}));
    let mut other = team(|model| model.sampling.temperature = Some(0.5));
    other.team.settings.tokens_max = 7;
    assert_eq!(
        first.differences(&of(&other)).to_string(),
        "  models.main.temperature: none then, 0.5 now\n  team.tokens_max: 5000000 then, 7 now"
    );
    let mut same = team(|model| {
        model.in_flight_max = 3;
        model.tries_max = 1;
    });
    same.models.insert("unused".to_owned(), ModelConfig::defaults(EndpointKind::Literal));
    same.team.settings.restarts_max = 99;
    assert!(first.differences(&of(&same)).is_empty());
}
