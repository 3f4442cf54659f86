//! `orcapack node`: this machine as a node of a cluster, until it is told to end.
//!
//! ```text
//! Mesh ── a session with each peer; coordinators spawn `run`, `weights` and `rank`
//! RunHost ── Node (of the run that it has)
//! Guests ── calls: status, drain, ...
//! ```

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use orcapack_actors::phase::Phase;
use orcapack_cluster::address::{NodeId, PeerIdentity, Role};
use orcapack_cluster::identity::Identity;
use orcapack_cluster::link::{CloseReason, Link, Purpose};
use orcapack_cluster::mesh::{Mesh, MeshConfig, MeshEvent, PeerState, PeerView};
use orcapack_cluster::remote::Kinds;
use orcapack_cluster::renewal::Renewal;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::calls::{self, Answer, Desk, Question};
use crate::cli_cluster::{DrainArgs, NodeRunArgs};
use crate::cluster_config::{ClusterConfig, ClusterNode};
use crate::cluster_discovery::host_name;
use crate::cluster_status::{LinkState, NodeStatus, PeerRow, RunView, unix_ms};
use crate::config::EvalConfig;
use crate::config_layers::Host;
use crate::exit::{Exit, Failure};
use crate::join_command;
use crate::member::{self, OPERATOR};
use crate::node_kinds;
use crate::node_run::NodeRun;
use crate::node_state::NodeState;
use crate::run_host::{HostConfig, RunHost};
use crate::signals::Signals;
use crate::train::delivery;
use crate::train::remote::lobby::Lobby;
use crate::train::remote::node::{RankHost, ranks};
use crate::{memory, revocations, sandboxes, telemetry};

/// Between two looks at whether a drained node has come to its end.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Addresses may change, and nodes come up later than others: they are looked up again this often.
const LOOK_UP_EVERY: Duration = Duration::from_secs(10);
/// Beats in a lease. Three may be lost.
const BEATS_IN_LEASE: u32 = 5;
/// Callers that are being answered at a time.
const GUESTS_MAX: usize = 32;

/// # Errors
/// See [`Exit`].
pub async fn run(
    cluster: &std::path::Path,
    args: &NodeRunArgs,
    host: &Host,
) -> Result<Exit, Failure> {
    let config = ClusterConfig::load(cluster, host)?;
    let node = config.this_node(args.id.as_deref(), host.variables, &host_name())?.clone();
    let mut signals = Signals::listen()?;
    telemetry::start_logs(None, 1).map_err(|error| Failure::internal(error.to_string()))?;
    join_command::join_if_new(&config, &node, args, host).await?;
    let folder = member::folder(&config, &node.id, Role::Worker)?;
    // Before anything in it is changed: another process may live by it.
    let state = NodeState::take(&folder)?;
    join_command::join_again(&config, &node, args, host).await?;
    let identity = member::identity(&config, node.id.as_str(), Role::Worker)?;
    let mut sandbox = EvalConfig::defaults(host.cpus, node.cache_dir.clone()).sandbox;
    sandbox.driver = node.sandbox;
    let driver = sandboxes::choose(&sandbox).await?;
    let sandbox = driver.name();
    let host_config = HostConfig {
        node: node.id.clone(),
        incarnation: state.incarnation,
        driver,
        slots: node.slots,
        beat_every: config.lease / BEATS_IN_LEASE,
        node_run: NodeRun {
            cpus: host.cpus,
            cache_dir: node.cache_dir.clone(),
            create_concurrency: node.create_concurrency,
            verify_concurrency: node.verify_concurrency,
            variables: host.variables,
            engines: Arc::default(),
        },
    };
    let engines = host_config.node_run.engines.clone();
    let started = |error: ractor::SpawnErr| {
        Failure::new(Exit::NoSandbox, format!("the node does not start: {error}"))
    };
    let run_host = Arc::new(RunHost::spawn(host_config, None).await.map_err(started)?);
    let transport = member::mesh_transport(&config, node.listen, &state, &identity).await?;
    let (guests, arriving) = mpsc::channel(GUESTS_MAX);
    let mesh_config = member::mesh_config(&config, &identity, &state, true).await?;
    let mesh_config = MeshConfig { guests: Some(guests), ..mesh_config };
    let kinds = node_kinds::runs(Kinds::default(), run_host.clone());
    let kinds = delivery::node::weights(kinds, engines);
    let (lobby, me) = (Lobby::default(), node.id.clone());
    let cache_dir = node.cache_dir.clone();
    let rank_host = RankHost { me, cpus: host.cpus, cache_dir, lobby: lobby.clone(), pins: true };
    let kinds = ranks(kinds, rank_host);
    let (mesh, events) =
        Mesh::start(mesh_config, transport.clone(), kinds, None).await.map_err(started)?;
    tracing::info!(
        node = %node.id, incarnation = %state.incarnation, listen = %node.listen,
        slots = node.slots, sandbox, "the node is up"
    );
    let drain = args.drain_sec.map_or(node.drain, Duration::from_secs);
    let desk = Arc::new(NodeDesk {
        node,
        config,
        identity,
        host: run_host,
        mesh,
        state,
        started: SystemTime::now(),
        renewal: Mutex::new(None),
    });
    let mut tasks = JoinSet::new();
    tasks.spawn(lobby.serve(desk.mesh.clone()));
    tasks.spawn(answer_guests(desk.clone(), arriving));
    tasks.spawn(follow(desk.clone()));
    let (follower, asks) = (desk.clone(), transport);
    tasks.spawn(async move {
        let NodeDesk { config, identity, mesh, .. } = &*follower;
        revocations::follow(config, identity, mesh, &asks).await;
    });
    let exit = until_end(&desk, &mut signals, events, drain, args.exit_when_done).await;
    tasks.shutdown().await;
    desk.host.leave().await;
    // The mesh is a handle; who else has one has ended.
    desk.mesh.clone().stop().await;
    exit
}

