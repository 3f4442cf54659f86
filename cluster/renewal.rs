//! The next certificate of a node that has one: a request for a certificate, over a connection that
//! has proved who asks. Who asks gets one for the same node and role, whatever the request says.
//!
//! Bytes in, bytes out: what carries them is a remote actor's lane. A node makes a [`Renewal`],
//! sends its [`Renewal::request`], and gives the answer to [`Renewal::finish`].

use bincode::{Decode, Encode};
use rcgen::KeyPair;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};

use crate::address::PeerIdentity;
use crate::authority::{Authority, AuthorityError};
use crate::authority_forms::{self as forms, FormError};
use crate::caps::CONTROL_MESSAGE_BYTES_MAX;
use crate::codec::{self, CodecError};
use crate::identity::Identity;
use crate::identity_error::IdentityError;
use crate::token::Refusal;

#[derive(Encode, Decode)]
pub(crate) struct Request {
    /// PKCS #10, DER.
    request: Vec<u8>,
}

#[derive(Encode, Decode)]
pub(crate) enum Answer {
    Granted {
        /// DER.
        certificate: Vec<u8>,
    },
    Refused(Refusal),
}

#[derive(Debug, thiserror::Error)]
pub enum RenewalError {
    #[error("{0}")]
    Refused(Refusal),
    #[error("what the peer sent: {0}")]
    Message(#[from] CodecError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("cannot make {0}")]
    Form(#[from] FormError),
}

/// A new key, of which nobody knows yet.
pub struct Renewal {
    key: KeyPair,
    request: Vec<u8>,
}

impl Renewal {
    pub fn new() -> Result<Self, RenewalError> {
        let key = forms::key()?;
        let request = Request { request: forms::request(&key)?.to_vec() };
        Ok(Self { key, request: codec::encode(&request, CONTROL_MESSAGE_BYTES_MAX)? })
    }

    /// What to send to the authority.
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// Takes what it answered into use. After an error the identity is as before.
    pub fn finish(self, answer: &[u8], identity: &Identity) -> Result<(), RenewalError> {
        let certificate = match codec::decode(answer, CONTROL_MESSAGE_BYTES_MAX)? {
            Answer::Granted { certificate } => CertificateDer::from(certificate),
            Answer::Refused(why) => return Err(RenewalError::Refused(why)),
        };
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der());
        Ok(identity.replace(key, certificate)?)
    }
}

/// The authority's part: what to send back to this peer. Reads and writes files.
pub fn answer_renewal(
    authority: &Authority,
    peer: &PeerIdentity,
    request: &[u8],
) -> Result<Vec<u8>, CodecError> {
    let refused = Answer::Refused;
    let answer = match codec::decode::<Request>(request, CONTROL_MESSAGE_BYTES_MAX) {
        Err(_) => refused(Refusal::BadRequest),
        Ok(Request { request }) => {
            let request = CertificateSigningRequestDer::from(request);
            match authority.renew(&request, &peer.node, peer.role) {
                Ok(certificate) => Answer::Granted { certificate: certificate.to_vec() },
                Err(AuthorityError::Request) => refused(Refusal::BadRequest),
                Err(AuthorityError::NoneIssued(_)) => refused(Refusal::NoCertificate),
                Err(error) => {
                    tracing::error!(%peer, %error, "a certificate could not be renewed");
                    refused(Refusal::Failed)
                }
            }
        }
    };
    codec::encode(&answer, CONTROL_MESSAGE_BYTES_MAX)
}
