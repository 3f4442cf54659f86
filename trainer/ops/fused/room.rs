//! Room for what the kernels write. All threads of the pool fill it: one alone would keep the
//! others waiting while it writes what they are about to write again.

use std::mem::MaybeUninit;

use rayon::prelude::*;

/// Values of a task: less is not worth another thread.
const BLOCK: usize = 64 << 10;

/// `len` zeros.
pub fn zeros(len: usize) -> Vec<f32> {
    filled(len, |block, _| {
        block.fill(MaybeUninit::new(0.0));
    })
}

/// The same values again.
pub fn copy_of(values: &[f32]) -> Vec<f32> {
    filled(values.len(), |block, from| {
        for (to, from) in block.iter_mut().zip(&values[from..]) {
            to.write(*from);
        }
    })
}

/// `fill` is given each block and where it begins, and writes all of it.
fn filled(len: usize, fill: impl Fn(&mut [MaybeUninit<f32>], usize) + Sync) -> Vec<f32> {
    let mut values = Vec::with_capacity(len);
    let blocks = values.spare_capacity_mut()[..len].par_chunks_mut(BLOCK).enumerate();
    blocks.for_each(|(index, block)| fill(block, index * BLOCK));
    // SAFETY: there is room for `len` values, and the two callers above write each of a block's.
    unsafe { values.set_len(len) };
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_written_whatever_their_number() {
        for len in [0, 1, BLOCK - 1, BLOCK, 3 * BLOCK + 7] {
            assert_eq!(zeros(len), vec![0.0; len]);
            let values: Vec<f32> = (0..len).map(|i| i as f32).collect();
            assert_eq!(copy_of(&values), values);
        }
    }
}
