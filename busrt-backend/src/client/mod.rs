//! A client of a busrt broker, over any stream of bytes.
//!
//! busrt's own client has a task that reads, a channel behind it, and a timer that flushes; it
//! copies each payload and takes nothing but sockets. Here the session's drain reads and its writer
//! writes, each by itself, and nothing is copied but what is small.
//!
//! Operations are put into a buffer, and go out at [`flush`](WireClient::flush) or when there is
//! much of it. A connection that takes nothing for the keepalive has ended, and so has one of which
//! an operation has failed.

mod answers;
mod decode;
mod handshake;
mod outgoing;
mod reader;
#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use busrt::{Error, ErrorKind, OP_MESSAGE, OP_PUBLISH, OP_SUBSCRIBE, OP_UNSUBSCRIBE, PING_FRAME};
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

pub(crate) use answers::Answer;
use answers::Answers;
pub(crate) use decode::WireFrame;
use outgoing::Outgoing;
pub(crate) use reader::Reader;

use crate::transport::{BUFFER_BYTES, qos};

/// The writing half of a connection, and the reading half until somebody takes it.
pub(crate) struct WireClient {
    stream: Box<dyn AsyncWrite + Send + Sync + Unpin>,
    outgoing: Outgoing,
    /// Something was written, and the stream may hold it back.
    unflushed: bool,
    /// How long the broker may take nothing.
    keepalive: Duration,
    last_id: u32,
    answers: Arc<Answers>,
    reader: Option<Reader>,
}

/// Registers `name` over a stream, of which `read` has been read already; what is read too much is
/// there afterwards.
///
/// # Errors
/// What the broker answered.
pub(crate) async fn register(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    read: &mut BytesMut,
    name: &str,
    keepalive: Duration,
) -> Result<(), Error> {
    timeout(keepalive, handshake::register(stream, read, name)).await?
}

impl WireClient {
    /// The client that was registered over both halves of a stream. A frame of more than `limit`
    /// bytes ends the connection.
    pub(crate) fn new(
        reader: impl AsyncRead + Send + Sync + Unpin + 'static,
        writer: impl AsyncWrite + Send + Sync + Unpin + 'static,
        read: BytesMut,
        keepalive: Duration,
        limit: usize,
    ) -> Self {
        let answers = Arc::new(Answers::default());
        Self {
            stream: Box::new(writer),
            outgoing: Outgoing::default(),
            unflushed: false,
            keepalive,
            last_id: 0,
            reader: Some(Reader::new(
                Box::new(reader),
                read,
                limit,
                Arc::clone(&answers),
            )),
            answers,
        }
    }

    /// The reading half, once.
    pub(crate) fn take_reader(&mut self) -> Option<Reader> {
        self.reader.take()
    }

    pub(crate) async fn publish(
        &mut self,
        topic: &str,
        payload: Vec<u8>,
        want_answer: bool,
    ) -> Result<Option<Answer>, Error> {
        self.put(OP_PUBLISH, Some(topic), payload, want_answer)
            .await
    }

    pub(crate) async fn send(
        &mut self,
        target: &str,
        payload: Vec<u8>,
        want_answer: bool,
    ) -> Result<Option<Answer>, Error> {
        self.put(OP_MESSAGE, Some(target), payload, want_answer)
            .await
    }

    pub(crate) async fn subscribe(&mut self, patterns: &[&str]) -> Result<Option<Answer>, Error> {
        let list = patterns.join("\0").into_bytes();
        self.put(OP_SUBSCRIBE, None, list, true).await
    }

    pub(crate) async fn unsubscribe(&mut self, patterns: &[&str]) -> Result<(), Error> {
        let list = patterns.join("\0").into_bytes();
        self.put(OP_UNSUBSCRIBE, None, list, false).await.map(drop)
    }

    /// Shows the broker that we are there.
    pub(crate) async fn ping(&mut self) -> Result<(), Error> {
        self.outgoing.small(PING_FRAME);
        self.flush_much().await
    }

    async fn put(
        &mut self,
        op: u8,
        name: Option<&str>,
        payload: Vec<u8>,
        want_answer: bool,
    ) -> Result<Option<Answer>, Error> {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        let answer = if want_answer {
            Some(self.answers.expect(self.last_id)?)
        } else {
            None
        };
        let flags = op | (qos(want_answer) as u8) << 6;
        self.outgoing.frame(self.last_id, flags, name, payload)?;
        self.flush_much().await?;
        Ok(answer)
    }

    async fn flush_much(&mut self) -> Result<(), Error> {
        if self.outgoing.bytes() < BUFFER_BYTES {
            return Ok(());
        }
        self.flush().await
    }

    /// Has everything sent. If it is cancelled, another call goes on.
    ///
    /// # Errors
    /// The connection has failed, or nothing of it was taken for the keepalive.
    pub(crate) async fn flush(&mut self) -> Result<(), Error> {
        while !self.outgoing.is_empty() {
            self.unflushed = true;
            let writing = poll_fn(|cx| self.outgoing.poll_write(cx, &mut self.stream));
            match timeout(self.keepalive, writing).await {
                Ok(written) => written?,
                Err(_) => return Err(deaf(self.keepalive)),
            }
        }
        if self.unflushed {
            match timeout(self.keepalive, self.stream.flush()).await {
                Ok(flushed) => flushed?,
                Err(_) => return Err(deaf(self.keepalive)),
            }
            self.unflushed = false;
        }
        Ok(())
    }

    /// Waits for an answer, and reads meanwhile if nobody else does.
    ///
    /// # Errors
    /// What the broker answered, or that the connection has ended.
    pub(crate) async fn answered(&mut self, mut answer: Answer) -> Result<(), Error> {
        self.flush().await?;
        let answered = match &mut self.reader {
            None => answer.await,
            Some(reader) => tokio::select! {
                biased;
                answered = &mut answer => answered,
                () = reader.read_ahead() => answer.await,
            },
        };
        answered.unwrap_or_else(|_| Err(Error::io("the connection has ended")))
    }

    /// Has everything sent, and the broker know that there is no more.
    pub(crate) async fn close(&mut self) {
        if self.flush().await.is_ok() {
            // If it is gone, it need not be told.
            let _ = self.stream.shutdown().await;
        }
    }
}

fn deaf(keepalive: Duration) -> Error {
    let reason = format!("the broker has taken nothing for {keepalive:?}");
    Error::new(ErrorKind::Timeout, Some(reason))
}

impl std::fmt::Debug for WireClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WireClient")
            .field("unwritten", &self.outgoing.bytes())
            .finish_non_exhaustive()
    }
}
