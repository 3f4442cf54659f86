//! What is done to a cluster while a run goes on: drawn from a seed beforehand, then carried out
//! by the clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;

use crate::lab::{COORDINATOR, Lab};
use crate::network::Cut;
use crate::process::{LOOK_EVERY, PATIENCE, Process, tail};
use crate::random::Random;

/// How much of what.
#[derive(Clone, Debug)]
pub struct Plan {
    pub node_kills: usize,
    pub coordinator_kills: usize,
    /// SIGSTOPs of a node or, now and then, of the coordinator.
    pub pauses: usize,
    /// Partitions of a node or, now and then, of the coordinator.
    pub cuts: usize,
    /// The strikes begin within this time.
    pub span: Duration,
    /// How long pauses and partitions last, in milliseconds.
    pub outage_ms: (usize, usize),
    /// From a kill to the new start, in milliseconds.
    pub restart_ms: (usize, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Kill,
    Start,
    Pause,
    Wake,
    Cut(Cut),
    Heal(Cut),
}

/// Something that is done to a machine, so long after the beginning.
#[derive(Clone, Debug)]
struct Act {
    at: Duration,
    host: String,
    deed: Deed,
}

/// A kill, as it was.
#[derive(Clone, Debug)]
pub struct Kill {
    pub host: String,
    pub at_ms: i64,
}

/// What was done, and when.
#[derive(Debug, Default)]
pub struct Done {
    pub kills: Vec<Kill>,
    /// When a machine stood still or could not be reached: from and to.
    pub outages: Vec<(String, i64, i64)>,
}

/// All that is done, in the order of its time.
pub struct Schedule(Vec<Act>);

impl Schedule {
    /// At any time, what is struck is whole, and one node at least is.
    pub fn draw(plan: &Plan, nodes: &[&str], random: &mut Random) -> Self {
        let mut strikes: Vec<(Deed, bool)> = Vec::new();
        strikes.extend((0..plan.node_kills).map(|_| (Deed::Kill, false)));
        strikes.extend((0..plan.coordinator_kills).map(|_| (Deed::Kill, true)));
        // The coordinator is one machine of many.
        let is_its_turn = |n: usize| n % (nodes.len() + 1) == nodes.len();
        strikes.extend((0..plan.pauses).map(|n| (Deed::Pause, is_its_turn(n))));
        let cuts = [Cut::Off, Cut::Mute, Cut::Deaf].into_iter().cycle().enumerate();
        strikes.extend(cuts.take(plan.cuts).map(|(n, cut)| (Deed::Cut(cut), is_its_turn(n))));
        let count = strikes.len();
        let slot = plan.span / count.max(1) as u32;
        let mut acts = Vec::new();
        // Until when a machine is not to be struck again.
        let mut busy: Vec<(String, Duration)> = Vec::new();
        let grace = plan.span / 40;
        for number in 0..count {
            let (deed, coordinator) = strikes.swap_remove(random.below(strikes.len()));
            let mut at = slot * number as u32 + slot.mul_f64(random.below(100) as f64 / 200.0);
            let free_at = |host: &str| {
                let until = busy.iter().filter(|(known, _)| known == host).map(|(_, until)| *until);
                until.max().unwrap_or_default()
            };
            let host = if coordinator {
                at = at.max(free_at(COORDINATOR));
                COORDINATOR
            } else {
                let mut free: Vec<&str> =
                    nodes.iter().copied().filter(|node| free_at(node) <= at).collect();
                if free.len() < 2 {
                    let soon = nodes.iter().map(|node| free_at(node)).filter(|until| *until > at);
                    at = soon.min().unwrap_or(at);
                    free = nodes.iter().copied().filter(|node| free_at(node) <= at).collect();
                }
                free[random.below(free.len())]
            };
            let (least, most) = if deed == Deed::Kill { plan.restart_ms } else { plan.outage_ms };
            let span = Duration::from_millis((least + random.below(most - least + 1)) as u64);
            let undo = match deed {
                Deed::Kill | Deed::Start => Deed::Start,
                Deed::Pause | Deed::Wake => Deed::Wake,
                Deed::Cut(cut) | Deed::Heal(cut) => Deed::Heal(cut),
            };
            acts.push(Act { at, host: host.to_owned(), deed });
            acts.push(Act { at: at + span, host: host.to_owned(), deed: undo });
            busy.push((host.to_owned(), at + span + grace));
        }
        acts.sort_by_key(|act| act.at);
        Self(acts)
    }

    /// Carries it out, while `eval` runs, which is started again as `resume` says.
    pub fn carry_out(
        self,
        lab: &mut Lab,
        mut eval: Process,
        resume: impl Fn(&Lab) -> Process,
    ) -> (Process, Done) {
        let (begin, mut done) = (Instant::now(), Done::default());
        let mut since: Vec<(String, i64)> = Vec::new();
        let mut over = false;
        for Act { at, host, deed } in self.0 {
            while begin.elapsed() < at {
                // The schedule is made of times.
                std::thread::sleep(LOOK_EVERY.min(at.saturating_sub(begin.elapsed())));
            }
            let is_coordinator = host == COORDINATOR;
            if deed != Deed::Start || !is_coordinator {
                let ended = eval.ended();
                assert!(ended.is_none() || over, "ended with {ended:?}\n{}", tail(eval.log()));
            }
            eprintln!("{:>7.2} s: {deed:?} {host}", begin.elapsed().as_secs_f64());
            let now = unix_ms();
            match deed {
                Deed::Kill if is_coordinator => {
                    eval.signal(Signal::SIGKILL);
                    over = true;
                    done.kills.push(Kill { host, at_ms: now });
                }
                Deed::Kill => {
                    lab.kill(&host);
                    done.kills.push(Kill { host, at_ms: now });
                }
                Deed::Start if is_coordinator => {
                    eval.end(PATIENCE);
                    eval = resume(lab);
                    over = false;
                }
                Deed::Start => lab.start(&host),
                Deed::Pause => {
                    process(lab, &eval, &host).signal(Signal::SIGSTOP);
                    since.push((host, now));
                }
                Deed::Wake => {
                    process(lab, &eval, &host).signal(Signal::SIGCONT);
                    done.over(&mut since, host, now);
                }
                Deed::Cut(cut) => {
                    lab.network.cut(&host, cut);
                    since.push((host, now));
                }
                Deed::Heal(cut) => {
                    lab.network.heal(&host, cut);
                    done.over(&mut since, host, now);
                }
            }
        }
        (eval, done)
    }
}

impl Done {
    fn over(&mut self, since: &mut Vec<(String, i64)>, host: String, now: i64) {
        let begun = since.iter().position(|(known, _)| *known == host);
        let (host, from) = since.swap_remove(begun.expect("it began"));
        self.outages.push((host, from, now));
    }

    /// Whether a machine was out at some time between these.
    pub fn was_out(&self, host: &str, from_ms: i64, to_ms: i64) -> bool {
        let mut out = self.outages.iter().filter(|(known, ..)| known == host);
        out.any(|(_, from, to)| *from <= to_ms && from_ms <= *to)
    }
}

fn process<'a>(lab: &'a Lab, eval: &'a Process, host: &str) -> &'a Process {
    if host == COORDINATOR { eval } else { lab.node(host) }
}

pub fn unix_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}
