use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::thread;

use data_encoding::HEXLOWER;
use tempfile::TempDir;

use super::*;
use crate::authority_tokens::{Redeem, TOKEN_LIFETIME};
use crate::identity_certificate::{Certificate, Revocations, verify_issued};
use crate::identity_clock::SetClock;
use crate::token::{JoinToken, Refusal};

const NOW: u64 = 1_800_000_000;
const DAY: Duration = Duration::from_secs(24 * 3600);

fn lab() -> (TempDir, Arc<SetClock>, Authority) {
    let (folder, clock) = (tempfile::tempdir().unwrap(), SetClock::new(NOW));
    let authority = Authority::create(&folder.path().join("ca"), &cluster(), clock.clone());
    (folder, clock, authority.unwrap())
}

fn cluster() -> ClusterName {
    "lab".parse().unwrap()
}

fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

fn revocations(authority: &Authority) -> Revocations {
    Revocations::read(&authority.crl().unwrap(), authority.certificate()).unwrap()
}

fn request() -> (KeyPair, CertificateSigningRequestDer<'static>) {
    let key = forms::key().unwrap();
    let request = forms::request(&key).unwrap();
    (key, request)
}

#[test]
fn an_authority_is_its_owners_alone_and_is_never_overwritten() {
    let (folder, clock, _) = lab();
    let ca = folder.path().join("ca");
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&ca), 0o700);
    assert_eq!((mode(&ca.join("ca.key")), mode(&ca.join("authority.json"))), (0o600, 0o600));
    let before = fs::read(ca.join("ca.key")).unwrap();
    let error = Authority::create(&ca, &cluster(), clock.clone()).err().unwrap().to_string();
    assert!(error.ends_with("ca.key: is there already, and would be overwritten"), "{error}");
    assert_eq!(fs::read(ca.join("ca.key")).unwrap(), before);

    fs::set_permissions(ca.join("ca.key"), PermissionsExt::from_mode(0o640)).unwrap();
    let error = Authority::load(&ca, clock).err().unwrap().to_string();
    assert!(error.contains("ca.key: expected mode 0600 or 0400, found 0640"), "{error}");
}

#[test]
fn what_is_wrong_in_its_folder_is_told_with_the_files_name() {
    for (file, text, expected) in [
        ("ca.key", "none", "ca.key: expected a private key (PKCS #8), found"),
        ("ca.pem", "none", "ca.pem: expected a certificate, found"),
        ("authority.json", "{}", "authority.json: expected an authority's books, found"),
    ] {
        let (folder, clock, _) = lab();
        let ca = folder.path().join("ca");
        fs::write(ca.join(file), text).unwrap();
        let error = Authority::load(&ca, clock.clone()).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
        fs::remove_file(ca.join(file)).unwrap();
        let error = Authority::load(&ca, clock).err().unwrap().to_string();
        assert!(error.contains(&format!("{file}: No such file")), "{error}");
    }
    let (folder, clock, _) = lab();
    let (other, ..) = lab();
    let ca = folder.path().join("ca");
    fs::copy(other.path().join("ca/ca.pem"), ca.join("ca.pem")).unwrap();
    let error = Authority::load(&ca, clock).err().unwrap().to_string();
    assert!(
        error.ends_with("ca.pem: expected the certificate of ca.key, found another"),
        "{error}"
    );
}

#[test]
fn a_certificate_says_what_the_operator_said_and_not_what_the_request_says() {
    let (_folder, clock, authority) = lab();
    let key = forms::key().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["c1.lab.orcapack.internal".to_owned()]);
    let params = params.as_mut().unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let greedy = params.serialize_request(&key).unwrap();
    let certificate = authority.sign(greedy.der(), &node("n1"), Role::Worker, VALIDITY).unwrap();
    let read = verify_issued(&certificate, authority.certificate(), now(&authority.clock)).unwrap();
    assert_eq!(read.names, Names { cluster: cluster(), node: node("n1"), role: Role::Worker });
    assert_eq!(read.not_before.as_secs(), NOW - 300);
    assert_eq!(read.not_after.as_secs(), NOW + VALIDITY.as_secs());
    let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).unwrap();
    assert!(!parsed.is_ca());
    let usage = parsed.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign() && !usage.crl_sign());
    // Nothing outlives the authority.
    clock.advance(DAY * 3600);
    let (_, request) = request();
    let last = authority.sign(&request, &node("n1"), Role::Worker, VALIDITY).unwrap();
    assert_eq!(Certificate::read(&last).unwrap().not_after, authority.ends);
}

