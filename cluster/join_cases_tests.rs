//! Who gets in and who does not: each case is a TLS handshake in memory, then what a transport asks
//! of [`admit`] and [`Credentials::peer_of`]. Certificates are a real authority's, or made with its
//! key where it would not make such.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::thread;

use rcgen::KeyPair;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, Connection, ServerConfig};

use crate::address::{NodeId, PeerIdentity, Role};
use crate::admission::admit;
use crate::authority::{Revoke, VALIDITY};
use crate::credentials::Credentials;
use crate::identity::Identity;
use crate::identity_certificate::Pin;
use crate::identity_clock::{Clock, SetClock};
use crate::identity_tls::{Strangers, provider};
use crate::join_fixture_tests::{
    Blind, Crafted, DAY, Lab, NOW, NoClientCertificate, altered, connect, connect_with, node, pass,
    refused,
};
use crate::join_trust::Stranger;
use crate::link::{LinkError, Purpose};
use crate::renewal::{Renewal, answer_renewal};

#[test]
fn nodes_of_a_cluster_know_each_other() {
    let lab = Lab::new("lab");
    let (worker, coordinator) = (lab.identity("n1", Role::Worker), lab.coordinator());
    for purpose in [Purpose::Control, Purpose::Data] {
        let connected = connect(&worker, purpose, "c1", &coordinator).unwrap();
        let expected = PeerIdentity { node: node("n1"), role: Role::Worker };
        assert_eq!(connected.seen_by_server, (purpose, Some(expected)));
        let expected = PeerIdentity { node: node("c1"), role: Role::Coordinator };
        assert_eq!(connected.seen_by_client, expected);
    }
    assert!(connect(&coordinator, Purpose::Data, "n1", &worker).is_ok());
}

#[test]
fn who_has_no_certificate_may_join_and_nothing_else() {
    let lab = Lab::new("lab");
    let (coordinator, worker) = (lab.coordinator(), lab.identity("n1", Role::Worker));
    let stranger = Stranger::new(lab.authority.pin(), &(lab.clock.clone() as Clock));
    let stranger = stranger.unwrap();
    let joining = connect(&stranger, Purpose::Join, "any", &coordinator).unwrap();
    assert_eq!(joining.seen_by_server, (Purpose::Join, None));

    for purpose in [Purpose::Control, Purpose::Data] {
        let mut bare = (*stranger.client_config(purpose)).clone();
        bare.alpn_protocols = vec![purpose.alpn().to_vec()];
        let name = worker.server_name(&node("c1"));
        let (_, theirs, _) =
            connect_with(Arc::new(bare.clone()), name.clone(), &coordinator).unwrap();
        let admitted = admit(&coordinator, theirs.alpn_protocol(), theirs.peer_certificates());
        refused(admitted.map_err(|error| format!("admit: {error}")), "admit", "no certificate");
        // Where there is no authority, TLS itself refuses. A worker's server is no coordinator to
        // the stranger, whose check is not what is tried here.
        let mut bare = (*worker.client_config(purpose)).clone();
        bare.client_auth_cert_resolver = Arc::new(NoClientCertificate);
        let to = worker.server_name(&node("n1"));
        refused(connect_with(Arc::new(bare), to, &worker), "server", "no certificate");
    }
    // And nobody joins there.
    let other = lab.identity("c2", Role::Coordinator);
    refused(connect(&stranger, Purpose::Join, "c2", &other), "server", "any known protocol");
    // A certificate is no more than none on such a connection.
    let joining = connect(&worker, Purpose::Join, "c1", &coordinator).unwrap();
    assert_eq!(joining.seen_by_server, (Purpose::Join, None));
}

/// The other authority has the same name: what counts is its key.
#[test]
fn a_certificate_of_another_authority_is_refused_on_both_sides() {
    let (lab, forged) = (Lab::new("lab"), Lab::new("lab"));
    let (ours, theirs) = (lab.coordinator(), forged.identity("n1", Role::Worker));
    refused(connect(&theirs, Purpose::Control, "c1", &ours), "client", "BadSignature");
    refused(connect(&ours, Purpose::Control, "n1", &theirs), "client", "BadSignature");
    // One that does not look whom it talks to is refused by the server.
    let bundle = forged.bundle("n1", Role::Worker);
    let key = KeyPair::try_from(bundle.key.secret_pkcs8_der()).unwrap();
    let blind = Crafted::new(&key, bundle.certificate, &lab);
    refused(connect(&blind, Purpose::Control, "c1", &ours), "server", "BadSignature");
    refused(connect(&blind, Purpose::Join, "c1", &ours), "server", "BadSignature");
}

