//! Who is computed in the next step: a state machine without threads, clock or memory of its own.
//!
//! ```text
//! enqueue -> waiting -> plan: admitted, prompt in pieces, then one token a step -> ended
//!               \______________________ cancel ______________________/
//! ```
//!
//! - `EN-2`: a request that was taken ends exactly once: by [`Scheduler::advance`] or
//!   [`Scheduler::cancel`].
//! - `EN-3`: requests are admitted, and their prompts read, in the order in which they came. One
//!   is admitted when there is a slot and the pages of its longest answer are free for certain, so
//!   that it never waits again.
//! - `EN-4`: the pages in use never exceed those that there are.
//! - `EN-5`: what older weights computed is read only by the sequences that had it when the
//!   weights changed.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::engine::cache::PAGE_TOKENS;
use crate::engine::pages::{Pages, Prefix};
use crate::engine::request::EndReason;

pub(crate) type RequestId = u64;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub slots: usize,
    pub queue_max: usize,
    pub pages: usize,
    /// Of prompts, in one step; at least a page.
    pub prefill_tokens_max: usize,
}

pub(crate) struct Scheduler {
    limits: Limits,
    pages: Pages,
    waiting: VecDeque<Waiting>,
    /// In the order of their admission.
    running: Vec<Sequence>,
}

struct Waiting {
    id: RequestId,
    prompt: Arc<[u32]>,
    tokens_max: usize,
}

struct Sequence {
    id: RequestId,
    prompt_len: usize,
    /// Of the answer.
    tokens_max: usize,
    /// Prompt and answer.
    tokens: Vec<u32>,
    /// Tokens whose keys and values are there, from the first on.
    computed: usize,
    /// Tokens of the prompt that were there already.
    cached: usize,
    pages: Vec<u32>,
    /// Of its full pages; `None` where nobody else may read them.
    prefix: Option<Prefix>,
}

/// What is computed of one sequence in a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    pub id: RequestId,
    pub tokens: Vec<u32>,
    /// Of the first of them.
    pub position: usize,
    /// Of the sequence, up to the last of them.
    pub pages: Vec<u32>,
    /// Where a token is sampled after them: what there is to tell of the prompt, at its end.
    pub samples: Option<Sampling>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sampling {
    /// The first token of the answer.
    First {
        cached_tokens: usize,
    },
    Next,
}

