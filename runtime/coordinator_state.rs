//! What the [coordinator](crate::coordinator) knows, and what it does about it.
//!
//! The order on which AC-1 rests is in [`State::fill`] and [`State::record`]: every record goes to
//! the store, and what follows from it comes back as [`Message::Committed`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Instant;

use orcapack_actors::clock::now;
use orcapack_cluster::address::NodeId;
use orcapack_tasks::outcome::{FailureClass, Outcome};
use ractor::{ActorRef, RpcReplyPort};

use crate::batches::ConsumeError;
use crate::coordinator::{Consumed, Follows, Message, NodeEvent};
use crate::fleet::{Arrival, Verdict, Want};
use crate::ledger::{Orphan, Record};
use crate::record::AttemptRecord;
use crate::store::{Entry, Job, PlannedRollout};
use crate::wire::{NodeLoad, Welcome};
use crate::work::{RunEnd, Work, tasks};
use crate::worker::{Order, Worker, image_key};

pub(crate) struct State {
    work: Work,
    /// By the task's name.
    tasks: BTreeMap<String, u32>,
    /// The nodes that can be spoken to.
    workers: BTreeMap<NodeId, Worker>,
    /// By fence: what the ledger says is running.
    placed: BTreeMap<u64, Placed>,
    draining: bool,
    killing: bool,
    commits_under_way: usize,
    /// The earliest `LookAgain` that is on its way.
    alarm: Option<Instant>,
    failed: Option<String>,
    waiting_for_end: Vec<RpcReplyPort<RunEnd>>,
    finishing: Option<RpcReplyPort<()>>,
}

struct Placed {
    rollout: u32,
    node: NodeId,
    /// Of a past life of this coordinator: what becomes of it is no fault of its node's.
    orphan: bool,
}

impl State {
    pub(crate) fn new(work: Work) -> Self {
        Self {
            tasks: tasks(&work.rollouts).iter().map(|task| task.name.clone()).zip(0..).collect(),
            work,
            workers: BTreeMap::new(),
            placed: BTreeMap::new(),
            draining: false,
            killing: false,
            commits_under_way: 0,
            alarm: None,
            failed: None,
            waiting_for_end: Vec::new(),
            finishing: None,
        }
    }

    /// Before the first message.
    pub(crate) fn begin(&mut self, myself: &ActorRef<Message>) {
        self.take_orphans(myself);
        self.tell_total();
        self.set_alarm(myself);
    }

    pub(crate) fn on(&mut self, myself: &ActorRef<Message>, message: Message) {
        match message {
            Message::Node(node, event) => self.node(myself, node, event),
            Message::Local(record) => self.record(myself, &NodeId::local(), *record),
            Message::Committed(follows) => self.committed(myself, follows),
            Message::CommitFailed(why, follows) => {
                self.commits_under_way -= 1;
                self.failed.get_or_insert(why);
                self.draining = true;
                self.tell_consumed(follows.consumed);
            }
            Message::Admit(rollouts) => self.admit(myself, rollouts),
            Message::Close => self.work.ledger.close(),
            Message::Consume { step, rollouts, reply } => {
                self.consume(myself, step, rollouts, reply);
            }
            Message::LookAgain => self.alarm = None,
            Message::Drain => self.draining = true,
            Message::Kill => {
                (self.draining, self.killing) = (true, true);
                for (fence, placed) in &self.placed {
                    if let Some(worker) = self.workers.get(&placed.node) {
                        worker.kill(*fence);
                    }
                }
            }
            Message::WaitEnd(reply) => self.waiting_for_end.push(reply),
            Message::Finish(reply) => {
                self.draining = true;
                self.workers.values().for_each(Worker::end);
                self.finishing = Some(reply);
            }
        }
        self.expire(myself);
        self.fill(myself);
        self.set_alarm(myself);
        self.tell_end();
        // FL-1: what runs is what is placed, and takes as many slots.
        debug_assert_eq!(self.placed.len(), self.work.ledger.running());
        debug_assert_eq!(self.placed.len(), self.work.fleet.placed_count());
    }

    /// Sorts what was running when a past life of this coordinator ended. What ran in its own
    /// process is gone; what ran elsewhere may be taken back, until its node's lease has ended, if
    /// this life has a way to it.
    fn take_orphans(&mut self, myself: &ActorRef<Message>) {
        let mut gone = Vec::new();
        for Orphan { rollout, fence, node, .. } in std::mem::take(&mut self.work.orphans) {
            match node.parse::<NodeId>() {
                Ok(node) if node != NodeId::local() && !self.work.fleet.is_local() => {
                    self.work.fleet.expected(&node, now());
                    self.work.fleet.placed(&node, fence, &self.want(rollout));
                    self.placed.insert(fence, Placed { rollout, node, orphan: true });
                }
                _ => gone.extend(self.work.ledger.interrupt(rollout, fence)),
            }
        }
        self.commit_records(myself, gone);
    }

