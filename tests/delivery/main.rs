//! New weights to everything that samples: engines here, engines on nodes, vLLM and SGLang.

mod cluster;
mod cluster_run;
mod embedded;
#[path = "../support/http_server.rs"]
#[expect(dead_code, reason = "model clients are answered in more ways")]
mod http_server;
#[path = "../support/policy.rs"]
mod policy;
mod servers;

use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use orcapack::config_policy::BOUNDS;
use orcapack_actors::model::embedded::{Ask, Policies, Sampled, TokenSampler};
use orcapack_actors::model::settings::{EngineBounds, PolicySettings};
use orcapack_trainer::model::parameters::Parameters;
use orcapack_trainer::policy::Policy;
use orcapack_trainer::snapshot::Snapshot;
use tempfile::TempDir;

/// A directory with the weights of this seed.
fn policy_dir(seed: u64) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    policy::write(dir.path(), seed);
    dir
}

/// Weights of this seed for the model in `dir`.
fn snapshot(dir: &Path, seed: u64, version: u64) -> Snapshot {
    let config = Policy::open(dir).unwrap().config;
    let parameters = Parameters::random(&config, seed, &Device::Cpu).unwrap();
    Snapshot::of(&parameters, version).unwrap()
}

fn sampler(policies: &dyn Policies, dir: &Path) -> Arc<dyn TokenSampler> {
    let bounds =
        EngineBounds { slots: 2, context_tokens_max: Some(256), threads: Some(1), ..BOUNDS };
    let policy = PolicySettings {
        checkpoint: dir.to_owned(),
        bounds,
        chat_template_kwargs: Default::default(),
    };
    policies.sampler(&policy).unwrap()
}

/// Some tokens behind a fixed prompt.
async fn sample(sampler: &Arc<dyn TokenSampler>) -> Sampled {
    let prompt = (10..30).collect();
    let ask = Ask { prompt, max_tokens: 6, temperature: 1.0, top_p: 1.0, seed: 1 };
    sampler.sample(ask).await.unwrap()
}

/// What an engine with weights of this seed samples.
async fn sampled_with(seed: u64) -> (Vec<u32>, Vec<f64>) {
    let dir = policy_dir(seed);
    let engines = orcapack::embedded::Engines::default();
    tokens(&sample(&sampler(&engines, dir.path())).await)
}

fn tokens(sampled: &Sampled) -> (Vec<u32>, Vec<f64>) {
    (sampled.ids.clone(), sampled.logprobs.clone())
}

/// The one version of all tokens.
fn version(sampled: &Sampled) -> u64 {
    let version = sampled.versions[0];
    assert!(sampled.versions.iter().all(|it| *it == version), "{:?}", sampled.versions);
    version
}
