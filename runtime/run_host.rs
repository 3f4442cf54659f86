//! The host of runs on a node of a cluster: an actor that outlives the links to coordinators.
//!
//! A coordinator's [envoy](crate::envoy) spawns the remote actor `run` here, which is no more than
//! a way to this one. One run at a time is a node's [tenant]; another has to wait until it has
//! ended, or until its coordinator is gone and its lease too. A tenant whose coordinator does not
//! come back is left in the end, with all that it has.
//!
//! The host beats for the lease, and when the lease has ended it stops what runs before anything
//! else happens (AC-3).

use std::sync::Arc;
use std::time::{Duration, Instant};

use orcapack_actors::attempt::Started;
use orcapack_actors::clock::now;
use orcapack_actors::sandbox::{Driver, SweepScope};
use orcapack_cluster::address::{Incarnation, NodeId};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};

use crate::node::{Node, NodeConfig};
use crate::node_run::NodeRun;
use crate::outbox::Outbox;
use crate::record::AttemptRecord;
use crate::tenant::{Session, Tenant};
use crate::wire::{Attach, FromNode, NodeLoad, Progress, ToNode, Welcome};

/// What a node of a cluster gives to runs.
pub struct HostConfig {
    pub node: NodeId,
    pub incarnation: Incarnation,
    pub driver: Arc<dyn Driver>,
    /// Environments at one time.
    pub slots: u32,
    /// Between two beats. The lease must hold several of them.
    pub beat_every: Duration,
    /// Makes of a run's configuration what this node needs to run it.
    pub node_run: NodeRun,
}

pub enum HostMessage {
    /// A coordinator came over a new link. Answered with the link's number here, or with why not.
    Attach {
        coordinator: NodeId,
        attach: Box<Attach>,
        outbox: Outbox,
        reply: RpcReplyPort<Result<u64, String>>,
    },
    /// Over the link of this number.
    Said(u64, Box<ToNode>),
    LinkGone(u64),
    Started(Started),
    Recorded(Box<AttemptRecord>),
    /// A beat is due, or the lease may have ended.
    LookAgain,
    /// Takes nothing more, or again.
    Drain(bool),
    /// Ends what runs.
    KillAll,
    View(RpcReplyPort<HostView>),
    /// Leaves the run in order: nothing of it is left when this is answered.
    Leave(RpcReplyPort<()>),
}

/// What the host looks like now.
#[derive(Clone, Debug, Default)]
pub struct HostView {
    pub draining: bool,
    pub load: NodeLoad,
    pub run: Option<TenantView>,
}

#[derive(Clone, Debug)]
pub struct TenantView {
    pub run: String,
    pub epoch: u64,
    pub coordinator: NodeId,
    pub linked: bool,
    pub lease_left: Duration,
    /// Attempts that run.
    pub running: usize,
    /// Attempts that ended, whose records the coordinator has not acknowledged.
    pub unacknowledged: usize,
    pub progress: Progress,
}

impl TenantView {
    /// Whether a node that is told to end has a reason to wait: attempts that run, or records that
    /// a coordinator may still come for. One that was away for a whole lease may never come.
    pub fn is_under_way(&self) -> bool {
        let may_come = self.linked || !self.lease_left.is_zero();
        self.running > 0 || (self.unacknowledged > 0 && may_come)
    }
}

/// The host's address.
#[derive(Clone, Debug)]
pub struct RunHost(ActorRef<HostMessage>);

impl RunHost {
    /// # Errors
    /// When the actor system refuses.
    pub async fn spawn(
        config: HostConfig,
        parent: Option<ActorCell>,
    ) -> Result<Self, ractor::SpawnErr> {
        let (actor, _) = match parent {
            Some(parent) => Actor::spawn_linked(None, Host, config, parent).await?,
            None => Actor::spawn(None, Host, config).await?,
        };
        Ok(Self(actor))
    }

    pub fn cell(&self) -> ActorCell {
        self.0.get_cell()
    }

    /// See [`HostMessage::Attach`].
    pub async fn attach(
        &self,
        coordinator: NodeId,
        attach: Attach,
        outbox: Outbox,
    ) -> Result<u64, String> {
        let attach = Box::new(attach);
        let message = |reply| HostMessage::Attach { coordinator, attach, outbox, reply };
        match self.0.call(message, None).await {
            Ok(ractor::rpc::CallResult::Success(answer)) => answer,
            _ => Err("the node is ending".to_owned()),
        }
    }

    pub fn said(&self, link: u64, message: ToNode) {
        self.cast(HostMessage::Said(link, Box::new(message)));
    }

    pub fn link_gone(&self, link: u64) {
        self.cast(HostMessage::LinkGone(link));
    }

    pub fn drain(&self, draining: bool) {
        self.cast(HostMessage::Drain(draining));
    }

