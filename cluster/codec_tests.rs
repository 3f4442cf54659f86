use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::address::{Address, Incarnation, NodeId, Role};

/// Of every kind that messages are made of.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
struct Sample {
    address: Option<Address>,
    role: Role,
    texts: Vec<String>,
    numbers: BTreeMap<u32, i64>,
    body: Vec<u8>,
    waits: Duration,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
enum Kind {
    Plain,
    Pair(bool, u16),
    Named { share: f64 },
}

fn sample() -> Sample {
    Sample {
        address: Some(Address {
            node: "n1".parse().unwrap(),
            incarnation: Incarnation(3),
            actor: 300,
        }),
        role: Role::Worker,
        texts: vec!["ab".to_owned(), String::new()],
        numbers: BTreeMap::from([(1, -1), (70_000, 5)]),
        body: vec![1, 2, 3],
        waits: Duration::from_millis(1500),
        kind: Kind::Pair(true, 250),
    }
}

/// If this fails, nodes of two builds do not understand each other: a new [`VERSION`].
#[test]
fn the_bytes_are_what_they_were() {
    let golden = [
        1, // version
        1, 2, b'n', b'1', 3, 251, 44, 1, // address
        1, // role
        2, 2, b'a', b'b', 0, // texts
        2, 1, 1, 252, 112, 17, 1, 0, 10, // numbers: zigzag
        3, 1, 2, 3, // body
        1, 252, 0, 101, 205, 29, // waits: s, ns
        1, 1, 250, // kind
    ];
    assert_eq!(encode(&sample(), 1024).unwrap(), golden);
    assert_eq!(decode(&golden, 1024), Ok(sample()));
    for (kind, golden) in [
        (Kind::Plain, vec![1, 0]),
        (Kind::Named { share: 1.5 }, vec![1, 2, 0, 0, 0, 0, 0, 0, 248, 63]),
    ] {
        assert_eq!(encode(&kind, 64).unwrap(), golden);
        assert_eq!(decode(&golden, 64), Ok(kind));
    }
}

#[test]
fn a_message_at_the_cap_passes_and_one_byte_more_does_not() {
    let bytes = encode(&sample(), 1024).unwrap().len();
    let frame = encode(&sample(), bytes).unwrap();
    assert_eq!(decode(&frame, bytes), Ok(sample()));
    let too_long = CodecError::TooLong { bytes_max: bytes - 1 };
    assert_eq!(encode(&sample(), bytes - 1), Err(too_long.clone()));
    assert_eq!(decode::<Sample>(&frame, bytes - 1), Err(too_long));
    assert_eq!(encode(&sample(), 0), Err(CodecError::TooLong { bytes_max: 0 }));
}

#[test]
fn what_is_not_a_whole_message_is_refused_with_its_reason() {
    let frame = encode(&sample(), 1024).unwrap();
    let refused = |frame: &[u8]| decode::<Sample>(frame, 1024).unwrap_err();
    assert_eq!(refused(&[]), CodecError::Empty);
    assert_eq!(refused(&[2, 0]), CodecError::Version(2));
    assert!(matches!(refused(&frame[..frame.len() - 1]), CodecError::Malformed(_)));
    assert_eq!(refused(&[&frame[..], &[0]].concat()), CodecError::Trailing { bytes: 1 });
    let bad_role = decode::<Role>(&[VERSION, 9], 16).unwrap_err();
    assert_eq!(bad_role.to_string(), "not a message of the expected kind: Role has no variant 9");
    let bad_id = decode::<NodeId>(&[VERSION, 2, b'-', b'a'], 16).unwrap_err();
    assert!(matches!(&bad_id, CodecError::Malformed(said) if said.contains("`-a`")), "{bad_id}");
}

#[test]
fn claims_of_memory_are_refused_before_it_is_allocated() {
    let claims: [&[u8]; 3] = [
        &[VERSION, 253, 255, 255, 255, 255, 255, 255, 255, 127],
        &[VERSION, 252, 255, 255, 255, 255],
        &[VERSION, 252, 0, 0, 1, 0],
    ];
    for frame in claims {
        let (decoded, bytes) = allocated(|| decode::<Vec<String>>(frame, 1024));
        assert_eq!(decoded, Err(CodecError::TooLarge { bytes: frame.len() }));
        assert!(bytes < 1024, "{bytes} bytes for {frame:?}");
    }
}

/// The classes of the limit: each length may claim 4 times its own at least.
#[test]
fn honest_messages_of_every_size_pass() {
    for bytes in [0, 1000, TINY, SMALL, MEDIUM, LARGE - 64] {
        let message = (vec![7_u8; bytes], vec![1_u64 << 40; bytes / 64]);
        let frame = encode(&message, 64 << 20).unwrap();
        assert_eq!(decode(&frame, 64 << 20), Ok(message), "{bytes}");
    }
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Plain),
        any::<(bool, u16)>().prop_map(|(flag, number)| Kind::Pair(flag, number)),
        any::<i32>().prop_map(|share| Kind::Named { share: f64::from(share) / 8.0 }),
    ]
}

