use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const PAGE: usize = PAGE_TOKENS;
const LIMITS: Limits = Limits { slots: 3, queue_max: 6, pages: 12, prefill_tokens_max: 2 * PAGE };

/// A token with all that was before it, and the versions of the weights that computed it.
type Written = (Vec<u32>, BTreeSet<u64>);

/// A scheduler over pages that know what was written to them.
struct Driver {
    scheduler: Scheduler,
    pages: Vec<Vec<Option<Written>>>,
    version: u64,
    taken: RequestId,
    /// That wait or run.
    live: BTreeMap<RequestId, Live>,
    ended: BTreeMap<RequestId, Option<EndReason>>,
    /// In the order in which their first pieces were planned.
    started: Vec<RequestId>,
    cached_tokens: BTreeMap<RequestId, usize>,
}

struct Live {
    tokens: Vec<u32>,
    prompt_len: usize,
    tokens_max: usize,
    /// Of the weights at that time.
    admitted: Option<u64>,
}

impl Driver {
    fn new() -> Self {
        Self {
            scheduler: Scheduler::new(LIMITS),
            pages: vec![vec![None; PAGE]; LIMITS.pages],
            version: 1,
            taken: 0,
            live: BTreeMap::new(),
            ended: BTreeMap::new(),
            started: Vec::new(),
            cached_tokens: BTreeMap::new(),
        }
    }

    fn ask(&mut self, prompt: Vec<u32>, tokens_max: usize) -> Option<RequestId> {
        let id = self.taken + 1;
        let had_room = self.scheduler.waiting() < LIMITS.queue_max;
        let is_taken = self.scheduler.enqueue(id, prompt.as_slice().into(), tokens_max);
        assert_eq!(is_taken, had_room);
        let prompt_len = prompt.len();
        let live = Live { tokens: prompt, prompt_len, tokens_max, admitted: None };
        is_taken.then(|| {
            self.taken = id;
            self.live.insert(id, live);
            id
        })
    }

    fn cancel(&mut self, id: RequestId) {
        assert_eq!(self.scheduler.cancel(id), self.live.remove(&id).is_some());
        self.ended.entry(id).or_insert(None);
    }

    fn swap(&mut self) {
        self.version += 1;
        self.scheduler.forget_prefixes();
    }

    /// One step; every token that it samples is what `sample` makes of the sequence.
    fn step(&mut self, sample: impl Fn(&[u32]) -> (u32, Option<EndReason>)) -> Vec<Planned> {
        let plan = self.scheduler.plan();
        for sequence in &self.scheduler.running {
            let live = self.live.get_mut(&sequence.id).expect("what has ended does not run");
            live.admitted.get_or_insert(self.version);
        }
        plan.iter().for_each(|planned| self.write(planned));
        plan.iter().for_each(|planned| self.check_reads(planned));
        let prompts = plan.iter().filter(|planned| planned.samples != Some(Sampling::Next));
        let prompts: usize = prompts.map(|planned| planned.tokens.len()).sum();
        assert!(prompts <= LIMITS.prefill_tokens_max, "{prompts} tokens of prompts in a step");
        for planned in plan.iter().filter(|planned| planned.samples.is_some()) {
            self.sampled(planned, &sample);
        }
        self.check_bounds();
        plan
    }

    fn write(&mut self, planned: &Planned) {
        let live = &self.live[&planned.id];
        if !self.started.contains(&planned.id) {
            self.started.push(planned.id);
        }
        for (index, token) in planned.tokens.iter().enumerate() {
            let position = planned.position + index;
            assert_eq!(live.tokens[position], *token);
            let (page, offset) = (planned.pages[position / PAGE] as usize, position % PAGE);
            let before = live.tokens[..=position].to_vec();
            let place = &mut self.pages[page][offset];
            *place = Some((before, BTreeSet::from([self.version])));
        }
    }

    /// What is read is the sequence itself, computed by weights that it may read from.
    fn check_reads(&self, planned: &Planned) {
        let live = &self.live[&planned.id];
        let admitted = live.admitted.expect("it runs");
        let end = planned.position + planned.tokens.len();
        assert_eq!(planned.pages.len(), end.div_ceil(PAGE));
        for position in 0..end {
            let (page, offset) = (planned.pages[position / PAGE] as usize, position % PAGE);
            let (before, versions) = self.pages[page][offset].as_ref().expect("was computed");
            assert_eq!(before, &live.tokens[..=position], "another sequence's keys and values");
            assert!(versions.iter().all(|version| *version >= admitted), "of older weights");
        }
    }

