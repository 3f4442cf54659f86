use std::time::Duration;

use orcapack_cluster::caps::CONTROL_MESSAGE_BYTES_MAX;

use super::*;

/// 2026-03-01 14:05:09 UTC.
pub(crate) const NOW_MS: u64 = 1_772_373_909_000;

fn ago(seconds: u64) -> u64 {
    NOW_MS - 1000 * seconds
}

fn id(text: &str) -> NodeId {
    text.parse().unwrap()
}

pub(crate) fn node(name: &str) -> NodeStatus {
    NodeStatus {
        node: id(name),
        role: Role::Worker,
        incarnation: Incarnation(3),
        version: "0.1.0".to_owned(),
        since_unix_ms: ago(2 * 3600 + 300),
        slots: 64,
        draining: false,
        rss_bytes: 210 << 20,
        environments: 41,
        attempts_by_phase: [3, 1, 2, 30, 6, 2, 0],
        start_queue: 3,
        waiting: Vec::new(),
        run: Some(RunView {
            run: "8f14e45f".to_owned(),
            name: "nightly".to_owned(),
            epoch: 2,
            coordinator: id("ada"),
            lease_left_ms: 4_210,
            held: 44,
            reported_unacknowledged: 0,
            total: 256,
            done: 120,
            passed: 80,
            infra_failures: 3,
            retries: 4,
        }),
        peers: vec![PeerRow {
            node: id("ada"),
            state: LinkState::Up,
            round_trip_us: Some(180),
            since_unix_ms: ago(600),
        }],
    }
}

/// One node at work, one that drains and has lost its coordinator, an idle one of another version,
/// and one that is not there.
pub(crate) fn sample() -> ClusterStatus {
    let mut draining = node("n2");
    draining.slots = 8;
    draining.draining = true;
    draining.attempts_by_phase = [0, 0, 0, 1, 0, 0, 1];
    draining.start_queue = 0;
    draining.waiting = vec![
        WaitingRow { what: "Docker: no answer".to_owned(), since_unix_ms: ago(95) },
        WaitingRow { what: "model main: 429".to_owned(), since_unix_ms: ago(7) },
    ];
    if let Some(run) = &mut draining.run {
        (run.lease_left_ms, run.held, run.reported_unacknowledged, run.done) = (0, 2, 5, 118);
    }
    draining.peers[0].state = LinkState::Down;
    let idle = NodeStatus {
        version: "0.2.0".to_owned(),
        slots: 64,
        environments: 0,
        attempts_by_phase: [0; 7],
        start_queue: 0,
        run: None,
        ..node("n3")
    };
    let row = |node: &str, answer| NodeRow {
        node: id(node),
        address: format!("{node}.lab:7400"),
        slots: 64,
        answer,
    };
    let status = |status| Answer::Status(Box::new(status));
    let error = "no answer: nothing heard for 3 s";
    ClusterStatus {
        cluster: "lab".to_owned(),
        nodes: vec![
            row("n1", status(node("n1"))),
            row("n2", status(draining)),
            row("n3", status(idle)),
            row("n4", Answer::Unreachable(error.to_owned())),
        ],
    }
}

#[test]
fn a_status_is_a_document_for_scripts() {
    let mut status = sample();
    status.nodes.retain(|row| ["n2", "n4"].contains(&row.node.as_str()));
    insta::assert_snapshot!("status_json", serde_json::to_string_pretty(&status).unwrap());
    assert!(!status.all_reachable());
}

#[test]
fn a_status_reads_back_from_its_bytes() {
    let config = bincode::config::standard();
    let bytes = bincode::encode_to_vec(node("n1"), config).unwrap();
    let (back, used): (NodeStatus, usize) = bincode::decode_from_slice(&bytes, config).unwrap();
    assert_eq!((back, used), (node("n1"), bytes.len()));
}

#[test]
fn the_longest_status_is_a_message_of_control() {
    let mut status = node(&"n".repeat(63));
    let long = "\u{fffd}".repeat(1000);
    let peer = |n: usize| PeerRow {
        node: id(&format!("{}{n:05}", "p".repeat(58))),
        state: if n == 2000 { LinkState::Down } else { LinkState::Up },
        round_trip_us: Some(u64::MAX),
        since_unix_ms: u64::MAX,
    };
    status.version = long.clone();
    status.waiting =
        (0..100).map(|n| WaitingRow { what: long.clone(), since_unix_ms: u64::MAX - n }).collect();
    status.peers = (0..=2000).map(peer).collect();
    if let Some(run) = &mut status.run {
        (run.name, run.run) = (long.clone(), long);
    }
    let status = status.bounded();
    assert_eq!(status.peers[0].state, LinkState::Down);
    assert_eq!(status.waiting[0].since_unix_ms, u64::MAX - 99);
    let bytes = bincode::encode_to_vec(&status, bincode::config::standard()).unwrap();
    assert!(bytes.len() < CONTROL_MESSAGE_BYTES_MAX, "{}", bytes.len());
    assert_eq!(status.clone().bounded(), status);
}

#[test]
fn a_board_is_what_a_node_does() {
    let mut status = node("n1");
    status.read_board(&Board::default());
    assert_eq!((status.slots_used(), status.environments), (0, 0));
    assert_eq!(unix_ms(UNIX_EPOCH + Duration::from_millis(7)), 7);
    assert_eq!(unix_ms(UNIX_EPOCH - Duration::from_secs(1)), 0);
}

#[test]
fn what_a_node_answers_is_bounded_by_who_reads_it() {
    let config = crate::cluster_config::tests::parsed(crate::cluster_config::tests::LAB);
    let n1 = config.node("n1").unwrap();
    let long = "x".repeat(1000);
    let status = NodeStatus { version: long.clone(), ..node("n1") };
    let row = NodeRow::of(n1, Ok(status));
    assert_eq!((row.state(), row.address.as_str(), row.slots), ("up", "10.0.0.1:7400", 64));
    assert_eq!(row.status().map(|status| status.version.len()), Some(TEXT_BYTES_MAX));
    let row = NodeRow::of(n1, Err(long));
    assert_eq!(row.answer, Answer::Unreachable("x".repeat(TEXT_BYTES_MAX)));
}
