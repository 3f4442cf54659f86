//! The command line of clusters: `node`, `status`, `cluster`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand, ValueHint};
use orcapack_cluster::address::{NodeId, Role};

use crate::cluster_config::{ClusterConfig, ClusterNode};
use crate::cluster_discovery::NodeSpec;
use crate::exit::{Exit, Failure};
use crate::secrets::Variables;

/// Holds a join token, so that no command line shows one.
pub const JOIN_TOKEN: &str = "ORCAPACK_JOIN_TOKEN";
/// More than any token has.
const TOKEN_BYTES_MAX: u64 = 4096;

/// `--cluster`, of commands that can run on one.
#[derive(Args, Clone, Debug, Default)]
pub struct OnCluster {
    /// Run on the nodes of this cluster file, instead of on this machine
    #[arg(long, value_name = "CLUSTER.toml", value_hint = ValueHint::FilePath)]
    #[arg(help_heading = "Rollouts")]
    pub cluster: Option<PathBuf>,
}

/// `orcapack node CLUSTER.toml`, or `orcapack node drain ID --cluster CLUSTER.toml`.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = node_help())]
pub struct NodeArgs {
    #[command(subcommand)]
    command: Option<NodeCommand>,
    /// The cluster file, the same on every machine
    #[arg(value_name = "CLUSTER.toml", value_hint = ValueHint::FilePath, required = true)]
    cluster: Option<PathBuf>,
    #[command(flatten)]
    run: NodeRunArgs,
}

#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeRunArgs {
    /// Which node this is [default: $ORCAPACK_NODE_ID, or the host's name]
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Token for a node without an identity, or @FILE that holds it [or: $ORCAPACK_JOIN_TOKEN]
    #[arg(long, value_name = "TOKEN")]
    pub join: Option<String>,
    /// End once the first run that came is over, such as in a batch job
    #[arg(long)]
    pub exit_when_done: bool,
    /// Running rollouts may end in this time after SIGTERM [default: the file's drain_sec]
    #[arg(long, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub drain_sec: Option<u64>,
}

#[derive(Subcommand, Clone, Debug)]
enum NodeCommand {
    /// Give a node nothing more to do; what runs on it may end
    Drain(DrainArgs),
}

#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct DrainArgs {
    /// The node
    #[arg(value_name = "ID")]
    pub id: String,
    /// The cluster file
    #[arg(short, long, value_name = "CLUSTER.toml", value_hint = ValueHint::FilePath)]
    pub cluster: PathBuf,
    /// Let the node work again
    #[arg(long)]
    pub undo: bool,
}

/// What `orcapack node` is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeAction<'a> {
    /// Be the node that the file describes.
    Run(&'a Path, &'a NodeRunArgs),
    Drain(&'a DrainArgs),
}

impl NodeArgs {
    pub fn action(&self) -> NodeAction<'_> {
        match (&self.command, &self.cluster) {
            (Some(NodeCommand::Drain(args)), _) => NodeAction::Drain(args),
            // The parser has demanded one; an empty path is a file that cannot be read.
            (None, cluster) => {
                NodeAction::Run(cluster.as_deref().unwrap_or(Path::new("")), &self.run)
            }
        }
    }
}

impl NodeRunArgs {
    /// The token that is to be joined with: of `--join`, else of the environment.
    ///
    /// # Errors
    /// The file that is to hold it cannot be read, or holds none.
    pub fn join_token(&self, variables: Variables) -> Result<Option<String>, Failure> {
        use std::io::Read as _;

        let Some(said) = &self.join else {
            return Ok(variables(JOIN_TOKEN).filter(|token| !token.is_empty()));
        };
        let Some(file) = said.strip_prefix('@') else { return Ok(Some(said.clone())) };
        let mut text = String::new();
        let read = fs::File::open(file)
            .and_then(|file| file.take(TOKEN_BYTES_MAX).read_to_string(&mut text));
        match (read, text.trim()) {
            (Err(error), _) => Err(Failure::bad_input(format!("--join: {file}: {error}"))),
            (Ok(_), "") => Err(Failure::bad_input(format!("--join: {file}: no token in it"))),
            (Ok(_), token) => Ok(Some(token.to_owned())),
        }
    }
}

