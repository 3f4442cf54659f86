//! A training loop as far as a coordinator can tell: admits visits to tasks while others are under
//! way, and consumes each one that has ended.

use std::collections::BTreeSet;
use std::ops::Range;

use orcapack::coordinator::Coordinator;
use orcapack::ledger::{Ended, Past};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::truth::Truth;

/// Rollouts of one visit.
pub const SIZE: u32 = 4;
/// Visits that are under way at one time.
const UNDER_WAY_MAX: usize = 12;

/// One life of it.
pub struct Visits {
    news: UnboundedReceiver<Ended>,
    ended: BTreeSet<u32>,
    /// Those that are still to be admitted, last first; and those that were, and are not consumed.
    to_come: Vec<u32>,
    under_way: Vec<u32>,
}

impl Visits {
    /// Of so many rollouts, after all that happened before.
    pub fn new(rollouts: u32, past: &Past, news: UnboundedReceiver<Ended>) -> Self {
        // From both ends, so that ids and admission differ in their order.
        let visits = rollouts / SIZE;
        let order = (0..visits).map(|at| if at % 2 == 0 { at / 2 } else { visits - 1 - at / 2 });
        let mut to_come: Vec<u32> = order.collect();
        to_come.reverse();
        let ended = past.ended.iter().map(|ended| ended.rollout).collect();
        Self { news, ended, to_come, under_way: Vec::new() }
    }

    /// Does what it can do now.
    pub async fn turn(&mut self, coordinator: &Coordinator, truth: &Truth) {
        while let Ok(Ended { rollout, .. }) = self.news.try_recv() {
            if !self.ended.insert(rollout) {
                truth.breaks(format!("AC-2: the end of rollout {rollout} was told twice"));
            }
        }
        while self.under_way.len() < UNDER_WAY_MAX
            && let Some(visit) = self.to_come.pop()
        {
            coordinator.admit(members(visit));
            self.under_way.push(visit);
            if self.to_come.is_empty() {
                coordinator.close();
            }
        }
        let ended = &self.ended;
        let has_ended = |visit: &u32| members(*visit).all(|member| ended.contains(&member));
        let whole: Vec<u32> = self.under_way.extract_if(.., |visit| has_ended(visit)).collect();
        for visit in whole {
            // A past life may have consumed it.
            let consumed = coordinator.consume(visit.into(), members(visit).collect()).await;
            if let Err(error) = consumed {
                truth.breaks(format!("AC-5: visit {visit}: {error}"));
            }
        }
    }
}

fn members(visit: u32) -> Range<u32> {
    visit * SIZE..(visit + 1) * SIZE
}
