//! A policy's weights at one moment of its training, on the host, to be handed on: to engines that
//! sample, to a directory, over a wire.
//!
//! On a wire a snapshot is its numbers alone, in one stream: names and shapes follow from the
//! model, whose configuration both ends have. Its digest is of names, shapes and numbers, so that
//! weights of another model are told apart like damaged ones.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::{io, mem};

use candle_core::{DType, Device, Var};
use sha2::{Digest, Sha256};

use crate::model::config::ModelConfig;
use crate::model::parameters::Parameters;
use crate::model::weights_write::WeightsFormat;
use crate::policy::Policy;

const NUMBER_BYTES: usize = size_of::<f32>();
/// Numbers that are turned into bytes at a time.
const BLOCK_NUMBERS: usize = 16 << 10;

/// Cheap to clone: the numbers are shared.
#[derive(Clone)]
pub struct Snapshot {
    /// Of the policy: the optimizer steps that have made it.
    pub version: u64,
    config: ModelConfig,
    tensors: Arc<[SnapshotTensor]>,
}

/// One weight, row-major.
#[derive(Clone)]
pub struct SnapshotTensor {
    pub name: String,
    pub shape: Vec<usize>,
    /// As many as the shape says.
    pub values: Arc<[f32]>,
}

/// SHA-256 of what a snapshot holds, its version apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SnapshotDigest(pub [u8; 32]);

/// Why there is no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Tensors that are not those of the model.
    #[error("weight {at}: expected {expected}, found {found}")]
    Misfit { at: usize, expected: String, found: String },
    #[error("{expected} bytes of weights expected, found {found}")]
    Length { expected: u64, found: u64 },
    #[error("weights with the digest {expected} expected, found {found}")]
    Digest { expected: SnapshotDigest, found: SnapshotDigest },
}

impl Snapshot {
    /// Of effective weights, in the order of [`Parameters::named`].
    ///
    /// # Errors
    /// Names or shapes that are not those of the model, in its order.
    pub fn new(
        version: u64,
        config: ModelConfig,
        tensors: Vec<SnapshotTensor>,
    ) -> Result<Self, SnapshotError> {
        let shapes = Parameters::shapes(&config);
        let named = shapes.named();
        let misfit = |at, expected, found| SnapshotError::Misfit { at, expected, found };
        if named.len() != tensors.len() {
            let count = |count| format!("{count} tensors");
            return Err(misfit(0, count(named.len()), count(tensors.len())));
        }
        for (at, ((name, shape), tensor)) in named.iter().zip(&tensors).enumerate() {
            let numbers = shape.iter().product::<usize>();
            let fits = *name == tensor.name && **shape == tensor.shape;
            if !fits || numbers != tensor.values.len() {
                let SnapshotTensor { name: found, shape: other, values } = tensor;
                let found = format!("{found} {other:?} of {} numbers", values.len());
                return Err(misfit(at, format!("{name} {shape:?} of {numbers} numbers"), found));
            }
        }
        Ok(Self { version, config, tensors: tensors.into() })
    }

    /// A copy of weights that are trained on.
    ///
    /// # Errors
    /// The device's.
    pub fn of(parameters: &Parameters, version: u64) -> candle_core::Result<Self> {
        let tensors = parameters.named().into_iter().map(|(name, var)| {
            let values = var.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?;
            let values = Arc::from(values.to_vec1::<f32>()?);
            Ok(SnapshotTensor { name, shape: var.dims().to_vec(), values })
        });
        let tensors = tensors.collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Self { version, config: parameters.config.clone(), tensors: tensors.into() })
    }

    /// A copy that can be trained on, or written as a directory.
    ///
    /// # Errors
    /// The device's.
    pub fn to_parameters(&self, device: &Device) -> candle_core::Result<Parameters> {
        let mut tensors = self.tensors.iter();
        Parameters::build(&self.config, |name, shape| match tensors.next() {
            Some(tensor) => Var::from_slice(&tensor.values, shape, device),
            None => candle_core::bail!("{name}: not in the snapshot"),
        })
    }

    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The effective weights, in the order of [`Parameters::named`].
    pub fn tensors(&self) -> &[SnapshotTensor] {
        &self.tensors
    }

    /// Writes `policy` with these weights: see [`Policy::save`].
    ///
    /// # Errors
    /// A folder with something in it, files that cannot be written, or weights of another model.
    pub fn save(&self, policy: &Policy, dir: &Path, format: WeightsFormat) -> io::Result<()> {
        if policy.config != self.config {
            return Err(io::Error::other("the weights are of another model than the policy"));
        }
        let parameters = self.to_parameters(&Device::Cpu).map_err(io::Error::other)?;
        policy.save(dir, &parameters, format)
    }

    /// Of its stream.
    pub fn bytes(&self) -> u64 {
        stream_bytes(&self.config)
    }

    /// Takes as long as the weights are large: not for a thread that others wait for.
    pub fn digest(&self) -> SnapshotDigest {
        let mut digesting = Digesting::default();
        let mut block = Vec::with_capacity(BLOCK_NUMBERS * NUMBER_BYTES);
        for tensor in self.tensors.iter() {
            digesting.begin(&tensor.name, &tensor.shape);
            for values in tensor.values.chunks(BLOCK_NUMBERS) {
                block.clear();
                block.extend(values.iter().flat_map(|value| value.to_le_bytes()));
                digesting.0.update(&block);
            }
        }
        digesting.finish()
    }

    /// Its stream in pieces of `bytes_max` bytes, but for the last.
    pub fn chunks(&self, bytes_max: usize) -> Chunks<'_> {
        let numbers_max = (bytes_max / NUMBER_BYTES).max(1);
        Chunks { tensors: &self.tensors, at: 0, numbers_max }
    }
}

