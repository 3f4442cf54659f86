//! The configuration of `sft`: every key, its unit, its default and its range.
//!
//! [`SftConfig::of`] lays what a TOML document says over a base; [`SftConfig::to_toml`] writes the
//! effective configuration, and that reads back as itself.

use std::path::PathBuf;

use orcapack_tasks::toml_section::Section;
use serde::Serialize;

use crate::config_read::{count_or, path_or, read_run_name, strings_or};
use crate::learning_config::LearningConfig;

/// Everything that one `sft` run needs to know.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SftConfig {
    pub run: SftRunConfig,
    pub data: DataConfig,
    pub policy: PolicyConfig,
    pub train: TrainConfig,
    /// With it, only adapters are trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
    pub evaluation: EvaluationConfig,
    pub checkpoints: CheckpointConfig,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SftRunConfig {
    /// Name of the run and of its directory.
    pub name: String,
    pub runs_dir: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DataConfig {
    /// Run directories, or folders of ATIF trajectories. Absolute once loaded.
    pub from: Vec<PathBuf>,
    /// Of a run's rollouts, those with less are left out.
    pub reward_min: f64,
    /// Share of the tasks that is evaluated and never trained on.
    pub held_out: f64,
}

/// Which policy learns: one that is there, or a new one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PolicyConfig {
    /// A Hugging Face directory. Absolute once loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<NewPolicyConfig>,
}

