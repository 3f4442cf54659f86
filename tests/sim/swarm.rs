//! The faults of a seed: which kinds there are and how often, and then when and where.
//!
//! Each kind is left out of half of the seeds. Seeds with few kinds go deeper into what those do
//! than seeds in which everything breaks at once.

use std::time::Duration;

use orcapack_cluster::quic_sim::SimFaults;
use tokio::time::Instant;

use crate::process::Place;
use crate::random::Random;
use crate::seeds::pass;
use crate::world::{Setting, World};

/// Between two looks at the world.
pub const TICK: Duration = Duration::from_millis(250);
/// How long everything may go wrong.
const UNSAFE: (u64, u64) = (20_000, 60_000);

/// Chances in each tick.
#[derive(Debug)]
struct Kinds {
    weather: f64,
    one_way: f64,
    partition: f64,
    pause: f64,
    worker_crash: f64,
    coordinator_crash: f64,
    drain: f64,
    leave: f64,
    broken: f64,
    kill: f64,
}

/// Something that is to be undone.
enum Undo {
    Weather,
    Heal(Vec<usize>),
    Resume(usize),
    StartWorker(usize),
    StartCoordinator,
    Undrain(usize),
    Mend(usize),
}

pub struct Swarm {
    random: Random,
    kinds: Kinds,
    /// In no order: there are few.
    undo: Vec<(Instant, Undo)>,
}

/// The cluster of a seed.
pub fn setting(seed: u64, rollouts: usize, nodes: usize) -> Setting {
    let mut random = Random::new(seed, 2);
    let sizes = [2, 4, 8, 12, 16, 24];
    let slots: Vec<u32> = (0..nodes).map(|_| sizes[random.below(sizes.len())]).collect();
    let mut setting = Setting::calm(seed, rollouts, &slots);
    setting.engines.slow = random.swarm(0.1);
    setting.engines.failing = random.swarm(0.2);
    setting.engines.dying = random.swarm(0.05);
    setting.engines.unmakable = random.swarm(0.02);
    setting.engines.exec_ms.1 = [1_000, 3_000, 10_000][random.below(3)];
    setting.engines.remove_ms.1 = [20, 500, 3_000][random.below(3)];
    setting.full_mesh = random.chance(0.1);
    if random.chance(0.2) {
        setting.retries = random.below(4) as u32;
    }
    if random.chance(0.2) {
        setting.concurrent_max = 10 + random.below(40);
    }
    setting
}

