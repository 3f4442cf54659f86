use proptest::prelude::*;

use super::*;

fn segment() -> impl Strategy<Value = Content> {
    let kinds = [Kind::Add, Kind::Copy, Kind::CopyBf16];
    let kind = proptest::sample::select(kinds.to_vec());
    let operation = proptest::sample::select(Operation::ALL.to_vec());
    let numbers = (any::<u64>(), any::<u64>(), any::<u32>(), any::<u32>());
    (kind, operation, numbers).prop_map(|(kind, operation, (call, len, chunk, number))| {
        Content::Segment(Segment { kind, operation, call, len, chunk, number })
    })
}

fn header() -> impl Strategy<Value = Header> {
    let of_segment = (any::<u64>(), segment(), any::<u32>(), any::<u32>());
    let of_farewell =
        (any::<u64>(), Just(Content::Farewell), 0..=FAREWELL_BYTES_MAX as u32, any::<u32>());
    prop_oneof![of_segment, of_farewell].prop_map(|(epoch, content, bytes, checksum)| Header {
        epoch,
        content,
        bytes,
        checksum,
    })
}

#[test]
fn the_bytes_of_a_header() {
    let header = Header {
        epoch: 7,
        content: Content::Segment(Segment {
            kind: Kind::CopyBf16,
            operation: Operation::AllReduce,
            call: 0x0102,
            len: 1_000_000,
            chunk: 3,
            number: 9,
        }),
        bytes: 6,
        checksum: checksum(b"abcdef"),
    };
    #[rustfmt::skip]
    let expected = [
        b'O', b'C', b'R', b'1', 3, 1, 0, 0,
        7, 0, 0, 0, 0, 0, 0, 0,
        2, 1, 0, 0, 0, 0, 0, 0,
        0x40, 0x42, 0x0f, 0, 0, 0, 0, 0,
        3, 0, 0, 0, 9, 0, 0, 0,
        6, 0, 0, 0, 0xef, 0x39, 0x8e, 0x4b,
    ];
    assert_eq!(header.encode()[..48], expected);
    assert_eq!(header.encode()[48..], checksum(&expected).to_le_bytes());
}

#[test]
fn a_farewell_that_is_too_long_is_none() {
    let bytes = FAREWELL_BYTES_MAX as u32 + 1;
    let header = Header { epoch: 0, content: Content::Farewell, bytes, checksum: 0 };
    assert_eq!(Header::decode(&header.encode()), Err(FrameError::Long(bytes)));
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(header in header()) {
        prop_assert_eq!(Header::decode(&header.encode()), Ok(header));
    }

    #[test]
    fn no_bytes_that_were_changed_are_a_header(
        header in header(),
        at in 0..HEADER_BYTES,
        change in 1..=255_u8,
    ) {
        let mut bytes = header.encode();
        bytes[at] ^= change;
        prop_assert!(Header::decode(&bytes).is_err());
    }

    /// With a right checksum, as only a peer that means harm can make.
    #[test]
    fn what_is_decoded_is_what_would_be_encoded(mut bytes: [u8; 52], kind in 0..6_u8) {
        bytes[..8].copy_from_slice(&[MAGIC.as_slice(), &[kind, 1, 0, 0]].concat());
        let sum = checksum(&bytes[..48]).to_le_bytes();
        bytes[48..].copy_from_slice(&sum);
        if let Ok(header) = Header::decode(&bytes) {
            prop_assert_eq!(header.encode(), bytes);
        }
    }
}