#[test]
fn the_authority_may_sign_nodes_and_lists_and_no_further_authority() {
    let (_folder, _, authority) = lab();
    let (_, parsed) = x509_parser::parse_x509_certificate(authority.certificate()).unwrap();
    let constraints = parsed.basic_constraints().unwrap().unwrap().value;
    assert!(constraints.ca && constraints.path_len_constraint == Some(0));
    let usage = parsed.key_usage().unwrap().unwrap().value;
    assert!(usage.key_cert_sign() && usage.crl_sign() && !usage.digital_signature());
}

#[test]
fn a_request_that_its_key_has_not_signed_gets_nothing() {
    let (_folder, _, authority) = lab();
    let (key, good) = request();
    let sign = |der: &[u8]| {
        let request = CertificateSigningRequestDer::from(der.to_vec());
        authority.sign(&request, &node("n1"), Role::Worker, VALIDITY)
    };
    assert!(sign(&good).is_ok());
    for at in 0..good.len() {
        let mut bad = good.to_vec();
        bad[at] ^= 1;
        // Of what the signature does not cover, some bytes may be read either way.
        if let Ok(certificate) = sign(&bad) {
            let read = Certificate::read(&certificate).unwrap();
            let expected = crate::identity_certificate::pin(&key.subject_public_key_info());
            assert!(read.key == expected && at > 55, "byte {at}");
        }
        assert!(sign(&good[..at]).is_err(), "cut at {at}");
    }
    // Nor does one of another kind of key.
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    assert!(matches!(sign(&forms::request(&key).unwrap()), Err(AuthorityError::Request)));
}

#[test]
fn serial_numbers_are_random_and_of_one_length() {
    let (_folder, _, authority) = lab();
    for _ in 0..20 {
        authority.issue(&node("n1"), Role::Worker, VALIDITY).unwrap();
    }
    let mut serials: Vec<_> =
        authority.issued().unwrap().into_iter().map(|row| row.serial).collect();
    assert!(serials.iter().all(|serial| serial.as_str().len() == 32));
    serials.sort();
    serials.dedup();
    assert_eq!(serials.len(), 20);
}

#[test]
fn a_node_is_revoked_with_all_its_certificates_or_one_by_its_number() {
    let (folder, clock, authority) = lab();
    let issue = |name| authority.issue(&node(name), Role::Worker, VALIDITY).unwrap();
    let serial = |bundle: &Bundle| Certificate::read(&bundle.certificate).unwrap().serial;
    let [a, b, c, d] = ["n1", "n1", "n2", "n2"].map(|name| serial(&issue(name)));
    let first = revocations(&authority);
    assert_eq!((first.number, first.serials.len()), (1, 0));

    let mut revoked = authority.revoke(&Revoke::Node(node("n1"))).unwrap();
    revoked.sort();
    let mut expected = vec![a, b];
    expected.sort();
    assert_eq!(revoked, expected);
    authority.revoke(&Revoke::One(c.clone())).unwrap();
    let list = revocations(&authority);
    assert_eq!(list.number, 3);
    assert_eq!(list.serials, [revoked, vec![c.clone()]].concat().into_iter().collect());
    assert!(!list.serials.contains(&d));
    for gone in [Revoke::Node(node("n1")), Revoke::One(c), Revoke::Node(node("n9"))] {
        let error = authority.revoke(&gone).unwrap_err().to_string();
        assert!(error.starts_with("no certificate that is valid now was issued to"), "{error}");
    }
    assert_eq!(revocations(&authority).number, 3);
    // The file is the same list, whose entries go once they have expired, with the next list.
    let file = fs::read(folder.path().join("ca/crl.pem")).unwrap();
    assert_eq!(file, files::to_pem("X509 CRL", &authority.crl().unwrap()));
    clock.advance(VALIDITY + DAY);
    let fresh = serial(&issue("n3"));
    assert_eq!(revocations(&authority).serials.len(), 3);
    authority.revoke(&Revoke::One(fresh)).unwrap();
    let list = revocations(&authority);
    assert_eq!((list.number, list.serials.len()), (4, 1));
}

