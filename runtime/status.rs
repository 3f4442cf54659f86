//! What a run looks like at one moment: the plain figures that progress lines are made of.

use orcapack_actors::phase::{Board, Phase, Waiting};

/// Published by the coordinator on every change; read by whoever shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunStatus {
    /// Rollouts that were admitted: all of the run, unless it trains.
    pub total: usize,
    /// Rollouts that have their terminal record, those from before a resume included.
    pub done: usize,
    /// Of the done: full reward.
    pub passed: usize,
    /// Of the done: infrastructure failure with no retry left.
    pub infra_failures: usize,
    /// Attempts that followed an infrastructure failure.
    pub retries: usize,
    /// Attempts in each phase, in the order of [`Phase::ALL`].
    pub in_phase: [usize; Phase::ALL.len()],
    pub live_environments: usize,
    pub waiting: Vec<Waiting>,
}

impl RunStatus {
    /// Takes phases, environments and what is waited for from a node's board.
    pub fn read_board(&mut self, board: &Board) {
        self.in_phase = Phase::ALL.map(|phase| to_usize(board.in_phase(phase)));
        self.live_environments = to_usize(board.environments());
        self.waiting = board.waiting();
    }

    /// Rollouts that no environment works on yet: not begun, or waiting for the right to start one.
    pub fn queued(&self) -> usize {
        let at_work: usize =
            Phase::ALL.iter().filter(|p| **p != Phase::Queue).map(|p| self.in_phase(*p)).sum();
        self.total.saturating_sub(self.done).saturating_sub(at_work)
    }

    pub fn in_phase(&self, phase: Phase) -> usize {
        self.in_phase[phase as usize]
    }
}

fn to_usize(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
