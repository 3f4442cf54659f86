//! Directories of weights: written and read again, and as they must not be.

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Tensor};
use tempfile::TempDir;

use super::super::weights_write::{WeightsFormat, write_weights};
use super::*;
use crate::model::fixture_tests::config;
use crate::tensors::write::{self, WeightType};

fn random(config: &ModelConfig) -> Parameters {
    Parameters::random(config, 5, &Device::Cpu).unwrap()
}

fn bits(parameters: &Parameters) -> Vec<(String, Vec<u32>)> {
    let named = parameters.named().into_iter().map(|(name, var)| {
        let values: Vec<f32> = var.flatten_all().unwrap().to_vec1().unwrap();
        (name, values.into_iter().map(f32::to_bits).collect())
    });
    named.collect()
}

/// A directory with one file of the weights of [`config`], changed.
struct Written {
    dir: TempDir,
    tensors: BTreeMap<String, Tensor>,
}

impl Written {
    fn new() -> Self {
        let parameters = random(&config());
        let named = parameters.named().into_iter();
        let tensors = named.map(|(name, var)| (name, var.as_detached_tensor())).collect();
        Self { dir: tempfile::tempdir().unwrap(), tensors }
    }

    fn set(&mut self, name: &str, values: &[f32], shape: &[usize]) {
        let tensor = Tensor::from_slice(values, shape, &Device::Cpu).unwrap();
        self.tensors.insert(name.to_owned(), tensor);
    }

    fn write(&self, file: &str) {
        self.write_some(file, |_| true);
    }

    fn write_some(&self, file: &str, wanted: impl Fn(&str) -> bool) {
        let mut tensors = self.tensors.clone();
        tensors.retain(|name, _| wanted(name));
        let path = self.dir.path().join(file);
        write::write(&path, &tensors, WeightType::F32, &BTreeMap::new()).unwrap();
    }

    /// Writes an index in which `file_of` says where each tensor is.
    fn index(&self, file_of: impl Fn(&str) -> &'static str) {
        let map: HashMap<&String, &str> =
            self.tensors.keys().map(|name| (name, file_of(name))).collect();
        let index = serde_json::json!({ "weight_map": map });
        fs::write(self.dir.path().join(INDEX), index.to_string()).unwrap();
    }

    fn faults(&self) -> Vec<String> {
        let defects = match Parameters::load(self.dir.path(), &config(), &Device::Cpu) {
            Ok(_) => return Vec::new(),
            Err(defects) => defects,
        };
        let dir = self.dir.path().display().to_string();
        let told = defects.0.iter().map(|defect| defect.to_string());
        told.map(|told| told.replace(&format!("{dir}/"), "").replace(&dir, "DIR")).collect()
    }
}

fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.map(|path| (path.clone(), fs::read(&path).unwrap())).collect();
    files.sort();
    files
}

#[test]
fn weights_are_read_as_they_were_written() {
    for tie_word_embeddings in [false, true] {
        let config = ModelConfig { tie_word_embeddings, ..config() };
        let parameters = random(&config);
        // 320 bytes hold the embedding or the largest matrix, 1 none: each has a file of its own.
        for (shard_bytes_max, files_expected) in [(1 << 20, 1), (1, parameters.named().len() + 1)] {
            let dir = tempfile::tempdir().unwrap();
            let format = WeightsFormat { shard_bytes_max, ..WeightsFormat::default() };
            write_weights(dir.path(), &parameters, format).unwrap();
            assert_eq!(files(dir.path()).len(), files_expected);
            let read = Parameters::load(dir.path(), &config, &Device::Cpu).unwrap();
            assert_eq!(bits(&read), bits(&parameters));
        }
    }
}

