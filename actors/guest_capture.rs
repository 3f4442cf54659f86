//! A bounded record of an output stream: its first half, its last half, and a count of what lay
//! between.

use std::collections::VecDeque;

pub struct Capture {
    head_max: usize,
    tail_max: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    cut_bytes: u64,
}

impl Capture {
    pub fn new(bytes_max: usize) -> Self {
        let head_max = bytes_max / 2;
        Self {
            head_max,
            tail_max: bytes_max - head_max,
            head: Vec::new(),
            tail: VecDeque::new(),
            cut_bytes: 0,
        }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        let room = (self.head_max - self.head.len()).min(bytes.len());
        let (head, rest) = bytes.split_at(room);
        self.head.extend_from_slice(head);
        let skipped = rest.len().saturating_sub(self.tail_max);
        let (skip, tail) = rest.split_at(skipped);
        let excess = (self.tail.len() + tail.len()).saturating_sub(self.tail_max);
        self.tail.drain(..excess);
        self.tail.extend(tail);
        self.cut_bytes += (skip.len() + excess) as u64;
    }

    pub fn len(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// Head, tail and the number of bytes between; the tail is empty when that is 0.
    pub fn parts(&self) -> (Vec<u8>, Vec<u8>, u64) {
        let (mut head, tail) = (self.head.clone(), self.tail.iter().copied());
        if self.cut_bytes > 0 {
            return (head, tail.collect(), self.cut_bytes);
        }
        head.extend(tail);
        (head, Vec::new(), 0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Capture;

    proptest! {
        #[test]
        fn head_cut_and_tail_are_the_whole_stream(
            bytes_max in 0..40_usize,
            writes in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 0..10),
        ) {
            let mut capture = Capture::new(bytes_max);
            writes.iter().for_each(|bytes| capture.push(bytes));
            let whole = writes.concat();
            let (head, tail, cut) = capture.parts();
            prop_assert!(whole.starts_with(&head));
            prop_assert!(whole.ends_with(&tail));
            prop_assert_eq!(whole.len() as u64, head.len() as u64 + cut + tail.len() as u64);
            prop_assert_eq!(cut, whole.len().saturating_sub(bytes_max) as u64);
        }
    }
}