fn samples() -> impl Strategy<Value = Sample> {
    let address = prop::option::of(("[a-z0-9]{1,63}", any::<u64>(), any::<u64>()));
    let address = address.prop_map(|address| {
        address.map(|(node, incarnation, actor)| Address {
            node: node.parse().unwrap(),
            incarnation: Incarnation(incarnation),
            actor,
        })
    });
    let role = prop::sample::select(Role::ALL.to_vec());
    let texts = prop::collection::vec(".*", 0..8);
    let numbers = prop::collection::btree_map(any::<u32>(), any::<i64>(), 0..8);
    let body = prop::collection::vec(any::<u8>(), 0..300);
    let rest = (any::<u64>().prop_map(Duration::from_millis), kinds());
    (address, role, texts, numbers, body, rest).prop_map(
        |(address, role, texts, numbers, body, (waits, kind))| Sample {
            address,
            role,
            texts,
            numbers,
            body,
            waits,
            kind,
        },
    )
}

proptest! {
    #[test]
    fn every_message_comes_back(message in samples()) {
        let frame = encode(&message, 1 << 20).unwrap();
        prop_assert_eq!(decode(&frame, 1 << 20), Ok(message));
    }

    /// Bytes changed, cut, added: an error or another message, never a panic, and never more memory
    /// than the limit for each container that is open, of which there are two.
    #[test]
    fn a_changed_frame_does_no_harm(
        message in samples(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        added in prop::collection::vec(any::<u8>(), 0..4),
    ) {
        let mut frame = encode(&message, 1 << 20).unwrap();
        for (at, byte) in changes {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        frame.truncate(cut.map_or(usize::MAX, |cut| cut.index(frame.len())));
        frame.extend(added);
        let (decoded, bytes) = allocated(|| decode::<Sample>(&frame, 1 << 20));
        prop_assert!(bytes <= 2 * limit(TINY) + 1024, "{} bytes", bytes);
        if let Ok(message) = decoded {
            let again = encode(&message, 1 << 20).unwrap();
            prop_assert_eq!(decode(&again, 1 << 20).map_err(|e| e.to_string()), Ok(message));
        }
    }

    #[test]
    fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let frame = [&[VERSION], &bytes[..]].concat();
        let (_, used) = allocated(|| decode::<Sample>(&frame, 1024));
        prop_assert!(used <= 2 * limit(TINY) + 1024, "{} bytes", used);
    }
}

thread_local! {
    /// Bytes that this thread has allocated and not freed: now, and at most.
    static LIVE: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

/// What `work` gives, and the most memory that it held at a time.
pub(crate) fn allocated<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let (result, most, _) = allocated_and_kept(work);
    (result, most)
}

/// The same, and how much more it holds after it than before.
pub(crate) fn allocated_and_kept<T>(work: impl FnOnce() -> T) -> (T, usize, isize) {
    let before = LIVE.get().0;
    LIVE.set((before, before));
    let result = work();
    let (live, most) = LIVE.get();
    (result, (most - before) as usize, live - before)
}

struct Counted;

#[global_allocator]
static ALLOCATOR: Counted = Counted;

fn count(bytes: isize) {
    let (live, most) = LIVE.get();
    LIVE.set((live + bytes, most.max(live + bytes)));
}

// SAFETY: the system's allocator does all of it; counting touches a thread's own cell, which has
// no destructor and allocates nothing.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: what the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: what the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count(bytes as isize - layout.size() as isize);
        // SAFETY: what the caller promises.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}