#[derive(Args, Clone, Debug)]
#[command(after_help = status_help())]
pub struct StatusArgs {
    /// The cluster file
    #[arg(value_name = "CLUSTER.toml", value_hint = ValueHint::FilePath)]
    pub cluster: PathBuf,
    /// Only this node; may be repeated
    #[arg(short, long = "node", value_name = "ID")]
    pub nodes: Vec<String>,
    /// Only the node that this machine is, such as for a health check
    #[arg(long = "self", conflicts_with = "nodes")]
    pub this: bool,
    /// Print one JSON document on standard output
    #[arg(long)]
    pub json: bool,
    /// Ask again every 2 seconds, until Ctrl-C; with --json, a document a line
    #[arg(short, long)]
    pub watch: bool,
}

impl StatusArgs {
    /// The nodes that are to be asked: those that are named, this one, or all.
    ///
    /// # Errors
    /// One that is none.
    pub fn asked<'c>(
        &self,
        config: &'c ClusterConfig,
        variables: Variables,
        host_name: &str,
    ) -> Result<Vec<&'c ClusterNode>, Failure> {
        match &self.nodes[..] {
            [] if self.this => Ok(vec![config.this_node(None, variables, host_name)?]),
            [] => config.peers(),
            ids => ids.iter().map(|id| config.node(id)).collect(),
        }
    }
}

#[derive(Subcommand, Clone, Debug)]
pub enum ClusterCommand {
    /// Make a cluster: its file where there is none, its authority, and this user's identities
    #[command(after_help = CLUSTER_INIT_HELP)]
    Init(InitArgs),
    /// Print a token with which one node may join, once
    #[command(after_help = CLUSTER_TOKEN_HELP)]
    Token(TokenArgs),
    /// Write the identity of a node into a folder, for a machine that cannot join by itself
    #[command(after_help = CLUSTER_ISSUE_HELP)]
    Issue(IssueArgs),
    /// Let nodes join with their tokens, and renew their certificates, until told to end
    #[command(after_help = CLUSTER_SERVE_HELP)]
    Serve(ServeArgs),
    /// Give running nodes new keys and certificates
    #[command(after_help = CLUSTER_ROTATE_HELP)]
    Rotate(RotateArgs),
    /// Take back what a node was given: nobody trusts it from now on
    #[command(after_help = CLUSTER_REVOKE_HELP)]
    Revoke(RevokeArgs),
    /// Print the files that run the nodes under systemd, Slurm or Kubernetes
    #[command(subcommand, after_help = CLUSTER_RENDER_HELP)]
    Render(RenderCommand),
    /// List the nodes that the file and its discovery give, and their addresses now
    #[command(after_help = CLUSTER_PEERS_HELP)]
    Peers(PeersArgs),
}

#[derive(Args, Clone, Debug)]
pub struct InitArgs {
    /// The cluster file; written where there is none
    #[arg(value_name = "CLUSTER.toml", value_hint = ValueHint::FilePath)]
    pub cluster: PathBuf,
    /// Name of the cluster: a DNS label [default: that of the file]
    #[arg(long, value_name = "NAME")]
    pub name: Option<NodeId>,
    /// A node of the new file; may be repeated [default: one, on this machine]
    #[arg(long = "node", value_name = "ID=ADDRESS:PORT,SLOTS")]
    pub nodes: Vec<NodeSpec>,
}

#[derive(Args, Clone, Debug)]
pub struct TokenArgs {
    /// The cluster file
    #[arg(value_name = "CLUSTER.toml", value_hint = ValueHint::FilePath)]
    pub cluster: PathBuf,
    /// Who may join with it
    #[arg(value_name = "ID")]
    pub id: NodeId,
    /// How long it holds, such as 90s, 30m, 1h or 2d
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = ttl)]
    pub ttl: Duration,
    #[command(flatten)]
    pub role: RoleArg,
}

/// `--role`, of whoever gets a certificate.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleArg {
    /// What it may do: run rollouts, give them out, or look and drain
    #[arg(long, value_name = "ROLE", default_value = "worker", value_parser = roles())]
    pub role: Role,
}

