//! A seed that is run twice gives the same bytes: the same datagrams at the same times, the same
//! ledger, the same log. Without that, a seed that fails would be of no use.

use std::process::Command;

use orcapack_cluster::fixture::TestAuthority;

use crate::seeds::{Outcome, run};
use crate::swarm::setting;

const SEEDS: [u64; 3] = [1, 2, 3];
/// Asks this program for the hashes of a seed.
const ASK: &str = "ORCAPACK_SIM_META";

fn outcome(seed: u64) -> Outcome {
    run(setting(seed, 256, 5), &TestAuthority::default())
}

#[test]
fn a_seed_run_twice_gives_the_same_bytes() {
    for seed in SEEDS {
        let (once, again) = (outcome(seed), outcome(seed));
        assert_eq!(once.broken, None, "seed {seed}");
        let mut lines = once.lines.iter().zip(&again.lines);
        if let Some((before, after)) = lines.find(|(before, after)| before != after) {
            panic!("seed {seed} is not the same:\n{before}\n{after}");
        }
        assert_eq!(once.hash(), again.hash(), "seed {seed}");
    }
}

#[test]
fn a_seed_run_in_another_process_gives_the_same_bytes() {
    if let Ok(seed) = std::env::var(ASK) {
        println!("hash {}", outcome(seed.parse().expect("a seed")).hash());
        return;
    }
    let program = std::env::current_exe().expect("this program has a path");
    for seed in SEEDS {
        let this = "meta::a_seed_run_in_another_process_gives_the_same_bytes";
        let mut ask = Command::new(&program);
        ask.args([this, "--exact", "--nocapture"]).env(ASK, seed.to_string());
        let answer = ask.output().expect("it runs");
        let text = String::from_utf8_lossy(&answer.stdout);
        let told = text.lines().find_map(|line| line.split_once("hash ")).map(|(_, it)| it);
        assert_eq!(told, Some(outcome(seed).hash().to_string().as_str()), "seed {seed}: {text}");
    }
}
