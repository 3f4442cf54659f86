//! Where the configuration of `sft` comes from: defaults, the run to resume, file, `--set`, flags.

use orcapack_tasks::Defects;

use crate::cli_sft::SftArgs;
use crate::config_layers::{self, Flag, Host, given, path_value};
use crate::sft_config::SftConfig;

/// The effective configuration, or everything that is wrong with it.
///
/// # Errors
/// Every fault, with the file's line or the argument that it is in.
pub fn load(args: &SftArgs, host: &Host) -> Result<SftConfig, Defects> {
    let mut doc = config_layers::layered(&args.run, flags(args))?;
    // Sizes of one may be in the file already.
    if args.new && !doc.root().section("policy").has("new") {
        doc.set("--new", "policy.new", "{}")?;
    }
    let mut base = SftConfig::defaults(host.cpus);
    if args.run.resume {
        let run = config_layers::run_document(&doc, &base.run.runs_dir)?;
        let resumed = SftConfig::of(&run.root(), base);
        base = run.finish(resumed)?;
    }
    let mut config = SftConfig::of(&doc.root(), base);
    complete(&mut config, host);
    doc.finish(config)
}

/// What depends on the machine and the moment.
fn complete(config: &mut SftConfig, host: &Host) {
    if config.run.name.is_empty() {
        config.run.name = format!("{}-sft", host.now.strftime("%Y-%m-%d_%H-%M-%S"));
    }
    for from in &mut config.data.from {
        *from = host.working_dir.join(&*from);
    }
    if let Some(base) = &mut config.policy.base {
        *base = host.working_dir.join(&*base);
    }
}

fn flags(args: &SftArgs) -> Vec<Flag> {
    let from: Vec<toml::Value> = args.from.iter().map(|from| path_value(from)).collect();
    given([
        ("--from", "data.from", (!from.is_empty()).then(|| from.into())),
        ("--base", "policy.base", args.base.as_deref().map(path_value)),
        ("--epochs", "train.epochs", args.epochs.map(toml::Value::from)),
        ("--lr", "train.lr", args.lr.map(toml::Value::from)),
    ])
}

#[cfg(test)]
#[path = "sft_layers_tests.rs"]
mod tests;