    pub fn kill_all(&self) {
        self.cast(HostMessage::KillAll);
    }

    /// `None` when the host has ended.
    pub async fn view(&self) -> Option<HostView> {
        match self.0.call(HostMessage::View, None).await {
            Ok(ractor::rpc::CallResult::Success(view)) => Some(view),
            _ => None,
        }
    }

    /// See [`HostMessage::Leave`].
    pub async fn leave(&self) {
        let _ = self.0.call(HostMessage::Leave, None).await;
    }

    fn cast(&self, message: HostMessage) {
        // Fails only when the host has ended, and with it the node.
        let _ = self.0.cast(message);
    }
}

struct Host;

struct State {
    config: HostConfig,
    tenant: Option<Tenant>,
    draining: bool,
    links: u64,
    next_beat: Instant,
    /// The earliest `LookAgain` that is on its way.
    alarm: Option<Instant>,
}

impl Actor for Host {
    type Msg = HostMessage;
    type State = State;
    type Arguments = HostConfig;

    async fn pre_start(
        &self,
        _myself: ActorRef<HostMessage>,
        config: HostConfig,
    ) -> Result<State, ActorProcessingErr> {
        // What an earlier life of this node left, of whatever run.
        let scope = SweepScope::Node {
            node: config.node.to_string(),
            run: None,
            except_incarnation: Some(config.incarnation.0),
        };
        let swept = config.driver.sweep(&scope).await?;
        if swept != Default::default() {
            tracing::info!(?swept, "removed what an earlier life of this node left");
        }
        let next_beat = now();
        Ok(State { config, tenant: None, draining: false, links: 0, next_beat, alarm: None })
    }

    async fn handle(
        &self,
        myself: ActorRef<HostMessage>,
        message: HostMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.stop_what_has_no_right();
        match message {
            HostMessage::Attach { coordinator, attach, outbox, reply } => {
                let answer = state.attach(&myself, coordinator, *attach, outbox).await;
                drop(reply.send(answer));
            }
            HostMessage::Said(link, message) => state.said(link, *message).await,
            HostMessage::LinkGone(link) => {
                if let Some(tenant) = state.of_link(link) {
                    tenant.link_gone(now());
                }
            }
            HostMessage::Started(Started(fence)) => {
                if let Some(tenant) = &state.tenant {
                    tenant.say(&FromNode::Started { fence });
                }
            }
            HostMessage::Recorded(record) => {
                if let Some(tenant) = &mut state.tenant {
                    tenant.end(*record);
                }
            }
            HostMessage::LookAgain => state.alarm = None,
            HostMessage::Drain(draining) => {
                state.draining = draining;
                // The coordinator is told at once.
                state.next_beat = now();
            }
            HostMessage::KillAll => {
                if let Some(tenant) = &mut state.tenant {
                    tenant.kill_all();
                }
            }
            HostMessage::View(reply) => drop(reply.send(state.view())),
            HostMessage::Leave(reply) => {
                state.leave().await;
                drop(reply.send(()));
            }
        }
        if state.tenant.as_ref().is_some_and(|tenant| tenant.is_abandoned(now())) {
            tracing::warn!("the coordinator has not come back: its run is left");
            state.leave().await;
        }
        state.beat();
        state.set_alarm(&myself);
        Ok(())
    }

    /// The run's actors end only by a defect, or because they were told to.
    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<HostMessage>,
        event: SupervisionEvent,
        _state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(_, error) => Err(error),
            SupervisionEvent::ActorTerminated(_, _, Some(reason)) => Err(reason.into()),
            _ => Ok(()),
        }
    }
}

impl State {
    async fn attach(
        &mut self,
        myself: &ActorRef<HostMessage>,
        coordinator: NodeId,
        attach: Attach,
        outbox: Outbox,
    ) -> Result<u64, String> {
        let Attach { run, epoch, config } = attach;
        if let Some(tenant) = &self.tenant
            && tenant.run != run
        {
            if !tenant.is_over(now()) {
                return Err(format!("busy with run {} of {}", tenant.run, tenant.coordinator));
            }
            self.leave().await;
        }
        if self.tenant.is_none() {
            let node = self.start_node(myself, &run, &config).await?;
            self.tenant = Some(Tenant::new(run, coordinator.clone(), node));
        }
        let Some(tenant) = &mut self.tenant else { return Err("no tenant".to_owned()) };
        self.links += 1;
        let load = tenant.load(self.config.slots, self.draining);
        let session = Session::new(self.links, outbox);
        let held = tenant
            .attach(epoch, coordinator, session, now())
            .map_err(|stale| format!("a newer coordinator was here: {stale}"))?;
        let incarnation = self.config.incarnation;
        tenant.say(&FromNode::Welcome(Welcome { incarnation, load, held }));
        tenant.ask_again();
        self.next_beat = now();
        Ok(self.links)
    }

