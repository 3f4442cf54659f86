//! Weights in a directory: one safetensors file, or several with an index. All of it is checked
//! against the model's shape before memory is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use candle_core::{Device, Var};
use orcapack_tasks::defect::{Defect, Defects};
use serde_json::Value;

use super::config::ModelConfig;
use super::parameters::{EMBED, HEAD, Parameters};
use crate::json_file::JsonFile;
use crate::tensors::few;
use crate::tensors::read::TensorFile;
use crate::tensors::set::TensorSet;

pub(super) const SINGLE: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// Key of the index: the file of each tensor.
pub(super) const WEIGHT_MAP: &str = "weight_map";

/// Opens what holds the weights of a model in `dir`.
///
/// # Errors
/// Every file that is missing or not sound, and each tensor that is missing, unexpected, twice
/// there, or of another shape.
fn open(dir: &Path, config: &ModelConfig) -> Result<TensorSet, Defects> {
    let (single, index) = (dir.join(SINGLE), dir.join(INDEX));
    let set = match (single.exists(), index.exists()) {
        (true, false) => TensorSet::new(&single, vec![TensorFile::open(&single)?])?,
        (false, true) => TensorSet::new(&index, open_shards(dir, &index)?)?,
        (true, true) => {
            let expected = format!("one of {SINGLE} and {INDEX}");
            return Err(Defect::new(dir, expected, "both").into());
        }
        (false, false) => return Err(nothing_to_read(dir).into()),
    };
    let shapes = Parameters::shapes(config);
    let named = shapes.named();
    let expected = named.iter().map(|(name, shape)| (name.as_str(), shape.as_slice()));
    // Some write the head although it is the embedding.
    let tied = [(HEAD, shapes.embed.as_slice())].into_iter().filter(|_| shapes.head.is_none());
    let optional: &[&str] = if shapes.head.is_none() { &[HEAD] } else { &[] };
    set.check(&expected.chain(tied).collect(), optional)?;
    Ok(set)
}

impl Parameters {
    /// Checks what a directory says of its weights, and reads none of them.
    ///
    /// # Errors
    /// Files, names, shapes, dtypes, sizes, overlaps: all at once.
    pub fn check(dir: &Path, config: &ModelConfig) -> Result<(), Defects> {
        open(dir, config).map(drop)
    }

    /// See [`crate::policy::Policy::load`].
    ///
    /// # Errors
    /// Names, shapes, dtypes, sizes, overlaps, told before memory is taken; then values that are
    /// not finite, and a head that is not the embedding that it is tied to.
    pub fn load(dir: &Path, config: &ModelConfig, device: &Device) -> Result<Self, Defects> {
        let mut set = open(dir, config)?;
        let parameters = set.load(device, |load| Self::build(config, load))?;
        if config.tie_word_embeddings && set.has(HEAD) {
            compare_head(&mut set, &parameters.embed)?;
        }
        Ok(parameters)
    }
}

fn compare_head(set: &mut TensorSet, embedding: &Var) -> Result<(), Defect> {
    let file = set.file_of(HEAD)?;
    let embedding = embedding.flatten_all().and_then(|flat| flat.to_vec1::<f32>());
    let embedding = embedding.map_err(|error| file.defect(HEAD, "memory", error.to_string()))?;
    let (mut rest, mut same) = (embedding.as_slice(), true);
    file.read_chunks(HEAD, |chunk| {
        let (here, after) = rest.split_at(chunk.len().min(rest.len()));
        same &= here == chunk;
        rest = after;
    })?;
    if same {
        return Ok(());
    }
    let expected = format!("{EMBED}, as tie_word_embeddings says");
    Err(file.defect(HEAD, &expected, "other elements".to_owned()))
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
