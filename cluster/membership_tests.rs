use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const FIRST: Incarnation = Incarnation(1);
const SECOND_LIFE: Incarnation = Incarnation(2);

fn linked() -> (Member, Instant) {
    let (mut member, now) = (Member::new(MembershipConfig::default()), Instant::now());
    assert_eq!(member.state(), MemberState::Unknown);
    assert_eq!(member.link_up(1, FIRST, now), (Verdict::Accept, vec![Change::Up(FIRST)]));
    (member, now)
}

#[test]
fn silence_makes_a_suspect_and_then_a_dead() {
    let (mut member, start) = linked();
    assert_eq!(member.wake_at(), Some(start + SECOND * 3 / 2));
    assert!(member.tick(start + SECOND).is_empty());
    assert_eq!(member.tick(start + SECOND * 3 / 2), [Change::Suspect]);
    assert_eq!(member.state(), MemberState::Suspect);
    assert_eq!(member.wake_at(), Some(start + SECOND * 3));
    assert_eq!(member.tick(start + SECOND * 3), [Change::Down(FIRST, Cause::Silent)]);
    assert_eq!((member.state(), member.wake_at()), (MemberState::Dead, None));
    assert_eq!(member.heard(1, start + SECOND * 3), None, "its link is being closed");
}

#[test]
fn a_suspect_that_is_heard_is_alive() {
    let (mut member, start) = linked();
    member.tick(start + SECOND * 3 / 2);
    assert_eq!(member.heard(1, start + SECOND * 2), Some(Change::Heard));
    assert_eq!(member.state(), MemberState::Alive);
    assert_eq!(member.heard(1, start + SECOND * 2), None, "told once");
    assert!(member.tick(start + SECOND * 3).is_empty());
}

#[test]
fn a_link_that_ends_is_a_session_that_ends_at_once() {
    let (mut member, now) = linked();
    assert_eq!(member.link_down(9, Cause::Reset, now), None, "another link");
    let error = LinkError::Reset;
    let down = member.link_down(1, Cause::from(&error), now);
    assert_eq!(down, Some(Change::Down(FIRST, Cause::Reset)));
    assert_eq!(member.state(), MemberState::Dead);
    let (verdict, changes) = member.link_up(2, FIRST, now);
    assert_eq!((verdict, changes), (Verdict::Accept, vec![Change::Up(FIRST)]));
}

#[test]
fn a_newer_process_fences_the_older_and_an_older_one_is_refused() {
    let (mut member, now) = linked();
    let (verdict, changes) = member.link_up(2, SECOND_LIFE, now);
    assert_eq!(verdict, Verdict::AcceptAndFenceOlder);
    assert_eq!(changes, [Change::Down(FIRST, Cause::Restarted), Change::Up(SECOND_LIFE)]);
    assert_eq!(member.link_down(1, Cause::Broken, now), None, "of the fenced link");
    assert_eq!(member.link_up(3, FIRST, now), (Verdict::RefuseStale, vec![]));
    member.link_down(2, Cause::Left, now);
    assert_eq!(member.link_up(4, FIRST, now), (Verdict::RefuseStale, vec![]), "also when dead");
    assert_eq!(member.incarnation(), Some(SECOND_LIFE));
}

#[test]
fn the_same_process_over_a_newer_link_begins_a_new_session() {
    let (mut member, now) = linked();
    let (verdict, changes) = member.link_up(2, FIRST, now);
    assert_eq!(verdict, Verdict::AcceptAndFenceOlder);
    assert_eq!(changes, [Change::Down(FIRST, Cause::Replaced), Change::Up(FIRST)]);
    assert_eq!(member.link(), Some(2));
}

/// ME-4: this process was stopped for 10 s, and what its peers sent waits to be read.
#[test]
fn our_own_pause_is_not_a_peers_silence() {
    let (mut member, start) = linked();
    let woken = start + SECOND * 10;
    assert!(member.tick(woken).is_empty());
    assert_eq!(member.wake_at(), Some(woken + LATE), "after what waits has been read");
    member.heard(1, woken);
    assert_eq!(member.state(), MemberState::Alive);
}