    fn sampled(&mut self, planned: &Planned, sample: &impl Fn(&[u32]) -> (u32, Option<EndReason>)) {
        if let Some(Sampling::First { cached_tokens }) = planned.samples {
            assert!(self.cached_tokens.insert(planned.id, cached_tokens).is_none());
        }
        let live = self.live.get_mut(&planned.id).expect("is computed");
        let (token, reason) = sample(&live.tokens);
        live.tokens.push(token);
        let is_full = live.tokens.len() - live.prompt_len == live.tokens_max;
        let expected = reason.or(is_full.then_some(EndReason::Length));
        let ended = self.scheduler.advance(planned.id, token, reason);
        assert_eq!(ended, expected);
        if ended.is_some() {
            self.live.remove(&planned.id);
            assert!(self.ended.insert(planned.id, ended).is_none(), "ended twice");
        }
    }

    fn check_bounds(&self) {
        let scheduler = &self.scheduler;
        assert!(scheduler.running() <= LIMITS.slots && scheduler.waiting() <= LIMITS.queue_max);
        assert_eq!(scheduler.running() + scheduler.waiting(), self.live.len());
        assert!(scheduler.held_tokens() <= LIMITS.pages * PAGE);
        // EN-3: what was promised is there.
        let promised: usize = scheduler.running.iter().map(Sequence::promised).sum();
        assert!(promised <= scheduler.pages.available());
        // Every page has as many users as there are sequences with it.
        for page in 0..LIMITS.pages as u32 {
            let users = scheduler.running.iter().filter(|each| each.pages.contains(&page));
            assert_eq!(users.count() > 0, scheduler.pages.is_used(page));
        }
    }

    fn finish(&mut self) {
        for _ in 0..10_000 {
            if self.step(|tokens| (tokens.len() as u32 % 5, None)).is_empty() {
                break;
            }
        }
        assert!(self.live.is_empty(), "waits for ever");
        assert_eq!(self.scheduler.pages.available(), LIMITS.pages);
        assert_eq!(self.ended.len() as u64, self.taken, "EN-2");
        assert!(self.started.is_sorted(), "EN-3: {:?}", self.started);
    }
}

fn prompt(tokens: usize, seed: u32) -> Vec<u32> {
    (0..tokens as u32).map(|i| i * 7 + seed).collect()
}

fn never(tokens: &[u32]) -> (u32, Option<EndReason>) {
    (tokens.len() as u32, None)
}

#[test]
fn a_long_prompt_does_not_stall_a_running_answer() {
    let mut driver = Driver::new();
    let first = driver.ask(prompt(3, 0), 8).unwrap();
    driver.step(never);
    let second = driver.ask(prompt(5 * PAGE + 3, 1), 1).unwrap();
    for pages in [2, 2] {
        let plan = driver.step(never);
        assert_eq!((plan[0].id, plan[0].tokens.len()), (first, 1));
        assert_eq!((plan[1].id, plan[1].tokens.len()), (second, pages * PAGE));
        assert_eq!(plan[1].samples, None);
    }
    let plan = driver.step(never);
    assert_eq!(plan[1].tokens.len(), PAGE + 3);
    assert_eq!(plan[1].samples, Some(Sampling::First { cached_tokens: 0 }));
    driver.finish();
}

#[test]
fn a_group_with_one_prompt_computes_it_once() {
    let mut driver = Driver::new();
    let ids = [0, 1, 2].map(|_| driver.ask(prompt(2 * PAGE + 5, 0), 4).unwrap());
    let plan = driver.step(never);
    let tokens: usize = plan.iter().map(|planned| planned.tokens.len()).sum();
    assert_eq!(tokens, 2 * PAGE, "the first computes what all begin with");
    let plan = driver.step(never);
    assert_eq!(plan.iter().map(|planned| planned.tokens.len()).collect::<Vec<_>>(), [5, 5, 5]);
    assert_eq!(ids.map(|id| driver.cached_tokens[&id]), [0, 2 * PAGE, 2 * PAGE]);
    assert_eq!(driver.scheduler.held_tokens(), 5 * PAGE, "two pages for all, one for each");
    driver.finish();
}

