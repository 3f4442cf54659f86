//! Who may come in: what a transport asks once a handshake is over, whatever carries it.

use rustls::pki_types::CertificateDer;

use crate::address::{NodeId, PeerIdentity, Role};
use crate::credentials::Credentials;
use crate::link::{LinkError, Purpose};

/// Whether the client of a finished handshake may come in, what for, and who it is: `None` for a
/// stranger, who may do nothing but join. A server asks it before it reads anything.
///
/// # Errors
/// [`LinkError::Untrusted`]; the connection is to be closed.
pub(crate) fn admit(
    credentials: &dyn Credentials,
    protocol: Option<&[u8]>,
    chain: Option<&[CertificateDer<'_>]>,
) -> Result<(Purpose, Option<PeerIdentity>), LinkError> {
    let purpose = Purpose::ALL.into_iter().find(|purpose| Some(purpose.alpn()) == protocol);
    let Some(purpose) = purpose else {
        return Err(LinkError::Untrusted("no protocol of this version was agreed on".to_owned()));
    };
    match (purpose, chain) {
        // A certificate gives no rights here: who has one renews it over its control connection.
        (Purpose::Join, _) => Ok((purpose, None)),
        (_, Some(chain)) if !chain.is_empty() => {
            let peer = credentials.peer_of(chain)?;
            if purpose == Purpose::Gradients && peer.role == Role::Operator {
                return Err(LinkError::Untrusted(format!("gradients of an {}", peer.role)));
            }
            Ok((purpose, Some(peer)))
        }
        (_, _) => Err(LinkError::Untrusted("it has no certificate".to_owned())),
    }
}

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
