//! How a machine comes to its identity, and keeps it: joining with a token, and renewing in time.

use std::path::Path;
use std::sync::Arc;

use orcapack_cluster::identity::Identity;
use orcapack_cluster::identity_clock::system_clock;
use orcapack_cluster::join::{self, Newcomer};
use orcapack_cluster::join_trust::Stranger;
use orcapack_cluster::link::{CloseReason, Priority, Purpose, Transport};
use orcapack_cluster::quic::{QuicConfig, QuicTransport, ResetKey};
use orcapack_cluster::renewal::Renewal;
use orcapack_cluster::token::JoinToken;

use crate::calls::{self, Answer, Question};
use crate::cli_cluster::NodeRunArgs;
use crate::cluster_config::{ClusterConfig, ClusterNode};
use crate::cluster_discovery::HostPort;
use crate::config_layers::Host;
use crate::exit::{Exit, Failure};
use crate::member::{self, ANYWHERE, COORDINATOR};

/// Joins with the token that was given, if the node has no identity yet. One that has, ignores it:
/// the token stays in a unit's environment, and is good once.
///
/// # Errors
/// The token is none, or the authority cannot be reached or refuses.
pub async fn join_if_new(
    config: &ClusterConfig,
    node: &ClusterNode,
    args: &NodeRunArgs,
    host: &Host,
) -> Result<(), Failure> {
    let folder = config.state_of(&node.id);
    if folder.join("node.pem").exists() {
        return Ok(());
    }
    let Some(text) = args.join_token(host.variables)? else { return Ok(()) };
    let token: JoinToken =
        text.parse().map_err(|error| Failure::bad_input(format!("the join token: {error}")))?;
    let authority = authority(config).map_err(Failure::bad_input)?;
    join(node, &folder, &token, authority)
        .await
        .map_err(|why| Failure::new(Exit::Unreachable, format!("joining at {authority}: {why}")))?;
    tracing::info!(node = %node.id, "has joined {}", config.name);
    Ok(())
}

fn authority(config: &ClusterConfig) -> Result<&HostPort, String> {
    config.authority.as_ref().ok_or_else(|| {
        format!(
            "{}: cluster.authority: expected the address at which `orcapack cluster serve` runs, \
             found none",
            config.file.display()
        )
    })
}

async fn join(
    node: &ClusterNode,
    folder: &Path,
    token: &JoinToken,
    authority: &HostPort,
) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let clock = system_clock();
    let stranger = Stranger::new(token.authority, &clock).map_err(|error| text(&error))?;
    let key = ResetKey::new(member::random().map_err(|error| text(&error))?);
    let transport = QuicTransport::bind(QuicConfig::new(ANYWHERE, key), Arc::new(stranger));
    let transport = transport.map_err(|error| text(&error))?;
    let at = authority.resolve(ANYWHERE.ip()).await?;
    // A stranger trusts the token's authority, and knows no names.
    let link = transport.dial(&node.id, at, Purpose::Join).await.map_err(|error| text(&error))?;
    let stream = link.open(Priority::Normal).await.map_err(|error| text(&error))?;
    let newcomer = Newcomer { folder, node: Some(&node.id) };
    let joined = join::join(stream, token, newcomer, &clock).await;
    link.close(CloseReason::Leaving);
    transport.close(CloseReason::Leaving).await;
    joined.map(drop).map_err(|error| text(&error))
}

/// Fetches the next certificate, when a good part of the present one's time is over.
///
/// # Errors
/// Why it could not, for the log; there is a next time.
pub async fn renew_if_due(config: &ClusterConfig, identity: &Arc<Identity>) -> Result<(), String> {
    let now = identity.clock().current_time();
    if now.is_none_or(|now| now < identity.renew_at()) {
        return Ok(());
    }
    let authority = authority(config)?;
    let key = ResetKey::new(member::random().map_err(|error| error.to_string())?);
    let transport = member::transport(ANYWHERE, key, identity.clone());
    let transport = transport.map_err(|error| error.to_string())?;
    let renewal = Renewal::new().map_err(|error| error.to_string())?;
    let question = Question::Renew(renewal.request().to_vec());
    let server = COORDINATOR.parse().map_err(|error| format!("{error}"))?;
    match calls::ask(&transport, &server, authority, &question).await? {
        Answer::Bytes(answer) => {
            renewal.finish(&answer, identity).map_err(|error| error.to_string())?;
            tracing::info!("the certificate was renewed");
            Ok(())
        }
        Answer::Refused(why) => Err(why),
        _ => Err("an answer to another question".to_owned()),
    }
}
