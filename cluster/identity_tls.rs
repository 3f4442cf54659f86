//! The TLS of a cluster: version 1.3 and nothing older, certificates on both sides, no resumption.
//!
//! A resumed session would not look at certificates again, so that a revoked peer could come back
//! until its tickets end; and data before the end of a handshake can be replayed. Both are off.
//!
//! Who holds the authority answers strangers too: they ask for their first certificate, and have
//! none. Whether a client must have one is decided in TLS before the protocol (ALPN) is known, and
//! for all protocols alike. So that one configuration lets clients without a certificate finish
//! the handshake, and [`admit`] decides: without a certificate a connection is for joining and
//! nothing else. This is as strict as a refusal within the handshake:
//! - a client's certificate that *is* presented is verified by TLS in every case, and a bad one
//!   ends the handshake: there is no fall-back to being a stranger;
//! - TLS 1.3 hands over the client's certificate, or that there is none, before the client can say
//!   anything else, and a transport asks [`admit`] before it reads or accepts a single stream;
//! - the protocol is a part of what both sides' keys are made of: a connection that was agreed on
//!   as Join can not be taken for another later;
//! - a node without the authority does not offer Join, and demands a certificate in the handshake.

use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::identity_clock::Clock;
use crate::link::Purpose;

/// Whether a process answers strangers who want to join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strangers {
    Refused,
    /// It has the authority, and they may have a token.
    MayJoin,
}

/// What both sides of a connection are made from.
pub(crate) struct Material<'m> {
    pub(crate) own: &'m Arc<CertifiedKey>,
    pub(crate) roots: &'m Arc<RootCertStore>,
    pub(crate) revocations: Option<&'m CertificateRevocationListDer<'static>>,
    pub(crate) clock: &'m Clock,
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(default_provider())
}

/// Fails where the key is none, or another's.
pub(crate) fn own_key(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<CertifiedKey>, rustls::Error> {
    CertifiedKey::from_der(chain, key, &provider()).map(Arc::new)
}

pub(crate) fn server_config(
    material: &Material<'_>,
    strangers: Strangers,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let config = ServerConfig::builder_with_details(provider(), material.clock.clone())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(client_verifier(material, strangers)?)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(material.own.clone())));
    let purposes = match strangers {
        Strangers::Refused => {
            &[Purpose::Control, Purpose::Data, Purpose::Call, Purpose::Gradients][..]
        }
        Strangers::MayJoin => &Purpose::ALL,
    };
    Ok(Arc::new(without_resumption(config, purposes)))
}

/// Also of who has no certificate to show, and hears nobody.
pub(crate) fn without_resumption(mut config: ServerConfig, purposes: &[Purpose]) -> ServerConfig {
    config.alpn_protocols = purposes.iter().map(|purpose| purpose.alpn().to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config
}

pub(crate) fn client_config(
    material: &Material<'_>,
    purpose: Purpose,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let config = client_builder(material.clock)?
        .with_webpki_verifier(server_verifier(material)?)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(material.own.clone())));
    Ok(Arc::new(for_purpose(config, purpose)))
}

/// Of a client without a certificate, who judges the server in another way.
pub(crate) fn stranger_config(
    verifier: Arc<dyn ServerCertVerifier>,
    clock: &Clock,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let config = client_builder(clock)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(for_purpose(config, Purpose::Join)))
}

fn client_builder(
    clock: &Clock,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_details(provider(), clock.clone()).with_protocol_versions(&[&TLS13])
}

fn for_purpose(mut config: ClientConfig, purpose: Purpose) -> ClientConfig {
    config.alpn_protocols = vec![purpose.alpn().to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    // It goes over the wire in the clear, and no server of ours has two names.
    config.enable_sni = false;
    config
}

fn client_verifier(
    material: &Material<'_>,
    strangers: Strangers,
) -> Result<Arc<dyn ClientCertVerifier>, rustls::Error> {
    let builder = WebPkiClientVerifier::builder_with_provider(material.roots.clone(), provider())
        .with_crls(material.revocations.cloned())
        .clear_root_hint_subjects();
    let builder = match strangers {
        Strangers::Refused => builder,
        Strangers::MayJoin => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|error| rustls::Error::General(error.to_string()))
}

/// A list is used until a newer one comes, however old it is: a node that the authority cannot
/// reach for a while should know fewer revocations, not lose all its peers.
fn server_verifier(material: &Material<'_>) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
    WebPkiServerVerifier::builder_with_provider(material.roots.clone(), provider())
        .with_crls(material.revocations.cloned())
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))
}
