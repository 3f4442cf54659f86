//! Ranks with real threads, which fail where a test wants them to.

use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::fixture_tests::policy;
use super::home::{Home, Life, Order, Say};
use super::thread::{Local, MakeLearner};
use super::{GroupSettings, Ranks, RanksSetup, RestartSettings};
use crate::collective::exchange::Exchange;
use crate::collective::{
    Abort, Collective, CollectiveError, Collectives, Formed, Member, Place, RankId,
};
use crate::policy_step::RlSettings;

/// Where, and what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// Tells the test before a call, and goes no further.
    StopsBefore(usize),
    /// The same behind a call that was made.
    StopsAfter(usize),
    /// Finds that a place of the ring has sent what it cannot have.
    Finds { call: usize, place: usize },
    /// Never hears that a step begins.
    MissesBegin,
    /// Tells the test, and never hears of the commit.
    MissesCommit,
}

/// What goes wrong, once each: the epoch, the rank, and how.
#[derive(Clone)]
pub struct Faults {
    planned: Arc<Mutex<Vec<(u64, RankId, Fault)>>>,
    told: mpsc::UnboundedSender<RankId>,
}

impl Faults {
    fn take(&self, epoch: u64, rank: RankId, is: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let mut planned = self.planned.lock().unwrap();
        let found = planned.iter().position(|it| (it.0, it.1) == (epoch, rank) && is(&it.2));
        found.map(|at| planned.remove(at).2)
    }

    fn tell(&self, rank: RankId) {
        // The test may be over.
        let _ = self.told.send(rank);
    }
}

pub struct Lab {
    pub ranks: Ranks,
    pub told: mpsc::UnboundedReceiver<RankId>,
}

/// Of a small policy's ranks; timeouts that only a lost message reaches, unless a test wants them.
pub fn group() -> GroupSettings {
    let after = Duration::from_millis(10);
    let restarts = RestartSettings { after, ..RestartSettings::default() };
    GroupSettings { restarts, ..GroupSettings::default() }
}

pub async fn lab(
    count: usize,
    make: MakeLearner,
    settings: RlSettings,
    group: GroupSettings,
    planned: &[(u64, u32, Fault)],
) -> Lab {
    let (told, heard) = mpsc::unbounded_channel();
    let planned = planned.iter().map(|(epoch, rank, fault)| (*epoch, RankId(*rank), *fault));
    let faults = Faults { planned: Arc::new(Mutex::new(planned.collect())), told };
    let exchange = Exchange::new(Duration::from_secs(100));
    let collectives = Arc::new(FaultyCollectives { exchange, faults: faults.clone() });
    let local = Local {
        make,
        policy: Arc::new(policy()),
        settings: settings.clone(),
        collectives,
        threads: 1,
        pins: true,
        node: String::new(),
    };
    let home: Arc<dyn Home> = Arc::new(FaultyHome { local, faults });
    let setup = RanksSetup { homes: vec![home; count], settings, group };
    Lab { ranks: Ranks::start(setup).await.unwrap(), told: heard }
}

struct FaultyCollectives {
    exchange: Exchange,
    faults: Faults,
}

impl Collectives for FaultyCollectives {
    fn form<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Formed> {
        Box::pin(async move {
            let (inner, abort) = self.exchange.form(place).await?;
            let (open, gate) = sync_channel(1);
            let Member { id, .. } = place.members[place.rank].clone();
            let (faults, epoch) = (self.faults.clone(), place.epoch);
            let rank = FaultyRank { inner, faults, epoch, id, calls: 0, gate };
            Ok((Box::new(rank) as Box<dyn Collective>, abort.and(opens(open))))
        })
    }
}

fn opens(gate: SyncSender<()>) -> Abort {
    Abort::new(move |_| {
        // It is open, or nobody is behind it.
        let _ = gate.try_send(());
    })
}

struct FaultyRank {
    inner: Box<dyn Collective>,
    faults: Faults,
    epoch: u64,
    id: RankId,
    calls: usize,
    /// Opened by an abort.
    gate: Receiver<()>,
}

impl FaultyRank {
    fn call<T>(
        &mut self,
        call: impl FnOnce(&mut dyn Collective) -> Result<T, CollectiveError>,
    ) -> Result<T, CollectiveError> {
        let at = self.calls;
        self.calls += 1;
        let stops = |fault: &Fault| *fault == Fault::StopsBefore(at);
        if self.faults.take(self.epoch, self.id, stops).is_some() {
            return self.stop();
        }
        let finds = |fault: &Fault| matches!(fault, Fault::Finds { call, .. } if *call == at);
        if let Some(Fault::Finds { place, .. }) = self.faults.take(self.epoch, self.id, finds) {
            let what = "a sum that its checksum is not of".to_owned();
            return Err(CollectiveError::Corrupt { rank: place, what });
        }
        let result = call(self.inner.as_mut())?;
        let stops = |fault: &Fault| *fault == Fault::StopsAfter(at);
        match self.faults.take(self.epoch, self.id, stops) {
            Some(_) => self.stop(),
            None => Ok(result),
        }
    }

    fn stop<T>(&self) -> Result<T, CollectiveError> {
        self.faults.tell(self.id);
        let _ = self.gate.recv();
        Err(CollectiveError::Aborted("it had stopped".to_owned()))
    }
}

impl Collective for FaultyRank {
    fn rank(&self) -> usize {
        self.inner.rank()
    }

    fn world_size(&self) -> usize {
        self.inner.world_size()
    }

    fn all_reduce(&mut self, values: &mut [f32]) -> Result<(), CollectiveError> {
        self.call(|inner| inner.all_reduce(values))
    }

    fn reduce_scatter(&mut self, values: &mut [f32]) -> Result<Range<usize>, CollectiveError> {
        self.call(|inner| inner.reduce_scatter(values))
    }

    fn all_gather(&mut self, values: &mut [f32]) -> Result<(), CollectiveError> {
        self.call(|inner| inner.all_gather(values))
    }
}

struct FaultyHome {
    local: Local,
    faults: Faults,
}

impl Home for FaultyHome {
    fn start(&self, rank: RankId, say: Say) -> BoxFuture<'_, Result<Box<dyn Life>, String>> {
        Box::pin(async move {
            let inner = self.local.start(rank, say).await?;
            let life = FaultyLife { inner, rank, faults: self.faults.clone() };
            Ok(Box::new(life) as Box<dyn Life>)
        })
    }

    fn node(&self) -> &str {
        self.local.node()
    }
}

struct FaultyLife {
    inner: Box<dyn Life>,
    rank: RankId,
    faults: Faults,
}

impl Life for FaultyLife {
    fn order(&mut self, order: Order) {
        let missed = match &order {
            Order::Begin { epoch, .. } => Some((*epoch, Fault::MissesBegin)),
            Order::Commit { epoch } => Some((*epoch, Fault::MissesCommit)),
            _ => None,
        };
        let taken = missed.and_then(|(epoch, fault)| {
            self.faults.take(epoch, self.rank, |planned| *planned == fault)
        });
        match taken {
            Some(_) => self.faults.tell(self.rank),
            None => self.inner.order(order),
        }
    }
}
