//! Reading: a file is opened with its header checked, then asked tensor by tensor.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use orcapack_tasks::defect::{Defect, Defects};

use super::header::{Header, Stored};
use crate::caps::HEADER_BYTES_MAX;
use crate::files;

/// Bytes of the header's length, which a file begins with.
const LENGTH_BYTES: u64 = 8;
/// Of a tensor, read at a time; a multiple of each element's size.
const CHUNK_BYTES: usize = 1 << 20;

/// A safetensors file whose header is sound.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    file: File,
    header: Header,
    /// Where the data begins.
    data: u64,
}

impl TensorFile {
    /// # Errors
    /// Every fault of the header, and where the file does not hold what it says.
    pub fn open(path: &Path) -> Result<Self, Defects> {
        let (mut file, metadata) = files::open(path)?;
        let unreadable =
            |error: std::io::Error| Defect::new(path, "a file that can be read", error.to_string());
        let mut length = [0; 8];
        if metadata.len() < LENGTH_BYTES {
            let found = format!("{} bytes", metadata.len());
            return Err(Defect::new(path, "a header's length of 8 bytes", found).into());
        }
        file.read_exact(&mut length).map_err(unreadable)?;
        let length = u64::from_le_bytes(length);
        let length_max = HEADER_BYTES_MAX.min(metadata.len() - LENGTH_BYTES);
        if length > length_max {
            let expected = format!("a header of at most {length_max} bytes");
            return Err(Defect::new(path, expected, length.to_string()).into());
        }
        let mut json = Vec::new();
        (&mut file).take(length).read_to_end(&mut json).map_err(unreadable)?;
        let data = LENGTH_BYTES + length;
        let header = Header::parse(path, &json, metadata.len() - data)?;
        Ok(Self { path: path.to_owned(), file, header, data })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn tensors(&self) -> &BTreeMap<String, Stored> {
        &self.header.tensors
    }

    /// What is said of the file as a whole.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.header.metadata
    }

    /// What is wrong with a tensor.
    pub(crate) fn defect(&self, name: &str, expected: &str, found: String) -> Defect {
        Defect::new(&self.path, expected, found).at_key(name)
    }

    /// The elements of a tensor, row-major.
    ///
    /// # Errors
    /// No such tensor, no memory for it, a file that cannot be read, or an element that is not
    /// finite.
    pub fn read(&mut self, name: &str) -> Result<Vec<f32>, Defect> {
        let len = self.header.tensors.get(name).map_or(0, |stored| stored.shape.iter().product());
        let mut elements = Vec::new();
        if elements.try_reserve_exact(len).is_err() {
            let expected = format!("memory for {len} elements of 4 bytes");
            return Err(self.defect(name, &expected, "none".to_owned()));
        }
        self.read_chunks(name, |chunk| elements.extend_from_slice(chunk))?;
        Ok(elements)
    }

    /// The elements of a tensor, row-major, piece by piece. Errors as of [`TensorFile::read`].
    ///
    /// # Errors
    /// See there.
    pub fn read_chunks(&mut self, name: &str, mut on: impl FnMut(&[f32])) -> Result<(), Defect> {
        let Self { path, file, header, data } = self;
        let defect =
            |expected: &str, found: String| Defect::new(path, expected, found).at_key(name);
        let unreadable = |error: std::io::Error| defect("data that can be read", error.to_string());
        let Some(stored) = header.tensors.get(name) else {
            return Err(defect("the tensor", "nothing".to_owned()));
        };
        file.seek(SeekFrom::Start(*data + stored.bytes.start)).map_err(unreadable)?;
        let mut left = stored.bytes.end - stored.bytes.start;
        let (mut bytes, mut elements) = (vec![0; CHUNK_BYTES], Vec::new());
        let mut done = 0;
        while left > 0 {
            let take = usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
            let chunk = bytes.get_mut(..take).unwrap_or_default();
            file.read_exact(chunk).map_err(unreadable)?;
            elements.clear();
            stored.element.decode(chunk, &mut elements);
            if let Some(at) = elements.iter().position(|element| !element.is_finite()) {
                let place = index(done + at, &stored.shape);
                let found = elements.get(at).copied().unwrap_or_default();
                return Err(defect("finite numbers", format!("{found} at {place:?}")));
            }
            on(&elements);
            done += elements.len();
            left -= take as u64;
        }
        Ok(())
    }
}

/// The index, one number a side, of an element in a row-major tensor.
fn index(flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut rest = flat;
    let mut index: Vec<usize> = shape
        .iter()
        .rev()
        .map(|side| {
            let at = rest % (*side).max(1);
            rest /= (*side).max(1);
            at
        })
        .collect();
    index.reverse();
    index
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
