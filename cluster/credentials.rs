//! What a process proves itself with, and judges others by.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};

use crate::address::{NodeId, PeerIdentity};
use crate::link::{LinkError, Purpose};

/// Certificates and trust, as transports need them. Both change while a process runs: certificates
/// are rotated and revoked. So a transport asks anew for every connection, and an implementation
/// keeps its answers ready.
///
/// All configurations are of TLS 1.3 alone, without early data.
pub trait Credentials: Send + Sync + 'static {
    /// Of the purposes [`Purpose::Control`] and [`Purpose::Data`], for which a peer needs a
    /// certificate; and of [`Purpose::Join`] where this process may admit strangers.
    fn server_config(&self) -> Arc<rustls::ServerConfig>;

    fn client_config(&self, purpose: Purpose) -> Arc<rustls::ClientConfig>;

    /// The name that the certificate of a node holds.
    fn server_name(&self, node: &NodeId) -> ServerName<'static>;

    /// Whose certificate is first in a chain that the handshake has verified.
    fn peer_of(&self, chain: &[CertificateDer<'_>]) -> Result<PeerIdentity, LinkError>;
}
