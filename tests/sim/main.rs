//! Clusters in simulation: the program's own meshes, coordinator, hosts and ledger, on a network,
//! on machines and in a time that do as a seed says.
//!
//! A seed that fails is printed with the command that repeats it. `ORCAPACK_SEEDS=from..to` chooses
//! others than those that are always run; `ORCAPACK_SIM_LOG=1` shows all that happens.

mod checks;
mod machine;
mod meta;
mod planted;
mod process;
mod random;
mod scale;
mod seeds;
mod stall;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "of what all scenarios share, a simulation needs the task alone")]
mod support;
mod swarm;
mod truth;
#[path = "../../benches/support/usage.rs"]
#[expect(dead_code, reason = "the benchmarks use more of it")]
mod usage;
mod visits;
mod world;
