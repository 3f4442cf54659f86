//! `orcapack cluster peers`: who belongs to a cluster, and what the name service says of them now.

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use orcapack_cluster::address::NodeId;
use serde::Serialize;

use crate::cli_cluster::PeersArgs;
use crate::cluster_config::{ClusterConfig, ClusterNode};
use crate::config_layers::Host;
use crate::exit::{Exit, Failure};
use crate::output;

/// Names that are looked up at one time.
const LOOKUPS_MAX: usize = 32;

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Row {
    node: String,
    address: String,
    /// As it is now; `None` where nobody knows the name.
    ip: Option<String>,
    error: Option<String>,
    listen: String,
    slots: u32,
    sandbox: &'static str,
}

/// Prints the nodes. Exit code 7 when the address of one is not known.
///
/// # Errors
/// A faulty cluster file, or no nodes in it.
pub async fn peers(args: &PeersArgs, host: &Host) -> Result<Exit, Failure> {
    let config = ClusterConfig::load(&args.cluster, host)?;
    let rows: Vec<Row> = config
        .peers()?
        .into_iter()
        .zip(resolve_all(&config).await)
        .map(|(node, (_, found))| Row::of(node, found.map(|at| at.ip().to_string())))
        .collect();
    match args.json {
        true => output::print_json(&rows)?,
        false => output::print(&table(&rows, output::terminal_width()))?,
    }
    let unknown = rows.iter().any(|row| row.ip.is_none());
    Ok(if unknown { Exit::Unreachable } else { Exit::Done })
}

/// Looks up where each node is now, in the order of the ids.
pub async fn resolve_all(
    config: &ClusterConfig,
) -> Vec<(NodeId, Result<std::net::SocketAddr, String>)> {
    type Found = (NodeId, Result<std::net::SocketAddr, String>);
    let look_up = |node: &ClusterNode| -> BoxFuture<'static, Found> {
        let (id, address, from) = (node.id.clone(), node.address.clone(), node.listen.ip());
        Box::pin(async move { (id, address.resolve(from).await) })
    };
    let lookups: Vec<_> = config.nodes.values().map(look_up).collect();
    futures_util::stream::iter(lookups).buffered(LOOKUPS_MAX).collect().await
}

impl Row {
    fn of(node: &ClusterNode, found: Result<String, String>) -> Self {
        let (ip, error) = match found {
            Ok(ip) => (Some(ip), None),
            Err(error) => (None, Some(error)),
        };
        Self {
            node: node.id.to_string(),
            address: node.address.to_string(),
            ip,
            error,
            listen: node.listen.to_string(),
            slots: node.slots,
            sandbox: node.sandbox.as_str(),
        }
    }
}

fn table(rows: &[Row], width: Option<u16>) -> String {
    let cells = rows.iter().map(|row| {
        let ip = row.ip.as_ref().or(row.error.as_ref());
        [
            row.node.clone(),
            row.address.clone(),
            ip.cloned().unwrap_or_default(),
            row.listen.clone(),
            row.slots.to_string(),
            row.sandbox.to_owned(),
        ]
    });
    output::table(["node", "address", "now", "listens", "slots", "sandbox"], cells, width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster_config::tests::parsed;

    #[tokio::test]
    async fn who_belongs_to_a_cluster_is_told_with_addresses_or_why_there_are_none() {
        let config = parsed(
            "[cluster]\nname = 'lab'\n[node]\nslots = 8\n[nodes.n1]\naddress = '10.0.0.1'\n\
             [nodes.n2]\naddress = 'localhost:7500'\n",
        );
        let found = resolve_all(&config).await;
        let found: Vec<_> = found.into_iter().map(|(_, at)| at.unwrap().to_string()).collect();
        assert_eq!(found, ["10.0.0.1:7400", "127.0.0.1:7500"]);
        let nodes = config.nodes.values();
        let answers = [Ok("10.0.0.1".to_owned()), Err("looking up `localhost`: gone".to_owned())];
        let rows: Vec<_> = nodes.zip(answers).map(|(node, found)| Row::of(node, found)).collect();
        insta::assert_snapshot!("peers", table(&rows, None));
    }
}
