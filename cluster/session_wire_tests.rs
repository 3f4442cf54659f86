//! The bytes on the wire, held down: a change of them is a new version of the protocol.

use std::fmt::Write;

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn hello() -> Hello {
    Hello {
        protocol: PROTOCOL,
        cluster: "c1".to_owned(),
        to: "a".parse().unwrap(),
        node: "b".parse().unwrap(),
        role: Role::Worker,
        incarnation: Incarnation(300),
        process: 7,
        listens: true,
    }
}

#[test]
fn the_first_messages_of_streams_have_these_bytes() {
    let lane = |from, class| First::Lane(LaneHead { actor: 5, from, class });
    let golden = [
        (First::Hello(hello()), "0100010263310161016201fb2c010701"),
        (First::Bind { session: 9 }, "010109"),
        (lane(Side::Watcher, Class::Control), "0102050000"),
        (lane(Side::Host, Class::Bulk), "0102050102"),
    ];
    for (message, bytes) in golden {
        let encoded = message.encode().unwrap();
        assert_eq!(hex(&encoded), bytes, "{message:?}");
        assert_eq!(First::decode(&encoded), Ok(message));
    }
}

#[test]
fn messages_have_these_bytes() {
    let down = |reason| Message::Down { actor: 5, reason, sent: [1, 2, 3] };
    let text = || "x".to_owned();
    let golden = [
        (Message::Welcome { hello: hello(), session: 9 }, "0100010263310161016201fb2c01070109"),
        (Message::Bound, "0101"),
        (Message::Ping { number: 1 }, "010201"),
        (Message::Pong { number: 1 }, "010301"),
        (
            Message::Spawn { actor: 5, kind: "echo".to_owned(), args: vec![255] },
            "010405046563686f01ff",
        ),
        (Message::Spawned { actor: 5, id: 6 }, "01050506"),
        (Message::Stop { actor: 5 }, "010605"),
        (down(DownReason::Finished), "01070500010203"),
        (down(DownReason::Failed(text())), "010705010178010203"),
        (down(DownReason::Panicked(text())), "010705020178010203"),
        (down(DownReason::NoSuchKind), "01070503010203"),
        (down(DownReason::Refused(text())), "010705040178010203"),
        (down(DownReason::NodeLost), "01070505010203"),
        (down(DownReason::Fenced), "01070506010203"),
        (down(DownReason::Stopped), "01070507010203"),
        (down(DownReason::Left), "01070508010203"),
    ];
    for (message, bytes) in golden {
        let encoded = message.encode().unwrap();
        assert_eq!(hex(&encoded), bytes, "{message:?}");
        assert_eq!(Message::decode(&encoded), Ok(message));
    }
}
