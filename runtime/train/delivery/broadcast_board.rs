//! Which nodes are linked for weights, and which version each has.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use orcapack_cluster::address::NodeId;
use tokio::sync::watch;
use tokio::time::Instant;

#[derive(Default)]
pub struct Board {
    links: Mutex<Links>,
    /// Told of each change.
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Links {
    count: u64,
    linked: BTreeMap<NodeId, Linked>,
    /// Why a node's last link has ended.
    ended: BTreeMap<NodeId, String>,
}

#[derive(Clone, Copy)]
struct Linked {
    /// Which of all links it is.
    number: u64,
    has: Option<(u64, Instant)>,
}

/// A link, as its node's courier and deliveries know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub node: NodeId,
    number: u64,
}

/// Where a link stands with a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stand {
    Waits,
    Has(Instant),
    Ended(String),
}

impl Board {
    pub fn link(&self, node: &NodeId) -> Link {
        let mut links = self.links();
        links.count += 1;
        let number = links.count;
        links.linked.insert(node.clone(), Linked { number, has: None });
        drop(links);
        self.changed.send_replace(());
        Link { node: node.clone(), number }
    }

    pub fn has(&self, link: &Link, version: u64, now: Instant) {
        let mut links = self.links();
        if let Some(linked) = links.linked.get_mut(&link.node)
            && linked.number == link.number
        {
            linked.has = Some((version, now));
        }
        drop(links);
        self.changed.send_replace(());
    }

    pub fn ended(&self, link: &Link, why: String) {
        let mut links = self.links();
        if links.linked.get(&link.node).is_some_and(|linked| linked.number == link.number) {
            links.linked.remove(&link.node);
            links.ended.insert(link.node.clone(), why);
        }
        drop(links);
        self.changed.send_replace(());
    }

    /// All that are there now.
    pub fn linked(&self) -> Vec<Link> {
        let links = self.links();
        let link =
            |(node, linked): (&NodeId, &Linked)| Link { node: node.clone(), number: linked.number };
        links.linked.iter().map(link).collect()
    }

    pub fn stand(&self, link: &Link, version: u64) -> Stand {
        let links = self.links();
        match links.linked.get(&link.node) {
            Some(linked) if linked.number == link.number => match linked.has {
                Some((has, at)) if has >= version => Stand::Has(at),
                _ => Stand::Waits,
            },
            _ => Stand::Ended(links.ended.get(&link.node).cloned().unwrap_or_default()),
        }
    }

    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn links(&self) -> MutexGuard<'_, Links> {
        // No code panics while it holds the lock.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