    fn node(&mut self, myself: &ActorRef<Message>, node: NodeId, event: NodeEvent) {
        match event {
            NodeEvent::Attached(welcome, worker) => self.attached(myself, node, welcome, worker),
            NodeEvent::Beat { incarnation, beat, load } => {
                let renewal = self.work.fleet.beat(&node, incarnation, beat, now());
                self.loaded(&node, &load);
                if let (Some(renewal), Some(worker)) = (renewal, self.workers.get(&node)) {
                    worker.renew(renewal);
                }
            }
            NodeEvent::Started { fence } => self.work.fleet.started(&node, fence),
            NodeEvent::Record(record) => self.record(myself, &node, *record),
            NodeEvent::Left => {
                self.workers.remove(&node);
                let fences = self.work.fleet.left(&node, now());
                self.lost(myself, &node, fences, "left");
            }
            NodeEvent::Lost { incarnation } => {
                // One that has left is not missed.
                if self.workers.remove(&node).is_some() {
                    tracing::warn!(%node, "the link to the node is gone");
                }
                self.work.fleet.link_lost(&node, incarnation, now());
            }
        }
    }

    /// A node came, or came again. What it has is taken back; what it should have and does not is
    /// lost; what it has and should not is not wanted any more (AC-3).
    fn attached(
        &mut self,
        myself: &ActorRef<Message>,
        node: NodeId,
        welcome: Welcome,
        worker: Worker,
    ) {
        let Welcome { incarnation, load, held } = welcome;
        let gone = match self.work.fleet.attached(&node, incarnation, load.slots, now()) {
            Arrival::Stale => return,
            Arrival::Restarted(fences) => fences,
            Arrival::New | Arrival::Again => {
                let held: BTreeSet<u64> = held.iter().copied().collect();
                let here = self.placed.iter().filter(|(_, placed)| placed.node == node);
                here.map(|(fence, _)| *fence).filter(|fence| !held.contains(fence)).collect()
            }
        };
        tracing::info!(%node, %incarnation, held = held.len(), lost = gone.len(), "a node came");
        self.loaded(&node, &load);
        self.lost(myself, &node, gone, "came without it");
        for fence in held {
            match self.placed.get(&fence) {
                Some(placed) if placed.node == node => {}
                _ => {
                    // What has ended there is to be gone before it gets anything new: so what a
                    // node keeps is bounded, however often its link breaks.
                    worker.forget(fence);
                    worker.kill(fence);
                }
            }
        }
        if self.finishing.is_some() {
            worker.end();
        }
        self.workers.insert(node, worker);
    }

    fn loaded(&mut self, node: &NodeId, load: &NodeLoad) {
        self.work.fleet.reported(node, load.slots, 0);
        self.work.fleet.draining(node, load.draining);
    }

    /// Attempts that are not on their node any more, by a sure sign. Those of a past life of this
    /// coordinator are interrupted; the others failed with their node.
    fn lost(&mut self, myself: &ActorRef<Message>, node: &NodeId, fences: Vec<u64>, why: &str) {
        let mut records = Vec::new();
        for fence in fences {
            self.work.fleet.ended(node, fence, Verdict::Neutral, now());
            let Some(Placed { rollout, orphan, .. }) = self.placed.remove(&fence) else { continue };
            if orphan || self.draining {
                records.extend(self.work.ledger.interrupt(rollout, fence));
                continue;
            }
            let message = format!("node {node} {why}");
            tracing::warn!(rollout, fence, message, "an attempt was lost");
            let outcome = Outcome::InfrastructureFailure { class: FailureClass::NodeLost, message };
            let ended = self.work.ledger.report(rollout, fence, outcome, now());
            let ended = ended.unwrap_or_default();
            self.count(&ended);
            records.extend(ended);
        }
        self.commit_records(myself, records);
    }

    /// Gives up the nodes whose leases have surely ended.
    fn expire(&mut self, myself: &ActorRef<Message>) {
        for lost in self.work.fleet.expired(now()) {
            self.lost(myself, &lost.node, lost.fences, "has not renewed its lease");
        }
    }

