//! A node's identity on disk: `node.key` (mode 0600), `node.pem`, `ca.pem`, and `crl.pem` where
//! there is one.
//!
//! A key and its certificate are two files, and must change together. The new key is first written
//! as `node.key.next`; then the new certificate takes the place of the old one, which decides; then
//! the key follows. After a crash in between, [`Folder::read`] finishes or undoes it, by whether
//! the certificate is of the next key.

use std::path::{Path, PathBuf};

use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer,
};

use crate::identity_files::{self as files, FileError, PRIVATE, PUBLIC};
use crate::identity_tls::own_key;

pub const KEY_FILE: &str = "node.key";
pub const CERTIFICATE_FILE: &str = "node.pem";
pub const AUTHORITY_FILE: &str = "ca.pem";
pub const REVOCATIONS_FILE: &str = "crl.pem";

/// All that a node needs to prove who it is, and to judge its peers.
#[derive(Debug)]
pub struct Bundle {
    pub key: PrivatePkcs8KeyDer<'static>,
    pub certificate: CertificateDer<'static>,
    pub authority: CertificateDer<'static>,
    pub revocations: Option<CertificateRevocationListDer<'static>>,
}

impl Clone for Bundle {
    fn clone(&self) -> Self {
        Self {
            key: self.key.clone_key(),
            certificate: self.certificate.clone(),
            authority: self.authority.clone(),
            revocations: self.revocations.clone(),
        }
    }
}

impl Bundle {
    /// Writes a new identity into a folder that has none.
    pub fn write(&self, folder: &Path) -> Result<(), FileError> {
        let folder = Folder::new(folder);
        folder.begin(&self.key)?;
        folder.finish(&self.certificate, &self.authority, self.revocations.as_ref())
    }

    pub fn read(folder: &Path) -> Result<Self, FileError> {
        Folder::new(folder).read()
    }

    /// Takes the place of the identity that is in a folder.
    pub fn replace(&self, folder: &Path) -> Result<(), FileError> {
        let folder = Folder::new(folder);
        let authority = files::to_pem("CERTIFICATE", &self.authority);
        files::replace(&folder.file(AUTHORITY_FILE), &authority, PUBLIC)?;
        if let Some(revocations) = &self.revocations {
            folder.put_revocations(revocations)?;
        }
        folder.replace(&self.key, &self.certificate)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A new identity begins with its key. What else can fail in this folder fails here, before a
    /// token is used up for a certificate.
    pub(crate) fn begin(&self, key: &PrivatePkcs8KeyDer<'_>) -> Result<(), FileError> {
        files::private_folder(&self.path)?;
        let certificate = self.file(CERTIFICATE_FILE);
        if certificate.exists() {
            return Err(FileError::Exists { path: certificate });
        }
        let key = files::to_pem("PRIVATE KEY", key.secret_pkcs8_der());
        files::replace(&self.file(KEY_FILE), &key, PRIVATE)
    }

    /// It is whole with its certificate, which is written last.
    pub(crate) fn finish(
        &self,
        certificate: &CertificateDer<'_>,
        authority: &CertificateDer<'_>,
        revocations: Option<&CertificateRevocationListDer<'_>>,
    ) -> Result<(), FileError> {
        let authority = files::to_pem("CERTIFICATE", authority);
        files::replace(&self.file(AUTHORITY_FILE), &authority, PUBLIC)?;
        if let Some(revocations) = revocations {
            self.put_revocations(revocations)?;
        }
        let certificate = files::to_pem("CERTIFICATE", certificate);
        files::create(&self.file(CERTIFICATE_FILE), &certificate, PUBLIC)
    }

    pub(crate) fn read(&self) -> Result<Bundle, FileError> {
        let certificate = self.certificate(CERTIFICATE_FILE)?;
        self.recover(&certificate)?;
        let revocations = self.file(REVOCATIONS_FILE);
        let revocations = match files::read(&revocations) {
            Ok(bytes) => Some(files::of_pem(&revocations, &bytes, "a revocation list")?),
            Err(error) if error.is_absent() => None,
            Err(error) => return Err(error),
        };
        Ok(Bundle {
            key: self.key(&self.file(KEY_FILE))?,
            certificate,
            authority: self.certificate(AUTHORITY_FILE)?,
            revocations,
        })
    }

    /// Exchanges key and certificate for new ones.
    pub(crate) fn replace(
        &self,
        key: &PrivatePkcs8KeyDer<'_>,
        certificate: &CertificateDer<'_>,
    ) -> Result<(), FileError> {
        let (current, next) = (self.file(KEY_FILE), self.next_key());
        files::replace(&next, &files::to_pem("PRIVATE KEY", key.secret_pkcs8_der()), PRIVATE)?;
        let certificate = files::to_pem("CERTIFICATE", certificate);
        files::replace(&self.file(CERTIFICATE_FILE), &certificate, PUBLIC)?;
        files::rename(&next, &current)
    }

    pub(crate) fn put_revocations(
        &self,
        revocations: &CertificateRevocationListDer<'_>,
    ) -> Result<(), FileError> {
        let pem = files::to_pem("X509 CRL", revocations);
        files::replace(&self.file(REVOCATIONS_FILE), &pem, PUBLIC)
    }

    fn recover(&self, certificate: &CertificateDer<'static>) -> Result<(), FileError> {
        let next = self.next_key();
        let key = match self.key(&next) {
            Ok(key) => key,
            Err(error) if error.is_absent() => return Ok(()),
            Err(error) => return Err(error),
        };
        match own_key(vec![certificate.clone()], PrivateKeyDer::Pkcs8(key)) {
            Ok(_) => files::rename(&next, &self.file(KEY_FILE)),
            Err(_) => files::remove(&next),
        }
    }

    fn next_key(&self) -> PathBuf {
        files::beside(&self.file(KEY_FILE), "next")
    }

    fn key(&self, path: &Path) -> Result<PrivatePkcs8KeyDer<'static>, FileError> {
        files::of_pem(path, &files::read_private(path)?, "a private key (PKCS #8)")
    }

    fn certificate(&self, name: &str) -> Result<CertificateDer<'static>, FileError> {
        let path = self.file(name);
        files::of_pem(&path, &files::read(&path)?, "a certificate")
    }
}
