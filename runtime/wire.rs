//! What a coordinator and the nodes of its run say to each other, over the [port] of the remote
//! actor `run`.
//!
//! The coordinator spawns one on each node, with [`Attach`]. The node answers with a [`Welcome`] or
//! a refusal; from then on both sides send what they have. Messages of a class arrive in order:
//! all but tasks and records are of class `Control`, so that an assignment never overtakes the
//! renewal under which it may start.
//!
//! [port]: orcapack_cluster::remote::Port

use bincode::{Decode, Encode};
use orcapack_actors::agent::Solver;
use orcapack_actors::phase::Phase;
use orcapack_cluster::address::Incarnation;
use orcapack_cluster::lease::{Beat, Epoch, Grant, Renewal};
use orcapack_tasks::Task;
use orcapack_tasks::admission::TrialKind;

use crate::cluster_status::WaitingRow;
use crate::record::AttemptRecord;

/// The kind of the remote actor.
pub const RUN: &str = "run";

/// A coordinator wants to run attempts here.
#[derive(Clone, Debug, Encode, Decode)]
pub struct Attach {
    /// The run's id, label of everything that it makes.
    pub run: String,
    /// Which life of the run's coordinator this is.
    pub epoch: Epoch,
    /// The run's effective configuration. It names keys and holds none: the node looks them up
    /// itself.
    pub config: String,
}

#[derive(Clone, Debug, Encode, Decode)]
pub enum ToNode {
    Assign(WireAssignment),
    /// Asked for by [`FromNode::WantTask`].
    Task {
        task: u32,
        whole: Box<Task>,
    },
    /// It was asked for, and cannot be had: its files have changed since they were read.
    NoTask {
        task: u32,
        why: String,
    },
    Kill {
        fence: u64,
    },
    /// The record of this attempt is on disk, or nobody wants it.
    Forget {
        fence: u64,
    },
    Renewed(Renewal),
    /// How far the run is, for whoever asks the node.
    Progress(Progress),
    /// The run is over: nothing of it is to be left.
    End,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct WireAssignment {
    pub rollout: u32,
    pub attempt: u32,
    pub fence: u64,
    pub grant: Grant,
    /// The task's number in the run.
    pub task: u32,
    pub agent: WireSolver,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum WireSolver {
    Trial(TrialKind),
    Team,
}

#[derive(Clone, Debug, Encode, Decode)]
pub enum FromNode {
    /// The first message, if the node takes the run.
    Welcome(Welcome),
    /// The first and last message, if it does not: why not, for the user.
    Refused(String),
    Beat {
        beat: Beat,
        load: NodeLoad,
    },
    WantTask {
        task: u32,
    },
    /// The environment of the attempt with this fence is up.
    Started {
        fence: u64,
    },
    Record(Box<AttemptRecord>),
    /// The node leaves, and runs nothing any more.
    Leaving,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Welcome {
    pub incarnation: Incarnation,
    pub load: NodeLoad,
    /// The fences of the attempts that it has for this run: running, or ended and not yet
    /// forgotten.
    pub held: Vec<u64>,
}

/// How a node is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct NodeLoad {
    /// 0 while it drains.
    pub slots: u32,
    pub draining: bool,
    /// Attempts in each phase.
    pub in_phase: [u32; Phase::ALL.len()],
    pub environments: u32,
    pub waiting: Vec<WaitingRow>,
}

/// A run in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Progress {
    pub total: u32,
    pub done: u32,
    pub passed: u32,
    pub infra_failures: u32,
    pub retries: u32,
}

impl From<Solver> for WireSolver {
    fn from(solver: Solver) -> Self {
        match solver {
            Solver::Trial(trial) => Self::Trial(trial),
            Solver::Team => Self::Team,
        }
    }
}

impl From<WireSolver> for Solver {
    fn from(solver: WireSolver) -> Self {
        match solver {
            WireSolver::Trial(trial) => Self::Trial(trial),
            WireSolver::Team => Self::Team,
        }
    }
}
