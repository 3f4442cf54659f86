use proptest::prelude::*;

use super::*;
use crate::address::Role;

fn peer(index: u8) -> PeerIdentity {
    PeerIdentity { node: format!("n{index}").parse().unwrap(), role: Role::Worker }
}

/// What a reader that gets one event at a time thinks of a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Seen {
    #[default]
    Down,
    Up(u64, bool),
}

proptest! {
    /// However slowly they are read: events alternate as they should, and when all have been read,
    /// the reader knows what is.
    #[test]
    fn events_alternate_and_lead_to_what_is(
        steps in prop::collection::vec((0..3_u8, 0..6_u8), 0..200),
    ) {
        let mut events = Events::default();
        let (mut seen, mut is) = ([Seen::Down; 3], [Seen::Down; 3]);
        for (at, (index, step)) in steps.into_iter().enumerate() {
            let session = at as u64;
            let node = peer(index).node;
            let now = &mut is[index as usize];
            match (step, *now) {
                (0 | 1, Seen::Down) => {
                    events.up(session, peer(index), Incarnation(session));
                    *now = Seen::Up(session, false);
                }
                (0, Seen::Up(..)) => {
                    events.down(&node, DownReason::Failed(session.to_string()));
                    *now = Seen::Down;
                }
                (2 | 3, Seen::Up(session, _)) => {
                    events.suspect(&node, step == 2);
                    *now = Seen::Up(session, step == 2);
                }
                (4 | 5, _) => take(&mut events, &mut seen)?,
                _ => {}
            }
        }
        while !events.turns.is_empty() {
            take(&mut events, &mut seen)?;
        }
        prop_assert_eq!(seen, is);
        prop_assert_eq!(events.peers.len(), is.iter().filter(|is| **is != Seen::Down).count());
    }
}

fn take(events: &mut Events, seen: &mut [Seen; 3]) -> Result<(), TestCaseError> {
    let Some(event) = events.next() else { return Ok(()) };
    let of = |node: &NodeId| usize::from(node.as_str().as_bytes()[1] - b'0');
    let (at, after) = match &event {
        MeshEvent::Up { peer, incarnation } => {
            prop_assert_eq!(seen[of(&peer.node)], Seen::Down);
            (of(&peer.node), Seen::Up(incarnation.0, false))
        }
        MeshEvent::Down { node, incarnation, reason } => {
            let Seen::Up(session, _) = seen[of(node)] else {
                return Err(TestCaseError::fail("down of who was not up"));
            };
            prop_assert_eq!(session, incarnation.0);
            prop_assert!(matches!(reason, DownReason::Failed(_)), "its own reason");
            (of(node), Seen::Down)
        }
        MeshEvent::Suspect { node } | MeshEvent::Heard { node } => {
            let Seen::Up(session, is_suspect) = seen[of(node)] else {
                return Err(TestCaseError::fail("a sign of who was not up"));
            };
            let is_now = matches!(event, MeshEvent::Suspect { .. });
            prop_assert_ne!(is_suspect, is_now);
            (of(node), Seen::Up(session, is_now))
        }
        MeshEvent::Fenced => return Err(TestCaseError::fail("nobody is fenced")),
    };
    seen[at] = after;
    Ok(())
}

#[test]
fn to_be_fenced_is_told_once_and_before_all_else() {
    let mut events = Events::default();
    events.up(1, peer(1), Incarnation(1));
    events.fenced();
    events.fenced();
    assert_eq!(events.next(), Some(MeshEvent::Fenced));
    assert!(matches!(events.next(), Some(MeshEvent::Up { .. })));
    assert_eq!(events.next(), None);
    events.fenced();
    assert_eq!(events.next(), None);
}
