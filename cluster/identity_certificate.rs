//! What is read out of certificates and revocation lists. The one file that knows their form.
//!
//! Nothing here says that a certificate is to be trusted: TLS does, or [`verify_issued`].

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use data_encoding::HEXLOWER;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::ParsedCertificate;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{ASN1Time, CertificateRevocationList, FromDer, X509Certificate};

use crate::identity_names::{BadNames, Names};
use crate::identity_tls::provider;

/// A certificate's number, of its authority: lower-case hexadecimal, without leading zeros.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Serial(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a serial number: 2 to 40 hexadecimal digits, found `{0}`")]
pub struct BadSerial(String);

impl Serial {
    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Self(HEXLOWER.encode(bytes.get(zeros..).unwrap_or_default()))
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        HEXLOWER.decode(self.0.as_bytes()).unwrap_or_default()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Serial {
    type Err = BadSerial;

    fn from_str(text: &str) -> Result<Self, BadSerial> {
        let bytes = HEXLOWER.decode(text.to_ascii_lowercase().as_bytes());
        match bytes {
            Ok(bytes) if (1..=20).contains(&bytes.len()) => Ok(Self::of_bytes(&bytes)),
            _ => Err(BadSerial(text.chars().take(80).collect())),
        }
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The SHA-256 of a public key as it stands in certificates (its SubjectPublicKeyInfo).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin(pub [u8; 32]);

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", HEXLOWER.encode(&self.0))
    }
}

/// Why something is not a certificate, or not one that this authority has issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCertificate {
    #[error("not a certificate")]
    Form,
    #[error(transparent)]
    Names(#[from] BadNames),
    #[error("not a certificate authority's")]
    NotAuthority,
    #[error("not issued by this cluster's authority ({0})")]
    NotIssued(String),
    #[error("valid from {from} to {to}, and it is {now}")]
    NotNow { from: Date, to: Date, now: Date },
    #[error("not a revocation list of this cluster's authority: {0}")]
    Revocations(&'static str),
}

/// A moment, for messages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Date(pub UnixTime);

impl fmt::Debug for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = i64::try_from(self.0.as_secs()).unwrap_or(i64::MAX);
        match ASN1Time::from_timestamp(seconds).map(ASN1Time::to_rfc2822) {
            Ok(Ok(text)) => f.write_str(&text),
            _ => write!(f, "{seconds} s after 1970"),
        }
    }
}

/// A node's certificate.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub names: Names,
    pub serial: Serial,
    pub not_before: UnixTime,
    pub not_after: UnixTime,
    pub key: Pin,
}

impl Certificate {
    pub fn read(der: &CertificateDer<'_>) -> Result<Self, BadCertificate> {
        let certificate = parse(der)?;
        let sans = certificate.subject_alternative_name().map_err(|_| BadCertificate::Form)?;
        let sans = sans.map_or(&[][..], |sans| &sans.value.general_names);
        let validity = certificate.validity();
        Ok(Self {
            names: Names::of_sans(sans)?,
            serial: Serial::of_bytes(certificate.raw_serial()),
            not_before: unix(validity.not_before),
            not_after: unix(validity.not_after),
            key: pin(certificate.public_key().raw),
        })
    }

    /// As TLS judges it, but with an error that has the dates in it.
    pub(crate) fn valid_at(&self, now: UnixTime) -> Result<(), BadCertificate> {
        let (from, to) = (self.not_before, self.not_after);
        if (from.as_secs()..=to.as_secs()).contains(&now.as_secs()) {
            return Ok(());
        }
        Err(BadCertificate::NotNow { from: Date(from), to: Date(to), now: Date(now) })
    }
}

/// The pin of an authority's certificate, which must be signed by its own key.
pub fn authority_pin(authority: &CertificateDer<'_>) -> Result<Pin, BadCertificate> {
    let certificate = parse(authority)?;
    if !certificate.is_ca() || certificate.verify_signature(None).is_err() {
        return Err(BadCertificate::NotAuthority);
    }
    Ok(pin(certificate.public_key().raw))
}

/// Whether this is an authority's certificate with this pin. Of many that are not, which a stranger
/// may send, none costs more than a hash.
pub(crate) fn has_pin(certificate: &CertificateDer<'_>, expected: Pin) -> bool {
    let key = parse(certificate).map(|certificate| pin(certificate.public_key().raw));
    key == Ok(expected) && authority_pin(certificate) == Ok(expected)
}

/// When an authority's certificate ends, and all that it has issued with it.
pub(crate) fn authority_ends(authority: &CertificateDer<'_>) -> Result<UnixTime, BadCertificate> {
    Ok(unix(parse(authority)?.validity().not_after))
}

/// That `authority` has issued this certificate, itself and for a node, and that it is valid now.
/// It may have been revoked.
pub(crate) fn verify_issued(
    certificate: &CertificateDer<'_>,
    authority: &CertificateDer<'_>,
    now: UnixTime,
) -> Result<Certificate, BadCertificate> {
    let read = Certificate::read(certificate)?;
    read.valid_at(now)?;
    let why = |error: rustls::Error| BadCertificate::NotIssued(error.to_string());
    rustls::client::verify_server_cert_signed_by_trust_anchor(
        &ParsedCertificate::try_from(certificate).map_err(why)?,
        &roots(authority)?,
        // No one stands between the authority and a node.
        &[],
        now,
        provider().signature_verification_algorithms.all,
    )
    .map_err(why)?;
    Ok(read)
}

/// A store of trust that holds this authority alone.
pub(crate) fn roots(authority: &CertificateDer<'_>) -> Result<RootCertStore, BadCertificate> {
    let mut roots = RootCertStore::empty();
    roots
        .add(authority.clone().into_owned())
        .map_err(|error| BadCertificate::NotIssued(error.to_string()))?;
    Ok(roots)
}

/// A revocation list whose signature is right.
#[derive(Clone, Debug)]
pub struct Revocations {
    pub der: CertificateRevocationListDer<'static>,
    /// Grows with every list.
    pub number: u64,
    pub serials: BTreeSet<Serial>,
}

impl Revocations {
    pub fn read(
        der: &CertificateRevocationListDer<'_>,
        authority: &CertificateDer<'_>,
    ) -> Result<Self, BadCertificate> {
        let bad = BadCertificate::Revocations;
        let authority = parse(authority)?;
        let (rest, list) = CertificateRevocationList::from_der(der).map_err(|_| bad("its form"))?;
        if !rest.is_empty() {
            return Err(bad("something follows it"));
        }
        if list.issuer().as_raw() != authority.subject().as_raw() {
            return Err(bad("another has issued it"));
        }
        list.verify_signature(authority.public_key()).map_err(|_| bad("its signature"))?;
        let number = list.crl_number().and_then(|number| u64::try_from(number).ok());
        let serials = list.iter_revoked_certificates();
        let serials = serials.map(|revoked| Serial::of_bytes(revoked.raw_serial())).collect();
        Ok(Self {
            number: number.ok_or(bad("it has no number"))?,
            serials,
            der: CertificateRevocationListDer::from(der.to_vec()),
        })
    }
}

fn parse<'c>(der: &'c CertificateDer<'_>) -> Result<X509Certificate<'c>, BadCertificate> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(BadCertificate::Form),
    }
}

pub(crate) fn pin(spki: &[u8]) -> Pin {
    Pin(Sha256::digest(spki).into())
}

fn unix(time: ASN1Time) -> UnixTime {
    let seconds = u64::try_from(time.timestamp()).unwrap_or_default();
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}
