//! Where the configuration of `train` comes from: defaults, the run to resume, file, `--set`,
//! flags.

use std::path::Path;

use orcapack_actors::model::settings::EndpointKind;
use orcapack_tasks::Defects;

use crate::cli_train::TrainArgs;
use crate::config_layers::{self, Flag, Host, given, path_value};
use crate::team_plan::TeamPlan;
use crate::train::config::TrainConfig;

/// What a command line and its files come to.
pub struct Loaded {
    pub config: TrainConfig,
    pub team: TeamPlan,
}

/// The effective configuration, or everything that is wrong with it. `slots` is the room of the
/// cluster that it is for.
///
/// # Errors
/// Every fault, with the file's line or the argument that it is in.
pub fn load(args: &TrainArgs, host: &Host, slots: Option<usize>) -> Result<Loaded, Defects> {
    let doc = config_layers::layered(&args.run, flags(args))?;
    let mut base = TrainConfig::defaults(host.cpus, host.cache_dir.clone());
    base.eval.rollouts.n_concurrent = slots.unwrap_or(base.eval.rollouts.n_concurrent);
    if args.run.resume {
        let run = config_layers::run_document(&doc, &base.eval.run.runs_dir)?;
        let resumed = TrainConfig::of(&run.root(), base);
        base = run.finish(resumed)?;
    }
    let mut config = TrainConfig::of(&doc.root(), base);
    complete(&mut config, host);
    let team = TeamPlan::make(&doc.root(), &config.eval, host.variables);
    let named = |key: &str, expected: &str, found: String| {
        let name = &config.eval.team.roles.orchestrator;
        doc.root().section("models").section(name).refuse(key, expected, found);
    };
    if let Some(model) = config.orchestrator()
        && !matches!(model.kind, EndpointKind::Embedded | EndpointKind::Vllm | EndpointKind::Sglang)
    {
        let expected = "embedded, vllm or sglang, for the orchestrator that is trained";
        named("kind", expected, format!("`{}`", model.kind.as_str()));
    }
    if let Some(model) = config.orchestrator()
        && let Some(policy) = &model.policy
        && policy.checkpoint != config.policy.base
    {
        let expected = format!("policy.base ({})", config.policy.base.display());
        named("checkpoint", &expected, policy.checkpoint.display().to_string());
    }
    let (config, team) = doc.finish((config, team))?;
    let lacks = || orcapack_tasks::Defect::new(Path::new("agent"), "a team", "none");
    Ok(Loaded { config, team: team.ok_or_else(lacks)? })
}

/// What depends on the machine and the moment.
fn complete(config: &mut TrainConfig, host: &Host) {
    if config.eval.run.name.is_empty() {
        config.eval.run.name = format!("{}-train", host.now.strftime("%Y-%m-%d_%H-%M-%S"));
    }
    config_layers::complete(&mut config.eval, host);
    config.policy.base = host.working_dir.join(&config.policy.base);
    if let Some(dataset) = &mut config.evaluation.dataset {
        *dataset = host.working_dir.join(&*dataset);
    }
}

fn flags(args: &TrainArgs) -> Vec<Flag> {
    let number = |n: u64| toml::Value::from(i64::try_from(n).unwrap_or(i64::MAX));
    given([
        ("--dataset", "run.dataset", args.dataset.as_deref().map(path_value)),
        ("--held-out", "evaluation.dataset", args.held_out.as_deref().map(path_value)),
        ("--base", "policy.base", args.base.as_deref().map(path_value)),
        ("--steps", "train.steps", args.steps.map(number)),
        ("--seed", "train.seed", args.seed.map(number)),
        ("--n-concurrent", "rollouts.n_concurrent", args.n_concurrent.map(number)),
        ("--sandbox", "sandbox.driver", args.sandbox.map(|driver| driver.as_str().into())),
    ])
}
