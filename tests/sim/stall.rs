//! Backpressure: while the coordinator takes nothing, nothing grows.

use std::time::Duration;

use orcapack_cluster::fixture::TestAuthority;
use orcapack_cluster::quic_sim::SimFaults;
use tokio::time::Instant;

use crate::checks;
use crate::seeds::{LIVENESS, pass, simulated};
use crate::world::{Setting, World};

const SLOTS: [u32; 5] = [32, 48, 48, 64, 64];
const ALL: usize = 256;
const STALL: Duration = Duration::from_secs(60);
/// What a stall may cost this process, of which most is what the allocator keeps.
const GROWTH_BYTES_MAX: u64 = 32 << 20;

/// With all 256 environments in use, lets `stall` begin, looks on for a minute, and lets `resume`
/// end it. Answers the most records that all nodes kept for the coordinator at one time.
fn kept_at_most(seed: u64, stall: fn(&World), resume: fn(&World)) -> usize {
    simulated(async {
        let mut setting = Setting::calm(seed, 2 * ALL, &SLOTS);
        setting.engines.exec_ms = (2_000, 20_000);
        let mut world = World::new(setting, &TestAuthority::default());
        world.start_coordinator().await;
        for index in 0..SLOTS.len() {
            world.start_worker(index).await;
        }
        for _ in 0..20 {
            pass(Duration::from_millis(250)).await;
            world.look().await;
        }
        assert!(world.truth.at_work() > ALL * 3 / 4, "{}", world.truth.at_work());
        let (mut kept_max, before) = (0, resident_bytes());
        stall(&world);
        let began = Instant::now();
        while began.elapsed() < STALL {
            pass(Duration::from_millis(250)).await;
            // What each node holds is looked at here.
            world.look().await;
            let mut kept = 0;
            for site in &world.workers {
                let Some(worker) = &site.worker else { continue };
                let run = worker.host.view().await.and_then(|view| view.run);
                kept += run.map_or(0, |run| run.unacknowledged);
            }
            kept_max = kept_max.max(kept);
        }
        let growth = resident_bytes().saturating_sub(before);
        resume(&world);
        world.finish(LIVENESS).await;
        checks::at_the_end(&world);
        world.wait_until_left().await;
        checks::of_hosts(&world).await;
        assert_eq!(world.truth.broken(), None);
        assert!(growth < GROWTH_BYTES_MAX, "{growth} bytes more after the stall");
        println!("{kept_max} records kept at most, {growth} bytes more after the stall");
        kept_max
    })
}

#[test]
fn nodes_keep_no_more_than_they_have_slots_while_the_coordinator_stands_still() {
    let kept = kept_at_most(
        1,
        |world| world.network.pause(world.coordinator_at.at),
        |world| world.network.resume(world.coordinator_at.at),
    );
    assert!((1..=ALL).contains(&kept), "{kept}");
}

#[test]
fn nodes_keep_no_more_than_they_have_slots_behind_a_link_that_is_hardly_one() {
    let kept = kept_at_most(
        2,
        |world| {
            let bytes_per_sec = Some(4_000);
            world.network.set_faults(SimFaults { bytes_per_sec, ..SimFaults::default() });
        },
        |world| world.network.set_faults(SimFaults::default()),
    );
    assert!((1..=ALL).contains(&kept), "{kept}");
}

/// Of this process, which has no other test under way when it is run by `cargo nextest`.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("a Linux kernel");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("a number of pages") * 4096
}
