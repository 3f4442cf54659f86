//! The weights as the CPU wants them: blocks in the order in which they are read.

use std::borrow::Cow;

use candle_core::{DType, Device, Result, Var};

use crate::engine::lanes::{Block, LANES, Lanes, lanes_of};
use crate::model::config::ModelConfig;
use crate::model::parameters::{LayerParameters, Parameters};
use crate::snapshot::{Snapshot, SnapshotTensor};

/// A copy of a policy's weights, f32, packed for sampling on the CPU.
#[derive(PartialEq)]
pub struct EngineWeights {
    /// Of the policy; every token that is sampled with these weights carries it.
    pub version: u64,
    pub(crate) config: ModelConfig,
    /// `[vocab, lanes of hidden]`.
    pub(crate) embed: Vec<Lanes>,
    pub(crate) layers: Vec<LayerWeights>,
    /// Lanes of hidden.
    pub(crate) norm: Vec<Lanes>,
    pub(crate) head: Packed,
}

#[derive(PartialEq)]
pub(crate) struct LayerWeights {
    /// Lanes of hidden.
    pub input_norm: Vec<Lanes>,
    /// For each key-value head: its queries' heads, its key, its value; each head in lanes of its
    /// own.
    pub qkv: Packed,
    /// Of one head, as long as it is.
    pub q_norm: Vec<f32>,
    pub k_norm: Vec<f32>,
    pub output: Packed,
    /// Lanes of hidden.
    pub post_norm: Vec<Lanes>,
    /// A panel of the gate, the panel of `up` beside it, and so on.
    pub gate_up: Packed,
    pub down: Packed,
}

/// A matrix `[out, in]` as panels of sixteen outputs, each of them blocks along the inputs;
/// filled up with zeros.
#[derive(PartialEq)]
pub(crate) struct Packed {
    /// Blocks of a panel.
    pub depth: usize,
    pub blocks: Vec<Block>,
}

impl EngineWeights {
    /// # Errors
    /// Those of reading the tensors.
    pub fn pack(parameters: &Parameters, version: u64) -> Result<Self> {
        Self::of(parameters, version)
    }

    /// # Errors
    /// None: a snapshot has all weights of its model.
    pub fn of_snapshot(snapshot: &Snapshot) -> Result<Self> {
        let mut tensors = snapshot.tensors().iter();
        let parameters = Parameters::build(snapshot.config(), |name, _| match tensors.next() {
            Some(tensor) => Ok(tensor),
            None => candle_core::bail!("{name}: not in the snapshot"),
        });
        Self::of(&parameters?, snapshot.version)
    }

    /// Of the model that they are for.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn of<W: HostWeight>(parameters: &Parameters<W>, version: u64) -> Result<Self> {
        let config = parameters.config.clone();
        let embed = W::matrix(&parameters.embed)?;
        let head = parameters.head.as_ref().map(W::matrix).transpose()?;
        let head = Packed::plain(head.as_ref().unwrap_or(&embed));
        let layers = parameters.layers.iter().map(|layer| LayerWeights::pack(layer, &config));
        Ok(Self {
            version,
            layers: layers.collect::<Result<_>>()?,
            norm: W::matrix(&parameters.norm)?.lanes(),
            embed: embed.lanes(),
            head,
            config,
        })
    }
}