    /// Assigns as many rollouts as there is room for, and commits that before they are dispatched
    /// (AC-1).
    fn fill(&mut self, myself: &ActorRef<Message>) {
        if self.draining {
            return;
        }
        let (mut entries, mut orders) = (Vec::new(), Vec::new());
        while self.work.ledger.running() < self.work.concurrent_max {
            let Some(next) = self.work.ledger.next(now()) else { break };
            let want = self.want(next);
            let Some(node) = self.work.fleet.place(&want, now()) else { break };
            let assigned = self.work.ledger.assign(node.as_str(), now());
            let Some((rollout, attempt, fence, record)) = assigned else { break };
            let grant = self.work.fleet.placed(&node, fence, &want);
            self.placed.insert(fence, Placed { rollout, node: node.clone(), orphan: false });
            let what = self.work.rollouts[rollout as usize].clone();
            let task = self.tasks.get(&what.task.name).copied().unwrap_or_default();
            entries.push(Entry { record, details: None });
            orders.push((node, Order { rollout, attempt, fence, grant, task, what }));
        }
        if !entries.is_empty() {
            self.commit(myself, Vec::new(), entries, Follows { orders, ..Follows::default() });
        }
    }

    /// What is admitted is in the ledger's plan before anything else is said of it.
    fn admit(&mut self, myself: &ActorRef<Message>, rollouts: Range<u32>) {
        self.work.ledger.admit(rollouts.clone());
        self.tell_total();
        let planned = rollouts.map_while(|rollout| self.planned(rollout)).collect();
        self.submit(myself, planned, Vec::new(), Vec::new(), Follows::default());
    }

    fn planned(&self, rollout: u32) -> Option<(u32, PlannedRollout)> {
        let group = self.work.ledger.group_of(rollout)?;
        Some((rollout, self.work.rollouts.get(rollout as usize)?.planned(group)))
    }