impl Scheduler {
    pub fn new(limits: Limits) -> Self {
        let pages = Pages::new(limits.pages);
        Self { limits, pages, waiting: VecDeque::new(), running: Vec::new() }
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Tokens that there is memory in use for, by running sequences or kept for later ones.
    pub fn held_tokens(&self) -> usize {
        self.pages.held() * PAGE_TOKENS
    }

    /// Whether there is room in the queue. `prompt` and `tokens_max` together fit into the pages,
    /// and each is at least 1: the caller has checked that.
    #[must_use]
    pub fn enqueue(&mut self, id: RequestId, prompt: Arc<[u32]>, tokens_max: usize) -> bool {
        let has_room = self.waiting.len() < self.limits.queue_max;
        if has_room {
            self.waiting.push_back(Waiting { id, prompt, tokens_max });
        }
        has_room
    }

    /// Ends a request, wherever it is; whether it was there.
    pub fn cancel(&mut self, id: RequestId) -> bool {
        if let Some(index) = self.waiting.iter().position(|request| request.id == id) {
            return self.waiting.remove(index).is_some();
        }
        let index = self.running.iter().position(|sequence| sequence.id == id);
        index.map(|index| self.end(index)).is_some()
    }

    /// Admits who can be admitted, and says what the next step computes; empty where there is
    /// nothing to do. The step is taken as done: its pages count as full from now on.
    pub fn plan(&mut self) -> Vec<Planned> {
        while self.running.len() < self.limits.slots && self.admit_first() {}
        let mut prefill_left = self.limits.prefill_tokens_max;
        let mut plan = Vec::new();
        for sequence in &mut self.running {
            let is_prompt = sequence.tokens.len() == sequence.prompt_len;
            let count = if is_prompt {
                sequence.share_prompt(&mut self.pages);
                sequence.next_of_prompt(prefill_left)
            } else {
                1
            };
            if is_prompt {
                // Whoever comes after one whose prompt is cut waits for it.
                let is_cut = sequence.computed + count < sequence.prompt_len;
                prefill_left = if is_cut { 0 } else { prefill_left - count };
            }
            if count == 0 {
                continue;
            }
            plan.extend(sequence.compute(count, &mut self.pages));
        }
        plan
    }

    /// Adds the token that was sampled for `id`; whether the request has ended with it, for
    /// `reason` or because its answer is as long as it may be.
    pub fn advance(
        &mut self,
        id: RequestId,
        token: u32,
        reason: Option<EndReason>,
    ) -> Option<EndReason> {
        let index = self.running.iter().position(|sequence| sequence.id == id)?;
        let sequence = &mut self.running[index];
        sequence.tokens.push(token);
        let is_full = sequence.tokens.len() - sequence.prompt_len >= sequence.tokens_max;
        let reason = reason.or(is_full.then_some(EndReason::Length));
        if reason.is_some() {
            self.end(index);
        }
        reason
    }

    /// The weights have changed: nothing that was computed so far is given to anyone else.
    pub fn forget_prefixes(&mut self) {
        self.pages.forget();
        self.running.iter_mut().for_each(|sequence| sequence.prefix = None);
    }

    fn end(&mut self, index: usize) {
        let sequence = self.running.remove(index);
        self.pages.give_up(&sequence.pages);
    }

    /// Admits the first in the queue, where there is one and room for it.
    fn admit_first(&mut self) -> bool {
        let Some(first) = self.waiting.front() else { return false };
        let found = self.find_prefix(&first.prompt);
        // What is in use already takes no room; what is kept becomes one that is used.
        let in_use = found.iter().filter(|page| self.pages.is_used(**page)).count();
        let needed = pages_of(first.prompt.len() + first.tokens_max) - in_use;
        let promised: usize = self.running.iter().map(Sequence::promised).sum();
        if self.pages.available() < promised + needed {
            return false;
        }
        let Some(first) = self.waiting.pop_front() else { return false };
        let mut sequence = Sequence {
            id: first.id,
            prompt_len: first.prompt.len(),
            tokens_max: first.tokens_max,
            tokens: first.prompt.to_vec(),
            computed: 0,
            cached: 0,
            pages: Vec::new(),
            prefix: Some(Prefix::START),
        };
        sequence.share_prompt(&mut self.pages);
        self.running.push(sequence);
        true
    }

    /// The full pages of others that `prompt` begins with, but for its last token.
    fn find_prefix(&self, prompt: &[u32]) -> Vec<u32> {
        let pages = prompt[..prompt.len() - 1].chunks_exact(PAGE_TOKENS);
        let found = pages.scan(Prefix::START, |prefix, tokens| {
            let (page, next) = self.pages.find(*prefix, tokens)?;
            *prefix = next;
            Some(page)
        });
        found.collect()
    }
}

impl Sequence {
    /// Pages that it may still take.
    fn promised(&self) -> usize {
        pages_of(self.prompt_len + self.tokens_max) - self.pages.len()
    }

    /// Goes on in its prompt over pages that are there already, but for its last token: something
    /// must be computed to be sampled from.
    fn share_prompt(&mut self, pages: &mut Pages) {
        while self.computed + PAGE_TOKENS < self.prompt_len
            && let Some(prefix) = self.prefix
            && let tokens = &self.tokens[self.computed..self.computed + PAGE_TOKENS]
            && let Some((page, prefix)) = pages.find(prefix, tokens)
        {
            pages.share(page);
            self.pages.push(page);
            self.prefix = Some(prefix);
            self.computed += PAGE_TOKENS;
            self.cached += PAGE_TOKENS;
        }
    }

    /// How much of the prompt is computed next, of at most `most` tokens: to its end, or whole
    /// pages, so that another's pages can be read from there on.
    fn next_of_prompt(&self, most: usize) -> usize {
        let left = self.prompt_len - self.computed;
        if left <= most { left } else { most - most % PAGE_TOKENS }
    }

    /// `None` where there is no page for it, which [`Scheduler::admit_first`] has ruled out.
    fn compute(&mut self, count: usize, pages: &mut Pages) -> Option<Planned> {
        let from = self.computed;
        let end = from + count;
        while self.pages.len() < pages_of(end) {
            self.pages.push(pages.take()?);
        }
        self.computed = end;
        for page in from / PAGE_TOKENS..end / PAGE_TOKENS {
            let tokens = &self.tokens[page * PAGE_TOKENS..][..PAGE_TOKENS];
            self.prefix =
                self.prefix.and_then(|prefix| pages.fill(self.pages[page], prefix, tokens));
        }
        let is_first = self.tokens.len() == self.prompt_len;
        let cached_tokens = self.cached;
        let sampling = if is_first { Sampling::First { cached_tokens } } else { Sampling::Next };
        Some(Planned {
            id: self.id,
            tokens: self.tokens[from..end].to_vec(),
            position: from,
            pages: self.pages.clone(),
            samples: (end == self.tokens.len()).then_some(sampling),
        })
    }
}

fn pages_of(tokens: usize) -> usize {
    tokens.div_ceil(PAGE_TOKENS)
}

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;
