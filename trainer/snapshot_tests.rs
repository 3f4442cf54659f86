//! Snapshots on their way: whole, cut anywhere, damaged, and of another model.

use proptest::prelude::*;

use super::*;
use crate::engine::weights::EngineWeights;

fn config() -> ModelConfig {
    ModelConfig { num_hidden_layers: 2, ..ModelConfig::small(64, 1) }
}

fn snapshot(seed: u64, version: u64) -> Snapshot {
    let parameters = Parameters::random(&config(), seed, &Device::Cpu).unwrap();
    Snapshot::of(&parameters, version).unwrap()
}

fn bits(snapshot: &Snapshot) -> Vec<u32> {
    let values = snapshot.tensors().iter().flat_map(|tensor| tensor.values.iter());
    values.map(|value| value.to_bits()).collect()
}

fn stream(snapshot: &Snapshot) -> Vec<u8> {
    snapshot.chunks(1 << 20).flatten().collect()
}

fn read(chunks: impl Iterator<Item = Vec<u8>>, digest: SnapshotDigest) -> Result<Snapshot, String> {
    let mut reader = SnapshotReader::new(9, config(), digest);
    for chunk in chunks {
        reader.push(&chunk).map_err(|error| error.to_string())?;
    }
    reader.finish().map_err(|error| error.to_string())
}

#[test]
fn a_snapshot_has_the_weights_and_gives_them_back() {
    let parameters = Parameters::random(&config(), 1, &Device::Cpu).unwrap();
    let snapshot = Snapshot::of(&parameters, 3).unwrap();
    let names = |parameters: &Parameters| {
        let named = parameters.named().into_iter();
        named.map(|(name, var)| (name, var.dims().to_vec())).collect::<Vec<_>>()
    };
    let kept = snapshot.tensors().iter().map(|it| (it.name.clone(), it.shape.clone()));
    assert_eq!(kept.collect::<Vec<_>>(), names(&parameters));
    let back = snapshot.to_parameters(&Device::Cpu).unwrap();
    assert_eq!(bits(&Snapshot::of(&back, 3).unwrap()), bits(&snapshot));
}

#[test]
fn an_engine_gets_the_same_weights_from_a_snapshot_as_from_the_parameters() {
    let parameters = Parameters::random(&config(), 1, &Device::Cpu).unwrap();
    let direct = EngineWeights::pack(&parameters, 3).unwrap();
    let snapshot = Snapshot::of(&parameters, 3).unwrap();
    let packed = EngineWeights::of_snapshot(&snapshot).unwrap();
    assert_eq!(packed.version, 3);
    assert_eq!(packed.config(), direct.config());
    assert!(packed == direct);
    let other = EngineWeights::of_snapshot(&self::snapshot(2, 3)).unwrap();
    assert!(packed != other);
}

#[test]
fn the_digest_is_of_names_shapes_and_numbers_and_not_of_the_version() {
    let one = snapshot(1, 1);
    assert_eq!(one.digest(), snapshot(1, 2).digest());
    assert_ne!(one.digest(), snapshot(2, 1).digest());
    let [one, other] = [[2, 6], [3, 4]].map(|shape| {
        let mut digesting = Digesting::default();
        digesting.begin("w", &shape);
        digesting.finish()
    });
    assert_ne!(one, other);
}

#[test]
fn weights_of_another_model_are_refused() {
    let snapshot = snapshot(1, 1);
    let mut tensors = snapshot.tensors().to_vec();
    tensors.swap(1, 2);
    let error = Snapshot::new(1, config(), tensors.clone()).unwrap_err().to_string();
    assert!(error.starts_with("weight 1: expected model.layers.0.input_layernorm"), "{error}");
    tensors.pop();
    let error = Snapshot::new(1, config(), tensors).unwrap_err().to_string();
    assert!(error.contains("tensors, found"), "{error}");
}

#[test]
fn a_stream_that_is_too_long_or_too_short_is_refused() {
    let snapshot = snapshot(1, 9);
    let (bytes, digest) = (stream(&snapshot), snapshot.digest());
    assert_eq!(bytes.len() as u64, snapshot.bytes());
    let short = bytes[..bytes.len() - 1].to_vec();
    let error = read([short].into_iter(), digest).unwrap_err();
    assert!(error.contains("bytes of weights expected"), "{error}");
    let error = read([bytes, vec![0]].into_iter(), digest).unwrap_err();
    assert!(error.contains("bytes of weights expected"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_stream_cut_anywhere_gives_the_same_bits(size in 1_usize..9000, bytes_max in 1_usize..9000) {
        let snapshot = snapshot(1, 9);
        let digest = snapshot.digest();
        for chunk in snapshot.chunks(bytes_max) {
            prop_assert!(chunk.len() <= bytes_max.max(4));
        }
        let bytes: Vec<u8> = snapshot.chunks(bytes_max).flatten().collect();
        let back = read(bytes.chunks(size).map(<[u8]>::to_vec), digest).unwrap();
        prop_assert_eq!(back.version, 9);
        prop_assert_eq!(bits(&back), bits(&snapshot));
    }

    #[test]
    fn a_single_flipped_bit_is_noticed(at in any::<prop::sample::Index>(), bit in 0..8) {
        let snapshot = snapshot(1, 9);
        let mut bytes = stream(&snapshot);
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        let error = read([bytes].into_iter(), snapshot.digest()).unwrap_err();
        prop_assert!(error.contains("with the digest"), "{}", error);
    }
}