#[derive(Args, Clone, Debug)]
pub struct IssueArgs {
    /// The cluster file
    #[arg(value_name = "CLUSTER.toml", value_hint = ValueHint::FilePath)]
    pub cluster: PathBuf,
    /// Whom it is for
    #[arg(value_name = "ID")]
    pub id: NodeId,
    #[command(flatten)]
    pub role: RoleArg,
    /// Folder for it; made when absent
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub output: PathBuf,
}

#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// The cluster file, whose cluster.authority is this machine
    #[arg(value_name = "CLUSTER.toml", value_hint = ValueHint::FilePath)]
    pub cluster: PathBuf,
}

#[derive(Args, Clone, Debug)]
pub struct RotateArgs {
    /// The cluster file
    #[arg(value_name = "CLUSTER.toml", value_hint = ValueHint::FilePath)]
    pub cluster: PathBuf,
    /// Only these nodes [default: all]
    #[arg(value_name = "ID")]
    pub ids: Vec<NodeId>,
}

#[derive(Args, Clone, Debug)]
pub struct RevokeArgs {
    /// The cluster file
    #[arg(value_name = "CLUSTER.toml", value_hint = ValueHint::FilePath)]
    pub cluster: PathBuf,
    /// Whose certificates
    #[arg(value_name = "ID")]
    pub id: NodeId,
}

#[derive(Subcommand, Clone, Debug)]
pub enum RenderCommand {
    /// A unit file: one for all nodes (ID is the instance), or for one of them
    Systemd {
        #[command(flatten)]
        of: RenderArgs,
        /// For this node only
        #[arg(long, value_name = "ID")]
        id: Option<String>,
    },
    /// A batch script that runs a node on each host of its job
    Slurm {
        #[command(flatten)]
        of: RenderArgs,
        /// Hosts of the job; `sbatch --nodes=N` goes over it
        #[arg(long, value_name = "N", default_value_t = 2)]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=1024))]
        nodes: u32,
    },
    /// A stateful set with its service, its configuration and its probes
    K8s {
        /// The cluster file
        #[arg(value_name = "CLUSTER.toml", value_hint = ValueHint::FilePath)]
        cluster: PathBuf,
        /// Image with the orcapack program
        #[arg(long, value_name = "IMAGE")]
        #[arg(default_value = concat!("orcapack:", env!("CARGO_PKG_VERSION")))]
        image: String,
    },
}

