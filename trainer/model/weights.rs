//! Weights in a directory: one safetensors file, or several with an index. All of it is checked
//! against the model's shape before memory is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Var};
use orcapack_tasks::defect::{Defect, Defects};
use serde_json::Value;

use super::config::ModelConfig;
use super::parameters::{EMBED, HEAD, Parameters};
use crate::json_file::JsonFile;
use crate::tensors::few;
use crate::tensors::read::TensorFile;

pub(super) const SINGLE: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// Key of the index: the file of each tensor.
pub(super) const WEIGHT_MAP: &str = "weight_map";

/// The files of a directory, opened, that hold the weights of a model, all of them and no others.
#[derive(Debug)]
pub struct WeightFiles {
    config: ModelConfig,
    files: Vec<TensorFile>,
    /// Index in `files`, by the tensor's name.
    places: BTreeMap<String, usize>,
}

impl WeightFiles {
    /// # Errors
    /// Every file that is missing or not sound, and each tensor that is missing, unexpected, twice
    /// there, or of another shape.
    pub fn open(dir: &Path, config: &ModelConfig) -> Result<Self, Defects> {
        let (single, index) = (dir.join(SINGLE), dir.join(INDEX));
        let (listing, files) = match (single.exists(), index.exists()) {
            (true, false) => (single.clone(), vec![TensorFile::open(&single)?]),
            (false, true) => (index.clone(), open_shards(dir, &index)?),
            (true, true) => {
                let expected = format!("one of {SINGLE} and {INDEX}");
                return Err(Defect::new(dir, expected, "both").into());
            }
            (false, false) => return Err(nothing_to_read(dir).into()),
        };
        let mut defects = Defects::default();
        let mut places = BTreeMap::new();
        for (place, file) in files.iter().enumerate() {
            for name in file.tensors().keys() {
                if places.insert(name.clone(), place).is_some() {
                    let defect = Defect::new(file.path(), "each tensor in one file", "it again");
                    defects.0.push(defect.at_key(name));
                }
            }
        }
        let opened = Self { config: config.clone(), files, places };
        opened.compare(&listing, &mut defects);
        few(defects).into_result(opened)
    }

    /// The tensors against the model's shape.
    fn compare(&self, listing: &Path, defects: &mut Defects) {
        let shapes = Parameters::shapes(&self.config);
        let mut expected: BTreeMap<&str, &[usize]> = BTreeMap::new();
        let named = shapes.named();
        expected.extend(named.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())));
        for name in expected.keys().filter(|name| !self.places.contains_key(**name)) {
            defects.0.push(Defect::new(listing, "the tensor", "nothing").at_key(*name));
        }
        // Some write the head although it is the embedding.
        if let (None, Some(embedding)) = (&shapes.head, expected.get(EMBED)) {
            expected.insert(HEAD, *embedding);
        }
        for file in &self.files {
            for (name, stored) in file.tensors() {
                let defect = |expected: &str, found: String| {
                    Defect::new(file.path(), expected, found).at_key(name)
                };
                match expected.get(name.as_str()) {
                    Some(shape) if **shape == *stored.shape => {}
                    Some(shape) => {
                        let found = format!("{:?}", stored.shape);
                        defects.0.push(defect(&format!("shape {shape:?}"), found));
                    }
                    None => defects.0.push(defect("no such tensor", format!("{:?}", stored.shape))),
                }
            }
        }
    }

    /// The weights as f32, each a variable on `device`. Beside them, memory is taken for one tensor
    /// at most.
    ///
    /// # Errors
    /// A file that cannot be read, no memory, elements that are not finite, and a head that is not
    /// the embedding that it is tied to.
    pub fn load(mut self, device: &Device) -> Result<Parameters, Defects> {
        let mut defects = Defects::default();
        let config = self.config.clone();
        let parameters = Parameters::build(&config, |name, shape| {
            let var = self.file_of(name).and_then(|file| {
                let elements = file.read(name)?;
                Var::from_vec(elements, shape, device)
                    .map_err(|error| no_tensor(file, name, &error))
            });
            // Goes on with nothing in its place, to tell what else is wrong.
            var.or_else(|defect| {
                let nothing = Var::zeros((), DType::F32, &Device::Cpu);
                let nothing = nothing.map_err(|_| defect.clone());
                defects.0.push(defect);
                nothing
            })
        })?;
        if defects.0.is_empty() && config.tie_word_embeddings && self.places.contains_key(HEAD) {
            defects.0.extend(self.compare_head(&parameters.embed).err());
        }
        few(defects).into_result(parameters)
    }

    fn file_of(&mut self, name: &str) -> Result<&mut TensorFile, Defect> {
        let file = self.places.get(name).and_then(|place| self.files.get_mut(*place));
        file.ok_or_else(|| Defect::new(Path::new(SINGLE), "a tensor", "nothing").at_key(name))
    }

    fn compare_head(&mut self, embedding: &Var) -> Result<(), Defect> {
        let file = self.file_of(HEAD)?;
        let embedding = embedding.flatten_all().and_then(|flat| flat.to_vec1::<f32>());
        let embedding = embedding.map_err(|error| no_tensor(file, HEAD, &error))?;
        let mut rest = embedding.as_slice();
        let mut same = true;
        file.read_chunks(HEAD, |chunk| {
            let (here, after) = rest.split_at(chunk.len().min(rest.len()));
            same &= here == chunk;
            rest = after;
        })?;
        if same {
            return Ok(());
        }
        let expected = format!("{EMBED}, as tie_word_embeddings says");
        Err(Defect::new(file.path(), expected, "other elements").at_key(HEAD))
    }
}

