//! The cluster's own certificate authority: it says who is a node of the cluster, in which role.
//!
//! It lives in a folder of one machine: `ca.key` (mode 0600, Ed25519), `ca.pem`, `crl.pem`, and its
//! [books](crate::authority_books). Whoever reads `ca.key` is the authority, so the folder is its
//! owner's alone, and a key that others may read is refused.
//!
//! What a certificate says comes from the operator, by way of a token or a command, and never from
//! the request: of that only the public key is taken, once its signature has shown that who asks
//! has the private key. A certificate is written down before it is handed out, so that none exists
//! that cannot be revoked by its node's name.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use rcgen::{CertificateSigningRequestParams, Issuer, KeyPair, PKCS_ED25519, PublicKeyData};
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer,
    UnixTime,
};

use crate::address::{NodeId, Role};
use crate::authority_books::{Books, IssuedRow, Store};
use crate::authority_forms::{self as forms, FormError};
use crate::identity_certificate::{BadCertificate, Pin, Serial, authority_ends, authority_pin};
use crate::identity_clock::{Clock, now};
use crate::identity_files::{self as files, FileError, PRIVATE, PUBLIC};
use crate::identity_folder::Bundle;
use crate::identity_names::{ClusterName, Names};

/// How long a certificate is good for, if nothing else is asked for.
pub const VALIDITY: Duration = Duration::from_secs(90 * 24 * 3600);

const KEY_FILE: &str = "ca.key";
const CERTIFICATE_FILE: &str = "ca.pem";
const REVOCATIONS_FILE: &str = "crl.pem";

#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Certificate(#[from] BadCertificate),
    #[error("cannot make {0}")]
    Form(#[from] FormError),
    /// The certificate request of a stranger, or of a node.
    #[error("a certificate request that is not one, or is not signed by its own Ed25519 key")]
    Request,
    #[error("no random numbers")]
    Random(rustls::crypto::GetRandomFailed),
    #[error("no certificate that is valid now was issued to {0}")]
    NoneIssued(String),
}

/// What to revoke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revoke {
    /// All certificates of a node.
    Node(NodeId),
    One(Serial),
}

pub struct Authority {
    cluster: ClusterName,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pin: Pin,
    ends: UnixTime,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
}

impl Authority {
    /// Makes an authority in a folder that has none.
    pub fn create(
        folder: &Path,
        cluster: &ClusterName,
        clock: Clock,
    ) -> Result<Self, AuthorityError> {
        let (key, certificate) = forms::authority(cluster, now(&clock))?;
        files::private_folder(folder)?;
        // The key first: of two who do this at once, one fails here.
        files::create(&folder.join(KEY_FILE), key.serialize_pem().as_bytes(), PRIVATE)?;
        let pem = files::to_pem("CERTIFICATE", &certificate);
        files::create(&folder.join(CERTIFICATE_FILE), &pem, PUBLIC)?;
        let books = Books::new(cluster.as_str(), now(&clock));
        let store = Store::create(folder.to_owned(), &books)?;
        let authority = Self::new(cluster.clone(), key, certificate, store, clock)?;
        authority.write_crl(&books)?;
        Ok(authority)
    }