#[test]
fn a_pause_excuses_a_silent_peer_only_once() {
    let (mut member, start) = linked();
    let woken = start + SECOND * 10;
    member.tick(woken);
    assert_eq!(member.tick(woken + LATE), [Change::Suspect]);
    let changes = member.tick(woken + SECOND * 10);
    assert_eq!(changes, [Change::Down(FIRST, Cause::Silent)]);
}

#[derive(Clone, Debug)]
enum Event {
    LinkUp { incarnation: u64 },
    LinkDown { back: u64 },
    Heard { back: u64 },
    Pass { ms: u64, ticks: bool },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (1..6_u64).prop_map(|incarnation| Event::LinkUp { incarnation }),
        1 => (0..3_u64).prop_map(|back| Event::LinkDown { back }),
        4 => (0..3_u64).prop_map(|back| Event::Heard { back }),
        6 => (1..2500_u64, prop::bool::weighted(0.8)).prop_map(|(ms, ticks)| Event::Pass { ms, ticks }),
    ]
}

proptest! {
    /// ME-1 to ME-4 for every history of a peer's links.
    #[test]
    fn sessions_follow_one_another(history in prop::collection::vec(event(), 1..120)) {
        let config = MembershipConfig::default();
        let (mut member, mut now) = (Member::new(config), Instant::now());
        let (mut links, mut up, mut highest) = (0, None, 0);
        let (mut heard_at, mut suspect) = (now, false);
        for event in history {
            let mut changes = Vec::new();
            match event {
                Event::LinkUp { incarnation } => {
                    links += 1;
                    let (verdict, all) = member.link_up(links, Incarnation(incarnation), now);
                    let expected = match up {
                        _ if incarnation < highest => Verdict::RefuseStale,
                        Some(_) => Verdict::AcceptAndFenceOlder,
                        None => Verdict::Accept,
                    };
                    prop_assert_eq!(verdict, expected);
                    changes = all;
                    if verdict == Verdict::RefuseStale {
                        prop_assert!(changes.is_empty());
                    } else {
                        (highest, heard_at) = (incarnation, now);
                    }
                }
                Event::LinkDown { back } => {
                    let link = links.saturating_sub(back);
                    let current = member.link() == Some(link);
                    changes.extend(member.link_down(link, Cause::Broken, now));
                    prop_assert_eq!(changes.len(), usize::from(current));
                }
                Event::Heard { back } => {
                    let link = links.saturating_sub(back);
                    if member.link() == Some(link) {
                        heard_at = now;
                    }
                    changes.extend(member.heard(link, now));
                }
                // A shell that sleeps until `wake_at`, or one that was stopped.
                Event::Pass { ms, ticks } => {
                    let until = now + Duration::from_millis(ms);
                    while let Some(at) = member.wake_at().filter(|at| ticks && *at <= until) {
                        now = now.max(at);
                        let tick = member.tick(now);
                        prop_assert!(member.wake_at().is_none_or(|next| now < next));
                        changes.extend(tick);
                    }
                    now = until;
                }
            }
            for change in changes {
                match change {
                    Change::Up(incarnation) => {
                        prop_assert_eq!(up, None);
                        prop_assert_eq!(incarnation, Incarnation(highest));
                        (up, suspect) = (Some(incarnation), false);
                    }
                    Change::Down(incarnation, cause) => {
                        prop_assert_eq!(up, Some(incarnation));
                        if cause == Cause::Silent {
                            prop_assert!(suspect, "first a suspect");
                            prop_assert!(now >= heard_at + config.dead_after);
                        }
                        up = None;
                    }
                    Change::Suspect => {
                        prop_assert!(up.is_some() && !suspect);
                        suspect = true;
                    }
                    Change::Heard => {
                        prop_assert!(up.is_some() && suspect);
                        suspect = false;
                    }
                }
            }
            let state = match (up, suspect) {
                (Some(_), true) => MemberState::Suspect,
                (Some(_), false) => MemberState::Alive,
                (None, _) if highest > 0 => MemberState::Dead,
                (None, _) => MemberState::Unknown,
            };
            prop_assert_eq!(member.state(), state);
        }
    }
}
