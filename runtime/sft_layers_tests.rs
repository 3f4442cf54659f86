use std::path::PathBuf;

use orcapack_trainer::optimizer::schedule::Decay;

use super::*;
use crate::cli::Command;
use crate::config_layers::tests::{configured, host};
use crate::sft_config::NewPolicyConfig;

/// `sft` with these arguments and this `sft.toml`. `DIR` in an argument or a message is the folder
/// of the file.
fn sft(toml: Option<&str>, args: &[&str]) -> Result<SftConfig, String> {
    configured("sft", toml, args, |command| {
        let Command::Sft(args) = command else { panic!("not sft") };
        load(&args, &host())
    })
}

#[test]
fn flags_go_over_settings_and_these_over_the_file() {
    let toml = "[train]\nepochs = 1.5\nbatch_samples = 4\nschedule = \"cosine\"\n\
                [policy.new]\nhidden_size = 64\n";
    let args = ["--from", "runs/a", "--from", "/b", "--new", "--set", "train.batch_samples=8"];
    let config = sft(Some(toml), &[&args[..], &["--epochs", "2"]].concat()).unwrap();
    assert_eq!(config.data.from, ["/home/ada/runs/a", "/b"].map(PathBuf::from));
    let train = &config.train;
    assert_eq!(
        (train.epochs, train.batch_samples, train.learning.schedule),
        (2.0, 8, Decay::Cosine)
    );
    assert_eq!((train.learning.lr, train.learning.threads), (4e-3, 8));
    let new = NewPolicyConfig { hidden_size: 64, ..NewPolicyConfig::tiny() };
    assert_eq!(config.policy.new, Some(new));
    assert_eq!(config.run.name, "2026-03-01_14-05-09-sft");
}

#[test]
fn a_policy_that_is_there_learns_slowly() {
    let config = sft(None, &["--from", "r", "--base", "models/q"]).unwrap();
    assert_eq!(config.policy.base, Some(PathBuf::from("/home/ada/models/q")));
    assert_eq!((config.train.learning.lr, config.lora), (1e-5, None));
    let lora = sft(None, &["--from", "r", "--base", "q", "--set", "lora.rank=4"]).unwrap().lora;
    assert_eq!(lora.map(|lora| (lora.rank, lora.alpha)), Some((4, 32.0)));
}

#[test]
fn the_effective_configuration_reads_back_as_itself() {
    for args in [&["--new"][..], &["--base", "q", "--set", "lora.rank=4"]] {
        let config = sft(None, &[&["--from", "/r"], args].concat()).unwrap();
        assert_eq!(sft(Some(&config.to_toml().unwrap()), &[]).unwrap(), config);
    }
}

#[test]
fn every_fault_is_told_at_once_with_its_place() {
    let toml = "[policy]\nbase = \"q\"\n[policy.new]\nnum_attention_heads = 3\n[train]\n\
                schedule = \"step\"\nbeta2 = 1.0\nepoch = 3\n";
    let said = sft(Some(toml), &[]).unwrap_err();
    insta::assert_snapshot!(said);
    let said = sft(None, &["--from", "r"]).unwrap_err();
    assert!(said.contains("expected a policy: --base DIR, or --new"), "{said}");
}
