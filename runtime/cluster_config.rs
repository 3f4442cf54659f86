//! The cluster file: which nodes there are, what each has room for, and where their state is kept.
//!
//! Every machine of a cluster has the same file. [`ClusterConfig::load`] reads it, finds the nodes
//! that it leaves to discovery, and gives everything that is wrong at once;
//! [`ClusterConfig::this_node`] says which of the nodes a machine is. The keys with their ranges
//! are in `cluster_config_read.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use orcapack_cluster::address::NodeId;
use orcapack_tasks::near::nearest;
use orcapack_tasks::toml_doc::TomlDoc;
use orcapack_tasks::{Defect, Defects};

use crate::cluster_discovery::{Discovery, HostPort, JOB_HOSTS, id_of_host};
use crate::cluster_hostlist::{HOSTS_MAX, shown};
use crate::config::SandboxDriver;
use crate::config_layers::Host;
use crate::exit::Failure;
use crate::secrets::Variables;

/// Where a node listens if the file says nothing, and `address` no port.
pub const PORT: u16 = 7400;
/// Where the authority listens, if `cluster.authority` names no port.
pub const AUTHORITY_PORT: u16 = 7401;
pub const LEASE: Duration = Duration::from_secs(5);
/// What runs when a node is stopped gets this long.
pub const DRAIN: Duration = Duration::from_secs(60);
pub const SLOTS: RangeInclusive<u64> = 1..=4096;
pub const NODES_MAX: usize = HOSTS_MAX;
/// Says which node a process is, where `--id` does not.
pub const NODE_ID: &str = "ORCAPACK_NODE_ID";

/// A cluster as its file describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterConfig {
    /// Absolute.
    pub file: PathBuf,
    /// What the file says, for who takes it elsewhere.
    pub text: String,
    /// A DNS label. It stands in every certificate.
    pub name: String,
    /// The folder of the authority, where this machine has it. Absolute.
    pub pki: PathBuf,
    /// Where `orcapack cluster serve` runs, which lets nodes join.
    pub authority: Option<HostPort>,
    /// The folder of the nodes' states. Absolute.
    pub state_dir: PathBuf,
    pub port: u16,
    /// What carries tasks and records.
    pub data_over: DataOver,
    /// A node that could not renew its lease for so long stops its rollouts.
    pub lease: Duration,
    /// The longest that any node may take to drain, those included that no job has now.
    pub drain_max: Duration,
    pub discovery: Discovery,
    /// All that the file names and discovery found. Empty only outside of a Slurm job.
    pub nodes: BTreeMap<NodeId, ClusterNode>,
}

/// What carries the data connections of nodes: everything but control.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataOver {
    #[default]
    Quic,
    /// TLS over TCP, on the same port number: less work for a byte.
    Tcp,
}

impl DataOver {
    pub const NAMES: [(&str, Self); 2] = [("quic", Self::Quic), ("tcp", Self::Tcp)];
}

/// A node as its cluster knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterNode {
    pub id: NodeId,
    /// Where peers reach it.
    pub address: HostPort,
    /// Where it listens itself.
    pub listen: SocketAddr,
    /// Environments that it runs at one time.
    pub slots: u32,
    pub sandbox: SandboxDriver,
    /// Root file systems and built images of the `process` driver. Absolute.
    pub cache_dir: PathBuf,
    /// Running rollouts may end in this time when the node is stopped.
    pub drain: Duration,
    /// Environments that are being created at once; `None`: one per core of the node.
    pub create_concurrency: Option<usize>,
    /// Verifiers that run at once; `None`: two per core of the node.
    pub verify_concurrency: Option<usize>,
}

impl ClusterConfig {
    /// # Errors
    /// Everything that is wrong with the file, or that it cannot be read.
    pub fn load(path: &Path, host: &Host) -> Result<Self, Defects> {
        let text = fs::read_to_string(path)
            .map_err(|error| Defect::new(path, "a readable cluster file", error.to_string()))?;
        Self::parse(path, text, host)
    }

