//! Ranks that live on the nodes of a cluster.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use orcapack::train::config::TrainConfig;
use orcapack::train::learner;
use orcapack::train::remote::home::{LoadState, Nodal};
use orcapack::train::remote::{self, Berth};
use orcapack_cluster::address::NodeId;
use orcapack_trainer::collective::RankId;
use orcapack_trainer::collective::exchange::Exchange;
use orcapack_trainer::policy::Policy;
use orcapack_trainer::policy_step::{RlSample, StepBatch};
use orcapack_trainer::ranks::home::Home;
use orcapack_trainer::ranks::thread::Local;
use orcapack_trainer::ranks::{GroupSettings, Ranks, RanksSetup, RestartSettings, StepReport};
use orcapack_trainer::samples::from_trajectory::{Sample, TrainedToken};
use tempfile::TempDir;

use crate::random_policy;
use crate::rings::{Nodes, id};

/// A run that trains a small policy.
struct Lab {
    dir: TempDir,
    config: TrainConfig,
    policy: Arc<Policy>,
}

impl Lab {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("policy");
        std::fs::create_dir(&base).unwrap();
        random_policy::write(&base, 1);
        let mut config = TrainConfig::defaults(2, dir.path().join("cache"));
        config.policy.base.clone_from(&base);
        config.eval.run.dataset = dir.path().join("tasks");
        config.train.learning.micro_batch_tokens = 64;
        config.train.learning.sample_tokens_max = 64;
        config.ranks.bucket_kb = 1;
        Self { policy: Arc::new(Policy::open(&base).unwrap()), config, dir }
    }

    fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    fn here(&self, count: usize) -> Vec<Arc<dyn Home>> {
        let (config, policy) = (self.config.clone(), self.policy.clone());
        let home: Arc<dyn Home> = Arc::new(Local {
            make: Arc::new(move || {
                learner::make(&config, &policy, None).map_err(|it| it.to_string())
            }),
            policy: self.policy.clone(),
            settings: learner::settings(&self.config, 1.0),
            collectives: Arc::new(Exchange::new(Duration::from_secs(100))),
            threads: 1,
            pins: false,
            node: String::new(),
        });
        vec![home; count]
    }

    /// `checkpoint` has been made in so many steps.
    fn there(
        &self,
        nodes: &Nodes,
        (count, on): (u32, &[u8]),
        checkpoint: Option<(u64, PathBuf)>,
    ) -> Vec<Arc<dyn Home>> {
        let on: Vec<NodeId> = on.iter().map(|node| id(*node)).collect();
        let (config, policy) = (self.config.clone(), self.policy.clone());
        let state = checkpoint.map(|(steps, dir)| {
            let load: LoadState = Arc::new(move || {
                let made = learner::make(&config, &policy, Some((steps, &dir)));
                Ok(made.map_err(|it| it.to_string())?.state().unwrap())
            });
            load
        });
        let text = remote::text(&self.config).unwrap();
        let berth = Berth { run: "r".to_owned(), life: 1, rank: 0, config: text, temperature: 1.0 };
        let homes = remote::deal(count, &on).into_iter().map(|node| {
            Arc::new(Nodal {
                mesh: nodes.coordinator.clone(),
                node,
                berth: berth.clone(),
                config: self.policy.config.clone(),
                state: state.clone(),
            }) as Arc<dyn Home>
        });
        homes.collect()
    }

    async fn start(&self, homes: Vec<Arc<dyn Home>>) -> Ranks {
        let restarts = RestartSettings { after: Duration::from_millis(10), ..Default::default() };
        let group = GroupSettings { restarts, ..GroupSettings::default() };
        let settings = learner::settings(&self.config, 1.0);
        Ranks::start(RanksSetup { homes, settings, group }).await.unwrap()
    }
}

/// Other samples in each step.
fn batch(step: u64) -> StepBatch {
    let samples = (0..7_u64).map(|at| {
        let len = 6 + (step * 5 + at * 3) % 20;
        let ids: Vec<u32> = (0..len).map(|it| ((step + it * (at + 7)) % 320) as u32).collect();
        let token = |index| TrainedToken { index, sampler_logprob: -5.0, version: step - 1 };
        let trained = (2..len as u32).map(token).collect();
        let sample = Sample { ids, trained, unproven: 0 };
        RlSample { sample, advantage: [1.0, -0.5, 0.25][at as usize % 3] }
    });
    let samples = samples.collect();
    StepBatch { step, version: step - 1, learning_rate: 1e-2, samples }
}