impl Swarm {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed, 3);
        let kinds = Kinds {
            weather: random.swarm(0.05),
            one_way: random.swarm(0.03),
            partition: random.swarm(0.03),
            pause: random.swarm(0.04),
            worker_crash: random.swarm(0.04),
            coordinator_crash: random.swarm(0.02),
            drain: random.swarm(0.02),
            leave: random.swarm(0.02),
            broken: random.swarm(0.02),
            kill: random.swarm(0.05),
        };
        Self { random, kinds, undo: Vec::new() }
    }

    /// Lets everything begin, and go wrong for a while; afterwards all is well.
    pub async fn rage(&mut self, world: &mut World) {
        world.truth.note(format!("{:?}", self.kinds));
        world.start_coordinator().await;
        let late = self.random.below(2);
        for index in 0..world.workers.len() {
            if index < late {
                let at = self.after(1_000, 20_000);
                self.undo.push((at, Undo::StartWorker(index)));
            } else {
                world.start_worker(index).await;
            }
        }
        let end = self.after(UNSAFE.0, UNSAFE.1);
        while Instant::now() < end && !world.is_done() && world.truth.broken().is_none() {
            pass(TICK).await;
            world.look().await;
            self.undo_due(world, Instant::now()).await;
            self.strike(world).await;
        }
        world.truth.note("all is well from here on");
        self.undo_due(world, Instant::now() + Duration::from_secs(3600)).await;
        world.network.set_faults(SimFaults::default());
        world.network.heal_all();
    }

    fn after(&mut self, from_ms: u64, to_ms: u64) -> Instant {
        Instant::now() + self.random.millis(from_ms, to_ms)
    }

    /// Always draws the same number of chances.
    async fn strike(&mut self, world: &mut World) {
        let kinds = &self.kinds;
        let chances = [
            kinds.weather,
            kinds.one_way,
            kinds.partition,
            kinds.pause,
            kinds.worker_crash,
            kinds.coordinator_crash,
            kinds.drain,
            kinds.leave,
            kinds.broken,
            kinds.kill,
        ];
        for (kind, chance) in chances.into_iter().enumerate() {
            if !self.random.chance(chance) {
                continue;
            }
            let index = self.random.below(world.workers.len());
            match kind {
                0 => self.weather(world),
                1 => self.one_way(world, index),
                2 => self.partition(world),
                3 => self.pause(world, index),
                4 if world.workers[index].worker.is_some() => {
                    world.crash_worker(index);
                    let at = self.after(200, 15_000);
                    self.undo.push((at, Undo::StartWorker(index)));
                }
                5 if world.coordinator.is_some() => {
                    world.crash_coordinator();
                    let at = self.after(200, 10_000);
                    self.undo.push((at, Undo::StartCoordinator));
                }
                6 => self.drain(world, index),
                7 => self.leave(world, index).await,
                8 => self.break_engine(world, index),
                9 => {
                    let count = 1 + self.random.below(4);
                    if let Some(worker) = &world.workers[index].worker {
                        let killed = worker.machine.kill(count);
                        let id = &world.workers[index].place.id;
                        world.truth.note(format!("{killed} sandboxes of {id} are killed"));
                    }
                }
                _ => {}
            }
        }
    }

    fn weather(&mut self, world: &World) {
        let random = &mut self.random;
        let faults = SimFaults {
            loss: random.swarm(0.3),
            duplication: random.swarm(0.2),
            delay: random.millis(1, 50),
            jitter: random.millis(0, 100),
            bytes_per_sec: None,
        };
        world.truth.note(format!("{faults:?}"));
        world.network.set_faults(faults);
        let at = self.after(1_000, 15_000);
        self.undo.push((at, Undo::Weather));
    }

    fn one_way(&mut self, world: &World, index: usize) {
        let (worker, coordinator) = (&world.workers[index].place, &world.coordinator_at);
        let (from, to) =
            if self.random.chance(0.5) { (worker, coordinator) } else { (coordinator, worker) };
        world.truth.note(format!("nothing comes from {} to {}", from.id, to.id));
        world.network.cut(from.at, to.at);
        let at = self.after(500, 25_000);
        self.undo.push((at, Undo::Heal(vec![index])));
    }

    fn partition(&mut self, world: &World) {
        let chosen: Vec<usize> =
            (0..world.workers.len()).filter(|_| self.random.chance(0.4)).collect();
        let is_with = |index: &usize| chosen.contains(index);
        let at = |index: usize| world.workers[index].place.at;
        let (one, mut other): (Vec<usize>, Vec<usize>) =
            (0..world.workers.len()).partition(|index| is_with(index));
        let one: Vec<_> = one.into_iter().map(at).collect();
        let mut other: Vec<_> = other.drain(..).map(at).collect();
        other.push(world.coordinator_at.at);
        world.truth.note(format!("apart from the coordinator: {chosen:?}"));
        world.network.part(&one, &other);
        let at = self.after(500, 25_000);
        self.undo.push((at, Undo::Heal(chosen)));
    }

    fn pause(&mut self, world: &World, index: usize) {
        // One more than there are workers is the coordinator.
        let index = if self.random.chance(0.2) { world.workers.len() } else { index };
        let place = place(world, index);
        world.truth.note(format!("{} pauses", place.id));
        world.network.pause(place.at);
        let at = self.after(200, 20_000);
        self.undo.push((at, Undo::Resume(index)));
    }

    fn drain(&mut self, world: &World, index: usize) {
        let Some(worker) = &world.workers[index].worker else { return };
        world.truth.note(format!("{} drains", world.workers[index].place.id));
        worker.host.drain(true);
        let at = self.after(1_000, 15_000);
        self.undo.push((at, Undo::Undrain(index)));
    }

    async fn leave(&mut self, world: &mut World, index: usize) {
        let Some(worker) = world.workers[index].worker.take() else { return };
        world.truth.note(format!("{} leaves", world.workers[index].place.id));
        worker.leave().await;
        world.truth.note(format!("{} has left", world.workers[index].place.id));
        let at = self.after(200, 10_000);
        self.undo.push((at, Undo::StartWorker(index)));
    }

    fn break_engine(&mut self, world: &World, index: usize) {
        let Some(worker) = &world.workers[index].worker else { return };
        world.truth.note(format!("the engine of {} breaks", world.workers[index].place.id));
        worker.machine.set_broken(true);
        let at = self.after(1_000, 20_000);
        self.undo.push((at, Undo::Mend(index)));
    }

    async fn undo_due(&mut self, world: &mut World, until: Instant) {
        let (mut due, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.undo).into_iter().partition(|(at, _)| *at <= until);
        self.undo = rest;
        due.sort_by_key(|(at, _)| *at);
        for (_, undo) in due {
            match undo {
                Undo::Weather => world.network.set_faults(SimFaults::default()),
                Undo::Heal(workers) => {
                    world.truth.note(format!("healed: {workers:?}"));
                    for worker in workers {
                        heal(world, worker);
                    }
                }
                Undo::Resume(index) => {
                    let place = place(world, index);
                    world.truth.note(format!("{} goes on", place.id));
                    world.network.resume(place.at);
                }
                Undo::StartWorker(index) => world.start_worker(index).await,
                Undo::StartCoordinator => world.start_coordinator().await,
                Undo::Undrain(index) => {
                    if let Some(worker) = &world.workers[index].worker {
                        worker.host.drain(false);
                    }
                }
                Undo::Mend(index) => {
                    if let Some(worker) = &world.workers[index].worker {
                        worker.machine.set_broken(false);
                    }
                }
            }
        }
    }
}

fn heal(world: &World, index: usize) {
    let at = world.workers[index].place.at;
    let others = world.workers.iter().map(|site| site.place.at);
    for other in others.chain([world.coordinator_at.at]) {
        world.network.heal(at, other);
        world.network.heal(other, at);
    }
}

fn place(world: &World, index: usize) -> &Place {
    world.workers.get(index).map_or(&world.coordinator_at, |site| &site.place)
}
