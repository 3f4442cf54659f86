//! What a transport asks of an identity: TLS configurations, and who a peer is.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};

use crate::address::{NodeId, PeerIdentity};
use crate::link::{LinkError, Purpose};

/// Transports ask anew for every handshake, so that certificates can be exchanged and revoked while
/// they run; whoever implements it keeps what it gives at hand.
pub trait Credentials: Send + Sync + 'static {
    /// For Control and Data; and for Join, where this process has the authority.
    fn server_config(&self) -> Arc<rustls::ServerConfig>;

    fn client_config(&self, purpose: Purpose) -> Arc<rustls::ClientConfig>;

    /// The name that `node`'s certificate must have.
    fn server_name(&self, node: &NodeId) -> ServerName<'static>;

    /// Who holds this certificate, of a chain that the handshake has verified. Not asked for Join
    /// connections of strangers: they have none.
    ///
    /// # Errors
    /// [`LinkError::Untrusted`], if the names in it are not those of a node of this cluster.
    fn peer_of(&self, chain: &[CertificateDer<'_>]) -> Result<PeerIdentity, LinkError>;

    /// Whether a peer that was let in with this chain must go: its certificate was revoked since.
    fn revoked(&self, _chain: &[CertificateDer<'_>]) -> bool {
        false
    }
}