#[test]
fn an_expired_certificate_is_refused_on_both_sides() {
    let lab = Lab::new("lab");
    // Whose clock stands still does not notice that its own has expired.
    let stopped = SetClock::new(NOW);
    let old = lab.identity_with("n1", Role::Worker, stopped);
    lab.clock.advance(VALIDITY + DAY);
    let fresh = lab.identity("c1", Role::Coordinator);
    refused(connect(&old, Purpose::Control, "c1", &fresh), "client", "not valid yet");
    refused(connect(&fresh, Purpose::Control, "n1", &old), "client", "expired");
    let blind = altered(&old, |config| {
        config.dangerous().set_certificate_verifier(Arc::new(Blind));
    });
    refused(blind.connect("c1", &fresh), "server", "expired");
}

#[test]
fn a_certificate_that_is_not_valid_yet_is_refused_but_for_a_clock_a_little_behind() {
    let lab = Lab::new("lab");
    let client = lab.identity("n1", Role::Worker);
    let behind = SetClock::new(NOW);
    let server = lab.identity_with("c1", Role::Coordinator, behind.clone());
    let blind = altered(&client, |config| {
        config.dangerous().set_certificate_verifier(Arc::new(Blind));
    });
    behind.set(NOW - 4 * 60);
    assert!(blind.connect("c1", &server).is_ok());
    behind.set(NOW - 6 * 60);
    refused(blind.connect("c1", &server), "server", "not valid yet");
}

#[test]
fn a_revoked_certificate_is_refused_on_both_sides_and_found_on_connections_that_are_there() {
    let lab = Lab::new("lab");
    let (worker, coordinator) = (lab.identity("n1", Role::Worker), lab.coordinator());
    let other = lab.identity("n2", Role::Worker);
    let connected = connect(&worker, Purpose::Control, "c1", &coordinator).unwrap();
    let chain = connected.server.peer_certificates().unwrap();
    assert!(!coordinator.revoked(chain));

    let mut changes = coordinator.crl_changes();
    assert_eq!(*changes.borrow_and_update(), 1);
    lab.authority.revoke(&Revoke::Node(node("n1"))).unwrap();
    let list = lab.authority.crl().unwrap();
    assert!(coordinator.set_crl_der(&list).unwrap());
    assert!(changes.has_changed().unwrap());
    assert!(coordinator.revoked(chain));

    refused(connect(&worker, Purpose::Control, "c1", &coordinator), "server", "Revoked");
    refused(connect(&worker, Purpose::Join, "c1", &coordinator), "server", "Revoked");
    refused(connect(&coordinator, Purpose::Control, "n1", &worker), "client", "Revoked");
    assert!(connect(&other, Purpose::Control, "c1", &coordinator).is_ok(), "others are not meant");
}

#[test]
fn a_server_that_is_another_node_is_not_who_was_dialled() {
    let lab = Lab::new("lab");
    let (a, b) = (lab.identity("n1", Role::Worker), lab.identity("n2", Role::Worker));
    refused(connect(&a, Purpose::Control, "n3", &b), "client", "not valid for name");
}

#[test]
fn names_that_the_authority_would_not_give_are_refused() {
    let lab = Lab::new("lab");
    let coordinator = lab.coordinator();
    let good = "n1.lab.orcapack.internal";
    for (dns, uri, why) in [
        ("n1.other.orcapack.internal", "orcapack://other/worker/n1", "expected cluster `lab`"),
        (good, "orcapack://other/worker/n1", "expected the names"),
        (good, "orcapack://lab/worker/n2", "expected the names"),
        (good, "orcapack://lab/root/n1", "expected a role"),
        (good, "orcapack://lab/Worker/n1", "expected a role"),
        (good, "orcapack://lab/worker,operator/n1", "expected a role"),
        (good, "https://lab/worker/n1", "expected the names"),
    ] {
        let crafted = lab.crafted(dns, uri);
        refused(connect(&crafted, Purpose::Control, "c1", &coordinator), "admit", why);
    }
    let crafted = lab.crafted(good, "orcapack://lab/worker/n1");
    assert!(connect(&crafted, Purpose::Control, "c1", &coordinator).is_ok(), "the rest is right");
    // As servers they pass TLS by their DNS name, and the client asks who it is.
    let crafted = lab.crafted(good, "orcapack://lab/root/n1");
    let name = coordinator.server_name(&node("n1"));
    let config = coordinator.client_config(Purpose::Control);
    let (ours, ..) = connect_with(config, name, &crafted).unwrap();
    let peer = coordinator.peer_of(ours.peer_certificates().unwrap());
    assert!(matches!(peer, Err(LinkError::Untrusted(_))), "{peer:?}");
}

