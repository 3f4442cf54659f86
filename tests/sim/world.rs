//! A cluster in one process: a coordinator and its workers, on a network and on machines that do as
//! the seed says.
//!
//! What runs is the program: meshes over QUIC and TLS, the coordinator with its ledger in SQLite,
//! the hosts of runs with their pools and rollouts. Simulated are the network, the sandboxes and
//! the time, which goes on when nobody has anything to do.
//!
//! All processes share one runtime, so none can be stopped by itself: a *pause* holds a process's
//! datagrams, both ways, and its clock and tasks go on. What a process does that wakes from a real
//! stop is shown by the lease's own model check, and by real processes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use orcapack::ledger::Ledger;
use orcapack::status::RunStatus;
use orcapack::work::{Rollout, RunEnd};
use orcapack_actors::agent::Solver;
use orcapack_cluster::address::Role;
use orcapack_cluster::fixture::TestAuthority;
use orcapack_cluster::quic_sim::{SimFaults, SimNetwork};
use orcapack_tasks::admission::TrialKind;
use ractor::ActorStatus;
use rusqlite::Connection;
use tokio::time::{Instant, timeout};

use crate::machine::{Engines, Machine};
use crate::process::{Coordinator, Job, Place, Worker, Wrap};
use crate::random::Random;
use crate::seeds::pass;
use crate::truth::Truth;
use crate::visits;

/// What a scenario is about.
#[derive(Clone)]
pub struct Setting {
    pub seed: u64,
    pub rollouts: usize,
    /// Whether they are admitted visit by visit, instead of all at the start.
    pub visits: bool,
    /// Of each worker.
    pub slots: Vec<u32>,
    pub concurrent_max: usize,
    pub retries: u32,
    pub lease: Duration,
    pub engines: Engines,
    /// Workers speak to each other too.
    pub full_mesh: bool,
    pub kinds: Wrap,
    pub flaw: fn(Ledger) -> Ledger,
}

pub struct World {
    pub setting: Setting,
    pub network: SimNetwork,
    pub truth: Arc<Truth>,
    pub workers: Vec<Site>,
    pub coordinator: Option<Coordinator>,
    pub coordinator_at: Place,
    job: Job,
}

/// Where a worker is, or is not.
pub struct Site {
    pub place: Place,
    pub slots: u32,
    pub incarnation: u64,
    pub worker: Option<Worker>,
}

impl World {
    pub fn new(setting: Setting, authority: &TestAuthority) -> Self {
        static LEDGERS: AtomicU64 = AtomicU64::new(0);
        let number = LEDGERS.fetch_add(1, Ordering::Relaxed);
        let ledger = format!("file:ledger-{number}?mode=memory&cache=shared");
        // As long as this connection is open, the ledger is there.
        let truth = Connection::open(&ledger).expect("a ledger in memory");
        let truth = Arc::new(Truth::new(truth));
        let network = SimNetwork::new(setting.seed, SimFaults::default());
        let place = |name: String, role, host| Place {
            id: name.parse().expect("a name"),
            role,
            at: SocketAddr::from(([10, 0, 0, host], 4433)),
            credentials: authority.issue(&name, role),
            peers: Vec::new(),
        };
        let mut coordinator_at = place("c".to_owned(), Role::Coordinator, 100);
        let sites = setting.slots.iter().zip(1..).map(|(slots, number)| Site {
            place: place(format!("w{number}"), Role::Worker, number),
            slots: *slots,
            incarnation: 0,
            worker: None,
        });
        let mut workers: Vec<Site> = sites.collect();
        let addresses: Vec<_> = workers.iter().map(|site| site.place.address()).collect();
        for site in &mut workers {
            site.place.peers = vec![coordinator_at.address()];
            if setting.full_mesh {
                site.place.peers.extend(addresses.iter().cloned());
            }
        }
        coordinator_at.peers = addresses;
        let job = Job {
            ledger,
            rollouts: rollouts(setting.rollouts, setting.visits),
            visits: setting.visits,
            concurrent_max: setting.concurrent_max,
            retries: setting.retries,
            lease: setting.lease,
            flaw: setting.flaw,
        };
        Self { setting, network, truth, workers, coordinator: None, coordinator_at, job }
    }

    pub async fn start_coordinator(&mut self) {
        self.truth.note("c starts");
        let coordinator = Coordinator::start(&self.coordinator_at, &self.network, &self.job).await;
        self.coordinator = Some(coordinator);
    }

    pub fn crash_coordinator(&mut self) {
        if let Some(coordinator) = self.coordinator.take() {
            self.truth.note("c crashes");
            coordinator.crash(&self.network);
        }
    }

    pub async fn start_worker(&mut self, index: usize) {
        let Setting { seed, lease, kinds, ref engines, .. } = self.setting;
        let site = &mut self.workers[index];
        site.incarnation += 1;
        let Site { place, slots, incarnation, .. } = &*site;
        self.truth.note(format!("{} starts, {incarnation}", place.id));
        let engines = Engines { seed, ..engines.clone() };
        let machine = Machine::new(engines, self.truth.clone(), place.id.to_string());
        let way = (*slots, lease / 5);
        let worker = Worker::start(place, &self.network, machine, way, *incarnation, kinds).await;
        site.worker = Some(worker);
    }

    pub fn crash_worker(&mut self, index: usize) {
        let site = &mut self.workers[index];
        if let Some(worker) = site.worker.take() {
            self.truth.note(format!("{} crashes", site.place.id));
            worker.crash(&self.network);
        }
    }

