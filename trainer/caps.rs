//! Limits on everything that comes from outside: files, prompts, requests, other ranks. With their
//! reasons.

use std::time::Duration;

/// Bytes of config.json, a template, a generation config: text that people write.
pub const TEXT_BYTES_MAX: u64 = 4 << 20;
/// Bytes of tokenizer.json; those of large vocabularies have 20 MiB.
pub const TOKENIZER_BYTES_MAX: u64 = 256 << 20;
/// Bytes of one safetensors file's header; that of 1024 layers has 2 MiB.
pub const HEADER_BYTES_MAX: u64 = 16 << 20;
/// Faults told of one directory's tensors: who mistook a directory needs no longer list.
pub const TENSOR_DEFECTS_MAX: usize = 100;
/// Layers of a model: above it, a config was mistaken.
pub const LAYERS_MAX: usize = 1024;
/// Of one side of a matrix, words of a vocabulary included. The product of two, in bytes, and that
/// times the layers, still fit 64 bits.
pub const WIDTH_MAX: usize = 1 << 20;
/// Of an adapter; PEFT's users stay below 512.
pub const LORA_RANK_MAX: usize = 4096;
/// Of a conversation, in tokens: positions are 32-bit, and nobody has trained beyond.
pub const CONTEXT_TOKENS_MAX: usize = 1 << 20;

/// Stop texts of one request, and stop ids: each is compared with every token.
pub const STOPS_MAX: usize = 64;
/// Of one stop text: so much of an answer may be held back.
pub const STOP_TEXT_BYTES_MAX: usize = 1024;
/// Alternatives told with a token; OpenAI's limit.
pub const TOP_LOGPROBS_MAX: usize = 20;
/// Requests that wait for an engine's slot: far more than anyone waits for.
pub const REQUESTS_WAITING_MAX: usize = 1 << 20;

/// What a rank of a ring sends on at once: its receiver has room for one.
pub const SEGMENT_BYTES_MAX: usize = 16 << 20;
/// What a rank that fails says of the cause.
pub const FAREWELL_BYTES_MAX: usize = 1024;
/// How long a rank of a ring that is not sure of the cause listens to the one before it. All have
/// failed by then, or are about to: only the network is waited for.
pub const RING_DOUBT_TIMEOUT: Duration = Duration::from_millis(250);
/// How long what a rank has written may take to leave it once it is gone.
pub const RING_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Samples of one step that another node sends.
pub const RANK_SAMPLES_MAX: u32 = 1 << 20;
/// Tensors of a state that another node sends: three for each weight of the deepest model.
pub const RANK_TENSORS_MAX: usize = 1 << 16;
/// Their values: room for 45 billion parameters. What has not come takes no memory.
pub const RANK_VALUES_MAX: usize = 1 << 37;
