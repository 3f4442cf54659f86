//! A frame from a peer.

#![no_main]

#[path = "../bodies.rs"]
#[expect(dead_code, reason = "the other target uses the rest")]
mod bodies;

libfuzzer_sys::fuzz_target!(|frame: &[u8]| {
    bodies::codec(frame);
});
