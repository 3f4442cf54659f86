//! What can be wrong with an identity, and in which of its files.

use crate::identity_certificate::BadCertificate;
use crate::identity_files::FileError;
use crate::identity_folder::{
    AUTHORITY_FILE, CERTIFICATE_FILE, Folder, KEY_FILE, REVOCATIONS_FILE,
};
use crate::identity_names::Names;

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("the certificate: {0}")]
    Certificate(BadCertificate),
    #[error("the authority's certificate: {0}")]
    Authority(BadCertificate),
    #[error("the revocation list: {0}")]
    Revocations(BadCertificate),
    #[error("the private key is not that of the certificate: {0}")]
    Key(rustls::Error),
    #[error("expected a certificate of {expected}, found one of {found}")]
    OtherNames { expected: Names, found: Names },
    #[error("expected revocation list {held} or a later one, found {found}")]
    OlderRevocations { held: u64, found: u64 },
    #[error("{0}")]
    Tls(#[from] rustls::Error),
}

/// Names the file that an error is about.
pub(crate) fn in_file(folder: &Folder, error: IdentityError) -> IdentityError {
    let (file, expected) = match error {
        IdentityError::Certificate(_) => (CERTIFICATE_FILE, "a certificate that is valid now"),
        IdentityError::OtherNames { .. } => (CERTIFICATE_FILE, "the node that started"),
        IdentityError::Authority(_) => (AUTHORITY_FILE, "the certificate of an authority"),
        IdentityError::Key(_) => (KEY_FILE, "the key of the certificate"),
        IdentityError::Revocations(_) => (REVOCATIONS_FILE, "a list of this authority"),
        IdentityError::OlderRevocations { .. } => (REVOCATIONS_FILE, "no older list"),
        other => return other,
    };
    let found = match &error {
        IdentityError::Certificate(why)
        | IdentityError::Authority(why)
        | IdentityError::Revocations(why) => why.to_string(),
        IdentityError::Key(_) => "another key".to_owned(),
        other => other.to_string(),
    };
    FileError::content(&folder.file(file), expected, found).into()
}
