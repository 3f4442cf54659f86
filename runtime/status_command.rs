//! `orcapack status`: what the nodes of a cluster say of themselves.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use orcapack_cluster::address::Role;
use orcapack_cluster::link::Transport;

use crate::calls::{self, Answer, Question};
use crate::cli_cluster::StatusArgs;
use crate::cluster_config::{ClusterConfig, ClusterNode};
use crate::cluster_discovery::host_name;
use crate::cluster_status::{ClusterStatus, NodeRow, NodeStatus};
use crate::config_layers::Host;
use crate::exit::{Exit, Failure};
use crate::member::{self, OPERATOR};
use crate::signals::Signals;
use crate::{cluster_table, output};

const WATCH_EVERY: Duration = Duration::from_secs(2);
/// Where there is no terminal: what fits a log.
const LOG_WIDTH: u16 = 120;
/// Clears a terminal, and begins at its top.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// # Errors
/// A faulty file, a node that is none, or no identity to ask with. Nodes that do not answer are
/// rows of the table.
pub async fn run(args: &StatusArgs, host: &Host) -> Result<Exit, Failure> {
    let config = ClusterConfig::load(&args.cluster, host)?;
    let nodes = args.asked(&config, host.variables, &host_name())?;
    // A node's machine has no operator's identity, but its own.
    let transport = match nodes[..] {
        [node] if args.this => member::caller(&config, node.id.as_str(), Role::Worker)?,
        _ => member::caller(&config, OPERATOR, Role::Operator)?,
    };
    let mut signals = Signals::listen()?;
    loop {
        let status = ask_all(&config, &nodes, &transport).await;
        let exit = if status.all_reachable() { Exit::Done } else { Exit::Unreachable };
        show(args, &status)?;
        if !args.watch {
            return Ok(exit);
        }
        tokio::select! {
            biased;
            () = signals.next() => return Ok(exit),
            () = tokio::time::sleep(WATCH_EVERY) => {}
        }
    }
}

async fn ask_all(
    config: &ClusterConfig,
    nodes: &[&ClusterNode],
    transport: &Arc<dyn Transport>,
) -> ClusterStatus {
    let rows = nodes.iter().map(|node| async { NodeRow::of(node, ask(node, transport).await) });
    ClusterStatus { cluster: config.name.clone(), nodes: join_all(rows).await }
}

async fn ask(node: &ClusterNode, transport: &Arc<dyn Transport>) -> Result<NodeStatus, String> {
    match calls::ask(transport, &node.id, &node.address, &Question::Status).await? {
        Answer::Status(status) => Ok(*status),
        Answer::Refused(why) => Err(why),
        _ => Err("an answer to another question".to_owned()),
    }
}

fn show(args: &StatusArgs, status: &ClusterStatus) -> Result<(), Failure> {
    if args.json {
        return if args.watch {
            output::print_json_line(status)
        } else {
            output::print_json(status)
        };
    }
    let terminal = output::terminal_width();
    let table = cluster_table::table(status, terminal.unwrap_or(LOG_WIDTH), &jiff::Zoned::now());
    let clear = if args.watch && terminal.is_some() { CLEAR } else { "" };
    output::print(&format!("{clear}{table}"))
}
