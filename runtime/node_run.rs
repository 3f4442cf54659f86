//! What a node makes of a run's configuration: it comes as text from the coordinator, and is read
//! by the same reader as a user's file, with this machine's defaults for what is a machine's own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use orcapack_actors::sandbox::Limits;
use orcapack_actors::start_gate::StartGateConfig;
use orcapack_cluster::address::{Incarnation, NodeId};
use orcapack_tasks::grading::Scheme;
use orcapack_tasks::toml_doc::TomlDoc;

use crate::config::EvalConfig;
use crate::embedded::Engines;
use crate::node::NodeConfig;
use crate::secrets::Variables;
use crate::team_plan::{TeamParts, TeamPlan};

/// What is this machine's own, whatever the run.
#[derive(Clone, Debug)]
pub struct NodeRun {
    pub cpus: usize,
    pub cache_dir: PathBuf,
    /// Environments that are created at once; `None`: as many as suit the processors.
    pub create_concurrency: Option<usize>,
    /// Verifiers that run at once.
    pub verify_concurrency: Option<usize>,
    /// Where `${NAME}` is looked up.
    pub variables: Variables,
    /// The engines of this process, which the runs share.
    pub engines: Arc<Engines>,
}

/// Keys that a run's configuration does not have on its way to a node: each node has its own.
const OWN: [&str; 4] = ["driver", "cache_dir", "create_concurrency", "verify_concurrency"];

/// The configuration of a run as its nodes are to read it.
///
/// # Errors
/// It cannot be written as TOML: a defect of ours.
pub fn for_nodes(config: &EvalConfig) -> Result<String, toml::ser::Error> {
    let mut table = toml::Table::try_from(config)?;
    if let Some(toml::Value::Table(sandbox)) = table.get_mut("sandbox") {
        OWN.iter().for_each(|key| drop(sandbox.remove(*key)));
    }
    toml::to_string(&table)
}

impl NodeRun {
    /// # Errors
    /// What this node lacks for the run, such as a key that is set elsewhere only.
    pub fn read(
        &self,
        config: &str,
        run: &str,
        node: &NodeId,
        incarnation: Incarnation,
    ) -> Result<NodeConfig, String> {
        let doc = TomlDoc::parse(Path::new("the run's configuration"), config);
        let doc = doc.map_err(|defects| defects.to_string())?;
        let base = EvalConfig::defaults(self.cpus, self.cache_dir.clone());
        let mut config = EvalConfig::of(&doc.root(), base);
        let sandbox = &mut config.sandbox;
        sandbox.create_concurrency = self.create_concurrency.unwrap_or(sandbox.create_concurrency);
        sandbox.verify_concurrency = self.verify_concurrency.unwrap_or(sandbox.verify_concurrency);
        let team = TeamPlan::make(&doc.root(), &config, self.variables);
        let (config, team) = doc.finish((config, team)).map_err(|defects| defects.to_string())?;
        let team = team.as_ref().map(|team| team.connect(&self.engines.of_run(run))).transpose();
        let team = team.map_err(|failure| failure.to_string())?;
        Ok(node_config(&config, team, run.to_owned(), node.to_string(), incarnation.0))
    }
}

/// How a node runs the attempts of a run. It keeps files; nobody is told of starts.
pub fn node_config(
    config: &EvalConfig,
    team: Option<TeamParts>,
    run: String,
    node: String,
    incarnation: u64,
) -> NodeConfig {
    let sandbox = &config.sandbox;
    NodeConfig {
        gate: StartGateConfig {
            concurrency: sandbox.create_concurrency,
            rate_per_sec: Some(sandbox.create_rate_per_sec).filter(|rate| *rate > 0.0),
            breaker_failures: sandbox.breaker_failures,
            breaker_cooldown: sandbox.breaker_cooldown,
        },
        think: config.agent.think,
        limits: Limits {
            cpus: sandbox.cpus,
            memory_bytes: sandbox.memory_mb << 20,
            pids: sandbox.pids,
            storage_bytes: sandbox.storage_mb << 20,
        },
        start_timeout: sandbox.start_timeout,
        verify_concurrency: sandbox.verify_concurrency,
        timeout_multiplier: config.timeouts.multiplier,
        agent_timeout: config.timeouts.agent,
        verifier_timeout: config.timeouts.verifier,
        scheme: if config.rollouts.partial_reward { Scheme::Weighted } else { Scheme::Binary },
        team,
        run,
        node,
        incarnation,
        keep_files: true,
        started: None,
    }
}
