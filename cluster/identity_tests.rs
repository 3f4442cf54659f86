use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::address::Role;
use crate::authority::{Authority, Revoke, VALIDITY};
use crate::identity_clock::SetClock;
use crate::identity_files::to_pem;

const NOW: u64 = 1_800_000_000;

struct Lab {
    folder: TempDir,
    clock: Arc<SetClock>,
    authority: Authority,
}

impl Lab {
    fn new() -> Self {
        let clock = SetClock::new(NOW);
        let authority = Authority::ephemeral(&"lab".parse().unwrap(), clock.clone()).unwrap();
        Self { folder: tempfile::tempdir().unwrap(), clock, authority }
    }

    fn bundle(&self, name: &str, role: Role) -> Bundle {
        self.authority.issue(&name.parse().unwrap(), role, VALIDITY).unwrap()
    }

    fn load(&self) -> Result<Identity, IdentityError> {
        Identity::load(self.folder.path(), self.clock.clone(), Strangers::Refused)
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

fn serial(bundle: &Bundle) -> Serial {
    Certificate::read(&bundle.certificate).unwrap().serial
}

#[test]
fn a_folder_is_an_identity_and_stays_what_it_is() {
    let lab = Lab::new();
    let bundle = lab.bundle("n1", Role::Worker);
    bundle.write(lab.folder.path()).unwrap();
    let identity = lab.load().unwrap();
    assert_eq!(identity.names().to_string(), "worker n1 of lab");
    assert_eq!(identity.serial(), serial(&bundle));
    assert_eq!(identity.expires_at().as_secs(), NOW + VALIDITY.as_secs());
    let renew_at = identity.renew_at().as_secs();
    assert!(renew_at > NOW + VALIDITY.as_secs() / 2 && renew_at < identity.expires_at().as_secs());
    let error = lab.bundle("n2", Role::Worker).write(lab.folder.path()).unwrap_err().to_string();
    assert!(error.ends_with("node.pem: is there already, and would be overwritten"), "{error}");
    assert_eq!(lab.load().unwrap().serial(), serial(&bundle));
}

#[test]
fn what_is_wrong_in_a_folder_is_told_with_the_files_name() {
    let other = Lab::new();
    let alien = other.bundle("n1", Role::Worker);
    let pem = |der: &CertificateDer<'_>| to_pem("CERTIFICATE", der);
    let no_ca = "ca.pem: expected the certificate of an authority";
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("node.key", b"x".to_vec(), "node.key: expected a private key (PKCS #8), found"),
        (
            "node.key",
            to_pem("PRIVATE KEY", alien.key.secret_pkcs8_der()),
            "node.key: expected the key of the certificate, found another key",
        ),
        ("node.pem", b"x".to_vec(), "node.pem: expected a certificate, found"),
        (
            "node.pem",
            pem(&alien.certificate),
            "node.pem: expected a certificate that is valid now, found not issued by this cluster",
        ),
        ("ca.pem", b"x".to_vec(), "ca.pem: expected a certificate, found"),
        ("ca.pem", pem(&CertificateDer::from(vec![1, 2])), no_ca),
        ("crl.pem", b"x".to_vec(), "crl.pem: expected a revocation list, found"),
        (
            "crl.pem",
            to_pem("X509 CRL", &alien.revocations.clone().unwrap()),
            "crl.pem: expected a list of this authority, found not a revocation list of this",
        ),
    ];
    for (file, content, expected) in cases {
        let lab = Lab::new();
        lab.bundle("n1", Role::Worker).write(lab.folder.path()).unwrap();
        fs::write(lab.file(file), content).unwrap();
        let error = lab.load().err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
        fs::remove_file(lab.file(file)).unwrap();
        match lab.load() {
            Ok(_) => assert_eq!(file, "crl.pem", "which need not be there"),
            Err(error) => {
                assert!(error.to_string().contains(&format!("{file}: No such file")), "{error}");
            }
        }
    }
    let lab = Lab::new();
    lab.bundle("n1", Role::Worker).write(lab.folder.path()).unwrap();
    lab.clock.advance(VALIDITY * 2);
    let error = lab.load().err().unwrap().to_string();
    assert!(error.contains("node.pem: expected a certificate that is valid now, found"), "{error}");
    assert!(error.contains("valid from Fri, 15 Jan 2027"), "{error}");
}

#[test]
fn a_new_certificate_is_on_disk_before_it_is_used_and_must_be_of_the_same_node() {
    let lab = Lab::new();
    lab.bundle("n1", Role::Worker).write(lab.folder.path()).unwrap();
    let identity = lab.load().unwrap();
    let next = lab.bundle("n1", Role::Worker);
    identity.replace(next.key.clone_key(), next.certificate.clone()).unwrap();
    assert_eq!(identity.serial(), serial(&next));
    assert_eq!(lab.load().unwrap().serial(), serial(&next));
    assert!(!lab.file("node.key.next").exists());

    let renamed = lab.bundle("n2", Role::Worker);
    let promoted = lab.bundle("n1", Role::Operator);
    for other in [renamed, promoted] {
        let refused = identity.replace(other.key, other.certificate);
        assert!(matches!(refused, Err(IdentityError::OtherNames { .. })), "{refused:?}");
    }
    let (a, b) = (lab.bundle("n1", Role::Worker), lab.bundle("n1", Role::Worker));
    assert!(matches!(identity.replace(a.key, b.certificate), Err(IdentityError::Key(_))));
    let alien = Lab::new().bundle("n1", Role::Worker);
    let refused = identity.replace(alien.key, alien.certificate);
    assert!(matches!(refused, Err(IdentityError::Certificate(_))));
    assert_eq!(identity.serial(), serial(&next), "all is as before");
    assert_eq!(lab.load().unwrap().serial(), serial(&next));
}

/// Between any two of its writes.
#[test]
fn a_crash_within_an_exchange_leaves_the_old_or_the_new_certificate_with_its_key() {
    let lab = Lab::new();
    let old = lab.bundle("n1", Role::Worker);
    old.write(lab.folder.path()).unwrap();
    let next = lab.bundle("n1", Role::Worker);
    let write_next_key = || {
        let key = to_pem("PRIVATE KEY", next.key.secret_pkcs8_der());
        crate::identity_files::replace(&lab.file("node.key.next"), &key, 0o600).unwrap();
    };
    write_next_key();
    assert_eq!(lab.load().unwrap().serial(), serial(&old));
    assert!(!lab.file("node.key.next").exists());
    write_next_key();
    fs::write(lab.file("node.pem"), to_pem("CERTIFICATE", &next.certificate)).unwrap();
    assert_eq!(lab.load().unwrap().serial(), serial(&next));
    assert!(!lab.file("node.key.next").exists());
    assert_eq!(lab.load().unwrap().serial(), serial(&next));
}

#[test]
fn what_an_operator_puts_in_the_folder_is_used_when_it_is_read_again() {
    let lab = Lab::new();
    lab.bundle("n1", Role::Worker).write(lab.folder.path()).unwrap();
    let identity = lab.load().unwrap();
    let put = |bundle: &Bundle| {
        let key = to_pem("PRIVATE KEY", bundle.key.secret_pkcs8_der());
        fs::write(lab.file("node.key"), key).unwrap();
        fs::write(lab.file("node.pem"), to_pem("CERTIFICATE", &bundle.certificate)).unwrap();
    };
    let next = lab.bundle("n1", Role::Worker);
    put(&next);
    identity.reload().unwrap();
    assert_eq!(identity.serial(), serial(&next));
    put(&lab.bundle("n2", Role::Worker));
    let error = identity.reload().unwrap_err().to_string();
    assert!(error.contains("node.pem: expected the node that started, found"), "{error}");
    assert_eq!(identity.serial(), serial(&next), "all is as before");
}

#[test]
fn a_list_is_taken_from_the_authority_only_and_never_an_older_one() {
    let lab = Lab::new();
    lab.bundle("n1", Role::Worker).write(lab.folder.path()).unwrap();
    let gone = lab.bundle("n2", Role::Worker);
    let identity = lab.load().unwrap();
    let first = to_pem("X509 CRL", &lab.authority.crl().unwrap());
    assert!(!identity.set_crl(&first).unwrap(), "the one held");
    lab.authority.revoke(&Revoke::Node("n2".parse().unwrap())).unwrap();
    let second = to_pem("X509 CRL", &lab.authority.crl().unwrap());
    assert!(identity.set_crl(&second).unwrap());
    assert!(identity.is_revoked(&serial(&gone)));
    assert!(!identity.set_crl(&second).unwrap());

    let error = identity.set_crl(&first).unwrap_err();
    assert_eq!(error.to_string(), "expected revocation list 2 or a later one, found 1");
    let alien = Lab::new();
    alien.bundle("n1", Role::Worker);
    for _ in 0..3 {
        alien.bundle("x", Role::Worker);
        alien.authority.revoke(&Revoke::Node("x".parse().unwrap())).unwrap();
    }
    let alien = to_pem("X509 CRL", &alien.authority.crl().unwrap());
    assert!(matches!(identity.set_crl(&alien), Err(IdentityError::Revocations(_))));
    let mut altered = lab.authority.crl().unwrap().to_vec();
    *altered.last_mut().unwrap() ^= 1;
    let altered = CertificateRevocationListDer::from(altered);
    assert!(matches!(identity.set_crl_der(&altered), Err(IdentityError::Revocations(_))));
    assert!(identity.set_crl(b"nothing").is_err());

    // It is on disk, and the older one is refused there too.
    let again = lab.load().unwrap();
    assert!(again.is_revoked(&serial(&gone)));
    fs::write(lab.file("crl.pem"), &first).unwrap();
    let error = identity.reload().unwrap_err().to_string();
    assert!(error.contains("crl.pem: expected no older list, found"), "{error}");
    assert!(identity.is_revoked(&serial(&gone)));
    // A new certificate does not lose the list.
    let next = lab.bundle("n1", Role::Worker);
    identity.replace(next.key, next.certificate).unwrap();
    assert!(identity.is_revoked(&serial(&gone)));
}

proptest! {
    /// What TLS has verified is read; what is not so must not end the process either.
    #[test]
    fn no_chain_makes_it_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        at in any::<prop::sample::Index>(),
    ) {
        use std::sync::LazyLock;
        static GOOD: LazyLock<(Identity, Bundle)> = LazyLock::new(|| {
            let lab = Lab::new();
            let bundle = lab.bundle("n1", Role::Worker);
            let clock = lab.clock.clone();
            (Identity::in_memory(bundle.clone(), clock, Strangers::Refused).unwrap(), bundle)
        });
        let (identity, bundle) = &*GOOD;
        let _ = identity.peer_of(&[CertificateDer::from(bytes.clone())]);
        for der in [&bundle.certificate[..], bundle.revocations.as_ref().unwrap()] {
            let mut der = der.to_vec();
            let at = at.index(der.len());
            for (byte, other) in der.iter_mut().skip(at).zip(&bytes) {
                *byte = *other;
            }
            let chain = [CertificateDer::from(der.clone())];
            let _ = (identity.peer_of(&chain), identity.revoked(&chain));
            let _ = identity.set_crl_der(&CertificateRevocationListDer::from(der));
        }
    }
}
