//! What the broker has sent a client and the client has not taken yet.
//!
//! Invariant: `bytes` is the length of all pieces, none of which is longer than two reads, and a
//! piece that is being written does not grow: whoever takes one in time is not deaf.

use std::collections::VecDeque;
use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::transport::BUFFER_BYTES;

#[derive(Debug, Default)]
pub(super) struct Backlog {
    pieces: VecDeque<BytesMut>,
    bytes: usize,
    /// Something was written and may still be on its way through TLS.
    unflushed: bool,
}

impl Backlog {
    /// How much there is, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is nothing to be done.
    pub(super) fn is_done(&self) -> bool {
        self.pieces.is_empty() && !self.unflushed
    }

    pub(super) fn push(&mut self, piece: BytesMut) {
        self.bytes += piece.len();
        let behind_the_first = self.pieces.len() > 1;
        match self.pieces.back_mut() {
            Some(last) if behind_the_first && last.len() + piece.len() <= BUFFER_BYTES => {
                last.unsplit(piece);
            }
            _ => self.pieces.push_back(piece),
        }
    }

    /// Goes on writing, and says whether a piece, or all, has gone. Dropped before it is ready, it
    /// has written nothing.
    pub(super) async fn write_to(
        &mut self,
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<bool> {
        let Some(first) = self.pieces.front_mut() else {
            writer.flush().await?;
            self.unflushed = false;
            return Ok(true);
        };
        let written = writer.write(first).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        first.advance(written);
        self.bytes -= written;
        self.unflushed = true;
        let gone = first.is_empty();
        if gone {
            self.pieces.pop_front();
        }
        Ok(gone)
    }
}
