//! The bytes of a lane from a peer.

#![no_main]

#[path = "../bodies.rs"]
#[expect(dead_code, reason = "the other target uses the rest")]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    bodies::lane(bytes);
});