    pub fn load(folder: &Path, clock: Clock) -> Result<Self, AuthorityError> {
        let path = folder.join(KEY_FILE);
        let key: PrivatePkcs8KeyDer<'_> =
            files::of_pem(&path, &files::read_private(&path)?, "a private key (PKCS #8)")?;
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ED25519)
            .map_err(|error| FileError::content(&path, "an Ed25519 key", error))?;
        let path = folder.join(CERTIFICATE_FILE);
        let certificate: CertificateDer<'_> =
            files::of_pem(&path, &files::read(&path)?, "a certificate")?;
        let own = forms::is_of_key(&certificate, &key);
        if !own.map_err(|error| FileError::content(&path, "an authority's certificate", error))? {
            return Err(FileError::content(&path, "the certificate of ca.key", "another").into());
        }
        let store = Store::Folder(folder.to_owned());
        let cluster = store.read()?.cluster;
        let cluster = cluster.parse().map_err(|error| {
            FileError::content(&folder.join("authority.json"), "a cluster's name", error)
        })?;
        let authority = Self::new(cluster, key, certificate, store, clock)?;
        // Again, in case that a crash came between the books and the list that is made of them.
        authority.store.look(|books| authority.write_crl(books))?;
        Ok(authority)
    }

    /// One without files, whose cluster ends with the process. For simulations and tests.
    pub fn ephemeral(cluster: &ClusterName, clock: Clock) -> Result<Self, AuthorityError> {
        let (key, certificate) = forms::authority(cluster, now(&clock))?;
        let books = Books::new(cluster.as_str(), now(&clock));
        Self::new(cluster.clone(), key, certificate, Store::Memory(Mutex::new(books)), clock)
    }

    fn new(
        cluster: ClusterName,
        key: KeyPair,
        certificate: CertificateDer<'static>,
        store: Store,
        clock: Clock,
    ) -> Result<Self, AuthorityError> {
        let (pin, ends) = (authority_pin(&certificate)?, authority_ends(&certificate)?);
        let issuer = forms::issuer(&certificate, key)?;
        Ok(Self { cluster, issuer, certificate, pin, ends, store, clock })
    }

    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The hash of its key, by which strangers know it.
    pub fn pin(&self) -> Pin {
        self.pin
    }

    /// The certificates that were issued and have not expired, revoked ones among them.
    pub fn issued(&self) -> Result<Vec<IssuedRow>, AuthorityError> {
        let mut books = self.store.read()?;
        books.prune_revoked(now(&self.clock));
        Ok(books.issued)
    }

    /// Makes a key and its certificate in one go, for a node that is set up offline.
    pub fn issue(
        &self,
        node: &NodeId,
        role: Role,
        validity: Duration,
    ) -> Result<Bundle, AuthorityError> {
        let key = forms::key()?;
        let certificate =
            self.store.change(|books| self.enter(books, &key, node, role, validity))?;
        Ok(Bundle {
            key: PrivatePkcs8KeyDer::from(key.serialize_der()),
            certificate,
            authority: self.certificate.clone(),
            revocations: Some(self.crl()?),
        })
    }

    /// Issues a certificate for the key of a request; its names are `node`'s and `role`'s.
    pub fn sign(
        &self,
        request: &CertificateSigningRequestDer<'_>,
        node: &NodeId,
        role: Role,
        validity: Duration,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        let key = public_key(request)?;
        self.store.change(|books| self.enter(books, &key, node, role, validity))
    }

    /// The next certificate of a node that has one, which is neither expired nor revoked.
    pub fn renew(
        &self,
        request: &CertificateSigningRequestDer<'_>,
        node: &NodeId,
        role: Role,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        let key = public_key(request)?;
        let now = now(&self.clock).as_secs();
        self.store.change(|books| {
            let is_good = |row: &IssuedRow| {
                let is_its = row.node == node.as_str() && row.role == role.as_str();
                is_its && row.revoked_unix_sec.is_none() && row.not_after_unix_sec >= now
            };
            if !books.issued.iter().any(is_good) {
                return Err(AuthorityError::NoneIssued(format!("{role} {node}")));
            }
            self.enter(books, &key, node, role, VALIDITY)
        })
    }

    /// Revokes certificates: they are in every list from now on. Gives their numbers.
    pub fn revoke(&self, what: &Revoke) -> Result<Vec<Serial>, AuthorityError> {
        let now = now(&self.clock);
        let revoked = self.store.change(|books| {
            books.prune_revoked(now);
            let mut revoked = Vec::new();
            for row in &mut books.issued {
                let is_meant = match what {
                    Revoke::Node(node) => row.node == node.as_str(),
                    Revoke::One(serial) => row.serial == *serial,
                };
                if is_meant && row.revoked_unix_sec.is_none() {
                    row.revoked_unix_sec = Some(now.as_secs());
                    revoked.push(row.serial.clone());
                }
            }
            if revoked.is_empty() {
                return Err(AuthorityError::NoneIssued(match what {
                    Revoke::Node(node) => node.to_string(),
                    Revoke::One(serial) => serial.to_string(),
                }));
            }
            books.crl_number += 1;
            books.crl_at_unix_sec = now.as_secs();
            Ok(revoked)
        })?;
        // Only now: a list that is ahead of the books would be followed by another of its number.
        self.store.look(|books| self.write_crl(books))?;
        Ok(revoked)
    }

    /// The signed list of what is revoked. Made of the books, so that a revocation at a command
    /// line is in it at once.
    pub fn crl(&self) -> Result<CertificateRevocationListDer<'static>, AuthorityError> {
        Ok(forms::crl(&self.store.read()?, &self.issuer, self.ends)?)
    }

    /// Makes a certificate, and writes it down.
    pub(crate) fn enter(
        &self,
        books: &mut Books,
        key: &impl PublicKeyData,
        node: &NodeId,
        role: Role,
        validity: Duration,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        let now = now(&self.clock);
        let until = now.as_secs().saturating_add(validity.as_secs()).min(self.ends.as_secs());
        let until = UnixTime::since_unix_epoch(Duration::from_secs(until));
        let names = Names { cluster: self.cluster.clone(), node: node.clone(), role };
        let serial = forms::serial()?;
        let certificate = forms::node(&names, &serial, now, until, key, &self.issuer)?;
        books.prune(now);
        books.issued.push(IssuedRow {
            serial,
            node: node.to_string(),
            role: role.to_string(),
            not_after_unix_sec: until.as_secs(),
            revoked_unix_sec: None,
        });
        Ok(certificate)
    }

    /// For whoever takes the list from the folder.
    fn write_crl(&self, books: &Books) -> Result<(), AuthorityError> {
        let Store::Folder(folder) = &self.store else { return Ok(()) };
        let crl = forms::crl(books, &self.issuer, self.ends)?;
        let path: PathBuf = folder.join(REVOCATIONS_FILE);
        Ok(files::replace(&path, &files::to_pem("X509 CRL", &crl), PUBLIC)?)
    }
}

/// Of a request that is signed by its own key.
pub(crate) fn public_key(
    request: &CertificateSigningRequestDer<'_>,
) -> Result<rcgen::PublicKey, AuthorityError> {
    let request =
        CertificateSigningRequestParams::from_der(request).map_err(|_| AuthorityError::Request)?;
    let is_ed25519 = PublicKeyData::algorithm(&request.public_key) == &PKCS_ED25519;
    is_ed25519.then_some(request.public_key).ok_or(AuthorityError::Request)
}

#[cfg(test)]
#[path = "authority_tests.rs"]
mod tests;
