use candle_core::Device;
use proptest::prelude::*;

use super::*;
use crate::engine::fixture_tests::{odd_config, oracle, parameters};
use crate::model::parameters::Parameters;

/// Sequences that are computed piece by piece, with pages of their own.
struct Driver {
    weights: EngineWeights,
    forward: Forward,
    sequences: Vec<Vec<u32>>,
}

const PAGES: usize = 8;

impl Driver {
    fn new(weights: EngineWeights, sequences: &[Vec<u32>]) -> Self {
        let forward = Forward::new(&weights.config, PAGES * sequences.len()).unwrap();
        Self { weights, forward, sequences: sequences.to_vec() }
    }

    /// Computes, of each `(sequence, from, to)`, these tokens; logits after the last of each.
    fn step(&mut self, pieces: &[(usize, usize, usize)]) -> Vec<Vec<f32>> {
        let pages: Vec<Vec<u32>> = pieces
            .iter()
            .map(|(sequence, _, to)| {
                // Not in order: where a page is must not matter.
                let page = |index| (index * self.sequences.len() + sequence) as u32;
                (0..to.div_ceil(PAGE_TOKENS)).map(page).collect()
            })
            .collect();
        let pieces: Vec<Piece<'_>> = pieces
            .iter()
            .zip(&pages)
            .map(|((sequence, from, to), pages)| Piece {
                tokens: &self.sequences[*sequence][*from..*to],
                position: *from,
                pages,
                samples: true,
            })
            .collect();
        let logits = self.forward.step(&self.weights, &pieces);
        let mut row = Vec::new();
        let rows = (0..pieces.len()).map(|index| {
            logits.read(index, &mut row);
            row.clone()
        });
        rows.collect()
    }
}

fn tokens(count: usize, seed: u32, vocab_size: usize) -> Vec<u32> {
    let token = |i| (seed + 1).wrapping_mul(2_654_435_761).wrapping_add(i * i * 40_503) >> 7;
    (0..count as u32).map(|i| token(i) % vocab_size as u32).collect()
}

#[test]
fn logits_are_those_of_a_plain_computation() {
    let group_of_one = ModelConfig { num_key_value_heads: 4, ..ModelConfig::small(40, 0) };
    for config in [ModelConfig::small(259, 0), odd_config(), group_of_one] {
        let parameters = parameters(&config, 7);
        let tokens = tokens(50, 3, config.vocab_size);
        let expected = oracle(&parameters, &tokens);
        let weights = EngineWeights::pack(&parameters, 0).unwrap();
        let mut driver = Driver::new(weights, &[tokens]);
        for (from, to) in [(0, 1), (1, 20), (20, 21), (21, 48), (48, 50)] {
            let found = driver.step(&[(0, from, to)]).remove(0);
            let expected = &expected[to - 1];
            let spread = expected.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
            assert!(spread > 1.0, "such logits show nothing: {spread}");
            for (found, expected) in found.iter().zip(expected) {
                let error = (f64::from(*found) - expected).abs();
                assert!(error < 1e-4, "{found} for {expected} after {to} tokens of {config:?}");
            }
            assert_eq!(found.len(), expected.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// EN-1, for pieces of any sizes, in any company, on any number of threads.
    #[test]
    fn logits_do_not_depend_on_pieces_or_company(
        cuts in prop::collection::vec(prop::collection::vec(1_usize..40, 1..6), 1..9),
        threads in 1_usize..4,
    ) {
        let config = odd_config();
        let parameters = parameters(&config, 1);
        let pack = || EngineWeights::pack(&parameters, 0).unwrap();
        let length = |cuts: &Vec<usize>| cuts.iter().sum::<usize>().min(PAGES * PAGE_TOKENS);
        let sequences: Vec<_> = cuts.iter().enumerate().map(|(index, cuts)| {
            tokens(length(cuts), index as u32, config.vocab_size)
        }).collect();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut together = Driver::new(pack(), &sequences);
        let mut done = vec![0; cuts.len()];
        for round in 0..6 {
            let pieces: Vec<_> = (0..cuts.len()).filter_map(|index| {
                let from = done[index];
                let to = (from + cuts[index].get(round)?).min(sequences[index].len());
                (from < to).then_some((index, from, to))
            }).collect();
            pieces.iter().for_each(|(index, _, to)| done[*index] = *to);
            if pieces.is_empty() {
                continue;
            }
            let found = pool.install(|| together.step(&pieces));
            for (found, (index, _, to)) in found.iter().zip(&pieces) {
                let mut alone = Driver::new(pack(), &[sequences[*index].clone()]);
                let expected = alone.step(&[(0, 0, *to)]).remove(0);
                prop_assert_eq!(bits(found), bits(&expected));
            }
        }
    }
}

#[test]
fn a_piece_reads_pages_that_another_fills_in_the_same_step() {
    let config = odd_config();
    let parameters = parameters(&config, 5);
    let tokens = tokens(40, 9, config.vocab_size);
    let pack = || EngineWeights::pack(&parameters, 0).unwrap();
    let expected = Driver::new(pack(), std::slice::from_ref(&tokens)).step(&[(0, 0, 40)]).remove(0);
    let weights = pack();
    let mut forward = Forward::new(&config, 8).unwrap();
    let piece = |from: usize, pages| Piece {
        tokens: &tokens[from..],
        position: from,
        pages,
        samples: true,
    };
    let logits = forward.step(&weights, &[piece(0, &[3, 1, 0]), piece(32, &[3, 1, 2])]);
    for row in 0..2 {
        let mut found = Vec::new();
        logits.read(row, &mut found);
        assert_eq!(bits(&found), bits(&expected));
    }
}

#[test]
fn what_is_left_in_a_page_does_no_harm() {
    let config = odd_config();
    let parameters = parameters(&config, 5);
    let tokens = tokens(3, 9, config.vocab_size);
    let broken = Parameters::random(&config, 0, &Device::Cpu).unwrap();
    broken.embed.set(&(broken.embed.as_tensor() * f64::NAN).unwrap()).unwrap();
    let pack = |parameters: &Parameters| EngineWeights::pack(parameters, 0).unwrap();
    let mut driver = Driver::new(pack(&parameters), std::slice::from_ref(&tokens));
    let expected = driver.step(&[(0, 0, 3)]).remove(0);
    driver.weights = pack(&broken);
    driver.sequences = vec![vec![0; 16]];
    assert!(driver.step(&[(0, 0, 16)])[0].iter().all(|logit| logit.is_nan()));
    driver.weights = pack(&parameters);
    driver.sequences = vec![tokens];
    assert_eq!(bits(&driver.step(&[(0, 0, 3)])[0]), bits(&expected));
}

fn bits(row: &[f32]) -> Vec<u32> {
    row.iter().map(|x| x.to_bits()).collect()
}
