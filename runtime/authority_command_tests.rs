//! The authority as its nodes meet it: over sockets.

use std::net::UdpSocket;
use std::time::{Duration, UNIX_EPOCH};

use orcapack_cluster::identity_clock::SetClock;

use super::*;
use crate::cluster_config::tests::parsed;
use crate::join_command::renew_if_due;

const DAY: u64 = 24 * 3600;

#[tokio::test]
async fn a_certificate_is_renewed_in_time_unless_it_is_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let at = folder.path().display();
    let config = parsed(&format!(
        "[cluster]\nname = \"lab\"\nauthority = \"127.0.0.1:{port}\"\npki = \"{at}/pki\"\n\
         state_dir = \"{at}/state\"\n[nodes.n1]\naddress = \"10.0.0.1\"\nslots = 1\n",
    ));
    let name = "lab".parse().unwrap();
    let authority = Authority::create(&config.pki, &name, system_clock()).unwrap();
    let node: NodeId = "n1".parse().unwrap();
    let bundle = authority.issue(&node, Role::Worker, VALIDITY).unwrap();
    bundle.write(&config.state_of(&node)).unwrap();
    let now = UNIX_EPOCH.elapsed().unwrap().as_secs();
    let clock = SetClock::new(now + 5 * DAY);
    let identity = Identity::load(&config.state_of(&node), clock.clone(), Strangers::Refused);
    let identity = Arc::new(identity.unwrap());
    let first = identity.serial();
    // Before anyone listens there.
    renew_if_due(&config, &identity).await.unwrap();
    assert_eq!(identity.serial(), first, "not yet");

    let serving = config.clone();
    let serving = tokio::spawn(async move { serve(&serving).await });
    clock.advance(Duration::from_secs(60 * DAY));
    renew_if_due(&config, &identity).await.unwrap();
    let second = identity.serial();
    assert_ne!(second, first);
    let again = Identity::load(&config.state_of(&node), clock.clone(), Strangers::Refused);
    assert_eq!(again.unwrap().serial(), second, "it is on disk");

    // By another process than the one that serves.
    authority.revoke(&Revoke::Node(node)).unwrap();
    let refused = renew_if_due(&config, &identity).await.unwrap_err();
    assert!(refused.contains("revoked"), "{refused}");
    assert_eq!(identity.serial(), second);
    serving.abort();
}