fn no_tensor(file: &TensorFile, name: &str, error: &candle_core::Error) -> Defect {
    Defect::new(file.path(), "memory on the device", error.to_string()).at_key(name)
}

/// The files that the index names, which must say where each tensor is.
fn open_shards(dir: &Path, index: &Path) -> Result<Vec<TensorFile>, Defects> {
    let mut listing = JsonFile::read(index)?;
    let map = listing.value(WEIGHT_MAP, "an object of tensors with their files", |map| {
        let entry =
            |(name, file): (&String, &Value)| Some((name.clone(), file.as_str()?.to_owned()));
        map.as_object()?.iter().map(entry).collect::<Option<BTreeMap<String, String>>>()
    });
    let Some(map) = map else {
        if listing.get(WEIGHT_MAP).is_none() {
            listing.refuse(WEIGHT_MAP, "an object of tensors with their files");
        }
        return Err(listing.finish());
    };
    let names: BTreeSet<&String> = map.values().collect();
    let mut defects = Defects::default();
    let mut files = Vec::new();
    for name in names {
        if let Err(expected) = check_file_name(name) {
            defects.0.push(Defect::new(index, expected, format!("{name:?}")).at_key(WEIGHT_MAP));
            continue;
        }
        match TensorFile::open(&dir.join(name)) {
            Ok(file) => {
                compare_with_index(&file, name, &map, index, &mut defects);
                files.push(file);
            }
            Err(of_file) => defects.0.extend(of_file.0),
        }
    }
    few(defects).into_result(files)
}

/// An index names files beside it. Another path could lead to any file of the machine.
fn check_file_name(name: &str) -> Result<(), &'static str> {
    if name.contains(['/', '\\', '\0']) || name.starts_with('.') {
        return Err("the name of a file in the same folder");
    }
    match name.ends_with(".safetensors") {
        true => Ok(()),
        false => Err("a .safetensors file: others, which can hold programs, are never read"),
    }
}

fn compare_with_index(
    file: &TensorFile,
    file_name: &str,
    map: &BTreeMap<String, String>,
    index: &Path,
    defects: &mut Defects,
) {
    let listed = map.iter().filter(|(_, place)| *place == file_name);
    for (name, _) in listed.filter(|(name, _)| !file.tensors().contains_key(*name)) {
        defects.0.push(
            Defect::new(file.path(), "the tensor, as the index says", "nothing").at_key(name),
        );
    }
    let unlisted = file.tensors().keys().filter(|name| map.get(*name).is_none());
    for name in unlisted {
        let found = format!("nothing; {file_name} has it");
        defects.0.push(Defect::new(index, "the tensor's file", found).at_key(name));
    }
}

fn nothing_to_read(dir: &Path) -> Defect {
    let pickled = |name: &String| {
        [".bin", ".bin.index.json", ".pt", ".pth", ".pkl", ".ckpt"]
            .iter()
            .any(|end| name.ends_with(end))
    };
    let names = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        names.filter_map(|entry| entry.file_name().into_string().ok()).filter(pickled).collect();
    names.sort();
    let found = match names.first() {
        Some(name) => format!("{name}: a pickle can hold a program, and is never read"),
        None => "neither".to_owned(),
    };
    Defect::new(dir, format!("{SINGLE} or {INDEX}"), found)
}

#[cfg(test)]
#[path = "weights_tests.rs"]
mod tests;