    /// The same, of a file that need not be there (yet).
    ///
    /// # Errors
    /// Everything that is wrong with the text.
    pub fn parse(path: &Path, text: String, host: &Host) -> Result<Self, Defects> {
        let doc = TomlDoc::parse(path, &text)?;
        let config = Self::read(&doc.root(), &host.working_dir.join(path), text, host);
        doc.finish(config)
    }

    /// The nodes, by id.
    ///
    /// # Errors
    /// There are none: they are the hosts of a Slurm job, and this process is in none.
    pub fn peers(&self) -> Result<Vec<&ClusterNode>, Failure> {
        if self.nodes.is_empty() {
            return Err(Failure::bad_input(format!(
                "{}: its nodes are the hosts of a Slurm job, but ${JOB_HOSTS} is not set: run this \
                 within the job, or set it to what `squeue -h -j JOB -o %N` prints",
                self.file.display(),
            )));
        }
        Ok(self.nodes.values().collect())
    }

    /// The node of this name.
    ///
    /// # Errors
    /// There is none; the message lists those that there are.
    pub fn node(&self, id: &str) -> Result<&ClusterNode, Failure> {
        self.peers()?;
        let found = id.parse::<NodeId>().ok().and_then(|id| self.nodes.get(&id));
        found.ok_or_else(|| {
            let hint = nearest(id, self.nodes.keys().map(NodeId::as_str))
                .map(|id| format!(" (did you mean `{id}`?)"))
                .unwrap_or_default();
            Failure::bad_input(format!("{}: no node `{}`{hint}", self.of_nodes(), shown(id)))
        })
    }

    /// Which node a process is: the one that is asked for (`--id`), else `$ORCAPACK_NODE_ID`, else
    /// the first of the host's name, Slurm's name for it and the pod's name that is a node.
    ///
    /// # Errors
    /// None of them is; the message lists the nodes.
    pub fn this_node(
        &self,
        asked: Option<&str>,
        variables: Variables,
        host_name: &str,
    ) -> Result<&ClusterNode, Failure> {
        let set = |name| variables(name).filter(|value| !value.is_empty());
        if let Some(id) = asked.map(str::to_owned).or_else(|| set(NODE_ID)) {
            return self.node(&id);
        }
        self.peers()?;
        let names = [Some(host_name.to_owned()), set("SLURMD_NODENAME"), set("POD_NAME")];
        let ids = names.iter().flatten().filter_map(|name| id_of_host(name));
        ids.into_iter().find_map(|id| self.nodes.get(&id)).ok_or_else(|| {
            Failure::bad_input(format!(
                "{}: which of them is this? the host `{}` is none: say --id ID, or set ${NODE_ID}",
                self.of_nodes(),
                shown(host_name),
            ))
        })
    }

    /// Where a node keeps what outlives its process: identity, incarnation, reset key, lock. The
    /// same for who is no node but has an identity, such as a coordinator.
    pub fn state_of(&self, id: &NodeId) -> PathBuf {
        self.state_dir.join(id.as_str())
    }

    /// Slots of all nodes together.
    pub fn slots(&self) -> u64 {
        self.nodes.values().map(|node| u64::from(node.slots)).sum()
    }

    /// `FILE has nodes a, b`.
    fn of_nodes(&self) -> String {
        const SHOWN_MAX: usize = 16;
        let ids: Vec<_> = self.nodes.keys().take(SHOWN_MAX).map(NodeId::as_str).collect();
        let more = self.nodes.len().saturating_sub(SHOWN_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{} has the nodes {}{more}", self.file.display(), ids.join(", "))
    }
}

/// Where states are kept if the file does not say: the user's own folder for them, else the
/// system's.
pub(crate) fn default_state_dir(cluster: &str, variables: Variables) -> PathBuf {
    let set = |name| variables(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_STATE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".local/state")))
        .unwrap_or_else(|| PathBuf::from("/var/lib"))
        .join("orcapack")
        .join(cluster)
}

#[cfg(test)]
#[path = "cluster_config_tests.rs"]
pub(crate) mod tests;
