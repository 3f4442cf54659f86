//! Tensors of several files as one set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Var};
use orcapack_tasks::defect::{Defect, Defects};

use super::few;
use super::read::TensorFile;

/// Files, opened, that together hold each of their tensors once.
///
/// [`TensorSet::check`] compares them with what a model wants, [`TensorSet::load`] then takes the
/// memory.
#[derive(Debug)]
pub struct TensorSet {
    /// The file that stands for all.
    listing: PathBuf,
    files: Vec<TensorFile>,
    /// Index in `files`, by the tensor's name.
    places: BTreeMap<String, usize>,
}

/// Makes the variable of a name and shape.
pub type Load<'l> = dyn FnMut(&str, &[usize]) -> Result<Var, Defect> + 'l;

impl TensorSet {
    /// # Errors
    /// Tensors that are in two files.
    pub fn new(listing: &Path, files: Vec<TensorFile>) -> Result<Self, Defects> {
        let (mut defects, mut places) = (Defects::default(), BTreeMap::new());
        for (place, file) in files.iter().enumerate() {
            for name in file.tensors().keys() {
                if places.insert(name.clone(), place).is_some() {
                    let defect = Defect::new(file.path(), "each tensor in one file", "it again");
                    defects.0.push(defect.at_key(name));
                }
            }
        }
        few(defects).into_result(Self { listing: listing.to_owned(), files, places })
    }

    pub fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// Whether exactly the `expected` are there, each of its shape; those of `optional` may be
    /// missing.
    ///
    /// # Errors
    /// Each tensor that is missing, unexpected, or of another shape.
    pub fn check(
        &self,
        expected: &BTreeMap<&str, &[usize]>,
        optional: &[&str],
    ) -> Result<(), Defects> {
        let mut defects = Defects::default();
        let demanded = expected.keys().filter(|name| !optional.contains(name));
        for name in demanded.filter(|name| !self.has(name)) {
            defects.0.push(Defect::new(&self.listing, "the tensor", "nothing").at_key(*name));
        }
        for file in &self.files {
            for (name, stored) in file.tensors() {
                let wanted = expected.get(name.as_str());
                if wanted.is_some_and(|shape| **shape == *stored.shape) {
                    continue;
                }
                let wanted = wanted.map_or("no such tensor".to_owned(), |s| format!("shape {s:?}"));
                let found = format!("{:?}", stored.shape);
                defects.0.push(Defect::new(file.path(), wanted, found).at_key(name));
            }
        }
        few(defects).into_result(())
    }

    /// What `build` makes of the tensors, each an f32 variable on `device`. Beside those, memory is
    /// taken for one tensor at most.
    ///
    /// # Errors
    /// A file that cannot be read, no memory, and each element that is not finite.
    pub fn load<T>(
        &mut self,
        device: &Device,
        build: impl FnOnce(&mut Load<'_>) -> Result<T, Defect>,
    ) -> Result<T, Defects> {
        let mut defects = Defects::default();
        let built = build(&mut |name, shape| {
            self.variable(name, shape, device).or_else(|defect| {
                // Goes on with nothing in its place, to tell what else is wrong.
                let nothing = Var::zeros((), DType::F32, &Device::Cpu);
                let nothing = nothing.map_err(|_| defect.clone());
                defects.0.push(defect);
                nothing
            })
        })?;
        few(defects).into_result(built)
    }

    fn variable(&mut self, name: &str, shape: &[usize], device: &Device) -> Result<Var, Defect> {
        let file = self.file_of(name)?;
        let elements = file.read(name)?;
        let var = Var::from_vec(elements, shape, device);
        var.map_err(|error| file.defect(name, "memory on the device", error.to_string()))
    }

    /// The file that has the tensor.
    ///
    /// # Errors
    /// None has.
    pub fn file_of(&mut self, name: &str) -> Result<&mut TensorFile, Defect> {
        let file = self.places.get(name).and_then(|place| self.files.get_mut(*place));
        file.ok_or_else(|| Defect::new(&self.listing, "the tensor", "nothing").at_key(name))
    }
}