/// The books are written first. The list on disk is then behind, until it is made again.
#[test]
fn a_crash_between_the_books_and_the_list_loses_no_revocation() {
    let (folder, clock, authority) = lab();
    let ca = folder.path().join("ca");
    authority.issue(&node("n1"), Role::Worker, VALIDITY).unwrap();
    let before = fs::read(ca.join("crl.pem")).unwrap();
    authority.revoke(&Revoke::Node(node("n1"))).unwrap();
    let after = fs::read(ca.join("crl.pem")).unwrap();
    fs::write(ca.join("crl.pem"), before).unwrap();
    // And what was being written then is of no account.
    fs::write(ca.join("authority.json.tmp"), "half").unwrap();
    let authority = Authority::load(&ca, clock).unwrap();
    assert_eq!(fs::read(ca.join("crl.pem")).unwrap(), after);
    assert!(authority.issue(&node("n1"), Role::Worker, VALIDITY).is_ok());
}

#[test]
fn a_revoked_node_can_not_renew() {
    let (_folder, clock, authority) = lab();
    let renew = |role| authority.renew(&request().1, &node("n1"), role);
    assert!(matches!(renew(Role::Worker), Err(AuthorityError::NoneIssued(_))));
    authority.issue(&node("n1"), Role::Worker, VALIDITY).unwrap();
    assert!(renew(Role::Worker).is_ok());
    assert!(matches!(renew(Role::Operator), Err(AuthorityError::NoneIssued(_))));
    authority.revoke(&Revoke::Node(node("n1"))).unwrap();
    assert!(matches!(renew(Role::Worker), Err(AuthorityError::NoneIssued(_))));
    authority.issue(&node("n1"), Role::Worker, VALIDITY).unwrap();
    clock.advance(VALIDITY + DAY);
    assert!(matches!(renew(Role::Worker), Err(AuthorityError::NoneIssued(_))));
}

#[test]
fn the_books_hold_no_secret() {
    let (folder, _, authority) = lab();
    let token = authority.token(&node("n1"), Role::Worker, TOKEN_LIFETIME).unwrap();
    let books = fs::read_to_string(folder.path().join("ca/authority.json")).unwrap();
    assert!(books.contains(&token.id.to_string()));
    assert!(books.contains(&HEXLOWER.encode(&token.secret.hash())));
    let text = token.reveal();
    let secret = &text[text.len() - 102..];
    assert!((0..90).all(|at| !books.contains(&secret[at..at + 12])));
}

fn redeem(authority: &Authority, token: &JoinToken) -> Result<(), Refusal> {
    let redeemed = authority.redeem(token.id, &token.secret, None, &request().1);
    match redeemed {
        Ok(_) => Ok(()),
        Err(Redeem::Refused(why)) => Err(why),
        Err(Redeem::Failed(error)) => panic!("{error}"),
    }
}

/// A token is made at a command line while a coordinator serves: two processes, one folder.
#[test]
fn processes_share_the_books_of_an_authority() {
    let (folder, clock, serving) = lab();
    let at_command_line = Authority::load(&folder.path().join("ca"), clock).unwrap();
    let token = at_command_line.token(&node("n1"), Role::Worker, TOKEN_LIFETIME).unwrap();
    assert_eq!(redeem(&serving, &token), Ok(()));
    assert_eq!(redeem(&at_command_line, &token), Err(Refusal::UsedToken));
    at_command_line.revoke(&Revoke::Node(node("n1"))).unwrap();
    assert_eq!(revocations(&serving).number, 2);
}

