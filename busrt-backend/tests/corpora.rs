//! The corpora of the fuzz targets, as plain tests; see `fuzz/`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::path::Path;

use busrt_backend::fuzzing;
use busrt_backend::wire::{Control, EventFrame, read_resend};
use eventbus_trait::Topic;

/// Every input of a target, and every beginning of it.
fn each(target: &str, run: impl Fn(&[u8])) -> Vec<Vec<u8>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let mut inputs = Vec::new();
    for entry in std::fs::read_dir(corpus.join(target)).unwrap() {
        let input = std::fs::read(entry.unwrap().path()).unwrap();
        (0..=input.len()).for_each(|cut| run(&input[..cut]));
        inputs.push(input);
    }
    assert!(!inputs.is_empty(), "no corpus for {target}");
    inputs
}

#[test]
fn the_front_doors_parser_takes_its_corpus() {
    for input in each("relay", fuzzing::relay) {
        // However they are cut, and with and without rules.
        for how in 0..=u8::MAX {
            fuzzing::relay(&[&[how], &input[1..]].concat());
        }
    }
}

#[test]
fn the_readers_of_envelopes_take_their_corpus() {
    let inputs = each("envelope", fuzzing::envelope);
    // Seeds that nothing reads would be no seeds.
    let topic = Topic::new("a").unwrap();
    let read = inputs.iter().filter(|input| {
        let bytes = bytes::Bytes::copy_from_slice(input);
        matches!(Control::read(&bytes), Ok(Some(_)))
            || matches!(read_resend(&bytes), Ok(Some(_)))
            || EventFrame::read(&topic, &bytes).is_ok()
    });
    assert!(
        read.count() + 1 >= inputs.len(),
        "all but the foreign payload"
    );
}
