use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;
use tokio::io::duplex;

use super::*;
use crate::address::Role;
use crate::authority::VALIDITY;
use crate::authority_tokens::TOKEN_LIFETIME;
use crate::identity::Identity;
use crate::identity_clock::SetClock;
use crate::identity_tls::Strangers;
use crate::renewal::{Renewal, RenewalError, answer_renewal};

struct Lab {
    folder: TempDir,
    clock: Arc<SetClock>,
    authority: Arc<Authority>,
}

impl Lab {
    fn new() -> Self {
        let (folder, clock) = (tempfile::tempdir().unwrap(), SetClock::new(1_800_000_000));
        let cluster = "lab".parse().unwrap();
        let authority = Authority::create(&folder.path().join("ca"), &cluster, clock.clone());
        Self { folder, clock, authority: Arc::new(authority.unwrap()) }
    }

    fn token(&self, name: &str) -> JoinToken {
        self.authority.token(&name.parse().unwrap(), Role::Worker, TOKEN_LIFETIME).unwrap()
    }

    fn newcomer(&self, folder: &str) -> PathBuf {
        self.folder.path().join(folder)
    }

    fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// A whole exchange, and what either side made of it.
    async fn join(
        &self,
        token: &JoinToken,
        folder: &str,
    ) -> (Result<Names, JoinError>, Result<(), JoinError>) {
        let (ours, theirs) = pipe();
        let folder = self.newcomer(folder);
        let newcomer = Newcomer { folder: &folder, node: None };
        let clock = self.clock();
        tokio::join!(join(ours, token, newcomer, &clock), serve_join(theirs, &self.authority))
    }
}

fn pipe() -> (Stream, Stream) {
    let (a, b) = duplex(64 << 10);
    let stream = |end| {
        let (receive, send) = tokio::io::split(end);
        Stream { send: Box::new(send), receive: Box::new(receive) }
    };
    (stream(a), stream(b))
}

