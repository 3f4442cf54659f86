//! A run on a cluster whose policy is trained: what its nodes get, and in which order.

use std::sync::Mutex;
use std::time::Duration;

use orcapack::config::RetryLimits;
use orcapack::fleet::Fleet;
use orcapack::ledger::Ledger;
use orcapack::run::Run;
use orcapack::store::{Store, Writing};
use orcapack::train::delivery::Delivery;
use orcapack::train::delivery::broadcast::Broadcast;
use orcapack::train::delivery::weights_wire::{FromSampler, ToSampler};
use orcapack::wire::{Attach, RUN};
use orcapack::work::Work;
use orcapack_cluster::address::Role;
use orcapack_cluster::lease::Epoch;
use orcapack_cluster::mesh::Spawned;
use tokio::sync::Notify;

use super::cluster::{Lab, told};
use super::*;

/// Of a run that has nothing left to do: its nodes are visited all the same.
fn work(ledger: &Path) -> Work {
    let opened = Store::open(ledger, &[], Writing::Inline).unwrap();
    let epoch = Epoch(opened.incarnation);
    Work {
        rollouts: Vec::new(),
        concurrent_max: 1,
        store: opened.store,
        ledger: Ledger::new(Vec::new(), RetryLimits::same(1)),
        fleet: Fleet::local(epoch),
        orphans: Vec::new(),
        folders: None,
        tally: Arc::default(),
        ended: None,
    }
}

#[tokio::test]
async fn a_node_has_the_newest_weights_before_it_hears_of_the_run() {
    let (dir, records, mut lab) = (policy_dir(1), tempfile::tempdir().unwrap(), Lab::new().await);
    let broadcast = Broadcast::new("r".into(), 1, dir.path().into(), Duration::from_secs(60));
    broadcast.deliver(&snapshot(dir.path(), 2, 4)).await.unwrap();

    let said = Arc::new(Mutex::new(Vec::new()));
    let (weights, runs) = (said.clone(), said.clone());
    let may_have = Arc::new(Notify::new());
    let attached = Arc::new(Notify::new());
    let total = snapshot(dir.path(), 2, 4).bytes();
    let come = Mutex::new((0, 0));
    let come = Arc::new(come);
    let kinds = told(move |message| {
        let mut come = come.lock().unwrap();
        match message {
            ToSampler::Begin { version, .. } => *come = (*version, 0),
            ToSampler::Chunk(chunk) => come.1 += chunk.len() as u64,
        }
        (come.1 == total).then(|| {
            weights.lock().unwrap().push(format!("has {}", come.0));
            FromSampler::Has { version: come.0 }
        })
    });
    let (is_attached, may) = (attached.clone(), may_have.clone());
    let kinds = kinds.on(RUN, &[Role::Coordinator], move |spawned: Spawned| {
        let (said, is_attached, may) = (runs.clone(), is_attached.clone(), may.clone());
        async move {
            said.lock().unwrap().push("run".to_owned());
            is_attached.notify_one();
            may.notified().await;
            drop(spawned);
            Ok(())
        }
    });
    lab.node(kinds).await;

    let work = work(&records.path().join("run.db"));
    let attach = Attach { run: "r".to_owned(), epoch: Epoch(1), config: String::new() };
    let run = Run::on_cluster(lab.mesh.clone(), attach, work, Some(broadcast.clone())).await;
    let run = run.unwrap();
    attached.notified().await;
    assert_eq!(*said.lock().unwrap(), ["has 4", "run"]);
    // While the node is attended, it gets what is delivered.
    let delivered = broadcast.deliver(&snapshot(dir.path(), 3, 5)).await.unwrap();
    assert_eq!((delivered.targets.len(), delivered.lost.len()), (1, 0));
    assert_eq!(*said.lock().unwrap(), ["has 4", "run", "has 5"]);
    may_have.notify_one();
    run.kill();
    run.cell().kill();
    lab.mesh.kill();
}