/// A policy of random weights, with a tokenizer that is made from the data.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NewPolicyConfig {
    pub seed: u64,
    /// At least 260: each byte, and the tokens that shape a conversation.
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub num_key_value_heads: usize,
    pub head_dim: usize,
    pub max_position_embeddings: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainConfig {
    /// Times that each sample is seen; a part of one is a part of the samples.
    pub epochs: f64,
    /// In one step of the optimizer.
    pub batch_samples: usize,
    #[serde(flatten)]
    pub learning: LearningConfig,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoraConfig {
    pub rank: usize,
    pub alpha: f64,
    pub seed: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvaluationConfig {
    /// Steps between two looks at the held-out samples.
    pub every_steps: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckpointConfig {
    pub every_steps: usize,
    /// The last so many stay; the newest always does.
    pub keep: usize,
}

/// For a policy that knows its language, and for one that knows nothing.
const LEARNING_RATE_BASE: f64 = 1e-5;
const LEARNING_RATE_NEW: f64 = 4e-3;

impl SftConfig {
    /// Where nothing is said. It lacks data, and a policy.
    pub fn defaults(cpus: usize) -> Self {
        Self {
            run: SftRunConfig { name: String::new(), runs_dir: PathBuf::from("runs") },
            data: DataConfig { from: Vec::new(), reward_min: 1.0, held_out: 0.05 },
            policy: PolicyConfig { base: None, new: None },
            train: TrainConfig {
                epochs: 3.0,
                batch_samples: 32,
                learning: LearningConfig::defaults(f64::NAN, cpus),
            },
            lora: None,
            evaluation: EvaluationConfig { every_steps: 50 },
            checkpoints: CheckpointConfig { every_steps: 100, keep: 2 },
        }
    }

    /// `base` with everything over it that the document says.
    pub(crate) fn of(root: &Section<'_>, base: Self) -> Self {
        let policy = PolicyConfig::read(&root.section("policy"), base.policy);
        let rate = match policy.new {
            Some(_) => LEARNING_RATE_NEW,
            None => LEARNING_RATE_BASE,
        };
        let mut train = base.train;
        if train.learning.lr.is_nan() {
            train.learning.lr = rate;
        }
        let every = |name: &str, base| {
            count_or(&root.section(name), "every_steps", base, 1..=1_000_000_000)
        };
        Self {
            run: SftRunConfig::read(&root.section("run"), base.run),
            data: DataConfig::read(&root.section("data"), base.data),
            policy,
            train: TrainConfig::read(&root.section("train"), train),
            lora: match root.opt_section("lora") {
                Some(section) => Some(LoraConfig::read(&section, base.lora)),
                None => base.lora,
            },
            evaluation: EvaluationConfig {
                every_steps: every("evaluation", base.evaluation.every_steps),
            },
            checkpoints: CheckpointConfig {
                every_steps: every("checkpoints", base.checkpoints.every_steps),
                keep: count_or(
                    &root.section("checkpoints"),
                    "keep",
                    base.checkpoints.keep,
                    1..=1_000_000,
                ),
            },
        }
    }

    /// # Errors
    /// A value that TOML cannot hold.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}

impl SftRunConfig {
    fn read(section: &Section<'_>, base: Self) -> Self {
        Self {
            name: read_run_name(section).unwrap_or(base.name),
            runs_dir: path_or(section, "runs_dir", base.runs_dir),
        }
    }
}

impl DataConfig {
    fn read(section: &Section<'_>, base: Self) -> Self {
        let from = base.from.iter().map(|path| path.to_string_lossy().into_owned()).collect();
        let data = Self {
            from: strings_or(section, "from", from).into_iter().map(PathBuf::from).collect(),
            reward_min: section.f64_or("reward_min", base.reward_min, 0.0..=1.0),
            held_out: section.f64_or("held_out", base.held_out, 0.0..=0.9),
        };
        if data.from.is_empty() {
            section.refuse("from", "runs to learn from: this key, or --from RUN", "none");
        }
        data
    }
}

impl PolicyConfig {
    fn read(section: &Section<'_>, base: Self) -> Self {
        let given = section.opt_string("base").map(PathBuf::from);
        let new = section.opt_section("new");
        if given.is_some() && new.is_some() {
            section.refuse("base", "one of policy.base and [policy.new]", "both");
            // What is in the other is of no use to judge.
            section.allow_any_of("new");
        }
        let policy = match (given, new) {
            (Some(given), _) => Self { base: Some(given), new: None },
            (None, Some(new)) => {
                let base = base.new.unwrap_or_else(NewPolicyConfig::tiny);
                Self { base: None, new: Some(NewPolicyConfig::read(&new, base)) }
            }
            (None, None) => base,
        };
        if policy == (Self { base: None, new: None }) && !section.has("base") {
            let expected = "a policy: --base DIR, or --new for one of random weights";
            section.refuse("base", expected, "none");
        }
        policy
    }
}

impl NewPolicyConfig {
    /// What learns a small family of tasks on two processors, in minutes.
    pub fn tiny() -> Self {
        Self {
            seed: 0,
            vocab_size: 512,
            hidden_size: 128,
            intermediate_size: 384,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 32,
            max_position_embeddings: 2048,
        }
    }

    fn read(section: &Section<'_>, base: Self) -> Self {
        let new = Self {
            seed: section.u64_or("seed", base.seed, 0..=i64::MAX as u64),
            vocab_size: count_or(section, "vocab_size", base.vocab_size, 260..=1_000_000),
            hidden_size: count_or(section, "hidden_size", base.hidden_size, 8..=65_536),
            intermediate_size: count_or(
                section,
                "intermediate_size",
                base.intermediate_size,
                8..=1_000_000,
            ),
            num_hidden_layers: count_or(
                section,
                "num_hidden_layers",
                base.num_hidden_layers,
                1..=1024,
            ),
            num_attention_heads: count_or(
                section,
                "num_attention_heads",
                base.num_attention_heads,
                1..=1024,
            ),
            num_key_value_heads: count_or(
                section,
                "num_key_value_heads",
                base.num_key_value_heads,
                1..=1024,
            ),
            head_dim: count_or(section, "head_dim", base.head_dim, 2..=1024),
            max_position_embeddings: count_or(
                section,
                "max_position_embeddings",
                base.max_position_embeddings,
                64..=1 << 20,
            ),
        };
        if !new.num_attention_heads.is_multiple_of(new.num_key_value_heads) {
            let expected =
                format!("a divisor of num_attention_heads ({})", new.num_attention_heads);
            section.refuse("num_key_value_heads", &expected, new.num_key_value_heads.to_string());
        }
        if !new.head_dim.is_multiple_of(2) {
            section.refuse("head_dim", "an even number", new.head_dim.to_string());
        }
        new
    }
}

impl TrainConfig {
    fn read(section: &Section<'_>, base: Self) -> Self {
        Self {
            epochs: section.f64_or("epochs", base.epochs, 1e-6..=1e6),
            batch_samples: count_or(section, "batch_samples", base.batch_samples, 1..=1_000_000),
            learning: LearningConfig::read(section, base.learning),
        }
    }
}

impl LoraConfig {
    fn read(section: &Section<'_>, base: Option<Self>) -> Self {
        let base = base.unwrap_or(Self { rank: 16, alpha: 32.0, seed: 0 });
        Self {
            rank: count_or(section, "rank", base.rank, 1..=4096),
            alpha: section.f64_or("alpha", base.alpha, 1e-6..=1e6),
            seed: section.u64_or("seed", base.seed, 0..=i64::MAX as u64),
        }
    }
}
