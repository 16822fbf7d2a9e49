//! What is to be written, as the broker reads it.
//!
//! Heads, names and small payloads are put one behind the other, so that many small frames make one
//! write; large payloads are written from where they are.
//!
//! Invariant: what is written is taken out in the same step, so a write that is cancelled has lost
//! nothing and will repeat nothing.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use crate::transport::BUFFER_BYTES;

/// A payload of so many bytes is not copied.
const LARGE: usize = 4_096;
/// Pieces in one write.
const PIECES: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pieces: VecDeque<Piece>,
    /// What the small pieces are parts of.
    small: Vec<u8>,
    /// Bytes of the first piece that are written.
    written: usize,
    bytes: usize,
}

#[derive(Debug)]
enum Piece {
    Small(Range<usize>),
    Large(Vec<u8>),
}

impl Outgoing {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Bytes that are not written.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts a frame in. `name` is what the operation is for, if it has a payload beside that.
    ///
    /// # Errors
    /// It is too long for its head.
    pub(super) fn frame(
        &mut self,
        id: u32,
        flags: u8,
        name: Option<&str>,
        payload: Vec<u8>,
    ) -> Result<(), busrt::Error> {
        let names = name.map_or(0, |name| name.len() + 1);
        let len = names + payload.len();
        let len = u32::try_from(len)
            .map_err(|_| busrt::Error::data(format!("frame of {len} bytes is over 4 GiB")))?;
        let mut head = [0; 9];
        head[..4].copy_from_slice(&id.to_le_bytes());
        head[4] = flags;
        head[5..].copy_from_slice(&len.to_le_bytes());
        self.small(&head);
        if let Some(name) = name {
            self.small(name.as_bytes());
            self.small(&[0]);
        }
        if payload.len() < LARGE {
            self.small(&payload);
        } else {
            self.bytes += payload.len();
            self.pieces.push_back(Piece::Large(payload));
        }
        Ok(())
    }

    /// Puts bytes in behind everything else.
    pub(super) fn small(&mut self, bytes: &[u8]) {
        let from = self.small.len();
        self.small.extend_from_slice(bytes);
        self.bytes += bytes.len();
        let end = self.small.len();
        match self.pieces.back_mut() {
            Some(Piece::Small(last)) => last.end = end,
            _ => self.pieces.push_back(Piece::Small(from..end)),
        }
    }

    /// Writes as much as one write takes.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut (impl AsyncWrite + Unpin + ?Sized),
    ) -> Poll<io::Result<()>> {
        let mut slices = [IoSlice::new(&[]); PIECES];
        let mut used = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece.of(&self.small));
            used += 1;
        }
        if let Some(first) = slices.first_mut() {
            first.advance(self.written);
        }
        let written = ready!(Pin::new(writer).poll_write_vectored(cx, &slices[..used]))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.take(written);
        Poll::Ready(Ok(()))
    }

    fn take(&mut self, written: usize) {
        self.bytes -= written;
        self.written += written;
        while let Some(first) = self.pieces.front() {
            let len = first.of(&self.small).len();
            if len > self.written {
                return;
            }
            self.written -= len;
            self.pieces.pop_front();
        }
        self.small.clear();
        self.small.shrink_to(2 * BUFFER_BYTES);
    }
}

impl Piece {
    fn of<'a>(&'a self, small: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Small(range) => &small[range.clone()],
            Self::Large(payload) => payload,
        }
    }
}