#[test]
fn shards_hold_what_their_limit_lets_and_are_the_same_bytes_each_time() {
    let parameters = random(&config());
    let write = |dir: &Path| {
        let format = WeightsFormat { shard_bytes_max: 2000, ..WeightsFormat::default() };
        write_weights(dir, &parameters, format).unwrap();
        let bytes = files(dir)
            .into_iter()
            .map(|(path, bytes)| (path.file_name().unwrap().to_owned(), bytes));
        bytes.collect::<Vec<_>>()
    };
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let written = write(first.path());
    assert_eq!(written, write(second.path()));
    let total: usize = parameters.named().iter().map(|(_, var)| var.elem_count() * 4).sum();
    assert!((total / 2000..=total / 1000).contains(&(written.len() - 1)), "{}", written.len());
    for (path, _) in files(first.path()).iter().filter(|(path, _)| !path.ends_with(INDEX)) {
        let file = TensorFile::open(path).unwrap();
        assert_eq!(file.metadata().get("format").map(String::as_str), Some("pt"));
        let bytes: usize =
            file.tensors().values().map(|t| t.shape.iter().product::<usize>() * 4).sum();
        assert!(bytes <= 2000, "{bytes}");
    }
}

#[test]
fn bf16_halves_the_size_and_rounds() {
    let (dir, parameters) = (tempfile::tempdir().unwrap(), random(&config()));
    let format = WeightsFormat { element: WeightType::Bf16, ..WeightsFormat::default() };
    write_weights(dir.path(), &parameters, format).unwrap();
    let read = Parameters::load(dir.path(), &config(), &Device::Cpu).unwrap();
    for ((name, found), (_, expected)) in read.named().into_iter().zip(parameters.named()) {
        let rounded = expected.to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap();
        let difference = (found.as_tensor() - rounded).unwrap().abs().unwrap();
        let sum: f32 = difference.sum_all().unwrap().to_scalar().unwrap();
        assert_eq!(sum, 0.0, "{name}");
    }
}

#[test]
fn what_is_missing_unexpected_or_of_another_shape_is_told_at_once() {
    let mut written = Written::new();
    written.tensors.remove("model.norm.weight");
    written.set("model.layers.1.self_attn.q_norm.weight", &[1.0; 3], &[3]);
    written.set("model.layers.2.mlp.up_proj.weight", &[1.0], &[1, 1]);
    written.write(SINGLE);
    assert_eq!(
        written.faults(),
        [
            "model.safetensors: model.norm.weight: expected the tensor, found nothing",
            "model.safetensors: model.layers.1.self_attn.q_norm.weight: expected shape [6], \
             found [3]",
            "model.safetensors: model.layers.2.mlp.up_proj.weight: expected no such tensor, \
             found [1, 1]",
        ]
    );
}

#[test]
fn what_is_not_finite_is_told_with_its_place() {
    let mut written = Written::new();
    let mut values = [0.5; 72];
    (values[9], values[40]) = (f32::NAN, f32::INFINITY);
    written.set("model.layers.0.self_attn.v_proj.weight", &values[..48], &[6, 8]);
    written.set("model.norm.weight", &[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, f32::NEG_INFINITY], &[8]);
    written.write(SINGLE);
    let expected = [
        "model.safetensors: model.layers.0.self_attn.v_proj.weight: expected finite numbers, \
         found NaN at [1, 1]",
        "model.safetensors: model.norm.weight: expected finite numbers, found -inf at [7]",
    ];
    assert_eq!(written.faults(), expected);
}

#[test]
fn a_tied_head_may_be_written_if_it_is_the_embedding() {
    let mut written = Written::new();
    let embedding = written.tensors[EMBED].clone();
    written.tensors.insert(HEAD.to_owned(), embedding.clone());
    written.write(SINGLE);
    assert_eq!(written.faults(), [""; 0]);
    let other = embedding.affine(1.0, 1e-3).unwrap();
    written.tensors.insert(HEAD.to_owned(), other);
    written.write(SINGLE);
    let expected = "model.safetensors: lm_head.weight: expected model.embed_tokens.weight, as \
                    tie_word_embeddings says, found other elements";
    assert_eq!(written.faults(), [expected]);
}