impl LayerWeights {
    fn pack<W: HostWeight>(layer: &LayerParameters<W>, config: &ModelConfig) -> Result<Self> {
        let head = Padded { numbers: config.head_dim };
        let group = config.num_attention_heads / config.num_key_value_heads;
        let [q, k, v] = [&layer.q_proj, &layer.k_proj, &layer.v_proj].map(W::matrix);
        let (q, k, v) = (q?, k?, v?);
        let heads = (0..config.num_key_value_heads).flat_map(|kv| {
            let queries = (kv * group..(kv + 1) * group).map(|head| (&q, head));
            queries.chain([(&k, kv), (&v, kv)])
        });
        let qkv_rows = heads.flat_map(|(matrix, index)| {
            (0..head.padded()).map(move |at| Some(matrix.row(head.place(index, at)?)))
        });
        let output = W::matrix(&layer.o_proj)?;
        let output_inputs = config.num_attention_heads * head.padded();
        let output_column = |at: usize| head.place(at / head.padded(), at % head.padded());
        let (gate, up) = (W::matrix(&layer.gate_proj)?, W::matrix(&layer.up_proj)?);
        let panels = 0..lanes_of(config.intermediate_size);
        let gate_up_rows =
            panels.flat_map(|panel| [(&gate, panel), (&up, panel)]).flat_map(|(matrix, panel)| {
                (0..LANES).map(move |lane| matrix.get_row(panel * LANES + lane))
            });
        Ok(Self {
            input_norm: W::matrix(&layer.input_norm)?.lanes(),
            qkv: Packed::new(qkv_rows, config.hidden_size, Some),
            q_norm: W::matrix(&layer.q_norm)?.values.into_owned(),
            k_norm: W::matrix(&layer.k_norm)?.values.into_owned(),
            output: Packed::new(output.rows().map(Some), output_inputs, output_column),
            post_norm: W::matrix(&layer.post_norm)?.lanes(),
            gate_up: Packed::new(gate_up_rows, config.hidden_size, Some),
            down: Packed::plain(&W::matrix(&layer.down_proj)?),
        })
    }
}

/// Heads whose numbers are filled up to whole lanes.
#[derive(Clone, Copy)]
struct Padded {
    numbers: usize,
}

impl Padded {
    fn padded(&self) -> usize {
        lanes_of(self.numbers) * LANES
    }

    /// Where number `at` of head `index` is in the matrix; `None` where it fills up.
    fn place(&self, index: usize, at: usize) -> Option<usize> {
        (at < self.numbers).then(|| index * self.numbers + at)
    }
}

impl Packed {
    pub fn panels(&self) -> usize {
        self.blocks.len() / self.depth
    }

    fn plain(matrix: &Matrix<'_>) -> Self {
        Self::new(matrix.rows().map(Some), matrix.columns, Some)
    }

    /// `rows` gives the weights of each output, `None` for one that fills up; `column` says where
    /// an input of `inputs` is in them.
    fn new<'m>(
        rows: impl Iterator<Item = Option<&'m [f32]>>,
        inputs: usize,
        column: impl Fn(usize) -> Option<usize>,
    ) -> Self {
        let depth = lanes_of(inputs);
        let mut blocks = Vec::new();
        for (output, row) in rows.enumerate() {
            if output % LANES == 0 {
                blocks.resize(blocks.len() + depth, Block::ZERO);
            }
            let panel = blocks.len() - depth;
            let Some(row) = row else { continue };
            for input in 0..inputs {
                let Some(column) = column(input) else { continue };
                let block = &mut blocks[panel + input / LANES];
                block.0[input % LANES].0[output % LANES] = row[column];
            }
        }
        Self { depth, blocks }
    }
}

/// A weight that can be had on the host.
trait HostWeight {
    fn matrix(&self) -> Result<Matrix<'_>>;
}

impl HostWeight for Var {
    fn matrix(&self) -> Result<Matrix<'_>> {
        let columns = *self.dims().last().unwrap_or(&1);
        let values = self.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?;
        Ok(Matrix { columns, values: values.to_vec1()?.into() })
    }
}

impl HostWeight for &SnapshotTensor {
    fn matrix(&self) -> Result<Matrix<'_>> {
        let columns = *self.shape.last().unwrap_or(&1);
        Ok(Matrix { columns, values: Cow::Borrowed(&self.values) })
    }
}

/// A weight on the host, row-major.
struct Matrix<'w> {
    columns: usize,
    values: Cow<'w, [f32]>,
}

impl Matrix<'_> {
    fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.columns)
    }

    fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.columns..][..self.columns]
    }

    fn get_row(&self, index: usize) -> Option<&[f32]> {
        self.values.get(index * self.columns..(index + 1) * self.columns)
    }

    /// `[rows, lanes of columns]`, filled up with zeros.
    fn lanes(&self) -> Vec<Lanes> {
        self.rows().flat_map(to_lanes).collect()
    }
}

fn to_lanes(row: &[f32]) -> impl Iterator<Item = Lanes> + '_ {
    row.chunks(LANES).map(|chunk| {
        let mut lanes = Lanes::ZERO;
        lanes.0[..chunk.len()].copy_from_slice(chunk);
        lanes
    })
}
