//! Gradients of a whole step, on the host, in buckets: what ranks sum at a time. The bounds of the
//! buckets are a function of the weights alone. Pure but for the tensors that are read.
//!
//! Gradients come in groups, from the head to the embedding. A bucket has the gradients of one
//! group, or of as many as it takes to fill it, and is final with the last of them.

use std::ops::Range;

use candle_core::Tensor;

use crate::collective::part;
use crate::model::step::StepError;
use crate::ops::composed::with_host;

/// Where each weight's gradient is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    names: Vec<String>,
    /// Of each weight, in the order of their indices.
    slots: Vec<Slot>,
    /// Elements of each bucket.
    lens: Vec<usize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Slot {
    bucket: usize,
    start: usize,
    len: usize,
}

impl Layout {
    /// Of weights with their names and numbers of elements; `groups` are their indices, as their
    /// gradients come. A bucket is closed where it has `bucket_bytes` of f32 or more.
    pub fn new(weights: Vec<(String, usize)>, groups: &[Vec<usize>], bucket_bytes: usize) -> Self {
        let mut slots = vec![Slot::default(); weights.len()];
        let mut lens = Vec::new();
        let mut filled = 0;
        for group in groups {
            for &index in group {
                let len = weights[index].1;
                slots[index] = Slot { bucket: lens.len(), start: filled, len };
                filled += len;
            }
            if filled * size_of::<f32>() >= bucket_bytes.max(1) {
                lens.push(std::mem::take(&mut filled));
            }
        }
        if filled > 0 {
            lens.push(filled);
        }
        Self { names: weights.into_iter().map(|(name, _)| name).collect(), slots, lens }
    }

    /// Elements of each bucket.
    pub fn lens(&self) -> &[usize] {
        &self.lens
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Each weight's elements in the buckets.
    pub fn weights<'b>(&self, buckets: &'b [Vec<f32>]) -> Vec<&'b [f32]> {
        let slots = self.slots.iter();
        slots.map(|slot| &buckets[slot.bucket][slot.start..slot.start + slot.len]).collect()
    }

    /// Of each weight, the elements that are `rank`'s: what of it lies in the rank's part of its
    /// bucket.
    pub fn parts(&self, rank: usize, world_size: usize) -> Vec<Range<usize>> {
        let own = self.slots.iter().map(|slot| {
            let part = part(self.lens[slot.bucket], rank, world_size);
            let within = |at: usize| at.clamp(slot.start, slot.start + slot.len) - slot.start;
            within(part.start)..within(part.end)
        });
        own.collect()
    }

    /// Puts `values`, of one weight's elements in `range`, where they belong.
    pub fn put(&self, buckets: &mut [Vec<f32>], index: usize, range: Range<usize>, values: &[f32]) {
        let Slot { bucket, start, .. } = self.slots[index];
        buckets[bucket][start + range.start..start + range.end].copy_from_slice(values);
    }
}

/// The gradients of a rank's own samples, as they come.
pub struct Filling<'l> {
    layout: &'l Layout,
    buckets: Vec<Vec<f32>>,
    /// Whether a weight has had any gradient, and one of the last pass.
    had: Vec<bool>,
    last: Vec<bool>,
    /// Of the last pass, weights that each bucket waits for.
    missing: Vec<usize>,
}

impl<'l> Filling<'l> {
    /// Zeros.
    pub fn new(layout: &'l Layout) -> Self {
        let weights = layout.slots.len();
        let mut missing = vec![0; layout.lens.len()];
        layout.slots.iter().for_each(|slot| missing[slot.bucket] += 1);
        Self {
            buckets: layout.lens.iter().map(|len| vec![0.0; *len]).collect(),
            had: vec![false; weights],
            last: vec![false; weights],
            missing,
            layout,
        }
    }

