//! The reading half: whoever drains the connection polls it directly.
//!
//! Invariant: it waits for nothing but bytes, and a call that is cancelled has lost nothing. When
//! it is gone, nobody waits for an answer any more.

use std::collections::VecDeque;
use std::sync::Arc;

use busrt::{Error, ErrorKind};
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::answers::Answers;
use super::decode::{Arrived, Decoder, WireFrame};

/// Frames that are kept while the connection is not drained; then nothing is read.
const STASH: usize = 1_024;

/// The stream of frames of one connection.
pub(crate) struct Reader {
    stream: Box<dyn AsyncRead + Send + Sync + Unpin>,
    decoder: Decoder,
    answers: Arc<Answers>,
    /// What came while an answer was waited for.
    stash: VecDeque<WireFrame>,
}

impl Reader {
    pub(super) fn new(
        stream: Box<dyn AsyncRead + Send + Sync + Unpin>,
        read: BytesMut,
        limit: usize,
        answers: Arc<Answers>,
    ) -> Self {
        Self {
            stream,
            decoder: Decoder::new(read, limit),
            answers,
            stash: VecDeque::new(),
        }
    }

    /// The next frame; `None` when the broker has closed the connection.
    ///
    /// # Errors
    /// The connection has failed, or makes no sense.
    pub(crate) async fn next(&mut self) -> Result<Option<WireFrame>, Error> {
        match self.stash.pop_front() {
            Some(frame) => Ok(Some(frame)),
            None => self.read().await,
        }
    }

    async fn read(&mut self) -> Result<Option<WireFrame>, Error> {
        loop {
            while let Some(arrived) = self.decoder.next()? {
                match arrived {
                    Arrived::Nothing => {}
                    Arrived::Answer { id, code } => self.answers.answer(id, code),
                    Arrived::Frame(frame) => return Ok(Some(frame)),
                }
            }
            match self.stream.read_buf(self.decoder.room()).await {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(reason) => {
                    let reason = Error::from(reason);
                    // TLS without its farewell, or somebody who is gone with something unread.
                    return match reason.kind() {
                        ErrorKind::Eof => Ok(None),
                        _ => Err(reason),
                    };
                }
            }
        }
    }

    /// Reads on for the sake of answers, until the connection ends or enough frames are kept.
    pub(super) async fn read_ahead(&mut self) {
        while self.stash.len() < STASH {
            match self.read().await {
                Ok(Some(frame)) => self.stash.push_back(frame),
                // Whoever drains it will find out why.
                _ => return self.answers.end(),
            }
        }
        std::future::pending().await
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.answers.end();
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("decoder", &self.decoder)
            .finish_non_exhaustive()
    }
}
