//! Whom a client has reached, and what a TLS alert says of one side's certificate, whatever carries
//! it. Whom a server lets in is [`admit`](crate::identity_tls::admit)'s matter.

use rustls::pki_types::CertificateDer;

use crate::address::{NodeId, PeerIdentity};
use crate::credentials::Credentials;
use crate::link::{LinkError, Purpose};

/// Whom a client has reached. One who joins trusts by other means than names, and may know none.
///
/// # Errors
/// [`LinkError::Untrusted`], where it is not the node that was meant.
pub(crate) fn reached(
    credentials: &dyn Credentials,
    node: &NodeId,
    purpose: Purpose,
    chain: Option<&[CertificateDer<'_>]>,
) -> Result<Option<PeerIdentity>, LinkError> {
    let peer = credentials.peer_of(chain.unwrap_or_default());
    if purpose == Purpose::Join {
        return Ok(peer.ok());
    }
    let peer = peer?;
    if peer.node != *node {
        return Err(LinkError::Untrusted(format!("{peer} answers in the place of {node}")));
    }
    Ok(Some(peer))
}

/// What a TLS alert says of certificates or protocols, if it does.
pub(crate) fn alert(number: u8) -> Option<&'static str> {
    Some(match number {
        40 => "nothing that both sides accept",
        42 => "a bad certificate",
        43 => "a certificate of an unsupported kind",
        44 => "a revoked certificate",
        45 => "an expired certificate",
        46 => "an unacceptable certificate",
        48 => "a certificate of an unknown authority",
        49 => "access denied",
        51 => "a signature that is wrong",
        70 => "another version of TLS",
        112 => "another name",
        116 => "no certificate",
        120 => "another protocol, or another version of it",
        _ => return None,
    })
}