fn refused<T: std::fmt::Debug>(joined: &Result<T, JoinError>, expected: &Refusal) {
    match joined {
        Err(JoinError::Refused(why)) => assert_eq!(why, expected),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_token_makes_a_stranger_a_node_once() {
    let lab = Lab::new();
    let token = lab.token("n1");
    let (joined, served) = lab.join(&token, "n1").await;
    assert_eq!(joined.unwrap().to_string(), "worker n1 of lab");
    served.unwrap();
    let identity = Identity::load(&lab.newcomer("n1"), lab.clock(), Strangers::Refused).unwrap();
    assert_eq!(identity.names().to_string(), "worker n1 of lab");
    assert!(identity.crl().is_some());

    let (joined, served) = lab.join(&token, "again").await;
    refused(&joined, &Refusal::UsedToken);
    refused(&served, &Refusal::UsedToken);
    assert!(!lab.newcomer("again").join("node.pem").exists());
    assert_eq!(lab.authority.issued().unwrap().len(), 1);
}

#[tokio::test]
async fn an_expired_or_unknown_token_lets_nobody_in() {
    let lab = Lab::new();
    let token = lab.token("n1");
    lab.clock.advance(TOKEN_LIFETIME);
    refused(&lab.join(&token, "n1").await.0, &Refusal::ExpiredToken);
    let unknown = JoinToken::draw(lab.authority.pin()).unwrap();
    refused(&lab.join(&unknown, "n1").await.0, &Refusal::UnknownToken);
    // After all that, the folder is as good as new.
    lab.join(&lab.token("n1"), "n1").await.0.unwrap();
}

#[tokio::test]
async fn of_many_who_join_with_one_token_at_once_one_does() {
    let lab = Lab::new();
    let token = lab.token("n1");
    let folders: Vec<String> = (0..6).map(|at| format!("n{at}")).collect();
    let joins = folders.iter().map(|folder| lab.join(&token, folder));
    let joined = futures_util::future::join_all(joins).await;
    assert_eq!(joined.iter().filter(|(joined, _)| joined.is_ok()).count(), 1);
    assert_eq!(lab.authority.issued().unwrap().len(), 1);
}

/// Mistakes that are found in time do not cost the token.
#[tokio::test]
async fn a_mistake_leaves_the_token_good() {
    let lab = Lab::new();
    let (token, clock) = (lab.token("n1"), lab.clock());
    let (ours, theirs) = pipe();
    let (folder, other) = (lab.newcomer("n1"), "n2".parse().unwrap());
    let newcomer = Newcomer { folder: &folder, node: Some(&other) };
    let (joined, _) =
        tokio::join!(join(ours, &token, newcomer, &clock), serve_join(theirs, &lab.authority));
    refused(&joined, &Refusal::OtherNode { node: "n1".parse().unwrap() });

    // A folder that has an identity, and one that cannot be made: nothing is sent.
    let taken = lab.authority.issue(&other, Role::Worker, VALIDITY).unwrap();
    taken.write(&lab.newcomer("taken")).unwrap();
    fs::write(lab.newcomer("file"), "").unwrap();
    for folder in ["taken", "file", "file/under"] {
        let (ours, mut theirs) = pipe();
        let folder = lab.newcomer(folder);
        let newcomer = Newcomer { folder: &folder, node: None };
        let joined = join(ours, &token, newcomer, &clock).await;
        assert!(matches!(joined, Err(JoinError::File(_))), "{joined:?}");
        let mut sent = Vec::new();
        theirs.receive.read_to_end(&mut sent).await.unwrap();
        assert!(sent.is_empty());
    }
    lab.join(&token, "n1").await.0.unwrap();
}

/// Sends these bytes to an authority, and reads what it says.
async fn said(lab: &Lab, bytes: &[u8]) -> (Option<Answer>, Result<(), JoinError>) {
    let (mut ours, theirs) = pipe();
    let client = async {
        ours.send.write_all(bytes).await.unwrap();
        ours.send.shutdown().await.unwrap();
        let frame = read(&mut ours.receive, ANSWER_BYTES_MAX).await.ok()?;
        codec::decode(&frame, ANSWER_BYTES_MAX).ok()
    };
    tokio::join!(client, serve_join(theirs, &lab.authority))
}

#[tokio::test]
async fn what_is_no_request_is_refused_and_costs_no_memory() {
    let lab = Lab::new();
    let frame =
        |body: &[u8]| [&u32::try_from(body.len()).unwrap().to_le_bytes()[..], body].concat();
    let bad = Some(Refusal::BadRequest);
    for (bytes, expected) in [
        (vec![], None),
        (vec![1, 2], None),
        (u32::MAX.to_le_bytes().to_vec(), None),
        (frame(&[1; REQUEST_BYTES_MAX + 1]), None),
        (frame(&[1; 300])[..200].to_vec(), None),
        (frame(&[]), bad.clone()),
        (frame(&[9; 300]), bad.clone()),
        (frame(&[1; 300]), bad),
    ] {
        let (answer, served) = said(&lab, &bytes).await;
        assert!(served.is_err());
        match (answer, expected) {
            (None, None) => {}
            (Some(Answer::Refused(why)), Some(expected)) => assert_eq!(why, expected),
            other => panic!("{other:?}"),
        }
    }
    let token = lab.token("n1");
    let request = Request {
        token: token.id,
        secret: token.secret.clone(),
        node: None,
        request: vec![0x30; 200],
    };
    let bytes = frame(&codec::encode(&request, REQUEST_BYTES_MAX).unwrap());
    let (answer, _) = said(&lab, &bytes).await;
    assert!(matches!(answer, Some(Answer::Refused(Refusal::BadRequest))));
    lab.join(&token, "n1").await.0.unwrap();
}

/// Answers a newcomer with what `make` makes of its request.
async fn answered(
    lab: &Lab,
    folder: &str,
    token: &JoinToken,
    make: impl FnOnce(Request) -> Answer,
) -> Result<Names, JoinError> {
    let (ours, mut theirs) = pipe();
    let folder = lab.newcomer(folder);
    let clock = lab.clock();
    let server = async {
        let frame = read(&mut theirs.receive, REQUEST_BYTES_MAX).await.unwrap();
        let answer = make(codec::decode(&frame, REQUEST_BYTES_MAX).unwrap());
        let frame = codec::encode(&answer, ANSWER_BYTES_MAX).unwrap();
        write(&mut theirs.send, &frame).await.unwrap();
        theirs.send.shutdown().await.unwrap();
    };
    let node = "n1".parse().unwrap();
    let newcomer = Newcomer { folder: &folder, node: Some(&node) };
    tokio::join!(join(ours, token, newcomer, &clock), server).0
}

#[tokio::test]
async fn an_answer_that_is_not_what_was_asked_for_makes_no_identity() {
    let (lab, other) = (Lab::new(), Lab::new());
    let token = lab.token("n1");
    let sign = |lab: &Lab, name: &str, asked: &Request| {
        let request = CertificateSigningRequestDer::from(asked.request.as_slice());
        let name = name.parse().unwrap();
        lab.authority.sign(&request, &name, Role::Worker, VALIDITY).unwrap().to_vec()
    };
    let granted = |certificate: Vec<u8>, authority: &Lab, list: &Lab| Answer::Granted {
        certificate,
        authority: authority.authority.certificate().to_vec(),
        revocations: list.authority.crl().unwrap().to_vec(),
    };
    let own = lab.authority.issue(&"n1".parse().unwrap(), Role::Worker, VALIDITY).unwrap();
    let own = own.certificate.to_vec();
    type Make<'m> = Box<dyn FnOnce(Request) -> Answer + 'm>;
    let cases: Vec<(&str, Make<'_>)> = vec![
        (
            "expected the authority of the token",
            Box::new(|asked| granted(sign(&other, "n1", &asked), &other, &other)),
        ),
        ("not issued by", Box::new(|asked| granted(sign(&other, "n1", &asked), &lab, &lab))),
        ("one of another key", Box::new(|_| granted(own, &lab, &lab))),
        ("of the node that joins", Box::new(|asked| granted(sign(&lab, "n2", &asked), &lab, &lab))),
        ("revocation list", Box::new(|asked| granted(sign(&lab, "n1", &asked), &lab, &other))),
        ("not a certificate", Box::new(|_| granted(vec![0x30, 0], &lab, &lab))),
    ];
    for (expected, make) in cases {
        let error = answered(&lab, "n1", &token, make).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!lab.newcomer("n1").join("node.pem").exists());
    }
    answered(&lab, "n1", &token, |asked| granted(sign(&lab, "n1", &asked), &lab, &lab))
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn neither_side_waits_for_ever() {
    let lab = Lab::new();
    let (ours, theirs) = pipe();
    let served = serve_join(theirs, &lab.authority).await;
    assert!(matches!(served, Err(JoinError::TimedOut)), "{served:?}");
    drop(ours);
    let (ours, _theirs) = pipe();
    let (token, folder, clock) = (lab.token("n1"), lab.newcomer("n1"), lab.clock());
    let newcomer = Newcomer { folder: &folder, node: None };
    let joined = join(ours, &token, newcomer, &clock).await;
    assert!(matches!(joined, Err(JoinError::TimedOut)), "{joined:?}");
}

#[tokio::test]
async fn the_key_of_a_newcomer_never_leaves_it() {
    let lab = Lab::new();
    let token = lab.token("n1");
    let mut sent = Vec::new();
    let refused = answered(&lab, "n1", &token, |asked| {
        sent = codec::encode(&asked, REQUEST_BYTES_MAX).unwrap();
        Answer::Refused(Refusal::Failed)
    });
    assert!(refused.await.is_err());
    let pem = fs::read(lab.newcomer("n1").join("node.key")).unwrap();
    let key: PrivatePkcs8KeyDer<'_> =
        rustls::pki_types::pem::PemObject::from_pem_slice(&pem).unwrap();
    // The seed of an Ed25519 key comes after 16 bytes of PKCS #8.
    let seed = &key.secret_pkcs8_der()[16..48];
    assert!(sent.windows(8).all(|window| !seed.windows(8).any(|part| part == window)));
}

#[test]
fn a_node_renews_its_own_certificate_and_no_other() {
    let lab = Lab::new();
    let bundle = lab.authority.issue(&"n1".parse().unwrap(), Role::Worker, VALIDITY).unwrap();
    let identity = Identity::in_memory(bundle, lab.clock(), Strangers::Refused).unwrap();
    let (before, me) = (identity.serial(), identity.names().peer());
    lab.clock.set(identity.renew_at().as_secs());
    let renewal = Renewal::new().unwrap();
    let answer = answer_renewal(&lab.authority, &me, renewal.request()).unwrap();
    renewal.finish(&answer, &identity).unwrap();
    assert_ne!(identity.serial(), before);
    assert_eq!(identity.names().peer(), me);

    // An answer to another's request has another's key.
    let (mine, others) = (Renewal::new().unwrap(), Renewal::new().unwrap());
    let answer = answer_renewal(&lab.authority, &me, others.request()).unwrap();
    assert!(matches!(mine.finish(&answer, &identity), Err(RenewalError::Identity(_))));
    let renewal = Renewal::new().unwrap();
    let answer = answer_renewal(&lab.authority, &me, b"nonsense").unwrap();
    let refused = renewal.finish(&answer, &identity);
    assert!(matches!(refused, Err(RenewalError::Refused(Refusal::BadRequest))));
    lab.authority.revoke(&crate::authority::Revoke::Node(me.node.clone())).unwrap();
    let renewal = Renewal::new().unwrap();
    let answer = answer_renewal(&lab.authority, &me, renewal.request()).unwrap();
    let refused = renewal.finish(&answer, &identity);
    assert!(matches!(refused, Err(RenewalError::Refused(Refusal::NoCertificate))));
}
