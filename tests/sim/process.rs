//! The processes of a simulated cluster: how one starts, and how it dies.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use orcapack::config::{EvalConfig, RetryLimits};
use orcapack::engine::planned;
use orcapack::fleet::{Fleet, FleetConfig};
use orcapack::ledger::Ledger;
use orcapack::node_run::{NodeRun, for_nodes};
use orcapack::run::Run;
use orcapack::run_host::{HostConfig, RunHost};
use orcapack::store::{Store, Writing};
use orcapack::wire::Attach;
use orcapack::work::{Rollout, Tally, Work};
use orcapack_actors::breaker::BreakerConfig;
use orcapack_cluster::address::{Incarnation, NodeId, Role};
use orcapack_cluster::credentials::Credentials;
use orcapack_cluster::lease::{Epoch, LeaseConfig};
use orcapack_cluster::mesh::{Admits, Mesh, MeshConfig, MeshEvent, PeerAddress};
use orcapack_cluster::quic::{QuicConfig, ResetKey};
use orcapack_cluster::quic_sim::SimNetwork;
use orcapack_cluster::remote::Kinds;
use tokio::sync::mpsc::{self, unbounded_channel};

use crate::machine::Machine;
use crate::truth::Truth;
use crate::visits::{self, Visits};

/// Who a process is, over all of its lives.
#[derive(Clone)]
pub struct Place {
    pub id: NodeId,
    pub role: Role,
    pub at: SocketAddr,
    pub credentials: Arc<dyn Credentials>,
    pub peers: Vec<PeerAddress>,
}

impl Place {
    pub fn address(&self) -> PeerAddress {
        PeerAddress { node: self.id.clone(), role: self.role, at: self.at }
    }

    async fn mesh(
        &self,
        network: &SimNetwork,
        incarnation: u64,
        kinds: Kinds,
    ) -> (Mesh, mpsc::Receiver<MeshEvent>) {
        let SocketAddr::V4(at) = self.at else { unreachable!("all addresses are of version 4") };
        let [.., host] = at.ip().octets();
        // The same in each life, so that peers notice a restart at once.
        let quic = QuicConfig::new(self.at, ResetKey::new([host; ResetKey::BYTES]));
        let transport = network.transport(self.at, self.credentials.clone(), &quic);
        let config = MeshConfig {
            me: self.id.clone(),
            role: self.role,
            cluster: "simulated".to_owned(),
            incarnation: Incarnation(incarnation),
            peers: self.peers.clone(),
            listens: true,
            admits: Admits::Certified,
            seed: u64::from(host) << 32 | incarnation,
            guests: None,
        };
        let transport = Arc::new(transport.expect("the transport starts"));
        Mesh::start(config, transport, kinds, None).await.expect("the mesh starts")
    }
}

/// One life of a worker.
pub struct Worker {
    pub machine: Machine,
    pub host: Arc<RunHost>,
    pub mesh: Mesh,
    pub events: mpsc::Receiver<MeshEvent>,
    at: SocketAddr,
}

/// What may be wrong with a worker's program.
pub type Wrap = fn(Kinds, Arc<RunHost>) -> Kinds;

impl Worker {
    pub async fn start(
        place: &Place,
        network: &SimNetwork,
        machine: Machine,
        (slots, beat_every): (u32, Duration),
        incarnation: u64,
        kinds: Wrap,
    ) -> Self {
        let config = HostConfig {
            node: place.id.clone(),
            incarnation: Incarnation(incarnation),
            driver: Arc::new(machine.clone()),
            slots,
            beat_every,
            node_run: NodeRun {
                cpus: 4,
                cache_dir: PathBuf::from("unused"),
                create_concurrency: Some(slots as usize),
                verify_concurrency: Some(slots as usize),
                variables: |_| None,
                engines: Arc::default(),
            },
        };
        let host = Arc::new(RunHost::spawn(config, None).await.expect("the host starts"));
        let kinds = kinds(Kinds::default(), host.clone());
        let (mesh, events) = place.mesh(network, incarnation, kinds).await;
        Self { machine, host, mesh, events, at: place.at }
    }

