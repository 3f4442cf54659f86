//! How a machine comes to its identity, and keeps it: joining with a token, and renewing in time.

use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use orcapack_cluster::address::Role;
use orcapack_cluster::identity::Identity;
use orcapack_cluster::identity_clock::system_clock;
use orcapack_cluster::identity_folder::{Bundle, CERTIFICATE_FILE};
use orcapack_cluster::identity_tls::Strangers;
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

/// Names the token that the identity was made with.
const TOKEN_FILE: &str = "joined";

/// Joins with the token that was given, if the node has no identity yet.
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
    if folder.join(CERTIFICATE_FILE).exists() {
        return Ok(());
    }
    let Some(token) = token(args, host)? else { return Ok(()) };
    let authority = authority(config).map_err(Failure::bad_input)?;
    join(node, &folder, &token, authority)
        .await
        .map_err(|why| Failure::new(Exit::Unreachable, format!("joining at {authority}: {why}")))?;
    tracing::info!(node = %node.id, "has joined {}", config.name);
    remember(&folder, &token)
}

/// Joins anew with a token that this identity was not made with: the old one may be revoked, or
/// have expired. Where that fails the node goes on with the identity that it has. The caller has
/// taken the node's state.
///
/// # Errors
/// The token is none, or a file cannot be written.
pub async fn join_again(
    config: &ClusterConfig,
    node: &ClusterNode,
    args: &NodeRunArgs,
    host: &Host,
) -> Result<(), Failure> {
    let folder = config.state_of(&node.id);
    let Some(token) = token(args, host)? else { return Ok(()) };
    // It stays in a unit's environment, and is good once.
    let made_with = fs::read_to_string(folder.join(TOKEN_FILE)).unwrap_or_default();
    if made_with.trim() == token.id.to_string() {
        return Ok(());
    }
    let staged = folder.join("joining");
    let joined = match authority(config) {
        Ok(at) => join_beside(node, &config.name, &staged, &token, at).await,
        Err(why) => Err(why),
    };
    match joined {
        Ok(bundle) => {
            bundle.replace(&folder).map_err(|error| Failure::bad_input(error.to_string()))?;
            drop(fs::remove_dir_all(&staged));
            tracing::info!(node = %node.id, "has joined {} anew", config.name);
            remember(&folder, &token)
        }
        Err(why) => {
            tracing::warn!(why, "has not joined anew: the identity that is there is used");
            Ok(())
        }
    }
}

async fn join_beside(
    node: &ClusterNode,
    cluster: &str,
    staged: &Path,
    token: &JoinToken,
    authority: &HostPort,
) -> Result<Bundle, String> {
    match fs::remove_dir_all(staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.to_string()),
        _ => {}
    }
    join(node, staged, token, authority).await?;
    let bundle = Bundle::read(staged).map_err(|error| error.to_string())?;
    let joined = Identity::in_memory(bundle.clone(), system_clock(), Strangers::Refused);
    let joined = joined.map_err(|error| error.to_string())?;
    let names = joined.names();
    if names.cluster.as_str() != cluster || names.role != Role::Worker {
        return Err(format!("expected the token of a worker of {cluster}, found one of {names}"));
    }
    Ok(bundle)
}

/// The id, which gives nothing away.
fn remember(folder: &Path, token: &JoinToken) -> Result<(), Failure> {
    let path = folder.join(TOKEN_FILE);
    fs::write(&path, format!("{}\n", token.id))
        .map_err(|error| Failure::bad_input(format!("{}: {error}", path.display())))
}

fn token(args: &NodeRunArgs, host: &Host) -> Result<Option<JoinToken>, Failure> {
    let Some(text) = args.join_token(host.variables)? else { return Ok(None) };
    let token = text.parse();
    token.map(Some).map_err(|error| Failure::bad_input(format!("the join token: {error}")))
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
