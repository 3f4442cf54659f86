//! Those who connect: anybody may send packets here, and nothing that they send may cost much.
//!
//! - **QU-1** No more than [`INCOMING_MAX`] handshakes are under way, each for [`CONNECT_TIMEOUT`]
//!   at most. From [`INCOMING_UNVALIDATED_MAX`] on, one begins only for who can receive at the
//!   address that it sends from.
//! - **QU-2** Nothing that a stranger does ends the endpoint: a failure is its own.

use std::sync::{Arc, OnceLock};

use quinn::{Connecting, Endpoint, Incoming};
use rustls::pki_types::CertificateDer;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::address::NodeId;
use crate::admission::{admit, reached};
use crate::caps::{CONNECT_TIMEOUT, INCOMING_MAX, INCOMING_UNVALIDATED_MAX};
use crate::credentials::Credentials;
use crate::link::{CloseReason, Link, LinkError, Purpose};
use crate::quic_config::{Settings, hinted};
use crate::quic_error::{code, link_error};
use crate::quic_link::QuicLink;

/// What the handshakes of an endpoint need.
pub(crate) struct Shared {
    pub(crate) credentials: Arc<dyn Credentials>,
    pub(crate) settings: Settings,
    pub(crate) all_closed: Arc<OnceLock<CloseReason>>,
}

/// Runs until the endpoint is closed. Links that nobody takes count as handshakes under way.
pub(crate) async fn accept_all(
    endpoint: Endpoint,
    shared: Arc<Shared>,
    accepted: mpsc::Sender<Arc<dyn Link>>,
) {
    let mut handshakes = JoinSet::new();
    loop {
        let incoming = tokio::select! {
            biased;
            Some(_) = handshakes.join_next() => continue,
            incoming = endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else { return };
        if hinted(&incoming.orig_dst_cid()).is_none() {
            // A stranger, or a late packet for a connection of an earlier life, read with wrong
            // keys. It is not worth an answer, nor a place; and whether it is read as a beginning
            // at all is chance.
            incoming.ignore();
            continue;
        }
        let under_way = handshakes.len();
        if under_way >= INCOMING_MAX {
            incoming.refuse();
        } else if under_way >= INCOMING_UNVALIDATED_MAX && !incoming.remote_address_validated() {
            // It always may, where the address is not validated; else this would refuse it.
            let _ = incoming.retry();
        } else {
            handshakes.spawn(accept_one(incoming, shared.clone(), accepted.clone()));
        }
    }
}

async fn accept_one(
    incoming: Incoming,
    shared: Arc<Shared>,
    accepted: mpsc::Sender<Arc<dyn Link>>,
) {
    let from = incoming.remote_address();
    let link = match timeout(CONNECT_TIMEOUT, take(incoming, &shared)).await {
        Ok(Ok(link)) => link,
        Ok(Err(error)) => return tracing::info!(%from, %error, "refused a connection"),
        Err(_) => return tracing::info!(%from, "gave up a handshake that took too long"),
    };
    // It fails when the transport is gone; the link goes with it.
    let _ = accepted.send(Arc::new(link)).await;
}

async fn take(incoming: Incoming, shared: &Shared) -> Result<QuicLink, LinkError> {
    let name = incoming.orig_dst_cid();
    let hint = hinted(&name).ok_or_else(|| LinkError::Untrusted("no node of ours".to_owned()))?;
    let config = shared.settings.server(&*shared.credentials, hint)?;
    let failed = |error| link_error(&error, None);
    let connecting = incoming.accept_with(config).map_err(failed)?;
    let connection = connecting.await.map_err(failed)?;
    let protocol = connection.handshake_data().and_then(|data| {
        let data = data.downcast::<quinn::crypto::rustls::HandshakeData>().ok()?;
        data.protocol
    });
    let chain = chain(&connection);
    let (purpose, peer) = admit(&*shared.credentials, protocol.as_deref(), chain.as_deref())
        .inspect_err(|_| connection.close(code(CloseReason::Refused), b""))?;
    if purpose != hint {
        connection.close(code(CloseReason::Protocol), b"");
        return Err(LinkError::Untrusted("not for what it said at first".to_owned()));
    }
    // The client waits for it: only now it knows that it was taken. Dropping it ends the stream.
    drop(connection.open_uni().await.map_err(failed)?);
    Ok(link(connection, peer, purpose, shared))
}

/// The other side of a handshake.
pub(crate) async fn reach(
    connecting: Connecting,
    node: &NodeId,
    purpose: Purpose,
    shared: &Shared,
) -> Result<QuicLink, LinkError> {
    let failed = |error| link_error(&error, shared.all_closed.get().copied());
    let connection = connecting.await.map_err(failed)?;
    let chain = chain(&connection);
    let chain = chain.as_deref();
    let peer = reached(&*shared.credentials, node, purpose, chain)
        .inspect_err(|_| connection.close(code(CloseReason::Refused), b""))?;
    connection.accept_uni().await.map_err(failed)?;
    Ok(link(connection, peer, purpose, shared))
}

pub(crate) fn chain(connection: &quinn::Connection) -> Option<Vec<CertificateDer<'static>>> {
    connection.peer_identity()?.downcast().ok().map(|chain| *chain)
}

fn link(
    connection: quinn::Connection,
    peer: Option<crate::address::PeerIdentity>,
    purpose: Purpose,
    shared: &Shared,
) -> QuicLink {
    let (credentials, all_closed) = (shared.credentials.clone(), shared.all_closed.clone());
    QuicLink { connection, peer, purpose, credentials, closed: OnceLock::new(), all_closed }
}