/// Until the node is fenced, or done, or told to end and drained. The first signal drains, a second
/// one, or the drain's time limit, ends what runs.
async fn until_end(
    desk: &NodeDesk,
    signals: &mut Signals,
    mut events: mpsc::Receiver<MeshEvent>,
    limit: Duration,
    exit_when_done: bool,
) -> Result<Exit, Failure> {
    let mut had_a_run = false;
    let mut look = tokio::time::interval(LOOK_EVERY);
    let mut end_at: Option<tokio::time::Instant> = None;
    loop {
        tokio::select! {
            biased;
            () = signals.next() => match end_at {
                None => {
                    let limit_sec = limit.as_secs();
                    tracing::info!("draining for up to {limit_sec} s; once more to end now");
                    desk.host.drain(true);
                    end_at = Some(tokio::time::Instant::now() + limit);
                }
                Some(_) => end_at = Some(tokio::time::Instant::now()),
            },
            event = events.recv() => match event {
                Some(MeshEvent::Fenced) | None => {
                    desk.host.kill_all();
                    let message = "a newer process has this node's identity".to_owned();
                    return Err(Failure::new(Exit::Fenced, message));
                }
                // The mesh has logged it.
                Some(_) => {}
            },
            _ = look.tick() => {
                let Some(view) = desk.host.view().await else {
                    return Err(Failure::internal("a part of the node has ended".to_owned()));
                };
                had_a_run |= view.run.is_some();
                if exit_when_done && had_a_run && view.run.is_none() {
                    tracing::info!("the run is over, and so is this node");
                    return Ok(Exit::Done);
                }
                if let Some(at) = end_at {
                    let busy = view.run.is_some_and(|run| run.is_under_way());
                    if !busy || at <= tokio::time::Instant::now() {
                        return Ok(Exit::Done);
                    }
                }
            }
        }
    }
}

/// Keeps the addresses of the peers, and the own certificate, from growing old.
async fn follow(desk: Arc<NodeDesk>) {
    let mut look_up = tokio::time::interval(LOOK_UP_EVERY);
    loop {
        look_up.tick().await;
        let peers = member::peers(&desk.config, &desk.node.id).await;
        desk.mesh.set_peers(peers);
        if let Err(error) = join_command::renew_if_due(&desk.config, &desk.identity).await {
            tracing::warn!(error, "the certificate was not renewed");
        }
    }
}

async fn answer_guests(desk: Arc<NodeDesk>, mut arriving: mpsc::Receiver<Arc<dyn Link>>) {
    let mut answering = JoinSet::new();
    while let Some(link) = arriving.recv().await {
        if link.purpose() != Purpose::Call || answering.len() >= GUESTS_MAX {
            link.close(CloseReason::Refused);
            while answering.try_join_next().is_some() {}
            continue;
        }
        let desk = desk.clone();
        answering.spawn(async move { calls::serve(link, &*desk).await });
        while answering.try_join_next().is_some() {}
    }
}

struct NodeDesk {
    node: ClusterNode,
    config: ClusterConfig,
    identity: Arc<Identity>,
    host: Arc<RunHost>,
    mesh: Mesh,
    state: NodeState,
    started: SystemTime,
    /// A new key, whose certificate an operator has gone to fetch.
    renewal: Mutex<Option<Renewal>>,
}

