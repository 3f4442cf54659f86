//! The cluster as its users have it: the real program on several machines, each a network namespace
//! of its own, while nodes and coordinators are killed, stopped and cut off.
//!
//! Wants root and `ip`; where it cannot have them, its tests are skipped with a line that says so.

mod chaos;
mod lab;
mod ledger;
mod life;
mod measure;
mod network;
#[path = "../train/policy.rs"]
mod policy;
mod process;
#[expect(dead_code, reason = "the tests of the whole system use the rest")]
#[path = "../system/program.rs"]
mod program;
#[path = "../support/random.rs"]
mod random;
mod schedule;
mod stall;
mod train;
