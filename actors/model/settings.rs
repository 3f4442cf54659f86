//! What there is to say about an endpoint.

use std::fmt;
use std::hint::black_box;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::team::role::Role;

/// One endpoint, as it is configured. Only the kinds that speak HTTP use `url`, `api_key` and
/// `extra`; only those and `embedded` use `sampling`.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointSettings {
    /// Its name in the configuration.
    pub name: String,
    pub kind: EndpointKind,
    /// As the endpoint knows it; empty for kinds without one.
    pub model: String,
    /// Up to the version, as `https://api.openai.com/v1`. Kinds other than `openai` are found
    /// without it too.
    pub url: String,
    pub api_key: Option<Secret>,
    pub sampling: Sampling,
    /// Keys for the body of each request, over ours: `reasoning_effort`, `chat_template_kwargs`.
    pub extra: Map<String, Value>,
    /// Of one try, from the connection to the answer's last byte.
    pub try_timeout: Duration,
    /// Of one call; transient failures only are tried again.
    pub tries_max: u32,
    /// Calls at one time: the adaptive cap stays below it.
    pub in_flight_max: usize,
    pub price: Option<Price>,
    /// The run directory, or file of lines, that `replay` answers from.
    pub run: Option<PathBuf>,
    /// What `embedded` samples from.
    pub policy: Option<PolicySettings>,
    /// Of `solution`.
    pub mistakes: Mistakes,
}

/// A policy's directory, and the bounds of the engine that samples from it.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicySettings {
    pub checkpoint: PathBuf,
    pub bounds: EngineBounds,
    /// Given to its chat template beside the messages: `enable_thinking`.
    pub chat_template_kwargs: Map<String, Value>,
}

/// How much of this machine an engine may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineBounds {
    /// Answers that are sampled at one time.
    pub slots: usize,
    /// Of a prompt with its answer; `None`: what the model was made for.
    pub context_tokens_max: Option<usize>,
    /// MiB for the keys and values of all slots together; `None`: half of the memory that is free
    /// beside the weights.
    pub kept_mb: Option<u64>,
    /// `None`: one for each processor.
    pub threads: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndpointKind {
    /// Any server of the OpenAI chat protocol.
    OpenAi,
    /// vLLM, token ids in and out. For training at another temperature than 1 the server must run
    /// with `--logprobs-mode processed_logprobs`.
    Vllm,
    /// SGLang, token ids in and out.
    Sglang,
    Anthropic,
    /// The answers of an earlier run.
    Replay,
    /// Runs the commands that it finds in its instruction, and reports their output. No model.
    Literal,
    /// A policy's directory, sampled from in this process.
    Embedded,
    /// Has a coder run the task's own solution, then finishes. No model.
    Solution,
}

/// How to sample; what is `None` is left to the endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampling {
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    /// Mixed with each call's key, so that samples of one task differ and runs repeat.
    pub seed: Option<u64>,
}

/// On which rollouts a demonstrator delegates a known-bad solution instead of the solution.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mistakes {
    /// Of all rollouts, 0 to 1; which they are follows from the seed.
    pub share: f64,
    /// The name of the known-bad solution; `None`: one of the task's, drawn too.
    pub known_bad: Option<String>,
}

/// US dollars for a million tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    pub input: f64,
    /// Of a prompt's tokens that were read from a cache.
    pub cached_input: f64,
    pub output: f64,
}

/// A key that no log, record or debug print shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// Whether `sent` is it, in a time that does not tell where the two differ.
    pub fn is(&self, sent: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let differ = own.iter().zip(sent).fold(0, |differ, (a, b)| black_box(differ | (a ^ b)));
        own.len() == sent.len() && differ == 0
    }

    /// For the request's header and nothing else.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl EndpointKind {
    pub const NAMES: [(&str, Self); 8] = [
        ("openai", Self::OpenAi),
        ("vllm", Self::Vllm),
        ("sglang", Self::Sglang),
        ("anthropic", Self::Anthropic),
        ("replay", Self::Replay),
        ("literal", Self::Literal),
        ("embedded", Self::Embedded),
        ("solution", Self::Solution),
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
            Self::Anthropic => "anthropic",
            Self::Replay => "replay",
            Self::Literal => "literal",
            Self::Embedded => "embedded",
            Self::Solution => "solution",
        }
    }

    /// What an agent of this role must be able to do and the kind cannot; `None` where it can.
    pub fn lacks(self, role: Role) -> Option<&'static str> {
        match (self, role) {
            (Self::Literal, Role::Orchestrator) => Some("a model that can plan"),
            (Self::Solution, Role::Explorer | Role::Coder) => Some("a model that can run commands"),
            _ => None,
        }
    }

    /// Whether requests carry the task's own scripts.
    pub fn demonstrates(self) -> bool {
        self == Self::Solution
    }
}
