//! Joining, and being refused, over sockets on a loopback address: what the cases in memory leave
//! out is what a transport does with a handshake.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use crate::address::{PeerIdentity, Role};
use crate::authority::{Authority, Revoke};
use crate::authority_tokens::TOKEN_LIFETIME;
use crate::credentials::Credentials;
use crate::identity::Identity;
use crate::identity_clock::{Clock, system_clock};
use crate::identity_tls::Strangers;
use crate::join::{JoinError, Newcomer, join, serve_join};
use crate::join_fixture_tests::{Bare, node};
use crate::join_trust::Stranger;
use crate::link::{Link, LinkError, Priority, Purpose, Transport};
use crate::quic::{QuicConfig, QuicTransport, ResetKey};
use crate::tcp::{TcpConfig, TcpTransport};
use crate::token::{JoinToken, Refusal};

struct Cluster {
    folder: tempfile::TempDir,
    clock: Clock,
    authority: Arc<Authority>,
    identity: Arc<Identity>,
    coordinator: QuicTransport,
}

fn transport(credentials: Arc<dyn Credentials>) -> QuicTransport {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config = QuicConfig::new(listen, ResetKey::new([7; ResetKey::BYTES]));
    QuicTransport::bind(config, credentials).unwrap()
}

impl Cluster {
    fn new() -> Self {
        let (folder, clock) = (tempfile::tempdir().unwrap(), system_clock());
        let ca = folder.path().join("ca");
        let authority = Authority::create(&ca, &"lab".parse().unwrap(), clock.clone()).unwrap();
        let validity = crate::authority::VALIDITY;
        let bundle = authority.issue(&node("c1"), Role::Coordinator, validity).unwrap();
        let identity =
            Arc::new(Identity::in_memory(bundle, clock.clone(), Strangers::MayJoin).unwrap());
        let coordinator = transport(identity.clone());
        Self { folder, clock, authority: Arc::new(authority), identity, coordinator }
    }

    async fn dial(
        &self,
        credentials: Arc<dyn Credentials>,
        purpose: Purpose,
    ) -> Result<(QuicTransport, Arc<dyn Link>), LinkError> {
        let from = transport(credentials);
        let to = self.coordinator.local_addr();
        let link = from.dial(&node("c1"), to, purpose).await?;
        Ok((from, link))
    }

    async fn join(&self, token: &JoinToken, folder: &Path) -> Result<String, JoinError> {
        let serve = async {
            let link = self.coordinator.accept().await.unwrap();
            assert_eq!((link.purpose(), link.peer()), (Purpose::Join, None));
            let served = serve_join(link.accept().await.unwrap(), &self.authority).await;
            drop(link);
            served
        };
        let ask = async {
            let stranger = Arc::new(Stranger::new(token.authority, &self.clock).unwrap());
            let (_transport, link) = self.dial(stranger, Purpose::Join).await.unwrap();
            let stream = link.open(Priority::Normal).await.unwrap();
            join(stream, token, Newcomer { folder, node: None }, &self.clock).await
        };
        let (joined, served) = tokio::join!(ask, serve);
        assert_eq!(joined.is_ok(), served.is_ok(), "{joined:?} {served:?}");
        joined.map(|names| names.to_string())
    }
}

#[tokio::test]
async fn a_stranger_joins_and_is_a_node_until_it_is_revoked() {
    let cluster = Cluster::new();
    let token = cluster.authority.token(&node("n1"), Role::Worker, TOKEN_LIFETIME).unwrap();
    let folder = cluster.folder.path().join("n1");
    assert_eq!(cluster.join(&token, &folder).await.unwrap(), "worker n1 of lab");
    let again = cluster.join(&token, &cluster.folder.path().join("n2")).await;
    assert!(matches!(again, Err(JoinError::Refused(Refusal::UsedToken))), "{again:?}");

    let load = || Identity::load(&folder, cluster.clock.clone(), Strangers::Refused).unwrap();
    let dialled = cluster.dial(Arc::new(load()), Purpose::Control);
    let (dialled, accepted) = tokio::join!(dialled, cluster.coordinator.accept());
    let (_transport, link) = dialled.unwrap();
    let expected = PeerIdentity { node: node("c1"), role: Role::Coordinator };
    assert_eq!(link.peer(), Some(&expected));
    let expected = PeerIdentity { node: node("n1"), role: Role::Worker };
    assert_eq!(accepted.unwrap().peer(), Some(&expected));

    cluster.authority.revoke(&Revoke::Node(node("n1"))).unwrap();
    cluster.identity.set_crl_der(&cluster.authority.crl().unwrap()).unwrap();
    for purpose in Purpose::ALL {
        let refused = cluster.dial(Arc::new(load()), purpose).await;
        let refused = refused.err().expect("a revoked node was let in");
        assert!(matches!(refused, LinkError::Untrusted(_)), "{refused:?}");
    }
}

/// TLS lets them finish, since they might want to join; the transport does not let them in.
#[tokio::test]
async fn who_has_no_certificate_gets_no_link_but_to_join() {
    let cluster = Cluster::new();
    for purpose in [Purpose::Control, Purpose::Data] {
        let bare = Arc::new(Bare::new(cluster.identity.clone()));
        let refused = cluster.dial(bare, purpose).await.err().expect("a stranger was let in");
        assert!(format!("{refused:?}").contains("Refused"), "{refused:?}");
    }
}

/// Where there is no joining at all, whatever the certificate's owner lets strangers do.
#[tokio::test]
async fn who_has_no_certificate_gets_no_link_over_tcp() {
    let cluster = Cluster::new();
    let config = || TcpConfig::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let server = TcpTransport::bind(config(), cluster.identity.clone()).await.unwrap();
    let dial = async |credentials: Arc<dyn Credentials>, purpose| {
        let from = TcpTransport::bind(config(), credentials).await.unwrap();
        let linked = from.dial(&node("c1"), server.local_addr(), purpose).await;
        linked.map(|link| link.peer().cloned())
    };
    for purpose in Purpose::ALL {
        let bare = Arc::new(Bare::new(cluster.identity.clone()));
        let refused = dial(bare, purpose).await;
        assert!(refused.is_err(), "{purpose:?}: {refused:?}");
    }
    assert!(dial(cluster.identity.clone(), Purpose::Data).await.is_ok(), "the rest is right");
}