#[test]
fn a_conversation_goes_on_where_it_was() {
    let mut driver = Driver::new();
    let first = driver.ask(prompt(PAGE, 0), PAGE + 2).unwrap();
    driver.finish();
    assert_eq!(driver.ended[&first], Some(EndReason::Length));
    let mut longer = prompt(PAGE, 0);
    longer.extend((PAGE..2 * PAGE + 2).map(|len| len as u32 % 5));
    longer.extend([1, 2, 3]);
    let second = driver.ask(longer, 2).unwrap();
    driver.finish();
    assert_eq!(driver.cached_tokens[&second], 2 * PAGE);
}

#[test]
fn the_last_token_of_a_prompt_is_always_computed() {
    let mut driver = Driver::new();
    driver.ask(prompt(2 * PAGE, 0), 1).unwrap();
    driver.finish();
    let second = driver.ask(prompt(2 * PAGE, 0), 1).unwrap();
    driver.finish();
    assert_eq!(driver.cached_tokens[&second], PAGE);
}

#[test]
fn what_older_weights_computed_is_not_read_again() {
    let mut driver = Driver::new();
    driver.ask(prompt(2 * PAGE + 1, 0), 2 * PAGE).unwrap();
    driver.step(never);
    driver.step(never);
    driver.swap();
    let second = driver.ask(prompt(2 * PAGE + 1, 0), 1).unwrap();
    driver.finish();
    assert_eq!(driver.cached_tokens[&second], 0);
    let third = driver.ask(prompt(2 * PAGE + 1, 0), 1).unwrap();
    driver.finish();
    assert_eq!(driver.cached_tokens[&third], 2 * PAGE);
}

#[test]
fn what_was_left_first_is_forgotten_first() {
    let mut driver = Driver::new();
    for seed in 0..3 {
        driver.ask(prompt(4 * PAGE - 1, seed), 1).unwrap();
        driver.finish();
    }
    // 9 of 12 pages are kept; 6 more take the 3 free ones, and those of the first.
    driver.ask(prompt(6 * PAGE - 1, 9), 1).unwrap();
    driver.finish();
    for (seed, cached) in [(1, 3 * PAGE), (2, 3 * PAGE), (0, 0)] {
        let id = driver.ask(prompt(4 * PAGE - 1, seed), 1).unwrap();
        driver.finish();
        assert_eq!(driver.cached_tokens[&id], cached, "of {seed}");
    }
}

#[test]
fn a_small_request_does_not_overtake_a_large_one() {
    let mut driver = Driver::new();
    let first = driver.ask(prompt(4 * PAGE, 0), 4 * PAGE).unwrap();
    let large = driver.ask(prompt(8 * PAGE, 1), PAGE).unwrap();
    let small = driver.ask(prompt(1, 2), 1).unwrap();
    driver.step(never);
    assert_eq!(driver.started, [first]);
    driver.cancel(first);
    driver.finish();
    assert_eq!(driver.started, [first, large, small]);
}

#[derive(Clone, Debug)]
enum Act {
    Ask { beginning: u32, tokens: usize, own: u32, tokens_max: usize },
    Cancel(u64),
    Swap,
    Step { stops_at: u32 },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0_u32..3, 1_usize..80, 0_u32..3, 1_usize..60).prop_map(
            |(beginning, tokens, own, tokens_max)| Act::Ask { beginning, tokens, own, tokens_max }
        ),
        1 => (0_u64..40).prop_map(Act::Cancel),
        1 => Just(Act::Swap),
        12 => (3_u32..30).prop_map(|stops_at| Act::Step { stops_at }),
    ]
}

proptest! {
    /// EN-2 to EN-5; the driver holds them at every step.
    #[test]
    fn requests_end_once_within_bounds_and_read_only_themselves(
        acts in prop::collection::vec(act(), 1..120),
    ) {
        let mut driver = Driver::new();
        for act in acts {
            match act {
                Act::Ask { beginning, tokens, own, tokens_max } => {
                    // Prompts that are alike up to some place, and their like.
                    let mut prompt = prompt(tokens, beginning);
                    prompt.extend([own, own]);
                    driver.ask(prompt, tokens_max);
                }
                Act::Cancel(id) if driver.live.contains_key(&id) => driver.cancel(id),
                Act::Cancel(_) => {}
                Act::Swap => driver.swap(),
                Act::Step { stops_at } => {
                    driver.step(|tokens| {
                        let token = tokens.len() as u32 * 7 % 31;
                        (token, (token == stops_at).then_some(EndReason::StopToken))
                    });
                }
            }
        }
        driver.finish();
    }
}
