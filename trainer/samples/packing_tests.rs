use proptest::prelude::*;

use super::*;
use crate::samples::from_trajectory::TrainedToken;

/// A sample whose ids are told from all others', with every `nth` token trained.
fn sample(number: usize, tokens: usize, nth: usize) -> Sample {
    let ids: Vec<u32> = (0..tokens).map(|at| (number * 1000 + at) as u32).collect();
    let trained = (1..tokens as u32).filter(|index| (*index as usize).is_multiple_of(nth));
    let trained = trained.map(|index| TrainedToken {
        index,
        sampler_logprob: -(index as f32),
        version: number as u64,
    });
    Sample { trained: trained.collect(), ids, unproven: 0 }
}

fn settings(row_tokens_max: usize, rows_max: usize) -> PackSettings {
    PackSettings { row_tokens_max, rows_max }
}

fn pack(samples: &[Sample], settings: &PackSettings) -> Result<Packing, PackError> {
    super::pack(&samples.iter().collect::<Vec<_>>(), settings)
}

#[test]
fn the_longest_come_first_and_each_into_the_first_row_with_room() {
    let lengths = [2, 6, 4, 5, 3, 11];
    let samples: Vec<Sample> =
        lengths.iter().enumerate().map(|(n, tokens)| sample(n, *tokens, 1)).collect();
    let packing = pack(&samples, &settings(10, 2)).unwrap();
    assert_eq!(packing.too_long, [5]);
    let [batch] = &*packing.batches else { panic!("{:?}", packing.batches) };
    assert_eq!((batch.rows, batch.len), (2, 10));
    assert_eq!(batch.segments, [vec![6, 4], vec![5, 3, 2]]);
    assert_eq!((packing.efficiency(), batch.targets.len()), (1.0, 15));
    let first = batch.targets[0];
    assert_eq!((first.place, first.id, first.sample, first.version), (0, 1001, 1, 1));
    assert_eq!(first.sampler_logprob, -1.0);
}

#[test]
fn what_fills_a_row_up_is_a_segment_without_targets() {
    let samples = [sample(0, 4, 1), sample(1, 3, 1)];
    let packing = pack(&samples, &settings(5, 8)).unwrap();
    let batch = &packing.batches[0];
    assert_eq!((batch.len, &batch.segments), (4, &vec![vec![4], vec![3, 1]]));
    assert_eq!((batch.ids[7], batch.positions[7]), (0, 0));
    assert_eq!(packing.efficiency(), 7.0 / 8.0);
}

#[test]
fn rows_are_nearly_full() {
    // From 64 tokens to 4096, the shorter the more.
    let lengths = (0..1000_u32).map(|n| {
        let part = f64::from(n.wrapping_mul(2_654_435_761) >> 8) / f64::from(1 << 24);
        (64.0 * 64.0_f64.powf(part)) as usize
    });
    let samples: Vec<Sample> =
        lengths.enumerate().map(|(n, tokens)| sample(n, tokens, 9)).collect();
    let packing = pack(&samples, &settings(8192, 4)).unwrap();
    assert!(packing.efficiency() > 0.99, "{}", packing.efficiency());
    assert!(packing.too_long.is_empty());
}

#[test]
fn what_cannot_be_packed_is_refused() {
    for (row_tokens_max, rows_max) in [(0, 1), (1, 0), (1 << 20, 1 << 20)] {
        let refused = pack(&[], &settings(row_tokens_max, rows_max)).unwrap_err();
        assert_eq!(refused, PackError::Size { rows_max, row_tokens_max });
    }
    let trained = |indices: &[u32]| Sample {
        ids: vec![1, 2, 3],
        trained: indices
            .iter()
            .map(|index| TrainedToken { index: *index, sampler_logprob: 0.0, version: 0 })
            .collect(),
        unproven: 0,
    };
    for indices in [&[0][..], &[3], &[2, 1], &[1, 1]] {
        let refused = pack(&[trained(indices)], &settings(8, 8)).unwrap_err();
        assert!(matches!(refused, PackError::Trained { sample: 0, .. }), "{indices:?}");
    }
    let untrained = pack(&[trained(&[])], &settings(8, 8)).unwrap();
    assert_eq!((untrained.batches.len(), untrained.efficiency()), (0, 1.0));
}

proptest! {
    #[test]
    fn every_trained_token_is_asked_for_once_where_its_sample_stands(
        lengths in prop::collection::vec((1_usize..30, 1_usize..4), 0..40),
        row_tokens_max in 1_usize..40,
        rows_max in 1_usize..5,
    ) {
        let samples: Vec<Sample> = lengths
            .iter()
            .enumerate()
            .map(|(n, (tokens, nth))| sample(n, *tokens, *nth))
            .collect();
        let settings = settings(row_tokens_max, rows_max);
        let packing = pack(&samples, &settings).unwrap();
        prop_assert_eq!(&packing, &pack(&samples, &settings).unwrap());
        let mut asked = Vec::new();
        for batch in &packing.batches {
            prop_assert!(batch.rows >= 1 && batch.rows <= rows_max && batch.len <= row_tokens_max);
            prop_assert_eq!(batch.ids.len(), batch.rows * batch.len);
            prop_assert_eq!(batch.positions.len(), batch.ids.len());
            prop_assert!(batch.targets.is_sorted_by_key(|target| target.place));
            let mut positions = Vec::new();
            for segments in &batch.segments {
                prop_assert_eq!(segments.iter().sum::<u32>() as usize, batch.len);
                positions.extend(segments.iter().flat_map(|tokens| 0..*tokens));
            }
            prop_assert_eq!(batch.segments.len(), batch.rows);
            prop_assert_eq!(&batch.positions, &positions);
            for target in &batch.targets {
                let place = target.place as usize;
                let token = samples[target.sample as usize]
                    .trained
                    .iter()
                    .find(|token| target.id % 1000 == token.index);
                let token = token.unwrap();
                prop_assert_eq!(token.version, target.version);
                prop_assert_eq!(batch.ids[place + 1], target.id);
                prop_assert_eq!(batch.positions[place] + 1, token.index);
                prop_assert_eq!(token.sampler_logprob, target.sampler_logprob);
                asked.push((target.sample as usize, token.index));
            }
        }
        asked.sort_unstable();
        let wanted: Vec<(usize, u32)> = samples
            .iter()
            .enumerate()
            .filter(|(n, _)| !packing.too_long.contains(n))
            .flat_map(|(n, sample)| sample.trained.iter().map(move |token| (n, token.index)))
            .collect();
        prop_assert_eq!(asked, wanted);
        for index in &packing.too_long {
            prop_assert!(samples[*index].ids.len() > row_tokens_max);
        }
    }
}
