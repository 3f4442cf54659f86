//! The pages of keys and values: which are used, which are kept for whoever begins alike.
//!
//! A page that is full never changes again, so sequences that begin with the same tokens share
//! its first pages. It is found by what was before it and by its own tokens, compared one by one:
//! there are no collisions. A page that nobody uses is kept until its room is needed; the one that
//! was given up first goes first.

use std::collections::{BTreeMap, HashMap};

use crate::engine::cache::PAGE_TOKENS;

/// A full page, and everything before it: never the same for two different beginnings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Prefix(u64);

impl Prefix {
    /// Of a sequence's first page: nothing is before it.
    pub const START: Self = Self(0);
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    before: Prefix,
    tokens: [u32; PAGE_TOKENS],
}

#[derive(Clone, Copy, Default)]
struct Page {
    users: usize,
    /// How it is found, once it is full.
    key: Option<Key>,
    /// When its last user left it.
    left_at: u64,
}

pub(crate) struct Pages {
    pages: Vec<Page>,
    /// Neither used nor kept; the lowest is taken first, so that memory is touched late.
    free: Vec<u32>,
    /// Unused, by when they were left.
    kept: BTreeMap<u64, u32>,
    found: HashMap<Key, (u32, Prefix)>,
    prefixes: u64,
    clock: u64,
}

impl Pages {
    pub fn new(count: usize) -> Self {
        Self {
            pages: vec![Page::default(); count],
            free: (0..count as u32).rev().collect(),
            kept: BTreeMap::new(),
            found: HashMap::new(),
            prefixes: 0,
            clock: 0,
        }
    }

    /// Pages that can be taken: free ones, and those that are kept.
    pub fn available(&self) -> usize {
        self.free.len() + self.kept.len()
    }

    /// Pages that hold keys and values.
    pub fn held(&self) -> usize {
        self.pages.len() - self.free.len()
    }

    pub fn is_used(&self, page: u32) -> bool {
        self.pages[page as usize].users > 0
    }

    /// The full page with `tokens` after `before`, and what it makes of the prefix.
    pub fn find(&self, before: Prefix, tokens: &[u32]) -> Option<(u32, Prefix)> {
        let tokens = tokens.try_into().ok()?;
        self.found.get(&Key { before, tokens }).copied()
    }

    /// One more uses a page that was found.
    pub fn share(&mut self, page: u32) {
        let state = &mut self.pages[page as usize];
        if state.users == 0 {
            self.kept.remove(&state.left_at);
        }
        state.users += 1;
    }

    /// A page for new tokens; the kept one that was left first is forgotten where none is free.
    pub fn take(&mut self) -> Option<u32> {
        let page = self.free.pop().or_else(|| self.forget_oldest())?;
        self.pages[page as usize] = Page { users: 1, ..Page::default() };
        Some(page)
    }

    /// From now on `page` is found as `tokens` after `before`. Where another page is that already,
    /// it stays so, and they continue alike.
    pub fn fill(&mut self, page: u32, before: Prefix, tokens: &[u32]) -> Option<Prefix> {
        let key = Key { before, tokens: tokens.try_into().ok()? };
        if let Some((_, prefix)) = self.found.get(&key) {
            return Some(*prefix);
        }
        self.prefixes += 1;
        let prefix = Prefix(self.prefixes);
        self.found.insert(key, (page, prefix));
        self.pages[page as usize].key = Some(key);
        Some(prefix)
    }

    /// A user gives its pages up: the last first, because those before it serve more others.
    pub fn give_up(&mut self, pages: &[u32]) {
        for page in pages.iter().rev() {
            let state = &mut self.pages[*page as usize];
            state.users -= 1;
            if state.users > 0 {
                continue;
            }
            if state.key.is_some() {
                self.clock += 1;
                state.left_at = self.clock;
                self.kept.insert(self.clock, *page);
            } else {
                self.free.push(*page);
            }
        }
    }

    /// No page is found any more; those in use stay with their users.
    pub fn forget(&mut self) {
        while let Some(page) = self.forget_oldest() {
            self.free.push(page);
        }
        self.found.clear();
        self.pages.iter_mut().for_each(|page| page.key = None);
    }

    fn forget_oldest(&mut self) -> Option<u32> {
        let (_, page) = self.kept.pop_first()?;
        if let Some(key) = self.pages[page as usize].key.take() {
            self.found.remove(&key);
        }
        Some(page)
    }
}
