//! The front door's parser, on any stream that a client may send.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| busrt_backend::fuzzing::relay(input));
