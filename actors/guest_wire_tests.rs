//! Property tests of the guest's wire format, apart from it because the agent is compiled without
//! any crate.

use proptest::prelude::*;

use crate::guest_wire::{
    Exec, FRAME_BYTES_MAX, Malformed, Message, Part, Reply, Request, WireExit, body_length, decode,
    encode,
};

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..200)
}

fn request() -> impl Strategy<Value = Request> {
    let exec = (
        prop::collection::vec(".*", 0..4),
        (".*", ".*"),
        prop::collection::vec((".*", ".*"), 0..4),
        (any::<u64>(), any::<u32>(), any::<bool>(), prop::option::of(".*")),
        (bytes(), any::<bool>()),
    );
    prop_oneof![
        exec.prop_map(
            |(argv, (cwd, user), env, (limit, max, background, folder), (stdin, more))| {
                Request::Exec(Box::new(Exec {
                    argv,
                    cwd,
                    env,
                    user,
                    time_limit_ms: limit,
                    output_bytes_max: max,
                    background,
                    writable_only: folder,
                    stdin,
                    stdin_more: more,
                }))
            }
        ),
        (bytes(), any::<bool>()).prop_map(|(bytes, more)| Request::Stdin { bytes, more }),
        any::<u32>().prop_map(|exec| Request::Poll { exec }),
        any::<u32>().prop_map(|call| Request::Cancel { call }),
        (".*", any::<bool>()).prop_map(|(dir, follow)| Request::Put { dir, follow }),
        bytes().prop_map(|bytes| Request::PutData { bytes }),
        Just(Request::PutEnd),
        (".*", any::<u64>()).prop_map(|(path, bytes_max)| Request::Get { path, bytes_max }),
        Just(Request::StopProcesses),
        Just(Request::Stats),
        Just(Request::Ping),
        Just(Request::Shutdown),
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    let exit = prop_oneof![
        any::<i32>().prop_map(WireExit::Code),
        any::<i32>().prop_map(WireExit::Signal),
        Just(WireExit::TimedOut),
        Just(WireExit::OutOfMemory),
    ];
    let part = prop_oneof![
        Just(Part::StdoutHead),
        Just(Part::StdoutTail),
        Just(Part::StderrHead),
        Just(Part::StderrTail),
    ];
    prop_oneof![
        any::<u32>().prop_map(|version| Reply::Hello { version }),
        Just(Reply::Done),
        ".*".prop_map(|message| Reply::Failed { message }),
        (part, bytes()).prop_map(|(part, bytes)| Reply::Output { part, bytes }),
        any::<[u64; 2]>().prop_map(|cut| Reply::Running { cut }),
        (exit, any::<u64>(), any::<[u64; 2]>()).prop_map(|(exit, elapsed_us, cut)| Reply::Exited {
            exit,
            elapsed_us,
            cut
        }),
        bytes().prop_map(|bytes| Reply::Data { bytes }),
        Just(Reply::Absent),
        Just(Reply::TooLarge),
        (any::<u64>(), any::<u32>())
            .prop_map(|(memory_bytes, pids)| Reply::Stats { memory_bytes, pids }),
    ]
}

fn round_trip<M: Message + PartialEq + std::fmt::Debug>(call: u32, message: M) {
    let frame = encode(call, &message).expect("a small message fits a frame");
    let (field, body) = frame.split_first_chunk::<4>().expect("a frame has a length field");
    assert_eq!(body_length(*field), Ok(body.len()));
    assert_eq!(decode(body), Ok((call, message)));
    for shorter in 0..body.len() {
        assert!(decode::<M>(&body[..shorter]).is_err(), "cut to {shorter} of {}", body.len());
    }
    let longer = [body, &[0]].concat();
    assert!(decode::<M>(&longer).is_err(), "every byte must be used");
}

proptest! {
    #[test]
    fn requests_come_out_as_they_went_in(call: u32, request in request()) {
        round_trip(call, request);
    }

    #[test]
    fn replies_come_out_as_they_went_in(call: u32, reply in reply()) {
        round_trip(call, reply);
    }

    /// A panic or an allocation by a claimed length would end the test. What is accepted has only
    /// one spelling.
    #[test]
    fn arbitrary_bytes_are_refused_or_mean_one_thing(kind in 0..16_u8, rest in bytes()) {
        let body = [&[kind][..], &rest].concat();
        if let Ok((call, request)) = decode::<Request>(&body) {
            prop_assert_eq!(&encode(call, &request).expect("it fitted before")[4..], &body);
        }
        if let Ok((call, reply)) = decode::<Reply>(&body) {
            prop_assert_eq!(&encode(call, &reply).expect("it fitted before")[4..], &body);
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused(length in FRAME_BYTES_MAX as u32 + 1..) {
        prop_assert_eq!(body_length(length.to_le_bytes()), Err(Malformed::Length(length)));
    }
}

#[test]
fn a_message_beyond_the_limit_is_not_encoded() {
    let bytes = vec![0; FRAME_BYTES_MAX];
    assert_eq!(encode(1, &Request::PutData { bytes }), None);
}

#[test]
fn a_list_that_claims_more_than_is_there_is_refused() {
    let body = [&[1, 0, 0, 0, 0][..], &u32::MAX.to_le_bytes()].concat();
    assert_eq!(decode::<Request>(&body), Err(Malformed::Payload(1)));
}