#[derive(Args, Clone, Debug)]
pub struct RenderArgs {
    /// The cluster file
    #[arg(value_name = "CLUSTER.toml", value_hint = ValueHint::FilePath)]
    pub cluster: PathBuf,
    /// Where the machines have this program [default: where this machine has it]
    #[arg(long, value_name = "PATH")]
    pub binary: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub struct PeersArgs {
    /// The cluster file
    #[arg(value_name = "CLUSTER.toml", value_hint = ValueHint::FilePath)]
    pub cluster: PathBuf,
    /// Print one JSON document on standard output
    #[arg(long)]
    pub json: bool,
}

/// Long enough to type, short enough to be forgotten: 10 seconds to 30 days.
fn ttl(text: &str) -> Result<Duration, String> {
    let range = Duration::from_secs(10)..=Duration::from_secs(30 * 86_400);
    let time = text.parse::<jiff::SignedDuration>().ok();
    // Which knows no days, for they may have 23 hours. Ours have 24.
    let days = || text.strip_suffix('d')?.trim().parse::<i64>().ok()?.checked_mul(24);
    let time = time.or_else(|| days().and_then(jiff::SignedDuration::try_from_hours));
    time.and_then(|time| Duration::try_from(time).ok())
        .filter(|time| range.contains(time))
        .ok_or_else(|| "expected a time from 10s to 30d, such as 90s, 30m, 1h or 2d".to_owned())
}

fn roles() -> impl TypedValueParser<Value = Role> {
    PossibleValuesParser::new(Role::ALL.map(Role::as_str)).map(|name| {
        // The parser has let no other name through.
        Role::ALL.into_iter().find(|role| role.as_str() == name).unwrap_or(Role::Worker)
    })
}

fn node_help() -> String {
    format!(
        "Examples:\n  \
         orcapack node cluster.toml                      the node that bears this host's name\n  \
         orcapack node cluster.toml --id n1 --join @n1.token    its first start\n  \
         orcapack node drain n2 --cluster cluster.toml   nothing more for n2; what runs may end\n  \
         orcapack node drain n2 -c cluster.toml --undo   and work again\n\n\
         SIGTERM or Ctrl-C drains the node and ends it; once more ends it at once. A node that\n\
         loses its coordinator goes on until its lease is over, then stops its rollouts.\n\n{}",
        Exit::table()
    )
}

fn status_help() -> String {
    format!(
        "Examples:\n  \
         orcapack status cluster.toml\n  \
         orcapack status cluster.toml --watch\n  \
         orcapack status cluster.toml --json | jq -r '.nodes[] | select(.error) | .node'\n  \
         orcapack status cluster.toml --self             a health check of this machine's node\n\n\
         Exit code 0: every node that was asked answered; {}: some did not.",
        Exit::Unreachable.code()
    )
}

const CLUSTER_INIT_HELP: &str = "\
Examples:
  orcapack cluster init cluster.toml --name lab
  orcapack cluster init cluster.toml --name lab --node n1=10.0.0.1:7400,64 --node n2=10.0.0.2,8

The folder pki beside the file holds the authority: who reads its ca.key can be any node. It stays
on this machine; the file goes to all. Nothing that exists is overwritten.";

const CLUSTER_TOKEN_HELP: &str = "\
Examples:
  orcapack cluster token cluster.toml n1 > n1.token
  orcapack cluster token cluster.toml bob --role operator --ttl 30m

The token is a secret until it is used, or its time is over. It carries the hash of the authority's
key, so that the node knows whom it joins.";

const CLUSTER_ISSUE_HELP: &str = "\
Examples:
  orcapack cluster issue cluster.toml n1 -o identities/n1
  orcapack cluster issue cluster.toml bob --role operator -o identities/bob

The folder holds a private key. It belongs into the folder of the node's state: STATE_DIR/ID.
Of two machines that coordinate runs at one time, each needs a coordinator of its own:
$ORCAPACK_COORDINATOR_ID says as whom `orcapack eval` works [default: coordinator].";

const CLUSTER_SERVE_HELP: &str = "\
Examples:
  orcapack cluster serve cluster.toml           until Ctrl-C

It is the one process beside the commands here that reads the authority's key, so it is best run
where no rollouts are. Nodes that have joined need it again only to renew their certificates, which
they do by themselves in the last third of their 90 days.";

const CLUSTER_ROTATE_HELP: &str = "\
Examples:
  orcapack cluster rotate cluster.toml          all nodes that answer
  orcapack cluster rotate cluster.toml n1 n2

Runs go on meanwhile. Exit code 0: every one has its new certificate; 7: some do not answer.";

const CLUSTER_REVOKE_HELP: &str = "\
Examples:
  orcapack cluster revoke cluster.toml n3

Nodes that answer hear of it at once and end their links to it, the others when they are back. The
id may join again with a new token: `orcapack node CLUSTER.toml --id ID --join TOKEN`.";

const CLUSTER_RENDER_HELP: &str = "\
Examples:
  orcapack cluster render systemd cluster.toml > /etc/systemd/system/orcapack-node@.service
  orcapack cluster render slurm cluster.toml --nodes 8 > nodes.sbatch
  orcapack cluster render k8s cluster.toml --image registry.lab/orcapack:1 | kubectl apply -f -

Each begins with the steps that it takes. Slurm wants [discovery] kind = \"slurm\" in the file, and
Kubernetes kind = \"dns\".";

const CLUSTER_PEERS_HELP: &str = "\
Examples:
  orcapack cluster peers cluster.toml
  orcapack cluster peers cluster.toml --json | jq -r '.[].node'

Nobody is asked but the name service. Exit code 0: every node has an address; 7: some have none.";

#[cfg(test)]
#[path = "cli_cluster_tests.rs"]
mod tests;
