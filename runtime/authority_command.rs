//! `orcapack cluster init|token|issue|serve|rotate|revoke`: the work of the authority's machine.

use std::sync::Arc;

use orcapack_cluster::address::{NodeId, PeerIdentity, Role};
use orcapack_cluster::authority::{Authority, AuthorityError, Revoke, VALIDITY};
use orcapack_cluster::identity::Identity;
use orcapack_cluster::identity_clock::system_clock;
use orcapack_cluster::identity_names::ClusterName;
use orcapack_cluster::identity_tls::Strangers;
use orcapack_cluster::join;
use orcapack_cluster::link::{CloseReason, Link, Purpose, Transport};
use orcapack_cluster::quic::ResetKey;
use orcapack_cluster::renewal::answer_renewal;
use tokio::task::JoinSet;

use crate::calls::{self, Answer, Desk, Question};
use crate::cli_cluster::{ClusterCommand, InitArgs, IssueArgs, RevokeArgs, RotateArgs, TokenArgs};
use crate::cluster_config::{ClusterConfig, ClusterNode};
use crate::cluster_discovery::host_name;
use crate::config_layers::Host;
use crate::exit::{Exit, Failure};
use crate::member::{self, COORDINATOR, OPERATOR};
use crate::signals::Signals;
use crate::{cluster_peers, cluster_render, cluster_template, output, telemetry};

/// Strangers and nodes that are being answered at a time.
const GUESTS_MAX: usize = 64;

/// # Errors
/// See [`Exit`].
pub async fn run(command: &ClusterCommand, host: &Host) -> Result<Exit, Failure> {
    match command {
        ClusterCommand::Init(args) => init(args, host),
        ClusterCommand::Token(args) => token(args, host),
        ClusterCommand::Issue(args) => issue(args, host),
        ClusterCommand::Serve(args) => {
            let config = ClusterConfig::load(&args.cluster, host)?;
            telemetry::start_logs(None, 1).map_err(|error| Failure::internal(error.to_string()))?;
            serve(&config).await
        }
        ClusterCommand::Rotate(args) => rotate(args, host).await,
        ClusterCommand::Revoke(args) => revoke(args, host).await,
        ClusterCommand::Render(command) => cluster_render::render(command, host),
        ClusterCommand::Peers(args) => cluster_peers::peers(args, host).await,
    }
}

fn refused(error: AuthorityError) -> Failure {
    Failure::bad_input(error.to_string())
}

fn authority(config: &ClusterConfig) -> Result<Authority, Failure> {
    if !config.pki.join("ca.key").exists() {
        return Err(Failure::bad_input(format!(
            "{}: the authority is not on this machine; `orcapack cluster init` makes one",
            config.pki.display()
        )));
    }
    let authority = Authority::load(&config.pki, system_clock()).map_err(refused)?;
    if authority.cluster().as_str() != config.name {
        return Err(Failure::bad_input(format!(
            "{}: expected the authority of {}, found that of {}",
            config.pki.display(),
            config.name,
            authority.cluster()
        )));
    }
    Ok(authority)
}

/// The file, the authority, and this user's two identities: whatever of it is not there yet.
fn init(args: &InitArgs, host: &Host) -> Result<Exit, Failure> {
    let (config, written) = cluster_template::ensure(args, host, &host_name())?;
    let file = config.file.display();
    if written {
        output::print(&format!("wrote {file}\n"))?;
    }
    let authority = if config.pki.join("ca.key").exists() {
        authority(&config)?
    } else {
        let name: ClusterName = config
            .name
            .parse()
            .map_err(|error| Failure::bad_input(format!("{file}: cluster.name: {error}")))?;
        let made = Authority::create(&config.pki, &name, system_clock()).map_err(refused)?;
        output::print(&format!("made the authority in {}\n", config.pki.display()))?;
        made
    };
    for (name, role) in [(COORDINATOR, Role::Coordinator), (OPERATOR, Role::Operator)] {
        let id: NodeId = name.parse().map_err(|error| Failure::internal(format!("{error}")))?;
        let folder = config.state_of(&id);
        if folder.join("node.pem").exists() {
            continue;
        }
        let bundle = authority.issue(&id, role, VALIDITY).map_err(refused)?;
        bundle.write(&folder).map_err(|error| Failure::bad_input(error.to_string()))?;
        output::print(&format!("made this user's {role} identity in {}\n", folder.display()))?;
    }
    let nodes: Vec<&str> = config.nodes.keys().map(NodeId::as_str).collect();
    output::print(&format!(
        "next: give each node ({}) the file and an identity: see `orcapack cluster token --help` \
         and `orcapack cluster issue --help`\n",
        nodes.join(", ")
    ))?;
    Ok(Exit::Done)
}

