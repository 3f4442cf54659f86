//! Numbers that follow from a key and a counter alone, on every machine and in every version.

use std::ops::RangeInclusive;

use crate::splitmix::{self, GOLDEN};

/// A sequence of numbers: the n-th is a hash of the key and n (splitmix64's output function).
#[derive(Clone, Debug)]
pub struct Random {
    key: u64,
    counter: u64,
}

impl Random {
    /// The key is a hash of all of these.
    pub fn new(words: &[&str], number: u64) -> Self {
        let of_word = |key: u64, word: &&str| {
            let length = splitmix::next(key ^ word.len() as u64);
            word.bytes().fold(length, |key, byte| splitmix::next(key ^ u64::from(byte)))
        };
        Self { key: splitmix::next(words.iter().fold(0, of_word) ^ number), counter: 0 }
    }

    fn draw(&mut self) -> u64 {
        self.counter += 1;
        splitmix::next(self.key.wrapping_add(self.counter.wrapping_mul(GOLDEN)))
    }

    /// 0 to `count`, without it; 0 where that is 0. Bounds here are small, so that the bias of a
    /// remainder is below 2^-32.
    pub fn below(&mut self, count: u64) -> u64 {
        self.draw().checked_rem(count).unwrap_or(0)
    }

    /// One of them.
    ///
    /// # Panics
    /// Without any.
    pub fn pick<'a, T>(&mut self, some: &'a [T]) -> &'a T {
        &some[self.below(some.len() as u64) as usize]
    }

    /// A number of the range.
    pub fn within(&mut self, range: RangeInclusive<usize>) -> usize {
        range.start() + self.below((range.end() - range.start() + 1) as u64) as usize
    }

    /// So many of them, each another, in any order.
    ///
    /// # Panics
    /// Where there are fewer.
    pub fn some<T: Clone>(&mut self, of: &[T], count: usize) -> Vec<T> {
        let mut left = of.to_vec();
        (0..count).map(|_| left.swap_remove(self.below(left.len() as u64) as usize)).collect()
    }

    /// All of them, in any order.
    pub fn shuffled<T: Clone>(&mut self, of: &[T]) -> Vec<T> {
        self.some(of, of.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another value would make other tasks of the same seed.
    #[test]
    fn the_numbers_of_a_key_are_pinned() {
        let mut random = Random::new(&["files", "copy"], 7);
        assert_eq!([(); 4].map(|()| random.below(1000)), [529, 81, 5, 323]);
    }

    #[test]
    fn words_do_not_run_into_each_other() {
        let first = |words: &[&str]| Random::new(words, 0).draw();
        assert_ne!(first(&["ab", "c"]), first(&["a", "bc"]));
        assert_ne!(first(&["ab"]), first(&["ab", ""]));
    }
}
