//! Certificates for tests, benches and simulations that are not about certificates: an authority
//! that issues what it is asked for, and remembers to whom. The real one is
//! [`authority`](crate::authority)'s.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ED25519, SerialNumber,
};
use rustls::client::Resumption;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::address::{NodeId, PeerIdentity, Role};
use crate::credentials::Credentials;
use crate::link::{LinkError, Purpose};

pub struct TestAuthority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    issued: Issued,
}

type Issued = Arc<Mutex<BTreeMap<Vec<u8>, PeerIdentity>>>;

pub struct TestCredentials {
    server: Arc<ServerConfig>,
    clients: BTreeMap<Purpose, Arc<ClientConfig>>,
    issued: Issued,
}

/// What one side's credentials are to be wrong in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    None,
    /// As a client it shows no certificate.
    NoCertificate,
    /// It speaks another version of the protocol.
    OtherProtocol,
    /// Its certificate names nobody that the authority knows.
    Nameless,
    /// Nor may strangers join here.
    NoJoin,
}

impl Default for TestAuthority {
    fn default() -> Self {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = params(Vec::new());
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let certificate = params.self_signed(&key).unwrap().into();
        Self { issuer: Issuer::new(params, key), certificate, issued: Issued::default() }
    }
}

impl TestAuthority {
    pub fn issue(&self, node: &str, role: Role) -> Arc<TestCredentials> {
        self.issue_flawed(node, role, Flaw::None)
    }

    pub fn issue_flawed(&self, node: &str, role: Role, flaw: Flaw) -> Arc<TestCredentials> {
        let node: NodeId = node.parse().unwrap();
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let certificate = params(vec![dns_name(&node)]).signed_by(&key, &self.issuer).unwrap();
        let certificate = CertificateDer::from(certificate);
        if flaw != Flaw::Nameless {
            let mut issued = self.issued.lock().unwrap();
            issued.insert(certificate.to_vec(), PeerIdentity { node, role });
        }
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let server = Arc::new(self.server(&certificate, &key, flaw));
        let clients = Purpose::ALL.into_iter().map(|purpose| {
            let is_stranger = purpose == Purpose::Join || flaw == Flaw::NoCertificate;
            let mine = (!is_stranger).then(|| (certificate.clone(), key.clone_key()));
            (purpose, Arc::new(self.client(mine, purpose, flaw)))
        });
        Arc::new(TestCredentials {
            server,
            clients: clients.collect(),
            issued: self.issued.clone(),
        })
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        roots
    }

    fn server(
        &self,
        certificate: &CertificateDer<'static>,
        key: &PrivateKeyDer<'static>,
        flaw: Flaw,
    ) -> ServerConfig {
        let provider = Arc::new(default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()), provider.clone());
        let verifier = match flaw {
            Flaw::NoJoin => verifier,
            _ => verifier.allow_unauthenticated(),
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![certificate.clone()], key.clone_key())
            .unwrap();
        let purposes = Purpose::ALL.into_iter();
        let purposes = purposes.filter(|it| *it != Purpose::Join || flaw != Flaw::NoJoin);
        config.alpn_protocols = purposes.map(|purpose| purpose.alpn().to_vec()).collect();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config
    }

    fn client(
        &self,
        mine: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
        purpose: Purpose,
        flaw: Flaw,
    ) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(self.roots());
        let mut config = match mine {
            Some((certificate, key)) => {
                builder.with_client_auth_cert(vec![certificate], key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = match flaw {
            Flaw::OtherProtocol => vec![b"orcapack-control/0".to_vec()],
            _ => vec![purpose.alpn().to_vec()],
        };
        config.resumption = Resumption::disabled();
        config
    }
}

/// Of the same size for all: a simulation's datagrams have the same lengths in every run.
fn params(names: Vec<String>) -> CertificateParams {
    let mut params = CertificateParams::new(names).unwrap();
    params.serial_number = Some(SerialNumber::from(vec![0x41; 16]));
    params
}

fn dns_name(node: &NodeId) -> String {
    format!("{node}.test.orcapack.internal")
}

impl Credentials for TestCredentials {
    fn server_config(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    fn client_config(&self, purpose: Purpose) -> Arc<ClientConfig> {
        self.clients[&purpose].clone()
    }

    fn server_name(&self, node: &NodeId) -> ServerName<'static> {
        dns_name(node).try_into().unwrap()
    }

    fn peer_of(&self, chain: &[CertificateDer<'_>]) -> Result<PeerIdentity, LinkError> {
        let issued = self.issued.lock().unwrap();
        let peer = chain.first().and_then(|certificate| issued.get(certificate.as_ref()));
        peer.cloned().ok_or_else(|| LinkError::Untrusted("issued to nobody".to_owned()))
    }
}