fn token(args: &TokenArgs, host: &Host) -> Result<Exit, Failure> {
    let config = ClusterConfig::load(&args.cluster, host)?;
    let authority = authority(&config)?;
    if args.role.role == Role::Worker {
        config.node(args.id.as_str())?;
    }
    let token = authority.token(&args.id, args.role.role, args.ttl).map_err(refused)?;
    output::print(&format!("{}\n", token.reveal()))?;
    Ok(Exit::Done)
}

fn issue(args: &IssueArgs, host: &Host) -> Result<Exit, Failure> {
    let config = ClusterConfig::load(&args.cluster, host)?;
    let authority = authority(&config)?;
    if args.role.role == Role::Worker {
        config.node(args.id.as_str())?;
    }
    let bundle = authority.issue(&args.id, args.role.role, VALIDITY).map_err(refused)?;
    bundle.write(&args.output).map_err(|error| Failure::bad_input(error.to_string()))?;
    output::print(&format!(
        "wrote the identity of {} {}: it belongs into {} on its machine\n",
        args.role.role,
        args.id,
        config.state_of(&args.id).display()
    ))?;
    Ok(Exit::Done)
}

/// Lets nodes join and renew, until it is told to end.
async fn serve(config: &ClusterConfig) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let Some(address) = &config.authority else {
        return Err(Failure::bad_input(format!(
            "{}: cluster.authority: expected the address at which nodes reach this, found none",
            config.file.display()
        )));
    };
    let authority = Arc::new(authority(config)?);
    // Its own certificate says that it is a coordinator: whom a stranger with a token may trust.
    let id: NodeId = COORDINATOR.parse().map_err(|error| Failure::internal(format!("{error}")))?;
    let bundle = authority.issue(&id, Role::Coordinator, VALIDITY).map_err(refused)?;
    let identity = Identity::in_memory(bundle, system_clock(), Strangers::MayJoin);
    let identity = identity.map_err(|error| Failure::internal(error.to_string()))?;
    let key = ResetKey::new(member::random()?);
    let identity = Arc::new(identity);
    let transport = member::transport(address.listen(), key, identity.clone())?;
    tracing::info!(listen = %address.listen(), "the authority lets nodes join");
    let mut answering = JoinSet::new();
    loop {
        let link = tokio::select! {
            biased;
            () = signals.next() => break,
            link = transport.accept() => link,
        };
        while answering.try_join_next().is_some() {}
        match link {
            None => break,
            Some(link) if answering.len() >= GUESTS_MAX => link.close(CloseReason::Refused),
            Some(link) => {
                let (authority, identity) = (authority.clone(), identity.clone());
                answering.spawn(async move { welcome(link, authority, &identity).await });
            }
        }
    }
    transport.close(CloseReason::Leaving).await;
    Ok(Exit::Done)
}

async fn welcome(link: Arc<dyn Link>, authority: Arc<Authority>, identity: &Identity) {
    match link.purpose() {
        Purpose::Join => {
            let served = match link.accept().await {
                Ok(stream) => join::serve_join(stream, &authority).await,
                Err(error) => return tracing::debug!(%error, "a stranger went"),
            };
            if let Err(error) = served {
                tracing::info!(%error, "a join came to nothing");
            }
            link.close(CloseReason::Leaving);
        }
        Purpose::Call => {
            // Another process may have revoked it since: what counts are the books.
            if let Err(error) = follow_books(&authority, identity).await {
                tracing::error!(error, "whom to trust is not known");
                return link.close(CloseReason::Refused);
            }
            if link.is_revoked() {
                tracing::warn!(peer = ?link.peer(), "refused: its certificate is revoked");
                return link.close(CloseReason::Revoked);
            }
            calls::serve(link, &AuthorityDesk(authority)).await;
        }
        Purpose::Control | Purpose::Data | Purpose::Gradients => link.close(CloseReason::Refused),
    }
}

