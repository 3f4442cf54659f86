//! A small world around the real [`Lessee`] and [`Lessor`]: two nodes, one coordinator that may be
//! killed and started again, one rollout, and a network that keeps every message for ever and
//! delivers it whenever it likes, or never. So messages are lost, late, twice there and in any
//! order. A node that is paused is one that does nothing while time goes on.
//!
//! Who chooses what happens next is another's matter: all possible choices in
//! `lease_model_tests.rs`, and long random walks with clocks that drift.

use std::collections::BTreeSet;

use super::*;

/// What is switched off, to see that it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The ledger refuses results of old fences.
    Fence,
    /// A node starts no fence twice, nor an old one.
    NodeFence,
    /// The coordinator waits for the end of a lease.
    LeaseWait,
    /// It waits somewhat longer.
    Margin,
    /// A restarted coordinator waits for leases of its predecessor.
    WaitAfterRestart,
    /// A node starts nothing that was assigned in a term before.
    Term,
}

pub struct World {
    pub start: Instant,
    pub lease: LeaseConfig,
    /// What a node's clock, and the coordinator's, go on by in a tick.
    pub node_ticks: [Duration; 2],
    pub coordinator_tick: Duration,
    pub without: Option<Rule>,
    pub bounds: Bounds,
}

/// How long a history may be.
pub struct Bounds {
    pub ticks: u32,
    pub beats: [u64; 2],
    /// Messages that may still be delivered.
    pub network: usize,
    pub fences: u64,
    pub epochs: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub ticks: u32,
    pub nodes: [Node; 2],
    pub coordinator: Coordinator,
    pub ledger: Ledger,
    pub network: BTreeSet<(usize, Message)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Node {
    lessee: Lessee,
    /// The fence of the attempt that runs.
    running: Option<u64>,
    fence_max: u64,
    beaten_at: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Coordinator {
    epoch: Epoch,
    lessors: [Lessor; 2],
    /// Nothing is assigned to a node before its first beat.
    beaten: [bool; 2],
}

/// What survives the coordinator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ledger {
    fence: u64,
    running: Option<Running>,
    pub terminals: u8,
    pub stale_accepted: bool,
    pub adopted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Running {
    node: usize,
    fence: u64,
    /// In which it was assigned, or taken back.
    epoch: Epoch,
}

/// Between the coordinator and a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message {
    Attach(Epoch),
    Renewed(Renewal),
    Assign { fence: u64, grant: Grant },
    Stop { fence: u64 },
    Beat { beat: Beat, running: Option<u64> },
    Report { fence: u64, done: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Tick,
    Deliver(usize, Message),
    Beat(usize),
    /// The node looks at its lease.
    Look(usize),
    Finish(usize),
    /// The coordinator looks at a node's lease.
    LetGo(usize),
    Assign(usize),
    Restart,
}

impl State {
    pub fn ran_on_both(&self) -> bool {
        self.nodes.iter().all(|node| node.fence_max > 0)
    }
}

impl World {
    pub fn start(&self) -> State {
        let coordinator = self.coordinator(Epoch(1), self.start);
        let mut nodes: [Node; 2] = Default::default();
        for node in &mut nodes {
            let _ = node.lessee.attach(Epoch(1), self.start);
        }
        let (ledger, network) = Default::default();
        State { ticks: 0, nodes, coordinator, ledger, network }
    }

    pub fn actions(&self, state: &State) -> Vec<Action> {
        let of_node = [Action::Beat, Action::Look, Action::Finish, Action::LetGo, Action::Assign];
        let of_nodes = [0, 1].into_iter().flat_map(|n| of_node.map(|action| action(n)));
        let deliver = state.network.iter().map(|(node, message)| Action::Deliver(*node, *message));
        [Action::Tick, Action::Restart].into_iter().chain(of_nodes).chain(deliver).collect()
    }

    /// `None`: it cannot happen now, or changes nothing.
    pub fn next(&self, before: &State, action: Action) -> Option<State> {
        // Most actions cannot happen, and a copy of the state is dear.
        let possible = match action {
            Action::Tick => before.ticks < self.bounds.ticks,
            Action::Restart => before.coordinator.epoch.0 < self.bounds.epochs,
            Action::Deliver(..) => true,
            Action::Beat(node) => before.nodes[node].lessee.seq < self.bounds.beats[node],
            Action::Look(node) => before.nodes[node].lessee.right != Right::None,
            Action::Finish(node) => before.nodes[node].running.is_some(),
            Action::LetGo(node) => before.coordinator.lessors[node].free_at().is_some(),
            Action::Assign(node) => {
                before.coordinator.beaten[node]
                    && before.ledger.fence < self.bounds.fences
                    && before.ledger.terminals == 0
            }
        };
        if !possible {
            return None;
        }
        let mut state = before.clone();
        match action {
            Action::Tick => state.ticks += 1,
            Action::Deliver(node, Message::Beat { beat, running }) => {
                self.beaten(&mut state, node, beat, running)?;
            }
            Action::Deliver(node, Message::Report { fence, done }) => {
                self.reported(&mut state, node, fence, done)?;
            }
            Action::Deliver(node, message) => self.received(&mut state, node, message)?,
            Action::Beat(node) => self.beat(&mut state, node)?,
            Action::Look(node) => self.look(&mut state, node)?,
            Action::Finish(node) => {
                let fence = state.nodes[node].running.take()?;
                state.network.insert((node, Message::Report { fence, done: true }));
            }
            Action::LetGo(node) => self.let_go(&mut state, node)?,
            Action::Assign(node) => self.assign(&mut state, node)?,
            Action::Restart => {
                let epoch = Epoch(state.coordinator.epoch.0 + 1);
                state.coordinator = self.coordinator(epoch, self.coordinator_now(before));
                state.network.extend([0, 1].map(|node| (node, Message::Attach(epoch))));
            }
        }
        self.forget(&mut state);
        (state.network.len() <= self.bounds.network && state != *before).then_some(state)
    }

    /// Drops messages that cannot change anything any more, so that states which differ in nothing
    /// else are the same.
    fn forget(&self, state: &mut State) {
        let State { nodes, coordinator, ledger, network, .. } = state;
        network.retain(|(number, message)| {
            let node = &nodes[*number];
            match *message {
                Message::Attach(epoch) => node.lessee.epoch < Some(epoch),
                Message::Renewed(renewal) => {
                    let epoch = Some(renewal.grant.epoch);
                    node.lessee.epoch == epoch && node.lessee.sent.contains_key(&renewal.seq)
                }
                Message::Assign { fence, grant } => {
                    node.lessee.epoch <= Some(grant.epoch)
                        && (fence > node.fence_max || self.without == Some(Rule::NodeFence))
                }
                Message::Stop { fence } => node.running == Some(fence),
                Message::Beat { beat, .. } => {
                    beat.epoch == coordinator.epoch && beat.seq > coordinator.lessors[*number].seq
                }
                Message::Report { fence, .. } => {
                    ledger.running.is_some_and(|known| known.fence == fence)
                        || self.without == Some(Rule::Fence)
                }
            }
        });
    }

    /// How many nodes have a right to run the rollout, and do.
    pub fn rights(&self, state: &State) -> usize {
        let valid = |(number, node): (usize, &Node)| {
            node.running.is_some() && node.lessee.valid(self.node_now(state, number))
        };
        state.nodes.iter().enumerate().filter(|node| valid(*node)).count()
    }

    fn coordinator(&self, epoch: Epoch, now: Instant) -> Coordinator {
        let mut lessor = Lessor::new(self.lease, epoch, now);
        if self.without == Some(Rule::WaitAfterRestart) {
            lessor.restarted();
        }
        Coordinator { epoch, lessors: [lessor.clone(), lessor], beaten: [false; 2] }
    }

    fn node_now(&self, state: &State, node: usize) -> Instant {
        self.start + self.node_ticks[node] * state.ticks
    }

    fn coordinator_now(&self, state: &State) -> Instant {
        self.start + self.coordinator_tick * state.ticks
    }

    /// A node sends a beat: one at a time, since two would say the same.
    fn beat(&self, state: &mut State, number: usize) -> Option<()> {
        let now = self.node_now(state, number);
        let node = &mut state.nodes[number];
        if node.beaten_at.replace(state.ticks) == Some(state.ticks) {
            return None;
        }
        let beat = node.lessee.beat(now)?;
        state.network.insert((number, Message::Beat { beat, running: node.running }));
        Some(())
    }

    fn look(&self, state: &mut State, number: usize) -> Option<()> {
        let now = self.node_now(state, number);
        let node = &mut state.nodes[number];
        if node.lessee.expired(now)
            && let Some(fence) = node.running.take()
        {
            state.network.insert((number, Message::Report { fence, done: false }));
        }
        Some(())
    }

    /// A node gets a message.
    fn received(&self, state: &mut State, number: usize, message: Message) -> Option<()> {
        let now = self.node_now(state, number);
        let node = &mut state.nodes[number];
        match message {
            Message::Attach(epoch) => node.lessee.attach(epoch, now).ok()?,
            Message::Renewed(renewal) => drop(node.lessee.renewed(&renewal, now)),
            Message::Assign { fence, grant } => {
                let granted = match self.without {
                    Some(Rule::Term) => node.lessee.valid(now),
                    _ => node.lessee.may_start(grant, now),
                };
                let new = fence > node.fence_max || self.without == Some(Rule::NodeFence);
                if granted && new {
                    node.running = Some(fence);
                    node.fence_max = fence;
                }
            }
            Message::Stop { fence } => drop(node.running.take_if(|running| *running == fence)),
            Message::Beat { .. } | Message::Report { .. } => {}
        }
        Some(())
    }

    /// The coordinator gets a beat.
    fn beaten(
        &self,
        state: &mut State,
        node: usize,
        beat: Beat,
        running: Option<u64>,
    ) -> Option<()> {
        let now = self.coordinator_now(state);
        let coordinator = &mut state.coordinator;
        let renewal = coordinator.lessors[node].heard(beat, now)?;
        coordinator.beaten[node] = true;
        state.network.insert((node, Message::Renewed(renewal)));
        let ledger = &mut state.ledger;
        // What a predecessor has assigned and the node has not, it can never start any more.
        if let Some(known) = &mut ledger.running
            && known.node == node
            && known.epoch < coordinator.epoch
        {
            if running == Some(known.fence) {
                known.epoch = coordinator.epoch;
                ledger.adopted = true;
            } else {
                ledger.running = None;
            }
        }
        let current = ledger.running.filter(|known| known.node == node).map(|known| known.fence);
        if let Some(fence) = running.filter(|fence| current != Some(*fence)) {
            state.network.insert((node, Message::Stop { fence }));
        }
        Some(())
    }

    fn reported(&self, state: &mut State, node: usize, fence: u64, done: bool) -> Option<()> {
        let ledger = &mut state.ledger;
        let known = ledger.running.map(|known| (known.node, known.fence));
        let stale = known != Some((node, fence));
        if stale && self.without != Some(Rule::Fence) {
            return None;
        }
        ledger.stale_accepted |= stale;
        ledger.running = None;
        ledger.terminals += u8::from(done);
        Some(())
    }

    fn let_go(&self, state: &mut State, node: usize) -> Option<()> {
        let now = self.coordinator_now(state);
        let lessor = &mut state.coordinator.lessors[node];
        if self.without == Some(Rule::LeaseWait) && lessor.free_at().is_some() {
            lessor.restarted();
        } else if !lessor.expired(now) {
            return None;
        }
        state.ledger.running.take_if(|running| running.node == node);
        Some(())
    }

    fn assign(&self, state: &mut State, node: usize) -> Option<()> {
        let now = self.coordinator_now(state);
        let State { coordinator, ledger, .. } = state;
        if self.without == Some(Rule::WaitAfterRestart)
            && ledger.running.is_some_and(|known| known.epoch < coordinator.epoch)
        {
            ledger.running = None;
        }
        let held = coordinator.lessors[node].free_at().is_some_and(|at| now < at);
        if !held || ledger.running.is_some() {
            return None;
        }
        if ledger.fence == 0 && node > 0 {
            // The first assignment is the first node's: the nodes are alike.
            return None;
        }
        ledger.fence += 1;
        let (fence, epoch) = (ledger.fence, coordinator.epoch);
        ledger.running = Some(Running { node, fence, epoch });
        let grant = coordinator.lessors[node].grant();
        state.network.insert((node, Message::Assign { fence, grant }));
        Some(())
    }
}
