//! What an `sft` run is going to do: its policy and its samples, read and judged before anything
//! starts.

use std::path::{Path, PathBuf};

use candle_core::Device;
use orcapack_tasks::{Defect, Defects, Digest};
use orcapack_trainer::learner::{ADAPTERS, Trainee};
use orcapack_trainer::model::config::ModelConfig;
use orcapack_trainer::model::lora::{Lora, LoraSettings, LoraTarget};
use orcapack_trainer::model::parameters::Parameters;
use orcapack_trainer::policy::Policy;
use orcapack_trainer::samples::from_trajectory::{self, Origin, Sample};
use orcapack_trainer::sft::{Sft, SftSettings};
use orcapack_trainer::text::CHATML_SPECIALS;
use orcapack_trainer::text::chat::ChatTemplate;
use orcapack_trainer::text::tokenizer::Tokenizer;
use serde::Serialize;
use serde_json::Map;

use crate::cli_sft::SftArgs;
use crate::config_layers::Host;
use crate::exit::{Exit, Failure};
use crate::learning_config;
use crate::output;
use crate::run_kind::RunKind;
use crate::sft_config::{LoraConfig, NewPolicyConfig, SftConfig};
use crate::sft_data::{self, Demonstration};
use crate::sft_layers;

/// A run that can start.
pub struct SftPlan {
    pub config: SftConfig,
    pub policy: Policy,
    pub weights: Weights,
    /// At least one.
    pub samples: Vec<Sample>,
    /// Of other tasks.
    pub held_out: Vec<Sample>,
    pub found: Found,
    data_digest: Digest,
}

/// Where the weights come from that learn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Weights {
    Of(PathBuf),
    Random { seed: u64 },
}

/// What the data came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Found {
    pub demonstrations: usize,
    /// Rollouts that failed, or had less than the reward that is asked for.
    pub left_out: usize,
    pub samples: usize,
    pub held_out_samples: usize,
    /// Longer than `train.sample_tokens_max`, or than the policy's context.
    pub too_long: usize,
    pub tokens: usize,
    pub trained_tokens: usize,
    pub steps: u64,
}

impl SftPlan {
    /// # Errors
    /// The configuration, the data or the policy cannot be used.
    pub fn make(args: &SftArgs, host: &Host) -> Result<Self, Failure> {
        let config = sft_layers::load(args, host)?;
        let data = sft_data::read(&config.data)?;
        let (policy, weights) = match (&config.policy.base, &config.policy.new) {
            (Some(base), _) => (Policy::open(base)?, Weights::Of(base.clone())),
            (None, Some(new)) => (new_policy(new, &data.all)?, Weights::Random { seed: new.seed }),
            (None, None) => return Err(Failure::internal("a configuration without a policy")),
        };
        let tokens_max =
            config.train.learning.sample_tokens_max.min(policy.config.max_position_embeddings);
        let (demonstrations, left_out) = (data.all.len(), data.left_out);
        let mut found = Found { demonstrations, left_out, ..Found::default() };
        let (mut samples, mut held_out) = (Vec::new(), Vec::new());
        for (task, sample) in all_samples(&data.all, &policy)? {
            if sample.ids.len() > tokens_max {
                found.too_long += 1;
            } else if is_held_out(task, config.data.held_out) {
                held_out.push(sample);
            } else {
                samples.push(sample);
            }
        }
        if samples.is_empty() {
            let expected = format!("samples of at most {tokens_max} tokens to train on");
            let found = format!("none ({} are longer)", found.too_long);
            return Err(Defects::from(Defect::new(Path::new("data.from"), expected, found)).into());
        }
        found.samples = samples.len();
        found.held_out_samples = held_out.len();
        found.tokens = samples.iter().map(|sample| sample.ids.len()).sum();
        found.trained_tokens = samples.iter().map(|sample| sample.trained.len()).sum();
        let seen = config.train.epochs * samples.len() as f64;
        found.steps = (seen / config.train.batch_samples as f64).ceil() as u64;
        Ok(Self { config, policy, weights, samples, held_out, found, data_digest: data.digest })
    }

    /// What a resumed run must share with the one before: all that its steps depend on.
    pub fn kind(&self) -> RunKind {
        let mut kind = RunKind::new("sft");
        kind.put("data", self.data_digest);
        kind.put_section("data", &self.config.data, &["from"]);
        kind.put_section("policy", &self.config.policy, &[]);
        kind.put_section("train", &self.config.train, &learning_config::FREE);
        if let Some(lora) = &self.config.lora {
            kind.put_section("lora", lora, &[]);
        }
        kind
    }

    /// `--dry-run`: what would be trained, as a configuration file with the samples in comments.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn print(&self, json: bool) -> Result<Exit, Failure> {
        if json {
            #[derive(Serialize)]
            struct PlanJson<'a> {
                config: &'a SftConfig,
                found: &'a Found,
                parameters: usize,
            }
            let (config, found) = (&self.config, &self.found);
            let parameters = self.policy.config.parameters();
            output::print_json(&PlanJson { config, found, parameters })?;
            return Ok(Exit::Done);
        }
        let config =
            self.config.to_toml().map_err(|error| Failure::bad_input(error.to_string()))?;
        output::print_plan(&config, &self.about())?;
        Ok(Exit::Done)
    }

    /// Policy and samples in a few lines.
    pub fn about(&self) -> String {
        let Found { samples, held_out_samples, tokens, trained_tokens, steps, .. } = self.found;
        let mut text = format!(
            "{} parameters, {} tokens of vocabulary\n{} of {tokens} tokens, {trained_tokens} of \
             them trained; {} held out; {}\n",
            self.policy.config.parameters(),
            self.policy.config.vocab_size,
            output::plural(samples, "sample"),
            output::plural(held_out_samples, "sample"),
            output::plural(steps as usize, "step"),
        );
        if self.found.left_out > 0 {
            text += &format!("left out: {} without the reward\n", self.found.left_out);
        }
        if self.found.too_long > 0 {
            text += &format!("left out: {} too long\n", self.found.too_long);
        }
        text
    }
}