#[test]
fn of_many_who_redeem_a_token_at_once_one_gets_a_certificate() {
    let (folder, clock, authority) = lab();
    let ephemeral = Authority::ephemeral(&cluster(), clock.clone()).unwrap();
    let other = Authority::load(&folder.path().join("ca"), clock).unwrap();
    for pair in [[&authority, &other], [&ephemeral, &ephemeral]] {
        let token = pair[0].token(&node("n1"), Role::Worker, TOKEN_LIFETIME).unwrap();
        let redeemed: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|at| (pair[at % 2], &token))
                .map(|(authority, token)| scope.spawn(move || redeem(authority, token)))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(redeemed.iter().filter(|redeemed| redeemed.is_ok()).count(), 1);
        let used = redeemed.iter().filter(|redeemed| **redeemed == Err(Refusal::UsedToken));
        assert_eq!(used.count(), 7);
        assert_eq!(pair[0].issued().unwrap().len(), 1);
    }
}

/// Whatever the disk holds after a crash: a used token, or one that is as good as before.
#[test]
fn a_token_whose_certificate_could_not_be_written_down_is_not_half_used() {
    let (folder, clock, authority) = lab();
    let ca = folder.path().join("ca");
    let token = authority.token(&node("n1"), Role::Worker, TOKEN_LIFETIME).unwrap();
    // A folder in the way of the file that the books are first written to.
    fs::create_dir(ca.join("authority.json.tmp")).unwrap();
    let redeemed = authority.redeem(token.id, &token.secret, None, &request().1);
    assert!(matches!(redeemed, Err(Redeem::Failed(_))), "no certificate leaves");
    fs::remove_dir(ca.join("authority.json.tmp")).unwrap();
    let authority = Authority::load(&ca, clock).unwrap();
    assert!(authority.issued().unwrap().is_empty());
    assert_eq!(redeem(&authority, &token), Ok(()));
}

#[test]
fn a_token_is_good_until_it_expires_and_for_its_node() {
    let (_folder, clock, authority) = lab();
    // The id of one with the secret of another is nobody's, and is answered like no id.
    let [a, b] = [(); 2].map(|()| authority.token(&node("n1"), Role::Worker, DAY).unwrap());
    let mixed = JoinToken { secret: b.secret, ..a };
    assert_eq!(redeem(&authority, &mixed), Err(Refusal::UnknownToken));
    let drawn = JoinToken::draw(authority.pin()).unwrap();
    assert_eq!(redeem(&authority, &drawn), Err(Refusal::UnknownToken));

    let token = authority.token(&node("n1"), Role::Worker, TOKEN_LIFETIME).unwrap();
    clock.advance(TOKEN_LIFETIME - Duration::from_secs(1));
    let other = authority.redeem(token.id, &token.secret, Some(&node("n2")), &request().1);
    assert!(matches!(other, Err(Redeem::Refused(Refusal::OtherNode { .. }))));
    let garbage = CertificateSigningRequestDer::from(vec![1, 2, 3]);
    let bad = authority.redeem(token.id, &token.secret, None, &garbage);
    assert!(matches!(bad, Err(Redeem::Refused(Refusal::BadRequest))));
    assert_eq!(redeem(&authority, &token), Ok(()), "neither has used it up");

    let token = authority.token(&node("n1"), Role::Worker, TOKEN_LIFETIME).unwrap();
    clock.advance(TOKEN_LIFETIME);
    assert_eq!(redeem(&authority, &token), Err(Refusal::ExpiredToken));
    // Later it is forgotten.
    clock.advance(DAY * 31);
    authority.token(&node("n1"), Role::Worker, TOKEN_LIFETIME).unwrap();
    assert_eq!(redeem(&authority, &token), Err(Refusal::UnknownToken));
}