#[test]
fn another_protocol_or_none_is_refused() {
    let lab = Lab::new("lab");
    let (worker, coordinator) = (lab.identity("n1", Role::Worker), lab.coordinator());
    let newer = altered(&worker, |config| {
        config.alpn_protocols = vec![b"orcapack-control/2".to_vec()];
    });
    refused(newer.connect("c1", &coordinator), "server", "any known protocol");
    // TLS lets who offers none through; QUIC does not.
    let silent = altered(&worker, |config| config.alpn_protocols.clear());
    refused(silent.connect("c1", &coordinator), "admit", "no protocol");
}

#[test]
fn nobody_talks_an_older_tls() {
    let lab = Lab::new("lab");
    let (worker, coordinator) = (lab.identity("n1", Role::Worker), lab.coordinator());
    let old = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Blind))
        .with_no_client_auth();
    let name = worker.server_name(&node("c1"));
    refused(connect_with(Arc::new(old), name, &coordinator), "server", "Tls");

    struct Old(Arc<ServerConfig>);
    impl Credentials for Old {
        fn server_config(&self) -> Arc<ServerConfig> {
            self.0.clone()
        }
        fn client_config(&self, _: Purpose) -> Arc<ClientConfig> {
            unreachable!()
        }
        fn server_name(&self, _: &NodeId) -> ServerName<'static> {
            unreachable!()
        }
        fn peer_of(&self, _: &[CertificateDer<'_>]) -> Result<PeerIdentity, LinkError> {
            unreachable!()
        }
    }
    let own = lab.crafted("c1.lab.orcapack.internal", "orcapack://lab/coordinator/c1").own;
    let old = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    let old = Old(Arc::new(old));
    let worker =
        connect_with(worker.client_config(Purpose::Control), worker.server_name(&node("c1")), &old);
    refused(worker, "server", "Tls");
    let both = altered_versions(&lab);
    assert_eq!(both.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
}

/// A client of both versions gets the newer.
fn altered_versions(lab: &Lab) -> Connection {
    let own = lab.crafted("n1.lab.orcapack.internal", "orcapack://lab/worker/n1").own;
    let mut both = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS12, &TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Blind))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    both.alpn_protocols = vec![Purpose::Control.alpn().to_vec()];
    let coordinator = lab.coordinator();
    let name = coordinator.server_name(&node("c1"));
    connect_with(Arc::new(both), name, &coordinator).unwrap().0
}

#[test]
fn a_stranger_gives_its_token_to_a_coordinator_of_the_pinned_authority_only() {
    let lab = Lab::new("lab");
    let clock = lab.clock.clone() as Clock;
    let stranger = Stranger::new(lab.authority.pin(), &clock).unwrap();
    let join = |server: &dyn Credentials| connect(&stranger, Purpose::Join, "any", server);
    let joins = Strangers::MayJoin;

    let peer = join(&lab.coordinator()).unwrap().seen_by_client;
    assert_eq!(peer, PeerIdentity { node: node("c1"), role: Role::Coordinator });
    refused(join(&Lab::new("lab").coordinator()), "client", "UnknownIssuer");
    let pin = Stranger::new(Pin([7; 32]), &clock).unwrap();
    let wrong_pin = connect(&pin, Purpose::Join, "any", &lab.coordinator());
    refused(wrong_pin, "client", "UnknownIssuer");
    for role in [Role::Worker, Role::Operator] {
        let broken_into = lab.identity_at("n1", role, joins);
        refused(join(&broken_into), "client", "ApplicationVerificationFailure");
    }
    let bad = lab.crafted("c1.lab.orcapack.internal", "orcapack://lab/coordinator/c2");
    refused(join(&bad), "client", "BadEncoding");
    // The right authority shown, but not the issuer of the certificate.
    let forged = Lab::new("lab");
    let bundle = forged.bundle("c1", Role::Coordinator);
    let key = KeyPair::try_from(bundle.key.secret_pkcs8_der()).unwrap();
    refused(join(&Crafted::new(&key, bundle.certificate, &lab)), "client", "BadSignature");
    // The authority's key in a certificate that the authority has not signed.
    let mut altered = lab.crafted("c1.lab.orcapack.internal", "orcapack://lab/coordinator/c1");
    assert!(join(&altered).is_ok());
    let mut own = (*altered.own).clone();
    let mut authority = own.cert[1].to_vec();
    *authority.last_mut().unwrap() ^= 1;
    own.cert[1] = authority.into();
    altered.own = Arc::new(own);
    refused(join(&altered), "client", "UnknownIssuer");

    let old = lab.identity_at("c1", Role::Coordinator, joins);
    lab.clock.advance(VALIDITY + DAY);
    refused(join(&old), "client", "expired");
    lab.clock.set(NOW - DAY.as_secs());
    refused(join(&old), "client", "not valid yet");
    // Nobody connects to a stranger.
    lab.clock.set(NOW);
    let worker = lab.identity("n1", Role::Worker);
    refused(connect(&worker, Purpose::Control, "any", &stranger), "server", "no server cert");
}

