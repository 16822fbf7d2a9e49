//! Payloads cut loose from the frame that they came in.
//!
//! Invariant: an event that was read keeps at most [`BLOCK`] bytes beside its own, or its frame if it
//! is [`LARGE`].

use std::ops::Range;

use bytes::Bytes;

/// Bytes of payloads that are kept together.
const BLOCK: usize = 4 * 1024;
/// A payload of more bytes than this stays in its frame.
pub(super) const LARGE: usize = 16 * 1024;

/// Copies of the parts of a frame that payloads are in. Whoever keeps an event keeps a block, and not
/// what its connection was read into.
#[derive(Clone, Default)]
pub(super) struct Blocks {
    block: Bytes,
    /// Where in the frame it begins.
    from: usize,
}

impl Blocks {
    pub(super) fn payload(&mut self, frame: &Bytes, range: Range<usize>) -> Bytes {
        if range.len() > LARGE {
            return frame.slice(range);
        }
        if range.start < self.from || range.end > self.from + self.block.len() {
            let end = frame.len().min(range.start + BLOCK.max(range.len()));
            self.block = Bytes::copy_from_slice(&frame[range.start..end]);
            self.from = range.start;
        }
        self.block
            .slice(range.start - self.from..range.end - self.from)
    }
}