    /// What has happened since, and what must hold now.
    pub async fn look(&mut self) {
        for site in &mut self.workers {
            let id = &site.place.id;
            let Some(worker) = &mut site.worker else { continue };
            while let Ok(event) = worker.events.try_recv() {
                self.truth.note(format!("{id} sees {event:?}"));
            }
            if worker.host.cell().get_status() == ActorStatus::Stopped {
                self.truth.breaks(format!("the host of {id} has ended by itself"));
            }
            // What it keeps for the coordinator is bounded, however long that is away.
            if let Some(run) = worker.host.view().await.and_then(|view| view.run)
                && run.running + run.unacknowledged > 2 * site.slots as usize
            {
                self.truth.breaks(format!("{id}, of {} slots, holds {run:?}", site.slots));
            }
            if worker.mesh.cell().get_status() == ActorStatus::Stopped {
                self.truth.breaks(format!("the mesh of {id} has ended by itself"));
            }
        }
        let Some(coordinator) = &mut self.coordinator else { return };
        coordinator.turn(&self.truth).await;
        let mut has_news = false;
        while let Ok(event) = coordinator.events.try_recv() {
            self.truth.note(format!("c sees {event:?}"));
            has_news = true;
        }
        if has_news {
            coordinator.run.look_for_nodes();
        }
        if coordinator.run.cell().get_status() == ActorStatus::Stopped {
            self.truth.breaks("the coordinator has ended by itself".to_owned());
        }
    }

    pub fn is_done(&self) -> bool {
        let all = self.setting.rollouts;
        self.coordinator.as_ref().is_some_and(|coordinator| coordinator.done() >= all)
    }

    /// Who was out of reach when the run ended leaves it by itself, in time.
    pub async fn wait_until_left(&mut self) {
        const LIMIT: Duration = Duration::from_secs(660);
        let began = Instant::now();
        for site in &self.workers {
            let Some(worker) = &site.worker else { continue };
            while worker.host.view().await.is_some_and(|view| view.run.is_some())
                && began.elapsed() < LIMIT
            {
                pass(Duration::from_secs(1)).await;
            }
        }
        self.truth.note("all have left");
    }

    async fn note_what_is_waited_for(&self) {
        if let Some(coordinator) = &self.coordinator {
            let mut status = RunStatus::default();
            coordinator.run.read(&mut status);
            self.truth.note(format!("{status:?}"));
            self.truth.note(format!("{:?}", coordinator.mesh.peers()));
        }
        for site in &self.workers {
            if let Some(worker) = &site.worker {
                self.truth.note(format!("{}: {:?}", site.place.id, worker.host.view().await));
            }
        }
    }

    /// Lets the run come to its end, in good order. Everything must be up.
    pub async fn finish(&mut self, limit: Duration) {
        let began = Instant::now();
        while !self.is_done() {
            if began.elapsed() > limit {
                let done = self.coordinator.as_ref().map(Coordinator::done);
                self.note_what_is_waited_for().await;
                self.truth.breaks(format!("liveness: {done:?} done after {limit:?}"));
                return;
            }
            pass(Duration::from_millis(250)).await;
            self.look().await;
            if self.truth.broken().is_some() {
                return;
            }
        }
        let Some(mut coordinator) = self.coordinator.take() else { return };
        coordinator.turn(&self.truth).await;
        match timeout(limit, coordinator.run.wait_end()).await {
            Ok(RunEnd::Complete) => {}
            other => return self.truth.breaks(format!("liveness: the run's end is {other:?}")),
        }
        let began = Instant::now();
        if let Err(error) = coordinator.run.stop().await {
            self.truth.breaks(format!("AC-6: the run's nodes: {error}"));
        }
        self.truth.note(format!("the nodes have left within {:?}", began.elapsed()));
        coordinator.mesh.stop().await;
        // A node that was out of reach has stopped what it ran by then, and may still remove it.
        let began = Instant::now();
        while self.is_something_left() && began.elapsed() < LEFT_OVERS_GONE {
            pass(Duration::from_millis(250)).await;
        }
        self.look().await;
    }

    fn is_something_left(&self) -> bool {
        let workers = self.workers.iter().filter_map(|site| site.worker.as_ref());
        workers.map(|worker| worker.machine.live()).sum::<usize>() > 0 || self.truth.at_work() > 0
    }
}

/// After the end of a run nothing of it is left anywhere (AC-6), on nodes that could not be reached
/// either.
const LEFT_OVERS_GONE: Duration = Duration::from_secs(30);

/// Half of them pass. Of each task there are eight, in a group or in two visits.
fn rollouts(count: usize, visits: bool) -> Vec<Rollout> {
    let tasks = (0..count.div_ceil(8))
        .map(|number| Arc::new(crate::support::task(&format!("task-{number}"))));
    let tasks: Vec<_> = tasks.collect();
    let rollout = |number: usize| {
        let agent = if number.is_multiple_of(2) { TrialKind::Oracle } else { TrialKind::Nop };
        let task = if visits { number / visits::SIZE as usize } else { number };
        Rollout { task: tasks[task % tasks.len()].clone(), agent: Solver::Trial(agent) }
    };
    (0..count).map(rollout).collect()
}

impl Setting {
    /// A small cluster on which nothing goes wrong.
    pub fn calm(seed: u64, rollouts: usize, slots: &[u32]) -> Self {
        let mut random = Random::new(seed, 1);
        Self {
            seed,
            rollouts,
            visits: false,
            slots: slots.to_vec(),
            concurrent_max: 1 << 16,
            retries: 1000,
            lease: random.millis(4_000, 12_000),
            engines: Engines {
                seed,
                create_ms: (50, 1_000),
                exec_ms: (100, 3_000),
                remove_ms: (10, 500),
                slow: 0.0,
                failing: 0.0,
                unmakable: 0.0,
                dying: 0.0,
            },
            full_mesh: false,
            kinds: orcapack::node_kinds::runs,
            flaw: |ledger| ledger,
        }
    }
}
