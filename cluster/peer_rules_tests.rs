use proptest::prelude::*;

use super::*;

fn id(name: &str) -> NodeId {
    name.parse().unwrap()
}

proptest! {
    #[test]
    fn of_two_that_listen_exactly_one_dials(a in "[a-z]{1,4}", b in "[a-z]{1,4}") {
        prop_assume!(a != b);
        let (a, b) = (id(&a), id(&b));
        prop_assert!(dials(&a, true, &b) != dials(&b, true, &a));
        prop_assert!(dials(&a, false, &b));
    }

    #[test]
    fn waits_double_to_their_limit_and_shrink_by_half_at_most(seed: u64) {
        let mut backoff = Backoff::new(seed, &id("n1"));
        let mut whole = REDIAL_AFTER;
        for _ in 0..20 {
            let wait = backoff.wait();
            prop_assert!(wait <= whole && wait * 2 >= whole, "{wait:?} of {whole:?}");
            whole = (whole * 2).min(REDIAL_AFTER_MAX);
        }
        backoff.reset();
        prop_assert!(backoff.wait() <= REDIAL_AFTER);
    }

    /// Whoever was told that it is stale stays so.
    #[test]
    fn a_process_that_lost_once_never_wins_again(
        comers in prop::collection::vec((0..3_u64, 0..4_u64), 1..40),
    ) {
        let mut lives = Lives::default();
        let mut lost: Vec<(u64, u64)> = Vec::new();
        let mut live: Option<(u64, u64)> = None;
        for (incarnation, process) in comers {
            let comer = (incarnation, process);
            match lives.judge(Incarnation(incarnation), process) {
                Verdict::Stale => lost.push(comer),
                Verdict::Same => prop_assert_eq!(live, Some(comer)),
                Verdict::Newer => {
                    lost.extend(live.replace(comer));
                    prop_assert!(!lost.contains(&comer));
                }
            }
        }
    }
}

#[test]
fn two_peers_wait_for_different_times() {
    let waits = |name: &str| Backoff::new(7, &id(name)).wait();
    assert_ne!(waits("n1"), waits("n2"));
    assert_eq!(waits("n1"), waits("n1"));
}

#[test]
fn a_hello_must_fit_its_certificate_and_us() {
    use crate::address::Role;
    let peer = PeerIdentity { node: id("w1"), role: Role::Worker };
    let hello = Hello {
        protocol: PROTOCOL,
        cluster: "c".to_owned(),
        to: id("me"),
        node: id("w1"),
        role: Role::Worker,
        incarnation: Incarnation(1),
        process: 1,
        listens: true,
    };
    let check = |hello: &Hello| check_hello(hello, &id("me"), "c", &peer);
    assert_eq!(check(&hello), Ok(()));
    let cases = [
        (Hello { protocol: 2, ..hello.clone() }, Refusal::Protocol),
        (Hello { cluster: "d".to_owned(), ..hello.clone() }, Refusal::Cluster),
        (Hello { to: id("you"), ..hello.clone() }, Refusal::NotMe),
        (Hello { node: id("w2"), ..hello.clone() }, Refusal::NotItself),
        (Hello { role: Role::Coordinator, ..hello.clone() }, Refusal::NotItself),
    ];
    for (hello, why) in cases {
        assert_eq!(check(&hello), Err(why), "{hello:?}");
    }
}