/// Of the stream of a model's weights.
pub fn stream_bytes(config: &ModelConfig) -> u64 {
    (config.parameters() * NUMBER_BYTES) as u64
}

/// Pieces of a stream.
pub struct Chunks<'s> {
    /// The first is under way.
    tensors: &'s [SnapshotTensor],
    /// Numbers of it that have gone.
    at: usize,
    numbers_max: usize,
}

impl Iterator for Chunks<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut chunk = Vec::new();
        let mut room = self.numbers_max;
        while let Some((tensor, rest)) = self.tensors.split_first()
            && room > 0
        {
            let left = &tensor.values[self.at..];
            let here = &left[..left.len().min(room)];
            chunk.extend(here.iter().flat_map(|value| value.to_le_bytes()));
            room -= here.len();
            self.at += here.len();
            if self.at == tensor.values.len() {
                (self.tensors, self.at) = (rest, 0);
            }
        }
        (!chunk.is_empty()).then_some(chunk)
    }
}

/// Makes a snapshot of its stream. What comes may be anything: no more memory is taken than the
/// model's weights need.
pub struct SnapshotReader {
    version: u64,
    config: ModelConfig,
    expected: SnapshotDigest,
    digesting: Digesting,
    /// Names and shapes that are still to come, the next one last.
    to_come: Vec<(String, Vec<usize>)>,
    done: Vec<SnapshotTensor>,
    values: Vec<f32>,
    /// Of a number that was cut in two.
    piece: Vec<u8>,
    taken: u64,
}

impl SnapshotReader {
    /// For weights of this model, which are to have this digest.
    pub fn new(version: u64, config: ModelConfig, expected: SnapshotDigest) -> Self {
        let shapes = Parameters::shapes(&config);
        let named = shapes.named().into_iter().rev();
        let to_come = named.map(|(name, shape)| (name, shape.clone())).collect();
        let (digesting, done, values, piece) = Default::default();
        Self { version, config, expected, digesting, to_come, done, values, piece, taken: 0 }
    }

    /// Whether every byte has come.
    pub fn is_whole(&self) -> bool {
        self.taken == stream_bytes(&self.config)
    }

    /// The stream's next bytes.
    ///
    /// # Errors
    /// More than the model has weights.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.taken += bytes.len() as u64;
        let expected = stream_bytes(&self.config);
        if self.taken > expected {
            return Err(SnapshotError::Length { expected, found: self.taken });
        }
        let joined;
        let mut rest = bytes;
        if !self.piece.is_empty() {
            self.piece.extend_from_slice(bytes);
            joined = mem::take(&mut self.piece);
            rest = &joined;
        }
        let whole = rest.len() / NUMBER_BYTES * NUMBER_BYTES;
        let (mut numbers, piece) = rest.split_at(whole);
        self.piece = piece.to_vec();
        while !numbers.is_empty()
            && let Some((name, shape)) = self.to_come.last()
        {
            let size = shape.iter().product::<usize>();
            if self.values.is_empty() {
                self.digesting.begin(name, shape);
                self.values.reserve_exact(size);
            }
            let here = numbers.len().min((size - self.values.len()) * NUMBER_BYTES);
            let (these, after) = numbers.split_at(here);
            self.digesting.0.update(these);
            let (these, _) = these.as_chunks::<NUMBER_BYTES>();
            self.values.extend(these.iter().map(|bytes| f32::from_le_bytes(*bytes)));
            numbers = after;
            if self.values.len() == size
                && let Some((name, shape)) = self.to_come.pop()
            {
                let values = Arc::from(mem::take(&mut self.values));
                self.done.push(SnapshotTensor { name, shape, values });
            }
        }
        Ok(())
    }

    /// # Errors
    /// Bytes that are missing, or not those that were sent.
    pub fn finish(self) -> Result<Snapshot, SnapshotError> {
        let expected = stream_bytes(&self.config);
        if self.taken != expected {
            return Err(SnapshotError::Length { expected, found: self.taken });
        }
        let (expected, found) = (self.expected, self.digesting.finish());
        if found != expected {
            return Err(SnapshotError::Digest { expected, found });
        }
        Ok(Snapshot { version: self.version, config: self.config, tensors: self.done.into() })
    }
}

#[derive(Default)]
struct Digesting(Sha256);

impl Digesting {
    /// A weight, whose numbers come next. Lengths stand first, so that no two models read alike.
    fn begin(&mut self, name: &str, shape: &[usize]) {
        self.0.update((name.len() as u64).to_le_bytes());
        self.0.update(name);
        self.0.update((shape.len() as u64).to_le_bytes());
        for size in shape {
            self.0.update((*size as u64).to_le_bytes());
        }
    }

    fn finish(self) -> SnapshotDigest {
        SnapshotDigest(self.0.finalize().into())
    }
}

impl fmt::Display for SnapshotDigest {
    /// As much of it as tells one from another.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SnapshotDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("version", &self.version).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
