//! The command line of `orcapack serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgAction, Args, ValueHint, value_parser};

use crate::config_policy;

#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Directory of the policy: config.json, tokenizer.json, chat template, safetensors
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub dir: PathBuf,
    /// What clients call the model [default: the directory's name]
    #[arg(long, value_name = "MODEL")]
    pub name: Option<String>,
    /// Where to listen; port 0 takes a free one, which the first line of output tells
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    pub listen: SocketAddr,
    /// Environment variable with the key that clients must send
    #[arg(long, value_name = "NAME", conflicts_with = "api_key_file")]
    pub api_key_env: Option<String>,
    /// File with the key that clients must send
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub api_key_file: Option<PathBuf>,
    /// Answers that are sampled at one time
    #[arg(long, value_name = "N", default_value_t = config_policy::SLOTS as u64)]
    #[arg(value_parser = value_parser!(u64).range(1..=config_policy::SLOTS_MAX as u64))]
    pub slots: u64,
    /// Requests that wait for a slot; more are answered 429
    #[arg(long, value_name = "N", default_value_t = 256)]
    #[arg(value_parser = value_parser!(u64).range(1..=100_000))]
    pub queue: u64,
    /// Tokens of a prompt with its answer [default: what the model was made for, if it fits]
    #[arg(long, value_name = "TOKENS")]
    #[arg(value_parser = value_parser!(u64).range(2..=config_policy::CONTEXT_TOKENS_MAX as u64))]
    pub context: Option<u64>,
    /// Memory for keys and values, MiB [default: half of what is free]
    #[arg(long, value_name = "MIB", value_parser = value_parser!(u64).range(1..=1 << 30))]
    pub kept_mb: Option<u64>,
    /// Threads that compute [default: one for each processor]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = value_parser!(u64).range(1..=config_policy::THREADS_MAX as u64))]
    pub threads: Option<u64>,
    /// What the seeds of requests without one are made of [default: another each time]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// After the first signal, answers may come to their end in this time
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    #[arg(value_parser = value_parser!(u64).range(0..=86_400))]
    pub drain_sec: u64,
    /// Log to standard error; twice for debug messages
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
}

pub const SERVE_HELP: &str = "\
Examples:
  orcapack serve policies/small
  orcapack serve policies/small --listen 0.0.0.0:8000 --api-key-env SERVE_KEY
  curl http://127.0.0.1:8000/v1/chat/completions -d '{\"messages\": [{\"role\": \"user\",
    \"content\": \"hello\"}]}'
  orcapack eval -d tasks -a team -m vllm/small     its tokens in and out, from another machine too

Routes, as OpenAI and vLLM have them: POST /v1/chat/completions, POST /v1/completions (texts or
token ids), GET /v1/models, POST /tokenize, POST /detokenize, GET /health, GET /metrics.
A parameter that is not supported is refused by its name.

Ctrl-C or SIGTERM: no new connection is taken, and what is being answered may end; once more stops
at once.";
