//! Whom a stranger trusts with its token: the coordinator of a cluster whose authority has the key
//! that the token names.
//!
//! The token has the hash of that key. The server shows its certificate and its authority's; the
//! latter must have the key with the hash, and have issued the former, which must be valid now. And
//! it must be a coordinator's: any node has a certificate of the authority, and a worker that was
//! broken into must not be able to stand in for the coordinator, take tokens from newcomers, and
//! become an operator with them. Names are not compared, since who joins need not know any.
//!
//! What it cannot see is whether the coordinator's certificate was revoked: the list comes with the
//! answer.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, PeerIncompatible, ServerConfig,
    SignatureScheme,
};

use crate::address::{NodeId, PeerIdentity, Role};
use crate::credentials::Credentials;
use crate::identity_certificate::{BadCertificate, Certificate, Pin, has_pin, verify_issued};
use crate::identity_clock::Clock;
use crate::identity_tls::{provider, stranger_config, without_resumption};
use crate::link::{LinkError, Purpose};

/// The credentials of a machine that has none yet. It dials to join, and that is all: it shows no
/// certificate, and whoever dials it is refused.
pub struct Stranger {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Stranger {
    /// Trusts coordinators under this authority.
    pub fn new(authority: Pin, clock: &Clock) -> Result<Self, Error> {
        let verifier = PinnedAuthority { pin: authority, provider: provider() };
        let server = ServerConfig::builder_with_details(provider(), clock.clone())
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(NoCertificate));
        Ok(Self {
            client: stranger_config(Arc::new(verifier), clock)?,
            server: Arc::new(without_resumption(server, &[])),
        })
    }
}

impl Credentials for Stranger {
    fn server_config(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    fn client_config(&self, _purpose: Purpose) -> Arc<ClientConfig> {
        self.client.clone()
    }

    /// Of no consequence: it is neither sent nor compared.
    fn server_name(&self, _node: &NodeId) -> ServerName<'static> {
        ServerName::from(std::net::Ipv4Addr::UNSPECIFIED)
    }

    fn peer_of(&self, chain: &[CertificateDer<'_>]) -> Result<PeerIdentity, LinkError> {
        let first = chain.first().map(Certificate::read);
        match first {
            Some(Ok(certificate)) => Ok(certificate.names.peer()),
            Some(Err(error)) => Err(LinkError::Untrusted(error.to_string())),
            None => Err(LinkError::Untrusted("it has no certificate".to_owned())),
        }
    }
}

#[derive(Debug)]
struct NoCertificate;

impl ResolvesServerCert for NoCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

#[derive(Debug)]
struct PinnedAuthority {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authority = others.iter().find(|other| has_pin(other, self.pin));
        let authority = authority.ok_or(CertificateError::UnknownIssuer)?;
        let issued = verify_issued(certificate, authority, now).map_err(|error| match error {
            BadCertificate::NotNow { from, .. } if now.as_secs() < from.0.as_secs() => {
                CertificateError::NotValidYetContext { time: now, not_before: from.0 }
            }
            BadCertificate::NotNow { to, .. } => {
                CertificateError::ExpiredContext { time: now, not_after: to.0 }
            }
            BadCertificate::NotIssued(_) => CertificateError::BadSignature,
            _ => CertificateError::BadEncoding,
        })?;
        match issued.names.role {
            Role::Coordinator => Ok(ServerCertVerified::assertion()),
            Role::Worker | Role::Operator => {
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls13RequiredForQuic.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