async fn follow_books(authority: &Arc<Authority>, identity: &Identity) -> Result<(), String> {
    let authority = authority.clone();
    let list = tokio::task::spawn_blocking(move || authority.crl()).await;
    let list = list.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    identity.set_crl_der(&list).map_err(|error| error.to_string())?;
    Ok(())
}

struct AuthorityDesk(Arc<Authority>);

impl Desk for AuthorityDesk {
    async fn answer(&self, from: &PeerIdentity, question: Question) -> Answer {
        let Question::Renew(request) = question else {
            return Answer::Refused("this is the authority, and no node".to_owned());
        };
        let (authority, peer) = (self.0.clone(), from.clone());
        // Its books are on disk, and may be locked by another process.
        let answer =
            tokio::task::spawn_blocking(move || answer_renewal(&authority, &peer, &request));
        match answer.await {
            Ok(Ok(answer)) => Answer::Bytes(answer),
            Ok(Err(error)) => Answer::Refused(error.to_string()),
            Err(error) => Answer::Refused(error.to_string()),
        }
    }
}

async fn rotate(args: &RotateArgs, host: &Host) -> Result<Exit, Failure> {
    let config = ClusterConfig::load(&args.cluster, host)?;
    let authority = authority(&config)?;
    let nodes: Vec<&ClusterNode> = match &args.ids[..] {
        [] => config.peers()?,
        ids => ids.iter().map(|id| config.node(id.as_str())).collect::<Result<_, _>>()?,
    };
    let transport = member::caller(&config, OPERATOR, Role::Operator)?;
    let mut exit = Exit::Done;
    for node in nodes {
        match rotate_one(&authority, &transport, node).await {
            Ok(()) => output::print(&format!("{}: has a new key and certificate\n", node.id))?,
            Err(why) => {
                eprintln!("{}: {why}", node.id);
                exit = Exit::Unreachable;
            }
        }
    }
    Ok(exit)
}

async fn rotate_one(
    authority: &Authority,
    transport: &Arc<dyn Transport>,
    node: &ClusterNode,
) -> Result<(), String> {
    let unexpected = || "an answer to another question".to_owned();
    let asked = calls::ask(transport, &node.id, &node.address, &Question::Rotate).await?;
    let request = match asked {
        Answer::Bytes(request) => request,
        Answer::Refused(why) => return Err(why),
        _ => return Err(unexpected()),
    };
    let peer = PeerIdentity { node: node.id.clone(), role: Role::Worker };
    let answer = answer_renewal(authority, &peer, &request).map_err(|error| error.to_string())?;
    match calls::ask(transport, &node.id, &node.address, &Question::Rotated(answer)).await? {
        Answer::Done => Ok(()),
        Answer::Refused(why) => Err(why),
        _ => Err(unexpected()),
    }
}

async fn revoke(args: &RevokeArgs, host: &Host) -> Result<Exit, Failure> {
    let config = ClusterConfig::load(&args.cluster, host)?;
    let authority = authority(&config)?;
    let revoked = authority.revoke(&Revoke::Node(args.id.clone())).map_err(refused)?;
    output::print(&format!(
        "revoked {} of {}\n",
        output::plural(revoked.len(), "certificate"),
        args.id
    ))?;
    let list = authority.crl().map_err(refused)?;
    for (name, role) in [(COORDINATOR, Role::Coordinator), (OPERATOR, Role::Operator)] {
        // Where this machine has them: what they ask of the revoked node must not be answered.
        if let Ok(identity) = member::identity(&config, name, role) {
            let taken = identity.set_crl_der(&list);
            taken.map_err(|error| Failure::bad_input(format!("{name}: {error}")))?;
        }
    }
    let list = list.to_vec();
    let transport = member::caller(&config, OPERATOR, Role::Operator)?;
    let mut exit = Exit::Done;
    for node in config.peers()?.into_iter().filter(|node| node.id != args.id) {
        let question = Question::Revocations(list.clone());
        match calls::ask(&transport, &node.id, &node.address, &question).await {
            Ok(Answer::Done) => output::print(&format!("{}: knows it\n", node.id))?,
            Ok(Answer::Refused(why)) | Err(why) => {
                eprintln!("{}: does not know it: {why}", node.id);
                exit = Exit::Unreachable;
            }
            Ok(_) => return Err(Failure::internal("an answer to another question".to_owned())),
        }
    }
    Ok(exit)
}

#[cfg(test)]
#[path = "authority_command_tests.rs"]
mod tests;
