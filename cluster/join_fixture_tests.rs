//! A cluster's authority and its nodes, some of whom are not what they should be, and handshakes
//! between them in memory. For `join_cases_tests.rs`.

use std::sync::Arc;
use std::time::Duration;

use rcgen::string::Ia5String;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection,
};

use crate::address::{NodeId, PeerIdentity, Role};
use crate::admission::admit;
use crate::authority::{Authority, VALIDITY};
use crate::authority_forms as forms;
use crate::credentials::Credentials;
use crate::identity::Identity;
use crate::identity_certificate::roots;
use crate::identity_clock::{Clock, SetClock};
use crate::identity_folder::Bundle;
use crate::identity_tls::{self as tls, Material, Strangers, provider};
use crate::link::{LinkError, Purpose};

pub(crate) const NOW: u64 = 1_800_000_000;
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// A cluster's authority, in a folder, and a clock.
pub(crate) struct Lab {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) authority: Authority,
    pub(crate) clock: Arc<SetClock>,
}

impl Lab {
    pub(crate) fn new(cluster: &str) -> Self {
        let (folder, clock) = (tempfile::tempdir().unwrap(), SetClock::new(NOW));
        let authority =
            Authority::create(folder.path(), &cluster.parse().unwrap(), clock.clone()).unwrap();
        Self { folder, authority, clock }
    }

    pub(crate) fn bundle(&self, name: &str, role: Role) -> Bundle {
        self.authority.issue(&node(name), role, VALIDITY).unwrap()
    }

    pub(crate) fn identity(&self, name: &str, role: Role) -> Identity {
        self.identity_at(name, role, Strangers::Refused)
    }

    pub(crate) fn identity_at(&self, name: &str, role: Role, strangers: Strangers) -> Identity {
        Identity::in_memory(self.bundle(name, role), self.clock.clone(), strangers).unwrap()
    }

    /// One with a clock of its own.
    pub(crate) fn identity_with(&self, name: &str, role: Role, clock: Arc<SetClock>) -> Identity {
        Identity::in_memory(self.bundle(name, role), clock, Strangers::Refused).unwrap()
    }

    /// Who holds the authority.
    pub(crate) fn coordinator(&self) -> Identity {
        self.identity_at("c1", Role::Coordinator, Strangers::MayJoin)
    }

    /// A certificate with these names, signed by this authority's key, which would not do it.
    pub(crate) fn crafted(&self, dns: &str, uri: &str) -> Crafted {
        let sans = vec![
            SanType::DnsName(Ia5String::try_from(dns).unwrap()),
            SanType::URI(Ia5String::try_from(uri).unwrap()),
        ];
        let pem = std::fs::read(self.folder.path().join("ca.key")).unwrap();
        let signer = PrivatePkcs8KeyDer::from_pem_slice(&pem).unwrap();
        let signer = KeyPair::try_from(&signer).unwrap();
        let issuer = forms::issuer(self.authority.certificate(), signer).unwrap();
        let key = forms::key().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = sans;
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &issuer).unwrap();
        Crafted::new(&key, certificate.der().clone(), self)
    }
}

pub(crate) fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

/// Someone with a key, and a certificate that may say anything.
pub(crate) struct Crafted {
    pub(crate) own: Arc<CertifiedKey>,
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) clock: Arc<SetClock>,
}

impl Crafted {
    pub(crate) fn new(key: &KeyPair, certificate: CertificateDer<'static>, lab: &Lab) -> Self {
        let chain = vec![certificate, lab.authority.certificate().clone()];
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Self {
            own: tls::own_key(chain, PrivateKeyDer::Pkcs8(key)).unwrap(),
            roots: Arc::new(roots(lab.authority.certificate()).unwrap()),
            clock: lab.clock.clone(),
        }
    }

    pub(crate) fn with<T>(&self, make: impl FnOnce(&Material<'_>) -> T) -> T {
        let clock = self.clock.clone() as Clock;
        let (own, roots) = (&self.own, &self.roots);
        make(&Material { own, roots, revocations: None, clock: &clock })
    }
}

impl Credentials for Crafted {
    fn server_config(&self) -> Arc<ServerConfig> {
        self.with(|material| tls::server_config(material, Strangers::MayJoin)).unwrap()
    }

    fn client_config(&self, purpose: Purpose) -> Arc<ClientConfig> {
        self.with(|material| tls::client_config(material, purpose)).unwrap()
    }

    fn server_name(&self, node: &NodeId) -> ServerName<'static> {
        ServerName::try_from(format!("{node}.lab.orcapack.internal")).unwrap()
    }

    fn peer_of(&self, _chain: &[CertificateDer<'_>]) -> Result<PeerIdentity, LinkError> {
        Ok(PeerIdentity { node: node("any"), role: Role::Worker })
    }
}

/// Credentials with another TLS configuration for their client's side.
pub(crate) struct Altered<'c> {
    pub(crate) as_before: &'c Identity,
    pub(crate) client: Arc<ClientConfig>,
}