    /// Adds the gradients of one group. Gives the buckets that are final by it: in the last pass,
    /// in their order.
    ///
    /// # Errors
    /// A gradient of another size, or one too many; the device's.
    pub fn add(
        &mut self,
        gradients: &[(usize, Tensor)],
        is_last: bool,
    ) -> Result<Vec<(usize, Vec<f32>)>, StepError> {
        let mut done = Vec::new();
        for (index, gradient) in gradients {
            let Slot { bucket, start, len } = self.layout.slots[*index];
            let name = &self.layout.names[*index];
            let sums = self.buckets[bucket].get_mut(start..start + len);
            let Some(sums) = sums.filter(|sums| sums.len() == gradient.elem_count()) else {
                return Err(StepError::Batch(format!("{name}: a gradient of another shape")));
            };
            let had = std::mem::replace(&mut self.had[*index], true);
            with_host(gradient, |values| match had {
                false => sums.copy_from_slice(values),
                true => sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value),
            })?;
            if is_last && !std::mem::replace(&mut self.last[*index], true) {
                self.missing[bucket] -= 1;
                if self.missing[bucket] == 0 {
                    done.push((bucket, std::mem::take(&mut self.buckets[bucket])));
                }
            }
        }
        Ok(done)
    }

    /// All buckets of a rank that has nothing to add.
    pub fn zeros(self) -> Vec<(usize, Vec<f32>)> {
        self.buckets.into_iter().enumerate().collect()
    }

    /// After the last pass.
    ///
    /// # Errors
    /// A weight that has had no gradient: it would not be trained, and nobody would see it.
    pub fn end(&self) -> Result<(), StepError> {
        match self.last.iter().position(|had| !had) {
            None => Ok(()),
            Some(index) => Err(StepError::MissingGradient(self.layout.names[index].clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn layout(bucket_bytes: usize) -> Layout {
        let weights = [("e", 10), ("a", 2), ("b", 3), ("n", 1)];
        let weights = weights.map(|(name, len)| (name.to_owned(), len)).to_vec();
        Layout::new(weights, &[vec![3], vec![1, 2], vec![0]], bucket_bytes)
    }

    fn tensor(values: &[f32]) -> Tensor {
        Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap()
    }

    #[test]
    fn small_groups_share_a_bucket_and_large_ones_have_their_own() {
        assert_eq!(layout(1).lens(), [1, 5, 10]);
        assert_eq!(layout(20).lens(), [6, 10]);
        assert_eq!(layout(1 << 20).lens(), [16]);
    }

    #[test]
    fn a_bucket_is_final_with_the_last_gradient_of_the_last_pass() {
        let layout = layout(20);
        let mut filling = Filling::new(&layout);
        for is_last in [false, true] {
            assert_eq!(filling.add(&[(3, tensor(&[1.0]))], is_last).unwrap(), []);
            let both = [(1, tensor(&[2.0, 3.0])), (2, tensor(&[4.0; 3]))];
            let done = filling.add(&both, is_last).unwrap();
            let expected = vec![2.0, 4.0, 6.0, 8.0, 8.0, 8.0];
            assert_eq!(done, if is_last { vec![(0, expected)] } else { vec![] });
        }
        let missing = filling.end().unwrap_err().to_string();
        assert_eq!(missing, "e has no gradient");
        let done = filling.add(&[(0, tensor(&[5.0; 10]))], true).unwrap();
        assert_eq!(done, [(1, vec![5.0; 10])]);
        filling.end().unwrap();
        let short = Filling::new(&layout).add(&[(0, tensor(&[5.0; 9]))], true).unwrap_err();
        assert!(short.to_string().contains("e: a gradient of another shape"), "{short}");
    }

    #[test]
    fn the_parts_of_all_ranks_are_every_element_once() {
        for bucket_bytes in [1, 20, 1 << 20] {
            for world_size in 1..6 {
                let layout = layout(bucket_bytes);
                let mut ends = vec![0; layout.names().len()];
                for rank in 0..world_size {
                    for (end, part) in ends.iter_mut().zip(layout.parts(rank, world_size)) {
                        assert!(part.is_empty() || part.start == *end);
                        *end += part.len();
                    }
                }
                assert_eq!(ends, [10, 2, 3, 1]);
            }
        }
    }
}
