//! This process as a member of a cluster: its identity, its state, and its end of the network.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use orcapack_cluster::address::{NodeId, Role};
use orcapack_cluster::credentials::Credentials;
use orcapack_cluster::identity::Identity;
use orcapack_cluster::identity_clock::system_clock;
use orcapack_cluster::identity_folder::CERTIFICATE_FILE;
use orcapack_cluster::identity_tls::Strangers;
use orcapack_cluster::link::Transport;
use orcapack_cluster::mesh::{Admits, MeshConfig, PeerAddress};
use orcapack_cluster::quic::{QuicConfig, QuicTransport, ResetKey};
use orcapack_cluster::split::SplitTransport;
use orcapack_cluster::tcp::{TcpConfig, TcpTransport};

use crate::cluster_config::{ClusterConfig, DataOver};
use crate::cluster_peers;
use crate::exit::Failure;
use crate::files;
use crate::node_state::NodeState;

/// Its folder, below the state folder, of whoever coordinates runs from this machine.
pub const COORDINATOR: &str = "coordinator";
/// Of whoever looks after the nodes from this machine.
pub const OPERATOR: &str = "operator";

/// Any port of any address: for who is never dialled.
pub const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// The identity of this name on this machine.
///
/// # Errors
/// There is none, or something is wrong with it; the message says what to do.
pub fn identity(config: &ClusterConfig, name: &str, role: Role) -> Result<Arc<Identity>, Failure> {
    let id: NodeId = name.parse().map_err(|error| Failure::bad_input(format!("{error}")))?;
    let folder = folder(config, &id, role)?;
    let identity = Identity::load(&folder, system_clock(), Strangers::Refused);
    let identity = identity.map_err(|error| Failure::bad_input(error.to_string()))?;
    let names = identity.names();
    if names.cluster.as_str() != config.name || names.role != role || names.node != id {
        return Err(Failure::bad_input(format!(
            "{}: expected the identity of {role} {id} of {}, found {names}",
            folder.display(),
            config.name
        )));
    }
    Ok(Arc::new(identity))
}

/// Where the identity of this name is.
///
/// # Errors
/// There is none; the message says how there comes to be one.
pub fn folder(config: &ClusterConfig, id: &NodeId, role: Role) -> Result<PathBuf, Failure> {
    let folder = config.state_of(id);
    if !folder.join(CERTIFICATE_FILE).exists() {
        let file = config.file.display();
        let how = match role {
            Role::Worker => format!(
                "it joins with `orcapack node {file} --id {id} --join TOKEN`, or is given the \
                 folder that `orcapack cluster issue {file} {id} -o DIR` writes"
            ),
            Role::Coordinator | Role::Operator => format!(
                "`orcapack cluster init {file}` makes it on the machine of the authority; for \
                 another machine: `orcapack cluster issue {file} {id} --role {role} -o DIR`"
            ),
        };
        let folder = folder.display();
        return Err(Failure::bad_input(format!("{folder}: there is no identity yet: {how}")));
    }
    Ok(folder)
}

/// # Errors
/// The address cannot be listened on.
pub fn transport(
    listen: SocketAddr,
    reset_key: ResetKey,
    credentials: Arc<dyn Credentials>,
) -> Result<Arc<dyn Transport>, Failure> {
    let transport = QuicTransport::bind(QuicConfig::new(listen, reset_key), credentials);
    let transport = transport
        .map_err(|error| Failure::bad_input(format!("cannot listen on {listen}: {error}")))?;
    Ok(Arc::new(transport))
}

/// What the sessions of a mesh go over, as the cluster file says.
///
/// # Errors
/// The address cannot be listened on.
pub async fn mesh_transport(
    config: &ClusterConfig,
    listen: SocketAddr,
    state: &NodeState,
    identity: &Arc<Identity>,
) -> Result<Arc<dyn Transport>, Failure> {
    let main = transport(listen, state.reset_key.clone(), identity.clone())?;
    if config.data_over == DataOver::Quic {
        return Ok(main);
    }
    let data = TcpTransport::bind(TcpConfig::new(listen), identity.clone()).await;
    let data = data
        .map_err(|error| Failure::bad_input(format!("cannot listen on TCP {listen}: {error}")))?;
    Ok(Arc::new(SplitTransport::new(main, Arc::new(data))))
}

/// For who only asks: a port of the moment, and nothing that is kept.
///
/// # Errors
/// As for [`identity`], or no port can be had.
pub fn caller(
    config: &ClusterConfig,
    name: &str,
    role: Role,
) -> Result<Arc<dyn Transport>, Failure> {
    let identity = identity(config, name, role)?;
    transport(ANYWHERE, ResetKey::new(random()?), identity)
}

/// What a mesh needs to know to begin with.
///
/// # Errors
/// No random numbers can be had.
pub async fn mesh_config(
    config: &ClusterConfig,
    identity: &Identity,
    state: &NodeState,
    listens: bool,
) -> Result<MeshConfig, Failure> {
    let me = identity.names().node.clone();
    Ok(MeshConfig {
        peers: peers(config, &me).await,
        me,
        role: identity.names().role,
        cluster: config.name.clone(),
        incarnation: state.incarnation,
        listens,
        admits: Admits::Certified,
        seed: u64::from_le_bytes(random()?),
        guests: None,
    })
}

/// The nodes that have an address now, without this one.
pub async fn peers(config: &ClusterConfig, me: &NodeId) -> Vec<PeerAddress> {
    let found = cluster_peers::resolve_all(config).await;
    let others = found.into_iter().filter(|(node, _)| node != me);
    let known = others.filter_map(|(node, at)| Some((node, at.ok()?)));
    known.map(|(node, at)| PeerAddress { node, role: Role::Worker, at }).collect()
}

/// # Errors
/// The system has none.
pub fn random<const N: usize>() -> Result<[u8; N], Failure> {
    files::random().map_err(|error| Failure::internal(error.to_string()))
}
