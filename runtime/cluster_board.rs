//! What a run on a cluster looks like now: how its nodes say that they are, and who is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use orcapack_actors::phase::{Phase, Waiting};
use orcapack_cluster::address::NodeId;

use crate::status::RunStatus;
use crate::wire::{NodeLoad, Progress};
use crate::work::Tally;

/// Written by the envoys, read by whoever shows it.
#[derive(Debug)]
pub struct ClusterBoard {
    tally: Arc<Tally>,
    nodes: Mutex<BTreeMap<NodeId, Entry>>,
    environments_peak: AtomicU64,
}

#[derive(Debug, Default)]
struct Entry {
    load: NodeLoad,
    /// The fences of the attempts whose environments came up, and that have not ended.
    up: BTreeSet<u64>,
    /// Why it is not there, and since when.
    missing: Option<(String, SystemTime)>,
}

impl ClusterBoard {
    pub fn new(tally: Arc<Tally>) -> Self {
        Self { tally, nodes: Mutex::default(), environments_peak: AtomicU64::new(0) }
    }

    pub(crate) fn load(&self, node: &NodeId, load: NodeLoad) {
        self.nodes().entry(node.clone()).or_default().load = load;
    }

    pub(crate) fn started(&self, node: &NodeId, fence: u64) {
        let mut nodes = self.nodes();
        nodes.entry(node.clone()).or_default().up.insert(fence);
        let sum: usize = nodes.values().map(|entry| entry.up.len()).sum();
        self.environments_peak.fetch_max(sum as u64, Ordering::Relaxed);
    }

    pub(crate) fn ended(&self, node: &NodeId, fence: u64) {
        self.nodes().entry(node.clone()).or_default().up.remove(&fence);
    }

    pub(crate) fn waits(&self, node: &NodeId, why: String) {
        let mut nodes = self.nodes();
        let entry = nodes.entry(node.clone()).or_default();
        (entry.load, entry.up) = Default::default();
        let since = entry.missing.as_ref().map_or_else(SystemTime::now, |(_, since)| *since);
        entry.missing = Some((why, since));
    }

    pub(crate) fn is_there(&self, node: &NodeId) {
        self.nodes().entry(node.clone()).or_default().missing = None;
    }

    /// The most attempts that had their environments at one time.
    pub fn environments_peak(&self) -> u64 {
        self.environments_peak.load(Ordering::Relaxed)
    }

    pub fn progress(&self) -> Progress {
        let count = |value: &AtomicU64| value.load(Ordering::Relaxed) as u32;
        Progress {
            total: count(&self.tally.total),
            done: count(&self.tally.done),
            passed: count(&self.tally.passed),
            infra_failures: count(&self.tally.infra_failures),
            retries: count(&self.tally.retries),
        }
    }

    /// Phases, environments and what is waited for, over all nodes.
    pub fn read(&self, status: &mut RunStatus) {
        status.in_phase = [0; Phase::ALL.len()];
        status.live_environments = 0;
        status.waiting.clear();
        for (node, Entry { load, missing, .. }) in &*self.nodes() {
            for (sum, count) in status.in_phase.iter_mut().zip(load.in_phase) {
                *sum += count as usize;
            }
            status.live_environments += load.environments as usize;
            if let Some((why, since)) = missing {
                let what = format!("node {node}: {why}");
                status.waiting.push(Waiting { what, since: *since });
            }
            status.waiting.extend(load.waiting.iter().map(|row| Waiting {
                what: format!("node {node}: {}", row.what),
                since: UNIX_EPOCH + Duration::from_millis(row.since_unix_ms),
            }));
        }
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<NodeId, Entry>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
