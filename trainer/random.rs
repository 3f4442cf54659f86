//! Random numbers by their place: the same seed and index give the same number on every machine.
//! [`splitmix`](orcapack_tasks::splitmix) as a function of a counter.

use orcapack_tasks::splitmix::{self, GOLDEN, mix};

/// The number at `index` of the stream of `seed`.
pub fn bits(seed: u64, index: u64) -> u64 {
    let seed = splitmix::next(seed);
    mix(seed.wrapping_add(index.wrapping_add(1).wrapping_mul(GOLDEN)))
}

/// In `0..n`, `n` above 0. Multiply and shift (Lemire 2019): off by at most n / 2^64.
pub fn below(seed: u64, index: u64, n: u64) -> u64 {
    ((u128::from(bits(seed, index)) * u128::from(n)) >> 64) as u64
}

/// `0..len` in the order of a seed (Fisher and Yates).
pub fn permutation(len: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    for last in (1..len).rev() {
        order.swap(last, below(seed, last as u64, last as u64 + 1) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_same_on_every_machine() {
        let first: Vec<u64> = (0..3).map(|index| bits(7, index)).collect();
        let expected = [0xb8b4_c297_7eab_ce45, 0xa653_05fd_338e_c8fe, 0x8ca3_cbb6_ca63_129b];
        assert_eq!(first, expected);
        assert_ne!(bits(7, 0), bits(8, 0));
    }

    #[test]
    fn a_permutation_has_each_index_once_and_depends_on_its_seed() {
        let order = permutation(100, 1);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
        assert_eq!(order, permutation(100, 1));
        assert_ne!(order, permutation(100, 2));
        assert_eq!(permutation(0, 1), Vec::<usize>::new());
    }
}
