//! How the coordinator reaches a node: the actors of its own process, or a link to another.

use std::sync::Arc;

use orcapack_actors::attempt::Assignment;
use orcapack_actors::rollout_supervisor::Rollouts;
use orcapack_cluster::lease::{Grant, Renewal};
use orcapack_tasks::Task;

use crate::outbox::Outbox;
use crate::wire::{ToNode, WireAssignment};
use crate::work::Rollout;

/// A node that is attached. What is sent to one that is gone is lost, as it is with a link: the
/// coordinator hears of the end, and books what was there.
#[derive(Clone, Debug)]
pub enum Worker {
    Local(Rollouts),
    Remote(Outbox),
}

/// The right and duty to run an attempt, on its way to a node.
#[derive(Clone, Debug)]
pub struct Order {
    pub rollout: u32,
    /// 1 for the first.
    pub attempt: u32,
    pub fence: u64,
    /// The lease under which it may start; `None` where none is needed.
    pub grant: Option<Grant>,
    /// The task's number in the run.
    pub task: u32,
    pub what: Rollout,
}

impl Worker {
    pub fn assign(&self, order: Order) {
        let Order { rollout, attempt, fence, grant, task, what: Rollout { task: whole, agent } } =
            order;
        match self {
            Self::Local(rollouts) => {
                rollouts.start(Assignment { rollout, attempt, fence, task: whole, agent });
            }
            Self::Remote(outbox) => {
                let Some(grant) = grant else { return };
                let agent = agent.into();
                outbox.send(&ToNode::Assign(WireAssignment {
                    rollout,
                    attempt,
                    fence,
                    grant,
                    task,
                    agent,
                }));
            }
        }
    }

    /// Ends an attempt now; it is reported all the same.
    pub fn kill(&self, fence: u64) {
        match self {
            Self::Local(rollouts) => rollouts.kill(fence),
            Self::Remote(outbox) => outbox.send(&ToNode::Kill { fence }),
        }
    }

    /// The record of an attempt is on disk, or nobody wants it: the node need not keep it.
    pub fn forget(&self, fence: u64) {
        if let Self::Remote(outbox) = self {
            outbox.send(&ToNode::Forget { fence });
        }
    }

    /// The run is over: nothing of it is to be left.
    pub fn end(&self) {
        if let Self::Remote(outbox) = self {
            outbox.send(&ToNode::End);
        }
    }

    pub fn renew(&self, renewal: Renewal) {
        if let Self::Remote(outbox) = self {
            outbox.send(&ToNode::Renewed(renewal));
        }
    }
}

/// What is hashed to find a node that has had a task's image.
pub fn image_key(task: &Arc<Task>) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = task.digest.0;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}