    async fn start_node(
        &self,
        myself: &ActorRef<HostMessage>,
        run: &str,
        config: &str,
    ) -> Result<Node, String> {
        let HostConfig { node, incarnation, driver, node_run, .. } = &self.config;
        let config = node_run.read(config, run, node, *incarnation)?;
        let config = NodeConfig { started: Some(myself.get_derived()), ..config };
        let records = myself.get_derived();
        let started = Node::start(driver.clone(), config, records, myself.get_cell()).await;
        started.map_err(|error| format!("it cannot start: {error}"))
    }

    async fn said(&mut self, link: u64, message: ToNode) {
        let Some(tenant) = self.of_link(link) else { return };
        if matches!(message, ToNode::End) {
            return self.leave().await;
        }
        tenant.heard(message, now());
    }

    fn of_link(&mut self, link: u64) -> Option<&mut Tenant> {
        let is_it = |tenant: &&mut Tenant| {
            tenant.session.as_ref().is_some_and(|session| session.number == link)
        };
        self.tenant.as_mut().filter(is_it)
    }

    /// Comes before everything else that an event brings: who wakes from a pause must not act on a
    /// right that is gone.
    fn stop_what_has_no_right(&mut self) {
        if let Some(tenant) = &mut self.tenant
            && tenant.lessee.expired(now())
        {
            tracing::warn!(run = tenant.run, "the lease has ended: what runs is stopped");
            tenant.kill_all();
        }
    }

    fn beat(&mut self) {
        let Some(tenant) = self.tenant.as_mut().filter(|tenant| tenant.session.is_some()) else {
            return;
        };
        if self.next_beat > now() {
            return;
        }
        self.next_beat = now() + self.config.beat_every;
        if let Some(beat) = tenant.lessee.beat(now()) {
            let load = tenant.load(self.config.slots, self.draining);
            tenant.say(&FromNode::Beat { beat, load });
        }
    }

    fn set_alarm(&mut self, myself: &ActorRef<HostMessage>) {
        let Some(tenant) = &self.tenant else { return };
        let beat = tenant.session.is_some().then_some(self.next_beat);
        let (deadline, leave) = (tenant.lessee.deadline(), tenant.leave_at());
        let Some(at) = beat.into_iter().chain(deadline).chain(leave).min() else { return };
        if self.alarm.is_none_or(|alarm| at < alarm) {
            self.alarm = Some(at);
            myself.send_after(at.saturating_duration_since(now()), || HostMessage::LookAgain);
        }
    }

    /// Ends the tenant, and leaves nothing of it.
    async fn leave(&mut self) {
        let Some(mut tenant) = self.tenant.take() else { return };
        tenant.kill_all();
        let session = tenant.session.take();
        match tenant.into_node().stop().await {
            Ok(swept) if swept == Default::default() => {}
            Ok(swept) => tracing::warn!(?swept, "the last sweep still had to remove something"),
            Err(error) => tracing::warn!(%error, "what is left is for the next sweep"),
        }
        if let Some(session) = session {
            session.say(&FromNode::Leaving);
        }
    }

    fn view(&self) -> HostView {
        let Self { tenant, draining, config, .. } = self;
        let idle = || NodeLoad {
            slots: if *draining { 0 } else { config.slots },
            draining: *draining,
            ..NodeLoad::default()
        };
        HostView {
            draining: *draining,
            load: tenant.as_ref().map_or_else(idle, |it| it.load(config.slots, *draining)),
            run: tenant.as_ref().map(|tenant| {
                let (running, unacknowledged) = tenant.counts();
                let left = tenant.lessee.deadline();
                TenantView {
                    run: tenant.run.clone(),
                    epoch: tenant.lessee.epoch().map_or(0, |epoch| epoch.0),
                    coordinator: tenant.coordinator.clone(),
                    linked: tenant.session.is_some(),
                    lease_left: left.map_or(Duration::ZERO, |at| at - now().min(at)),
                    running,
                    unacknowledged,
                    progress: tenant.progress,
                }
            }),
        }
    }
}

impl From<Box<AttemptRecord>> for HostMessage {
    fn from(record: Box<AttemptRecord>) -> Self {
        Self::Recorded(record)
    }
}

impl TryFrom<HostMessage> for Box<AttemptRecord> {
    type Error = ();

    fn try_from(message: HostMessage) -> Result<Self, ()> {
        match message {
            HostMessage::Recorded(record) => Ok(record),
            _ => Err(()),
        }
    }
}

impl From<Started> for HostMessage {
    fn from(started: Started) -> Self {
        Self::Started(started)
    }
}

impl TryFrom<HostMessage> for Started {
    type Error = ();

    fn try_from(message: HostMessage) -> Result<Self, ()> {
        match message {
            HostMessage::Started(started) => Ok(started),
            _ => Err(()),
        }
    }
}