    /// Ends without a word, and its sandboxes with it.
    pub fn crash(self, network: &SimNetwork) {
        network.crash(self.at);
        self.machine.die();
        self.mesh.kill();
        self.host.cell().kill();
    }

    /// Leaves in order.
    pub async fn leave(self) {
        self.host.leave().await;
        self.mesh.stop().await;
        self.host.cell().kill();
        self.machine.die();
    }
}

/// What a coordinator is to do, over all of its lives.
#[derive(Clone)]
pub struct Job {
    pub ledger: String,
    pub rollouts: Vec<Rollout>,
    /// Whether they are admitted visit by visit, instead of all at the start.
    pub visits: bool,
    pub concurrent_max: usize,
    pub retries: u32,
    pub lease: Duration,
    pub flaw: fn(Ledger) -> Ledger,
}

/// One life of the coordinator.
pub struct Coordinator {
    pub run: Run,
    pub mesh: Mesh,
    pub events: mpsc::Receiver<MeshEvent>,
    pub tally: Arc<Tally>,
    pub visits: Option<Visits>,
    at: SocketAddr,
}

impl Coordinator {
    pub async fn start(place: &Place, network: &SimNetwork, job: &Job) -> Self {
        let (file, limits) = (Path::new(&job.ledger), RetryLimits::same(job.retries));
        let (opened, ledger) = if job.visits {
            let rollouts = job.rollouts.len() as u32;
            let row = |id: u32| job.rollouts[id as usize].planned(id / visits::SIZE);
            let groups = (0..rollouts).map(|id| id / visits::SIZE).collect();
            let opened = Store::open_growing(file, rollouts, &row, Writing::Inline);
            (opened, Ledger::held(groups, limits))
        } else {
            let planned = planned(&job.rollouts);
            let groups = planned.iter().map(|rollout| rollout.group).collect();
            (Store::open(file, &planned, Writing::Inline), Ledger::new(groups, limits))
        };
        let opened = opened.expect("the ledger opens");
        let (told, news) = unbounded_channel();
        let rollouts = job.rollouts.len() as u32;
        let visits = job.visits.then(|| Visits::new(rollouts, &opened.past, news));
        let mut ledger = (job.flaw)(ledger);
        let orphans = ledger.resume(&opened.past);
        let tally = Arc::new(Tally::default());
        opened.past.ended.iter().for_each(|ended| tally.count(ended.outcome.reward()));
        let epoch = Epoch(opened.incarnation);
        let breaker = BreakerConfig {
            failures: 5,
            cooldown: Duration::from_secs(2),
            cooldown_max: Duration::from_secs(10),
        };
        let lease = Some(LeaseConfig::of(job.lease));
        let work = Work {
            rollouts: job.rollouts.clone(),
            concurrent_max: job.concurrent_max,
            store: opened.store,
            ledger,
            fleet: Fleet::new(FleetConfig { epoch, lease, breaker }),
            orphans,
            folders: None,
            tally: tally.clone(),
            ended: job.visits.then_some(told),
        };
        let (mesh, events) = place.mesh(network, opened.incarnation, Kinds::default()).await;
        let mut config = EvalConfig::defaults(4, PathBuf::from("unused"));
        (config.run.name, config.run.dataset) = ("simulated".to_owned(), "unused".into());
        let config = for_nodes(&config).expect("the configuration can be written");
        let attach = Attach { run: "simulated".to_owned(), epoch, config };
        let run = Run::on_cluster(mesh.clone(), attach, work, None).await;
        let run = run.expect("the run begins");
        Self { run, mesh, events, tally, visits, at: place.at }
    }

    /// Of the loop that admits, if there is one.
    pub async fn turn(&mut self, truth: &Truth) {
        if let Some(visits) = &mut self.visits {
            visits.turn(&self.run.coordinator(), truth).await;
        }
    }

    pub fn done(&self) -> usize {
        self.tally.done.load(Ordering::Relaxed) as usize
    }

    /// Ends without a word.
    pub fn crash(self, network: &SimNetwork) {
        network.crash(self.at);
        self.mesh.kill();
        self.run.cell().kill();
    }
}
