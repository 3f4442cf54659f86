//! The configuration of `train`: that of `eval` for its rollouts, and what a policy learns of them.
//!
//! `run.dataset` and `[select]` are the tasks that are trained on, `rollouts.n_attempts` the
//! rollouts of a group, `[models]` and `[team.roles]` who plays. The orchestrator is the policy.

use std::path::PathBuf;
use std::time::Duration;

use orcapack_actors::model::settings::{EndpointKind, PolicySettings};
use orcapack_tasks::toml_section::Section;
use orcapack_trainer::collective::ring::Wire;
use orcapack_trainer::loss::aggregate::Aggregate;
use orcapack_trainer::loss::{LossKind, LossSettings};
use orcapack_trainer::policy_step::OldLogprobs;
use serde::{Serialize, Serializer};
use serde_json::Map;

use crate::config::{AgentKind, EvalConfig, seconds};
use crate::config_models::ModelConfig;
use crate::config_policy::BOUNDS;
use crate::config_read::{count_or, path_or, small_or, strings_or};
use crate::config_team::{MODEL_LITERAL, MODEL_POLICY};
use crate::learning_config::{LearningConfig, name_of};
use crate::train::curriculum::CurriculumConfig;

/// Everything that one `train` run needs to know.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainConfig {
    #[serde(flatten)]
    pub eval: EvalConfig,
    pub policy: PolicyConfig,
    pub train: LoopConfig,
    pub loss: LossConfig,
    pub curriculum: CurriculumConfig,
    pub ranks: RanksConfig,
    pub evaluation: EvaluationConfig,
    pub checkpoints: CheckpointConfig,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PolicyConfig {
    /// Where it begins: a Hugging Face directory. Absolute once loaded.
    pub base: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoopConfig {
    /// Of the optimizer, each from one batch.
    pub steps: u64,
    /// Groups of a batch.
    pub groups_per_step: u32,
    /// Versions that a sample may lie behind the policy that it trains. 0: synchronous, so that a
    /// run is the same each time.
    pub max_off_policy_steps: u64,
    /// What the probability of a sampled token is compared with: what its sampler said, or what
    /// the policy says at the beginning of the step.
    #[serde(serialize_with = "old")]
    pub old_logprobs: OldLogprobs,
    /// What each action of the orchestrator adds to its rollout's reward, whether it helped or not.
    /// 0: unit tests alone are the reward. It is there to show what shaping does.
    pub action_bonus: f64,
    #[serde(flatten)]
    pub learning: LearningConfig,
}

const OLD: [(&str, OldLogprobs); 2] =
    [("sampler", OldLogprobs::Sampler), ("recompute", OldLogprobs::Recompute)];

#[derive(Clone, Debug, PartialEq)]
pub struct LossConfig(pub LossSettings);

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RanksConfig {
    /// Copies of the policy that share each step.
    pub count: u32,
    /// Nodes of the cluster that they live on, in turn; none: this process.
    pub nodes: Vec<String>,
    /// Whether gradients are reduced while earlier layers still compute.
    pub overlap: bool,
    /// Whether each rank keeps only its part of the optimizer's state.
    pub shard_optimizer: bool,
    /// Gradients that are reduced together.
    pub bucket_kb: usize,
    /// What the second half of a reduction carries between nodes.
    #[serde(serialize_with = "wire")]
    pub wire: Wire,
    /// A rank that has not made its step in this time is given up.
    #[serde(rename = "step_timeout_sec", serialize_with = "seconds")]
    pub step_timeout: Duration,
}

const WIRES: [(&str, Wire); 2] = [("f32", Wire::F32), ("bf16", Wire::Bf16)];

/// Held-out tasks, which are never trained on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvaluationConfig {
    /// Absolute once loaded. None: nothing is evaluated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<PathBuf>,
    /// Steps between two evaluations. The first is before step 1, the last after the last step.
    pub every_steps: u64,
    /// Attempts at each task.
    pub n_attempts: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckpointConfig {
    pub every_steps: u64,
    /// The last so many stay; the newest always does.
    pub keep: usize,
}

impl TrainConfig {
    /// Where nothing is said. It lacks tasks, and a policy.
    pub fn defaults(cpus: usize, cache_dir: PathBuf) -> Self {
        let mut eval = EvalConfig::defaults(cpus, cache_dir);
        eval.agent.kind = AgentKind::Team;
        eval.rollouts.n_attempts = 8;
        eval.rollouts.n_concurrent = 16;
        let mut policy = ModelConfig::defaults(EndpointKind::Embedded);
        let (checkpoint, chat_template_kwargs) = (PathBuf::new(), Map::new());
        policy.policy = Some(PolicySettings { checkpoint, bounds: BOUNDS, chat_template_kwargs });
        policy.in_flight_max = BOUNDS.slots;
        policy.sampling.temperature = Some(1.0);
        policy.sampling.seed = Some(0);
        let literal = ModelConfig::defaults(EndpointKind::Literal);
        eval.models =
            [(MODEL_POLICY.to_owned(), policy), (MODEL_LITERAL.to_owned(), literal)].into();
        let roles = &mut eval.team.roles;
        MODEL_POLICY.clone_into(&mut roles.orchestrator);
        MODEL_LITERAL.clone_into(&mut roles.explorer);
        MODEL_LITERAL.clone_into(&mut roles.coder);
        Self {
            eval,
            policy: PolicyConfig { base: PathBuf::new() },
            train: LoopConfig {
                steps: 100,
                groups_per_step: 16,
                max_off_policy_steps: 2,
                old_logprobs: OldLogprobs::Sampler,
                action_bonus: 0.0,
                learning: LearningConfig {
                    warmup_steps: 0,
                    schedule: orcapack_trainer::optimizer::schedule::Decay::Constant,
                    ..LearningConfig::defaults(1e-6, 1)
                },
            },
            loss: LossConfig(LossSettings::of(LossKind::Grpo)),
            curriculum: CurriculumConfig::DEFAULTS,
            ranks: RanksConfig {
                count: 1,
                nodes: Vec::new(),
                overlap: true,
                shard_optimizer: false,
                bucket_kb: 1024,
                wire: Wire::F32,
                step_timeout: Duration::from_secs(600),
            },
            evaluation: EvaluationConfig { dataset: None, every_steps: 20, n_attempts: 1 },
            checkpoints: CheckpointConfig { every_steps: 10, keep: 2 },
        }
    }

    /// `base` with everything over it that the document says.
    pub(crate) fn of(root: &Section<'_>, base: Self) -> Self {
        let every =
            |section: &Section<'_>, base| section.u64_or("every_steps", base, 1..=1_000_000_000);
        let (evaluation, checkpoints) = (root.section("evaluation"), root.section("checkpoints"));
        let policy = PolicyConfig::read(&root.section("policy"), base.policy);
        let mut eval = base.eval;
        // A model that says nothing else is the policy.
        for model in eval.models.values_mut().filter_map(|model| model.policy.as_mut()) {
            if model.checkpoint.as_os_str().is_empty() {
                model.checkpoint.clone_from(&policy.base);
            }
        }
        let config = Self {
            eval: EvalConfig::of(root, eval),
            policy,
            train: LoopConfig::read(&root.section("train"), base.train),
            loss: LossConfig::read(&root.section("loss"), base.loss),
            curriculum: CurriculumConfig::read(&root.section("curriculum"), base.curriculum),
            ranks: RanksConfig::read(&root.section("ranks"), base.ranks),
            evaluation: EvaluationConfig {
                dataset: evaluation
                    .opt_string("dataset")
                    .map(PathBuf::from)
                    .or(base.evaluation.dataset),
                every_steps: every(&evaluation, base.evaluation.every_steps),
                n_attempts: small_or(
                    &evaluation,
                    "n_attempts",
                    base.evaluation.n_attempts,
                    1..=10_000,
                ),
            },
            checkpoints: CheckpointConfig {
                every_steps: every(&checkpoints, base.checkpoints.every_steps),
                keep: count_or(&checkpoints, "keep", base.checkpoints.keep, 1..=1_000_000),
            },
        };
        config.judge(root);
        config
    }

    /// What only several keys together can get wrong.
    fn judge(&self, root: &Section<'_>) {
        let kind = self.eval.agent.kind;
        if kind != AgentKind::Team {
            let found = format!("`{}`", kind.as_str());
            root.section("agent").refuse("kind", "team, whose orchestrator is trained", found);
        }
        let recompute = self.train.old_logprobs == OldLogprobs::Recompute;
        if self.loss.0.tis_cap.is_some() && !recompute {
            let expected = "train.old_logprobs = \"recompute\" beside it";
            root.section("loss").refuse("tis_cap", expected, "sampler");
        }
    }

    /// The model that is trained.
    pub fn orchestrator(&self) -> Option<&ModelConfig> {
        self.eval.models.get(&self.eval.team.roles.orchestrator)
    }

    /// # Errors
    /// A value that TOML cannot hold.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}

impl PolicyConfig {
    fn read(section: &Section<'_>, base: Self) -> Self {
        let policy = Self { base: path_or(section, "base", base.base) };
        if policy.base.as_os_str().is_empty() && !section.has("base") {
            section.refuse("base", "the policy to train: this key, or --base DIR", "none");
        }
        policy
    }
}

impl LoopConfig {
    fn read(section: &Section<'_>, base: Self) -> Self {
        Self {
            steps: section.u64_or("steps", base.steps, 1..=1_000_000_000),
            groups_per_step: small_or(
                section,
                "groups_per_step",
                base.groups_per_step,
                1..=100_000,
            ),
            max_off_policy_steps: section.u64_or(
                "max_off_policy_steps",
                base.max_off_policy_steps,
                0..=1000,
            ),
            old_logprobs: section.one_of_or("old_logprobs", base.old_logprobs, &OLD),
            action_bonus: section.f64_or("action_bonus", base.action_bonus, -10.0..=10.0),
            learning: LearningConfig::read(section, base.learning),
        }
    }
}

impl LossConfig {
    /// Another kind begins with the settings of its paper.
    fn read(section: &Section<'_>, base: Self) -> Self {
        let kind = section.one_of_or("kind", base.0.kind, &LossKind::NAMES);
        let base = if kind == base.0.kind { base.0 } else { LossSettings::of(kind) };
        let positive = |key, base| section.f64_or(key, base, 0.0..=1e6);
        Self(LossSettings {
            kind,
            clip_low: positive("clip_low", base.clip_low),
            clip_high: positive("clip_high", base.clip_high),
            tis_cap: section.opt_f64("tis_cap", 1e-6..=1e6).or(base.tis_cap),
            kl_coef: positive("kl_coef", base.kl_coef),
            aggregate: section.one_of_or("aggregate", base.aggregate, &Aggregate::NAMES),
            norm_tokens: small_or(section, "norm_tokens", base.norm_tokens, 1..=1 << 30),
            scale_by_std: section.bool_or("scale_by_std", base.scale_by_std),
        })
    }
}

impl RanksConfig {
    fn read(section: &Section<'_>, base: Self) -> Self {
        let ranks = Self {
            count: small_or(section, "count", base.count, 1..=4096),
            nodes: strings_or(section, "nodes", base.nodes),
            overlap: section.bool_or("overlap", base.overlap),
            shard_optimizer: section.bool_or("shard_optimizer", base.shard_optimizer),
            bucket_kb: count_or(section, "bucket_kb", base.bucket_kb, 1..=1 << 20),
            wire: section.one_of_or("wire", base.wire, &WIRES),
            step_timeout: section.duration_sec_or(
                "step_timeout_sec",
                base.step_timeout,
                0.1..=86_400.0,
            ),
        };
        if ranks.nodes.len() > ranks.count as usize {
            let expected = format!("at most {} nodes, one for each rank", ranks.count);
            section.refuse("nodes", &expected, ranks.nodes.len().to_string());
        }
        ranks
    }
}

impl Serialize for LossConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Keys {
            kind: &'static str,
            clip_low: f64,
            clip_high: f64,
            #[serde(skip_serializing_if = "Option::is_none")]
            tis_cap: Option<f64>,
            kl_coef: f64,
            aggregate: &'static str,
            norm_tokens: u32,
            scale_by_std: bool,
        }
        let loss = self.0;
        Keys {
            kind: loss.kind.as_str(),
            clip_low: loss.clip_low,
            clip_high: loss.clip_high,
            tis_cap: loss.tis_cap,
            kl_coef: loss.kl_coef,
            aggregate: loss.aggregate.as_str(),
            norm_tokens: loss.norm_tokens,
            scale_by_std: loss.scale_by_std,
        }
        .serialize(serializer)
    }
}

fn old<S: Serializer>(value: &OldLogprobs, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name_of(value, &OLD))
}

fn wire<S: Serializer>(value: &Wire, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name_of(value, &WIRES))
}