    /// A batch that is there already may still be on its way to the disk: whoever asks waits for
    /// that too.
    fn consume(
        &mut self,
        myself: &ActorRef<Message>,
        step: u64,
        rollouts: Vec<u32>,
        reply: Consumed,
    ) {
        match self.work.ledger.consume(step, rollouts) {
            Ok(record) => {
                let entries = record.map(|record| Entry { record, details: None });
                let consumed = Some((step, reply));
                let follows = Follows { consumed, ..Follows::default() };
                self.commit(myself, Vec::new(), Vec::from_iter(entries), follows);
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// After a failure nobody knows what is on disk.
    fn tell_consumed(&self, consumed: Option<(u64, Consumed)>) {
        let Some((step, reply)) = consumed else { return };
        let written = match self.failed.clone() {
            None => Ok(()),
            Some(why) => Err(ConsumeError::NotWritten { step, why }),
        };
        drop(reply.send(written));
    }

    fn want(&self, rollout: u32) -> Want {
        let rollout = self.work.rollouts.get(rollout as usize);
        Want { image: rollout.map_or(0, |rollout| image_key(&rollout.task)) }
    }

    /// Dispatches what is on disk. An order whose node has gone meanwhile was never sent: it is
    /// lost with what the node has.
    fn committed(&mut self, myself: &ActorRef<Message>, follows: Follows) {
        self.commits_under_way -= 1;
        let mut stopped = Vec::new();
        for (node, order) in follows.orders {
            let fence = order.fence;
            if !self.placed.contains_key(&fence) {
                continue;
            }
            if self.killing {
                self.placed.remove(&fence);
                self.work.fleet.ended(&node, fence, Verdict::Neutral, now());
                stopped.extend(self.work.ledger.interrupt(order.rollout, fence));
            } else if let Some(worker) = self.workers.get(&node) {
                worker.assign(order);
            }
        }
        if let Some((node, fence)) = follows.forget
            && let Some(worker) = self.workers.get(&node)
        {
            worker.forget(fence);
        }
        for ended in follows.ended {
            if let Some(told) = &self.work.ended {
                // Fails only when nobody wants to know any more.
                let _ = told.send(ended);
            }
        }
        self.tell_consumed(follows.consumed);
        self.commit_records(myself, stopped);
    }

    /// Books the end of an attempt. Its slot is free at once, but nothing that follows happens
    /// before the commit.
    fn record(&mut self, myself: &ActorRef<Message>, from: &NodeId, mut record: AttemptRecord) {
        let AttemptRecord { rollout, attempt, fence, .. } = record;
        let known = self.placed.get(&fence);
        let is_known =
            known.is_some_and(|placed| placed.node == *from && placed.rollout == rollout);
        if !is_known && self.work.ledger.is_fenced() {
            tracing::warn!(rollout, attempt, fence, node = %from, "a stale record was refused");
            metrics::counter!("orcapack_stale_reports_total").increment(1);
            if let Some(worker) = self.workers.get(from) {
                worker.forget(fence);
            }
            return;
        }
        if let Outcome::InfrastructureFailure { class, message } = &record.outcome {
            tracing::warn!(rollout, attempt, %class, message, node = %from, "an attempt was lost");
        }
        self.placed.remove(&fence);
        self.work.fleet.ended(from, fence, Verdict::of(&record.outcome), now());
        let lapsed = matches!(&record.outcome, Outcome::InfrastructureFailure { class, .. }
            if *class == FailureClass::NodeLost);
        if lapsed {
            self.work.fleet.lapsed(from);
        }
        let interrupted = self.draining && lapsed;
        let records = if interrupted {
            self.work.ledger.interrupt(rollout, fence).map(|record| vec![record])
        } else {
            self.work.ledger.report(rollout, fence, record.outcome.clone(), now())
        };
        let records = match records {
            Ok(records) => records,
            Err(stale) => {
                tracing::error!(%stale, "what is placed and what runs disagree");
                return;
            }
        };
        self.count(&records);
        let files = self.work.folders.as_ref().map(|folders| folders.files(&mut record));
        let mut details = Some(record.details);
        let entry = |record| Entry { record, details: details.take() };
        let entries = records.into_iter().map(entry).collect();
        let forget = Some((from.clone(), fence));
        let follows = Follows { forget, ..Follows::default() };
        self.commit(myself, files.unwrap_or_default(), entries, follows);
    }

    fn commit_records(&mut self, myself: &ActorRef<Message>, records: Vec<Record>) {
        if !records.is_empty() {
            let entries = records.into_iter().map(|record| Entry { record, details: None });
            self.commit(myself, Vec::new(), entries.collect(), Follows::default());
        }
    }

    fn commit(
        &mut self,
        myself: &ActorRef<Message>,
        files: Vec<(PathBuf, Vec<u8>)>,
        entries: Vec<Entry>,
        mut follows: Follows,
    ) {
        let ended = || entries.iter().filter_map(|entry| entry.record.ended());
        // One that was cancelled while it was held is not in the ledger's plan yet.
        let cancelled = ended().filter(|ended| ended.attempt == 0);
        let planned = cancelled.filter_map(|ended| self.planned(ended.rollout)).collect();
        if self.work.ended.is_some() {
            follows.ended.extend(ended());
        }
        self.submit(myself, planned, files, entries, follows);
    }

    fn submit(
        &mut self,
        myself: &ActorRef<Message>,
        planned: Vec<(u32, PlannedRollout)>,
        files: Vec<(PathBuf, Vec<u8>)>,
        entries: Vec<Entry>,
        follows: Follows,
    ) {
        let coordinator = myself.clone();
        let then = Box::new(move |result: Result<(), String>| {
            let message = match result {
                Ok(()) => Message::Committed(follows),
                Err(error) => Message::CommitFailed(error, follows),
            };
            // Fails only when the coordinator has ended, and then nobody may dispatch.
            let _ = coordinator.cast(message);
        });
        self.commits_under_way += 1;
        self.work.store.submit(Job { files, planned, entries, then });
    }

    fn count(&self, records: &[Record]) {
        let mut ended = false;
        for record in records {
            if let Record::Terminal { rollout, attempt, outcome } = record {
                ended = true;
                tracing::info!(rollout, attempt, ?outcome, "ended");
                self.work.tally.count(outcome.reward());
            }
        }
        if !ended {
            self.work.tally.retries.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn tell_total(&self) {
        let total = self.work.ledger.total() as u64;
        self.work.tally.total.store(total, Ordering::Relaxed);
    }

    fn set_alarm(&mut self, myself: &ActorRef<Message>) {
        let ready = (self.work.ledger.running() < self.work.concurrent_max)
            .then(|| self.work.ledger.next_ready_at())
            .flatten();
        let Some(at) = ready.into_iter().chain(self.work.fleet.wake_at()).min() else { return };
        if self.alarm.is_none_or(|alarm| at < alarm) {
            self.alarm = Some(at);
            myself.send_after(at.saturating_duration_since(now()), || Message::LookAgain);
        }
    }

    fn tell_end(&mut self) {
        let idle = self.work.ledger.running() == 0 && self.commits_under_way == 0;
        let complete = self.work.ledger.is_complete();
        if !idle || !(complete || self.draining) {
            return;
        }
        let end = match &self.failed {
            Some(message) => RunEnd::Failed(message.clone()),
            None if complete => RunEnd::Complete,
            None => RunEnd::Drained,
        };
        for reply in self.waiting_for_end.drain(..) {
            drop(reply.send(end.clone()));
        }
        let remote = |worker: &Worker| matches!(worker, Worker::Remote(_));
        if !self.workers.values().any(remote)
            && !self.work.fleet.may_run_unseen()
            && let Some(reply) = self.finishing.take()
        {
            drop(reply.send(()));
        }
    }
}