async fn step(ranks: &Ranks, number: u64) -> StepReport {
    ranks.step(batch(number)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ranks_on_nodes_make_the_same_steps_as_ranks_here() {
    let mut lab = Lab::new();
    let nodes = Nodes::start(2, &lab.cache()).await;
    for (count, shards) in [(2, false), (3, false), (3, true)] {
        lab.config.ranks.shard_optimizer = shards;
        let here = lab.start(lab.here(count as usize)).await;
        let there = lab.start(lab.there(&nodes, (count, &[1, 2]), None)).await;
        for number in 1..=3 {
            let (expected, found) = (step(&here, number).await, step(&there, number).await);
            assert_eq!((found.digest, found.world_size), (expected.digest, count as usize));
        }
        let dirs =
            ["here", "there"].map(|name| lab.dir.path().join(format!("{count}{shards}{name}")));
        here.save(dirs[0].clone()).await.unwrap();
        there.save(dirs[1].clone()).await.unwrap();
        there.stop().await;
        for file in ["model.safetensors", "optimizer.safetensors", "tokenizer.json"] {
            let [one, other] = [0, 1].map(|at| std::fs::read(dirs[at].join(file)).unwrap());
            assert!(one == other, "{file}");
        }
        // Nodes have the beginning only, and are given the rest.
        let checkpoint = Some((3, dirs[1].clone()));
        let resumed = lab.start(lab.there(&nodes, (count, &[2, 1]), checkpoint)).await;
        let (expected, found) = (step(&here, 4).await, step(&resumed, 4).await);
        assert_eq!(found.digest, expected.digest);
        resumed.stop().await;
    }
    let left = std::fs::read_dir(lab.cache()).unwrap();
    assert_eq!(left.count(), 0, "of checkpoints on their way");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rank_is_lost_with_its_node_and_comes_back_with_it() {
    let lab = Lab::new();
    let mut nodes = Nodes::start(2, &lab.cache()).await;
    let ranks = lab.start(lab.there(&nodes, (2, &[1, 2]), None)).await;
    assert_eq!(step(&ranks, 1).await.world_size, 2);
    nodes.crash(2);
    let alone = step(&ranks, 2).await;
    assert_eq!(alone.world_size, 1);
    nodes.restart(2, &lab.cache()).await;
    let mut number = 2;
    loop {
        number += 1;
        if step(&ranks, number).await.world_size == 2 {
            break;
        }
    }
    // A rank that is killed is like one that is lost, and its node starts it again.
    ranks.kill(RankId(0)).await;
    loop {
        number += 1;
        if step(&ranks, number).await.world_size == 2 {
            break;
        }
    }
    let snapshot = ranks.snapshot().await.unwrap();
    assert_eq!(snapshot.version, number);
    // Whoever is left saves what all have.
    nodes.crash(1);
    let saved = lab.dir.path().join("saved");
    ranks.save(saved.clone()).await.unwrap();
    assert!(saved.join("optimizer.safetensors").exists());
    assert_eq!(step(&ranks, number + 1).await.world_size, 1);
    ranks.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_another_policy_is_told_of_before_the_first_step() {
    let lab = Lab::new();
    let nodes = Nodes::start(1, &lab.cache()).await;
    let mut homes = lab.here(1);
    let other = Lab::new();
    std::fs::remove_dir_all(&other.config.policy.base).unwrap();
    std::fs::create_dir(&other.config.policy.base).unwrap();
    random_policy::write(&other.config.policy.base, 2);
    homes.extend(other.there(&nodes, (1, &[1]), None));
    let settings = learner::settings(&lab.config, 1.0);
    let setup = RanksSetup { homes, settings, group: GroupSettings::default() };
    let error = Ranks::start(setup).await.err().unwrap();
    assert!(error.to_string().contains("differ"), "{error}");
    // And one that has none is named.
    std::fs::remove_dir_all(&other.config.policy.base).unwrap();
    let setup = RanksSetup {
        homes: other.there(&nodes, (1, &[1]), None),
        settings: learner::settings(&lab.config, 1.0),
        group: GroupSettings::default(),
    };
    let error = Ranks::start(setup).await.err().unwrap().to_string();
    assert!(error.contains("config.json"), "{error}");
}