pub(crate) fn altered(as_before: &Identity, change: impl FnOnce(&mut ClientConfig)) -> Altered<'_> {
    let mut client = (*as_before.client_config(Purpose::Control)).clone();
    change(&mut client);
    Altered { as_before, client: Arc::new(client) }
}

/// Both ends of a connection, and what they learnt in the handshake.
pub(crate) struct Connected {
    pub(crate) client: Connection,
    pub(crate) server: Connection,
    pub(crate) seen_by_server: (Purpose, Option<PeerIdentity>),
    pub(crate) seen_by_client: PeerIdentity,
    pub(crate) handshake_bytes: usize,
}

/// A handshake, up to the first fault: whose it was, and what it said.
pub(crate) fn connect_with(
    client: Arc<ClientConfig>,
    name: ServerName<'static>,
    server: &dyn Credentials,
) -> Result<(Connection, Connection, usize), String> {
    let mut client: Connection = ClientConnection::new(client, name).unwrap().into();
    let mut server: Connection = ServerConnection::new(server.server_config()).unwrap().into();
    let mut bytes = 0;
    loop {
        let to_server = pass(&mut client, &mut server).map_err(|error| format!("server: {error}"));
        let to_client = pass(&mut server, &mut client).map_err(|error| format!("client: {error}"));
        // The first to find a fault tells the other; what that one then says is an echo.
        let passed = to_server? + to_client?;
        bytes += passed;
        if passed == 0 {
            assert!(!client.is_handshaking() && !server.is_handshaking());
            return Ok((client, server, bytes));
        }
    }
}

pub(crate) fn pass(from: &mut Connection, to: &mut Connection) -> Result<usize, rustls::Error> {
    let mut wire = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut wire).unwrap();
    }
    let mut rest = &wire[..];
    while !rest.is_empty() {
        to.read_tls(&mut rest).unwrap();
        to.process_new_packets()?;
    }
    Ok(wire.len())
}

pub(crate) fn connect(
    client: &dyn Credentials,
    purpose: Purpose,
    to: &str,
    server: &dyn Credentials,
) -> Result<Connected, String> {
    let name = client.server_name(&node(to));
    let (ours, theirs, handshake_bytes) =
        connect_with(client.client_config(purpose), name, server)?;
    let admitted = admit(server, theirs.alpn_protocol(), theirs.peer_certificates());
    let seen_by_server = admitted.map_err(|error| format!("admit: {error}"))?;
    let seen_by_client = client.peer_of(ours.peer_certificates().unwrap()).unwrap();
    Ok(Connected { client: ours, server: theirs, seen_by_server, seen_by_client, handshake_bytes })
}

#[track_caller]
pub(crate) fn refused<T>(connected: Result<T, String>, whose: &str, why: &str) {
    match connected {
        Ok(_) => panic!("was let in; expected `{whose}` to say `{why}`"),
        Err(said) => assert!(said.starts_with(whose) && said.contains(why), "{said}"),
    }
}

/// A client that takes every server for the right one.
#[derive(Debug)]
pub(crate) struct Blind;

impl rustls::client::danger::ServerCertVerifier for Blind {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

impl Altered<'_> {
    pub(crate) fn connect(&self, to: &str, server: &dyn Credentials) -> Result<(), String> {
        let name = self.as_before.server_name(&node(to));
        let (_, theirs, _) = connect_with(self.client.clone(), name, server)?;
        let admitted = admit(server, theirs.alpn_protocol(), theirs.peer_certificates());
        admitted.map(drop).map_err(|error| format!("admit: {error}"))
    }
}

#[derive(Debug)]
pub(crate) struct NoClientCertificate;

impl rustls::client::ResolvesClientCert for NoClientCertificate {
    fn resolve(
        &self,
        _roots: &[&[u8]],
        _schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// Knows whom to trust, and shows no certificate of its own.
pub(crate) struct Bare {
    as_before: Arc<Identity>,
}

impl Bare {
    pub(crate) fn new(as_before: Arc<Identity>) -> Self {
        Self { as_before }
    }
}

impl Credentials for Bare {
    fn server_config(&self) -> Arc<ServerConfig> {
        self.as_before.server_config()
    }

    fn client_config(&self, purpose: Purpose) -> Arc<ClientConfig> {
        let mut config = (*self.as_before.client_config(purpose)).clone();
        config.client_auth_cert_resolver = Arc::new(NoClientCertificate);
        Arc::new(config)
    }

    fn server_name(&self, node: &NodeId) -> ServerName<'static> {
        self.as_before.server_name(node)
    }

    fn peer_of(&self, chain: &[CertificateDer<'_>]) -> Result<PeerIdentity, LinkError> {
        self.as_before.peer_of(chain)
    }
}
