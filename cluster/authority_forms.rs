//! The forms that an authority fills in: its own certificate, those of nodes, and the list of those
//! that are revoked. Whatever has a size that varies is kept from doing so (serial numbers have 16
//! bytes), so that a simulation's handshakes have the same lengths whatever the keys are.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    PKCS_ED25519, PublicKeyData, RevokedCertParams, SerialNumber,
};
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, CertificateSigningRequestDer, UnixTime,
};
use time::OffsetDateTime;

use crate::authority_books::Books;
use crate::identity_certificate::{BadCertificate, Serial, authority_pin, pin};
use crate::identity_names::{ClusterName, Names};
use crate::identity_tls::provider;

/// Machines whose clocks are a little behind can use a certificate at once.
const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);
const AUTHORITY_VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

#[derive(Debug, thiserror::Error)]
pub enum FormError {
    #[error("a certificate: {0}")]
    Rcgen(#[from] rcgen::Error),
    #[error("a certificate: a date that is none")]
    Date,
    #[error("a serial number: no random numbers")]
    Random,
}

pub(crate) fn key() -> Result<KeyPair, FormError> {
    Ok(KeyPair::generate_for(&PKCS_ED25519)?)
}

pub(crate) fn serial() -> Result<Serial, FormError> {
    let mut bytes = [0; 16];
    provider().secure_random.fill(&mut bytes).map_err(|_| FormError::Random)?;
    // Positive, and without a leading zero.
    bytes[0] = bytes[0] & 0x3f | 0x40;
    Ok(Serial::of_bytes(&bytes))
}

/// A new authority: its key, and its certificate, which it has signed itself.
pub(crate) fn authority(
    cluster: &ClusterName,
    now: UnixTime,
) -> Result<(KeyPair, CertificateDer<'static>), FormError> {
    let key = key()?;
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (before(now)?, date(after(now, AUTHORITY_VALIDITY))?);
    params.serial_number = Some(SerialNumber::from(serial()?.to_bytes()));
    params.distinguished_name = named(&format!("Orcapack authority of {cluster}"));
    // It issues to nodes, and to no other authority.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    Ok((key, certificate.into()))
}

pub(crate) fn issuer(
    certificate: &CertificateDer<'_>,
    key: KeyPair,
) -> Result<Issuer<'static, KeyPair>, FormError> {
    Ok(Issuer::from_ca_cert_der(certificate, key)?)
}

pub(crate) fn is_of_key(
    certificate: &CertificateDer<'_>,
    key: &KeyPair,
) -> Result<bool, BadCertificate> {
    Ok(authority_pin(certificate)? == pin(&key.subject_public_key_info()))
}

/// A node's certificate, for both sides of a connection.
pub(crate) fn node(
    names: &Names,
    serial: &Serial,
    now: UnixTime,
    until: UnixTime,
    key: &impl PublicKeyData,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<CertificateDer<'static>, FormError> {
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (before(now)?, date(until)?);
    params.serial_number = Some(SerialNumber::from(serial.to_bytes()));
    params.distinguished_name = named(names.node.as_str());
    params.subject_alt_names = names.to_sans()?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params.signed_by(key, issuer)?.into())
}

/// A request for a certificate of this key. It names nobody: that is the authority's part.
pub(crate) fn request(key: &KeyPair) -> Result<CertificateSigningRequestDer<'static>, FormError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(key)?.into())
}

/// The list of revoked certificates, as the books have it. Of the same books, the same list.
pub(crate) fn crl(
    books: &Books,
    issuer: &Issuer<'_, KeyPair>,
    authority_ends: UnixTime,
) -> Result<CertificateRevocationListDer<'static>, FormError> {
    let revoked = books.issued.iter().filter_map(|row| Some((row, row.revoked_unix_sec?)));
    let revoked = revoked.map(|(row, at)| {
        Ok(RevokedCertParams {
            serial_number: SerialNumber::from(row.serial.to_bytes()),
            revocation_time: date(UnixTime::since_unix_epoch(Duration::from_secs(at)))?,
            reason_code: None,
            invalidity_date: None,
        })
    });
    let params = CertificateRevocationListParams {
        this_update: date(UnixTime::since_unix_epoch(Duration::from_secs(books.crl_at_unix_sec)))?,
        // A list is good until the next one, whenever that is.
        next_update: date(after(authority_ends, AUTHORITY_VALIDITY))?,
        crl_number: SerialNumber::from(books.crl_number),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect::<Result<_, FormError>>()?,
        key_identifier_method: KeyIdMethod::Sha256,
    };
    Ok(params.signed_by(issuer)?.into())
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn before(now: UnixTime) -> Result<OffsetDateTime, FormError> {
    let seconds = now.as_secs().saturating_sub(CLOCK_SKEW.as_secs());
    date(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
}

fn after(time: UnixTime, by: Duration) -> UnixTime {
    let seconds = time.as_secs().saturating_add(by.as_secs());
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn date(time: UnixTime) -> Result<OffsetDateTime, FormError> {
    let seconds = i64::try_from(time.as_secs()).map_err(|_| FormError::Date)?;
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| FormError::Date)
}
