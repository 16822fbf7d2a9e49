//! The readers of event frames and control messages, on any payload.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| busrt_backend::fuzzing::envelope(input));
