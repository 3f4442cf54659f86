//! What a rollout costs this program on a large cluster, beside what it costs on a small one: the
//! processor's time, of coordinator and nodes together.

use std::time::Duration;

use orcapack_cluster::fixture::TestAuthority;

use crate::checks;
use crate::seeds::{LIVENESS, pass, simulated};
use crate::usage::cpu_sec;
use crate::world::{Setting, World};

/// Rollouts for each environment.
const TIMES: usize = 2;

/// A cluster of so many nodes, which have so many environments each.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub nodes: usize,
    pub slots: u32,
}

/// What a size came to.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub rollouts: usize,
    pub at_work_peak: usize,
    pub cpu_us: f64,
}

/// Runs two rollouts for each environment, all at once. Each takes some seconds of simulated time.
pub fn cost(size: Size) -> Cost {
    simulated(async {
        let slots = vec![size.slots; size.nodes];
        let environments = size.nodes * size.slots as usize;
        let mut setting = Setting::calm(1, TIMES * environments, &slots);
        setting.lease = Duration::from_secs(15);
        setting.engines.exec_ms = (2_000, 20_000);
        let mut world = World::new(setting, &TestAuthority::default());
        world.start_coordinator().await;
        for index in 0..size.nodes {
            world.start_worker(index).await;
        }
        let before = cpu_sec();
        let mut at_work_peak = 0;
        while !world.is_done() && world.truth.broken().is_none() {
            pass(Duration::from_millis(250)).await;
            world.look().await;
            at_work_peak = at_work_peak.max(world.truth.at_work());
        }
        world.finish(LIVENESS).await;
        let rollouts = TIMES * environments;
        let cpu_us = (cpu_sec() - before) * 1e6 / rollouts as f64;
        checks::at_the_end(&world);
        assert_eq!(world.truth.broken(), None);
        Cost { rollouts, at_work_peak, cpu_us }
    })
}

/// The sizes that count are in `benches/cluster.rs`; this is what a test has time for.
#[test]
fn a_rollout_costs_about_as_much_on_a_cluster_of_eight_times_the_size() {
    let small = cost(Size { nodes: 4, slots: 64 });
    let large = cost(Size { nodes: 16, slots: 128 });
    println!("{small:?}, {large:?}");
    // Two for each environment, and all environments were in use.
    for Cost { rollouts, at_work_peak, .. } in [small, large] {
        assert!(at_work_peak * TIMES > rollouts * 9 / 10, "{small:?}, {large:?}");
    }
    // The bound is 1.3 where nothing else runs; other processes cost caches.
    assert!(large.cpu_us < 1.6 * small.cpu_us, "{small:?}, {large:?}");
}