impl Desk for NodeDesk {
    async fn answer(&self, from: &PeerIdentity, question: Question) -> Answer {
        if from.role != Role::Operator && matches!(question, Question::Drain(_) | Question::Rotate)
        {
            return Answer::Refused(format!("not for the role {}", from.role));
        }
        match question {
            Question::Status => match self.status().await {
                Some(status) => Answer::Status(Box::new(status.bounded())),
                None => Answer::Refused("the node is ending".to_owned()),
            },
            Question::Drain(draining) => {
                tracing::info!(%from, draining, "told to drain, or not to");
                self.host.drain(draining);
                Answer::Done
            }
            Question::Revocations(list) => match self.identity.set_crl_der(&list.into()) {
                Ok(_) => Answer::Done,
                Err(error) => Answer::Refused(error.to_string()),
            },
            Question::RevocationsAfter(number) => {
                Answer::Bytes(revocations::after(&self.identity, number))
            }
            Question::Rotate => match Renewal::new() {
                Ok(renewal) => {
                    let request = renewal.request().to_vec();
                    self.put_renewal(Some(renewal));
                    Answer::Bytes(request)
                }
                Err(error) => Answer::Refused(error.to_string()),
            },
            Question::Rotated(answer) => match self.put_renewal(None) {
                None => Answer::Refused("no new certificate was asked for".to_owned()),
                Some(renewal) => match renewal.finish(&answer, &self.identity) {
                    Ok(()) => Answer::Done,
                    Err(error) => Answer::Refused(error.to_string()),
                },
            },
            Question::Renew(_) => Answer::Refused("this node is not the authority".to_owned()),
        }
    }
}

impl NodeDesk {
    fn put_renewal(&self, next: Option<Renewal>) -> Option<Renewal> {
        let mut renewal = self.renewal.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut renewal, next)
    }

    async fn status(&self) -> Option<NodeStatus> {
        let view = self.host.view().await?;
        let load = view.load;
        Some(NodeStatus {
            node: self.node.id.clone(),
            role: Role::Worker,
            incarnation: self.state.incarnation,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since_unix_ms: unix_ms(self.started),
            slots: self.node.slots,
            draining: view.draining,
            rss_bytes: memory::resident_bytes(),
            environments: load.environments,
            attempts_by_phase: load.in_phase,
            start_queue: load.in_phase[Phase::Queue as usize],
            waiting: load.waiting,
            run: view.run.map(|run| RunView {
                name: name_of(&run.run),
                run: run.run,
                epoch: run.epoch,
                coordinator: run.coordinator,
                lease_left_ms: run.lease_left.as_millis() as u64,
                held: run.running as u32,
                reported_unacknowledged: run.unacknowledged as u32,
                total: run.progress.total.into(),
                done: run.progress.done.into(),
                passed: run.progress.passed.into(),
                infra_failures: run.progress.infra_failures.into(),
                retries: run.progress.retries.into(),
            }),
            peers: self.peers(),
        })
    }

    fn peers(&self) -> Vec<PeerRow> {
        let now = tokio::time::Instant::now();
        let row = |peer: PeerView| PeerRow {
            node: peer.node,
            state: match peer.state {
                PeerState::Up => LinkState::Up,
                PeerState::Suspect => LinkState::Suspect,
                PeerState::Down => LinkState::Down,
            },
            round_trip_us: peer.round_trip.map(|time| time.as_micros() as u64),
            since_unix_ms: unix_ms(SystemTime::now() - now.saturating_duration_since(peer.since)),
        };
        self.mesh.peers().into_iter().map(row).collect()
    }
}

/// A run's id is its name and a random part.
fn name_of(run: &str) -> String {
    run.rsplit_once('-').map_or(run, |(name, _)| name).to_owned()
}

/// `orcapack node drain`.
///
/// # Errors
/// The node does not answer, or refuses.
pub async fn drain(args: &DrainArgs, host: &Host) -> Result<Exit, Failure> {
    let config = ClusterConfig::load(&args.cluster, host)?;
    let node = config.node(&args.id)?;
    let transport = member::caller(&config, OPERATOR, Role::Operator)?;
    let id: &NodeId = &node.id;
    match calls::ask(&transport, id, &node.address, &Question::Drain(!args.undo)).await {
        Ok(Answer::Done) => {
            let now = if args.undo { "takes rollouts again" } else { "takes nothing more" };
            eprintln!("{id} {now}");
            Ok(Exit::Done)
        }
        Ok(Answer::Refused(why)) | Err(why) => {
            Err(Failure::new(Exit::Unreachable, format!("{id}: {why}")))
        }
        Ok(_) => Err(Failure::internal(format!("{id}: an answer to another question"))),
    }
}
