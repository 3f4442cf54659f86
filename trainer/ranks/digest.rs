//! A fast digest of numbers, by which replicas are compared. It finds chance differences; it is no
//! defence against anyone.

use orcapack_tasks::splitmix::{GOLDEN, mix};

const LANES: usize = 4;

/// Takes in slices, one after the other; their bounds matter.
#[derive(Clone, Debug)]
pub struct Digest {
    lanes: [u64; LANES],
}

impl Default for Digest {
    fn default() -> Self {
        Self { lanes: [1, 2, 3, 4].map(|lane: u64| mix(lane.wrapping_mul(GOLDEN))) }
    }
}

impl Digest {
    pub fn add(&mut self, values: &[f32]) {
        let word = |pair: &[f32]| {
            let [low, high] = [0, 1].map(|at| pair.get(at).map_or(0, |it| u64::from(it.to_bits())));
            low | high << 32
        };
        let (blocks, rest) = values.as_chunks::<{ 2 * LANES }>();
        for block in blocks {
            for (lane, pair) in self.lanes.iter_mut().zip(block.chunks_exact(2)) {
                *lane = turn(*lane, word(pair));
            }
        }
        for (lane, pair) in self.lanes.iter_mut().zip(rest.chunks(2)) {
            *lane = turn(*lane, word(pair));
        }
        self.lanes[0] = turn(self.lanes[0], values.len() as u64);
    }

    pub fn end(&self) -> u64 {
        self.lanes.iter().fold(0, |all, lane| mix(all.rotate_left(17) ^ lane))
    }
}

/// A bijection of the lane for every word, so that one difference is never lost.
fn turn(lane: u64, word: u64) -> u64 {
    let product = (lane ^ word).wrapping_mul(GOLDEN);
    // The highest bits must reach the lower ones, or the next word could undo their change.
    product ^ product >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(slices: &[&[f32]]) -> u64 {
        let mut digest = Digest::default();
        slices.iter().for_each(|values| digest.add(values));
        digest.end()
    }

    #[test]
    fn every_bit_every_place_and_every_bound_matters() {
        let values: Vec<f32> = (0..27).map(|at| at as f32).collect();
        let mut seen = vec![of(&[&values])];
        for at in 0..values.len() {
            for bit in 0..32 {
                let mut other = values.clone();
                other[at] = f32::from_bits(other[at].to_bits() ^ 1 << bit);
                seen.push(of(&[&other]));
            }
        }
        let mut swapped = values.clone();
        swapped.swap(3, 11);
        seen.extend([of(&[&swapped]), of(&[&values[..26]]), of(&[&values[..9], &values[9..]])]);
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), count);
        assert_eq!(of(&[&values]), of(&[&values.clone()]));
    }
}