fn half(name: &str) -> &'static str {
    if name.contains("layers.0") { "a.safetensors" } else { "b.safetensors" }
}

#[test]
fn an_index_and_its_shards_must_agree() {
    let mut written = Written::new();
    written.write_some("a.safetensors", |name| half(name).starts_with('a'));
    written.write_some("b.safetensors", |name| half(name).starts_with('b'));
    written.index(half);
    assert_eq!(written.faults(), [""; 0]);

    // The norm is in both, one that the index does not know in b, and one of b nowhere.
    written.write_some("a.safetensors", |name| half(name).starts_with('a') || name == EMBED);
    written.set("extra", &[1.0], &[1]);
    let gone = "model.layers.1.mlp.up_proj.weight";
    written.write_some("b.safetensors", |name| half(name).starts_with('b') && name != gone);
    written.tensors.remove("extra");
    written.index(half);
    assert_eq!(
        written.faults(),
        [
            "b.safetensors: model.layers.1.mlp.up_proj.weight: expected the tensor, as the index \
             says, found nothing",
            "model.safetensors.index.json: extra: expected the tensor's file, found nothing; \
             b.safetensors has it",
        ]
    );
    // Once those are mended, the tensor that is twice there.
    written.write_some("b.safetensors", |name| half(name).starts_with('b'));
    let twice = "b.safetensors: model.embed_tokens.weight: expected each tensor in one file, \
                 found it again";
    assert_eq!(written.faults(), [twice]);
}

#[test]
fn an_index_cannot_lead_out_of_its_folder_or_to_a_pickle() {
    let written = Written::new();
    written.write(SINGLE);
    fs::rename(written.dir.path().join(SINGLE), written.dir.path().join("a.safetensors")).unwrap();
    let name = "the name of a file in the same folder";
    let others = "a .safetensors file: others, which can hold programs, are never read";
    let outside = [
        ("../a.safetensors", name),
        ("/etc/a.safetensors", name),
        ("x/a.safetensors", name),
        ("..", name),
        ("", others),
        ("pytorch_model-00001-of-00002.bin", others),
    ];
    for (file, expected) in outside {
        written.index(|name| if name == EMBED { file } else { "a.safetensors" });
        let faults = written.faults();
        let expected = format!(
            "model.safetensors.index.json: weight_map: expected {expected}, found {file:?}"
        );
        assert_eq!(faults.first(), Some(&expected));
    }
    written.index(|name| if name == EMBED { "absent.safetensors" } else { "a.safetensors" });
    assert_eq!(written.faults()[0], "absent.safetensors: expected a file, found nothing");
}

#[test]
fn a_directory_without_safetensors_says_what_it_has() {
    let written = Written::new();
    let expected = "expected model.safetensors or model.safetensors.index.json, found";
    assert_eq!(written.faults(), [format!("DIR: {expected} neither")]);
    fs::write(written.dir.path().join("pytorch_model.bin"), "pickled").unwrap();
    let pickle = "pytorch_model.bin: a pickle can hold a program, and is never read";
    assert_eq!(written.faults(), [format!("DIR: {expected} {pickle}")]);
    written.write(SINGLE);
    written.index(half);
    assert_eq!(
        written.faults(),
        ["DIR: expected one of model.safetensors and model.safetensors.index.json, found both"]
    );
}

#[test]
fn of_very_many_faults_the_first_are_told() {
    let mut written = Written::new();
    for extra in 0..150 {
        written.set(&format!("extra.{extra:03}"), &[1.0], &[1]);
    }
    written.write(SINGLE);
    let faults = written.faults();
    assert_eq!(faults.len(), 101);
    assert_eq!(
        faults[100],
        "model.safetensors: expected the tensors of the model, found 50 more faults"
    );
}