impl SftPlan {
    /// At its first step.
    ///
    /// # Errors
    /// Faults of the weights' files.
    pub fn fresh(&self) -> Result<Sft, Failure> {
        let parameters = self.base()?;
        let trainee = match &self.config.lora {
            None => Trainee::Full(parameters),
            Some(LoraConfig { rank, alpha, seed }) => {
                let targets = LoraTarget::ALL.into_iter().collect();
                let settings = LoraSettings { rank: *rank, alpha: *alpha, targets };
                let lora = Lora::random(&self.policy.config, &settings, *seed, &Device::Cpu);
                Trainee::Adapters { base: parameters, lora: lora.map_err(computed)? }
            }
        };
        self.sft(trainee)
    }

    /// Behind the steps of a checkpoint.
    ///
    /// # Errors
    /// Faults of the checkpoint's files.
    pub fn resumed(&self, checkpoint: &Path, steps: u64) -> Result<Sft, Failure> {
        let trainee = match &self.config.lora {
            None => Trainee::Full(self.policy.load(checkpoint, &Device::Cpu)?),
            Some(_) => {
                let adapters = checkpoint.join(ADAPTERS);
                let lora = Lora::load(&adapters, &self.policy.config, &Device::Cpu)?;
                Trainee::Adapters { base: self.base()?, lora }
            }
        };
        let mut sft = self.sft(trainee)?;
        sft.restore(checkpoint, steps)?;
        Ok(sft)
    }

    /// The weights before the first step.
    fn base(&self) -> Result<Parameters, Failure> {
        match &self.weights {
            Weights::Of(dir) => Ok(self.policy.load(dir, &Device::Cpu)?),
            Weights::Random { seed } => {
                Parameters::random(&self.policy.config, *seed, &Device::Cpu).map_err(computed)
            }
        }
    }

    fn sft(&self, trainee: Trainee) -> Result<Sft, Failure> {
        let train = &self.config.train;
        let learning = &train.learning;
        let settings = SftSettings {
            batch_samples: train.batch_samples,
            micro_batch: learning.micro_batch(),
            clip_norm: learning.clip_norm,
            seed: learning.seed,
            schedule: learning.schedule(self.found.steps),
            adamw: learning.adamw(),
            step: learning.step(1.0),
        };
        Sft::new(trainee, self.samples.clone(), settings).map_err(computed)
    }
}

fn computed(error: candle_core::Error) -> Failure {
    Failure::internal(error.to_string())
}

/// Of all demonstrations, each with its task.
fn all_samples<'d>(
    demonstrations: &'d [Demonstration],
    policy: &Policy,
) -> Result<Vec<(&'d str, Sample)>, Defects> {
    let renderer = policy.renderer(Map::new())?;
    let (mut samples, mut defects) = (Vec::new(), Vec::new());
    for Demonstration { file, task, trajectory } in demonstrations {
        match from_trajectory::from_trajectory(file, trajectory, &renderer, Origin::Taught) {
            Ok(made) => samples.extend(made.into_iter().map(|sample| (task.as_str(), sample))),
            Err(found) => defects.extend(found.0),
        }
    }
    Defects(defects).into_result(samples)
}

/// A share of the tasks, the same whatever else is there.
fn is_held_out(task: &str, share: f64) -> bool {
    let Digest([a, b, c, d, ..]) = Digest::of(task.as_bytes());
    f64::from(u32::from_be_bytes([a, b, c, d])) < share * (f64::from(u32::MAX) + 1.0)
}

/// A policy without weights yet: its shape as configured, its words from the data.
fn new_policy(new: &NewPolicyConfig, demonstrations: &[Demonstration]) -> Result<Policy, Defects> {
    let mut texts = Vec::new();
    for Demonstration { file, trajectory, .. } in demonstrations {
        texts.extend(from_trajectory::texts(file, trajectory)?);
    }
    let tokenizer = Tokenizer::train(&texts, new.vocab_size, &CHATML_SPECIALS)?;
    let chat = ChatTemplate::chatml()?;
    let [_, end, ..] = CHATML_SPECIALS;
    let config = ModelConfig {
        vocab_size: new.vocab_size,
        hidden_size: new.hidden_size,
        intermediate_size: new.intermediate_size,
        num_hidden_layers: new.num_hidden_layers,
        num_attention_heads: new.num_attention_heads,
        num_key_value_heads: new.num_key_value_heads,
        head_dim: new.head_dim,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        tie_word_embeddings: true,
        max_position_embeddings: new.max_position_embeddings,
        eos_token_ids: tokenizer.id(end).into_iter().collect(),
    };
    Ok(Policy { config, tokenizer, chat })
}
