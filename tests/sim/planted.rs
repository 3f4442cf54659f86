//! Planted defects: each is a rule left out, and the seeds that are always run must find it.

use std::sync::Arc;
use std::time::Duration;

use orcapack::ledger::Ledger;
use orcapack::outbox::Outbox;
use orcapack::run_host::RunHost;
use orcapack::wire::{Attach, RUN, ToNode};
use orcapack_cluster::address::Role;
use orcapack_cluster::codec;
use orcapack_cluster::fixture::TestAuthority;
use orcapack_cluster::remote::{Class, Kinds, Received, Spawned};
use tokio::task::JoinSet;

use crate::seeds::run;
use crate::swarm::setting;
use crate::world::Setting;

/// The first of the seeds in which the defect breaks this rule, and how. Others may be broken by it
/// too.
fn found(rule: &str, plant: impl Fn(&mut Setting)) -> (u64, String) {
    let authority = TestAuthority::default();
    let find = |seed| {
        let mut setting = setting(seed, 256, 5);
        plant(&mut setting);
        let broken = run(setting, &authority).broken?;
        broken.starts_with(rule).then_some((seed, broken))
    };
    (0..200).find_map(find).expect("no seed finds it")
}

/// A way to the host on which what the coordinator says of leases is changed.
fn with_leases(kinds: Kinds, host: Arc<RunHost>, change: fn(Duration) -> Duration) -> Kinds {
    kinds.on(RUN, &[Role::Coordinator], move |spawned| {
        let host = host.clone();
        async move { serve(&host, spawned, change).await }
    })
}

async fn serve(
    host: &RunHost,
    Spawned { peer, args, mut port, .. }: Spawned,
    change: fn(Duration) -> Duration,
) -> Result<(), String> {
    let decoded = codec::decode::<Attach>(&args, Class::Control.bytes_max());
    let attach = decoded.map_err(|error| error.to_string())?;
    let mut pump = JoinSet::new();
    let outbox = Outbox::new(port.sender(), &mut pump);
    let link = host.attach(peer.node, attach, outbox).await?;
    loop {
        match port.receive().await {
            Received::Message(class, bytes) => {
                let decoded = codec::decode(&bytes, class.bytes_max());
                let mut message: ToNode = decoded.map_err(|error| error.to_string())?;
                if let ToNode::Renewed(renewal) = &mut message {
                    renewal.lease = change(renewal.lease);
                }
                host.said(link, message);
            }
            Received::Down(_) => {
                host.link_gone(link);
                return Ok(());
            }
        }
    }
}

#[test]
fn a_node_that_does_not_stop_at_the_end_of_its_lease_is_found() {
    let (seed, broken) = found("LE-1", |setting| {
        setting.kinds = |kinds, host| with_leases(kinds, host, |_| Duration::from_secs(24 * 3600));
    });
    println!("found by seed {seed}: {broken}");
}

#[test]
fn a_coordinator_that_waits_for_less_than_the_lease_is_found() {
    // What it gives to nodes is longer than what it waits for.
    let (seed, broken) = found("LE-1", |setting| {
        setting.kinds = |kinds, host| with_leases(kinds, host, |lease| lease * 2);
    });
    println!("found by seed {seed}: {broken}");
}

#[test]
fn a_ledger_that_takes_any_fence_is_found() {
    let (seed, broken) = found("", |setting| setting.flaw = Ledger::without_fences);
    println!("found by seed {seed}: {broken}");
}