#[test]
fn a_private_key_that_others_can_read_is_refused() {
    let lab = Lab::new("lab");
    let folder = tempfile::tempdir().unwrap();
    lab.bundle("n1", Role::Worker).write(folder.path()).unwrap();
    let load = || Identity::load(folder.path(), lab.clock.clone(), Strangers::Refused);
    let key = folder.path().join("node.key");
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    assert!(load().is_ok());
    for mode in [0o640, 0o604, 0o644, 0o660, 0o610] {
        std::fs::set_permissions(&key, PermissionsExt::from_mode(mode)).unwrap();
        let error = load().err().unwrap().to_string();
        let expected = format!("node.key: expected mode 0600 or 0400, found 0{mode:o}");
        assert!(error.contains(&expected), "{error}");
    }
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o400)).unwrap();
    assert!(load().is_ok());
}

fn renewed(lab: &Lab, identity: &Identity) {
    let renewal = Renewal::new().unwrap();
    let peer = identity.names().peer();
    let answer = answer_renewal(&lab.authority, &peer, renewal.request()).unwrap();
    renewal.finish(&answer, identity).unwrap();
}

#[test]
fn certificates_are_exchanged_while_connections_go_on() {
    let lab = Lab::new("lab");
    let (worker, coordinator) = (lab.identity("n1", Role::Worker), lab.coordinator());
    let mut before = connect(&worker, Purpose::Control, "c1", &coordinator).unwrap();
    let (old, old_key) = (worker.serial(), before.server.peer_certificates().unwrap()[0].clone());
    renewed(&lab, &worker);
    renewed(&lab, &coordinator);
    assert_ne!(worker.serial(), old);

    before.client.writer().write_all(b"still here").unwrap();
    pass(&mut before.client, &mut before.server).unwrap();
    let mut heard = [0; 10];
    before.server.reader().read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"still here");
    let after = connect(&worker, Purpose::Control, "c1", &coordinator).unwrap();
    assert_ne!(after.server.peer_certificates().unwrap()[0], old_key);
    assert_eq!(after.seen_by_server.1, before.seen_by_server.1);
}

#[test]
fn no_handshake_fails_while_certificates_are_exchanged() {
    let lab = Lab::new("lab");
    let (worker, coordinator) = (lab.identity("n1", Role::Worker), lab.coordinator());
    thread::scope(|scope| {
        let handshakes = || {
            for _ in 0..40 {
                connect(&worker, Purpose::Control, "c1", &coordinator).unwrap();
                connect(&coordinator, Purpose::Data, "n1", &worker).unwrap();
            }
        };
        let shaking = [scope.spawn(handshakes), scope.spawn(handshakes)];
        let mut exchanges = 0;
        while !shaking.iter().all(|thread| thread.is_finished()) {
            renewed(&lab, &worker);
            renewed(&lab, &coordinator);
            exchanges += 1;
        }
        assert!(exchanges > 0);
    });
}

/// What a simulation relies on: keys differ from run to run, and nothing else may.
#[test]
fn handshakes_have_the_same_length_whatever_the_keys() {
    let lengths: Vec<usize> = (0..5)
        .map(|_| {
            let lab = Lab::new("lab");
            let worker = lab.identity("n1", Role::Worker);
            let connected = connect(&worker, Purpose::Control, "c1", &lab.coordinator()).unwrap();
            connected.handshake_bytes
        })
        .collect();
    assert!(lengths.iter().all(|length| *length == lengths[0]), "{lengths:?}");
}

/// A session that is resumed would not be looked at again.
#[test]
fn nothing_is_given_to_resume_a_session_with() {
    let lab = Lab::new("lab");
    let (worker, coordinator) = (lab.identity("n1", Role::Worker), lab.coordinator());
    for _ in 0..2 {
        let connected = connect(&worker, Purpose::Control, "c1", &coordinator).unwrap();
        let Connection::Client(client) = connected.client else { unreachable!() };
        assert_eq!(client.handshake_kind(), Some(rustls::HandshakeKind::Full));
        assert_eq!(client.tls13_tickets_received(), 0);
    }
}
