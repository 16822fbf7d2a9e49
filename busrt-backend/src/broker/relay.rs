//! One connection's life behind the door: the handshake, then bytes both ways.
//!
//! What the client sends is screened where it lies in the buffer, and what may pass goes on in as
//! few writes as can be. What the broker sends is taken as soon as it comes, because busrt's own
//! queue counts frames and not bytes, and waits here for the client; only its frames' heads are
//! looked at, so that an answer of ours can be put between two of them.
//!
//! Invariant: busrt sees a connection only once its name was found valid and its own, and of each
//! frame only what the screen has passed. Neither direction outlives the other.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use busrt::{OP_ACK, PING_FRAME};
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, warn};

use super::backlog::Backlog;
use super::bucket::Bucket;
use super::screen::{Breach, Screen, Step};
use super::stats::{Counters, Reason};
use crate::transport::BUFFER_BYTES;

/// Answers that may wait for a client that does not read.
pub(super) const ANSWERS: usize = 64;
/// Least room to read into, in bytes.
const LEAST_READ: usize = 4_096;

/// Why the client's direction ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    /// The client sent what it may not.
    #[error(transparent)]
    Breach(#[from] Breach),
    /// A frame did not come to its end.
    #[error("a frame did not come to its end within {0:?}")]
    Stalled(Duration),
    /// The client does not read.
    #[error("nothing was read within {0:?}")]
    Deaf(Duration),
    /// The client leaves too much unread.
    #[error("more than {0} bytes were not read")]
    Behind(usize),
    /// The connection, or the broker's end, is gone.
    #[error("{0}")]
    Gone(#[from] io::Error),
}

impl End {
    /// The reason to be counted, if it was the client's doing.
    pub(super) fn reason(&self) -> Option<Reason> {
        match self {
            Self::Breach(breach) => Some(breach.reason()),
            Self::Stalled(_) => Some(Reason::Stalled),
            Self::Deaf(_) | Self::Behind(_) => Some(Reason::Deaf),
            Self::Gone(_) => None,
        }
    }
}

/// From the client to the broker.
pub(super) struct Up<R, W> {
    pub(super) client: String,
    pub(super) reader: R,
    pub(super) broker: W,
    pub(super) screen: Screen,
    pub(super) bucket: Option<Bucket>,
    pub(super) answers: mpsc::Sender<[u8; 6]>,
    pub(super) counters: Arc<Counters>,
    /// How long a frame may take; the broker is never left without a sign of life for longer.
    pub(super) keepalive: Duration,
    pub(super) denied: bool,
}

impl<R, W> Up<R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    /// Passes what may pass until the client's end of file. It comes back with what it owns, so
    /// that busrt hears of the end after whoever waits for this.
    pub(super) async fn run(mut self) -> (Result<(), End>, Self) {
        (self.pass_on().await, self)
    }

    async fn pass_on(&mut self) -> Result<(), End> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut filled = 0;
        let mut began = Instant::now();
        loop {
            let room = &mut buffer[filled..];
            let midway = filled > 0 || self.screen.is_inside();
            let read = if midway {
                timeout_at(began + self.keepalive, self.reader.read(room))
                    .await
                    .map_err(|_| End::Stalled(self.keepalive))?
            } else {
                self.reader.read(room).await
            };
            let read = match read {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                // TLS without its farewell.
                Err(reason) if reason.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(reason) => return Err(reason.into()),
            };
            filled += read;
            let (done, frames, need) = self.pass(&buffer[..filled]).await?;
            self.counters.bytes_in.fetch_add(read as u64, Relaxed);
            self.counters.frames.fetch_add(frames, Relaxed);
            if frames > 0 || !midway {
                began = Instant::now();
            }
            buffer.copy_within(done..filled, 0);
            filled -= done;
            if filled == buffer.len() {
                // As the bytes come, not as they are announced.
                buffer.resize(need.min(2 * filled), 0);
            } else if buffer.len() > BUFFER_BYTES && filled < BUFFER_BYTES {
                buffer.truncate(BUFFER_BYTES);
                buffer.shrink_to_fit();
            }
        }
    }

    /// Screens bytes and passes them on: how many are done with, how many frames began, and how
    /// many bytes it takes to go on.
    async fn pass(&mut self, bytes: &[u8]) -> Result<(usize, u64, usize), End> {
        let (mut at, mut from, mut frames) = (0, 0, 0);
        loop {
            match self.screen.step(&bytes[at..])? {
                Step::Pass(count) => at += count,
                Step::Drop(count) => {
                    self.broker.write_all(&bytes[from..at]).await?;
                    at += count;
                    from = at;
                }
                Step::Frame { events } => {
                    frames += 1;
                    let pause = self.bucket.as_mut().and_then(|bucket| bucket.take(events));
                    if let Some(pause) = pause {
                        self.broker.write_all(&bytes[from..at]).await?;
                        from = at;
                        self.pause(pause).await?;
                    }
                }
                Step::Denied { answer, what } => {
                    frames += 1;
                    self.deny(answer, what).await;
                }
                Step::Need(need) => {
                    self.broker.write_all(&bytes[from..at]).await?;
                    return Ok((at, frames, need));
                }
            }
        }
    }

    /// Keeps the client waiting for its rate, and the broker from taking it for dead.
    async fn pause(&mut self, mut pause: Duration) -> Result<(), End> {
        let slice = (self.keepalive / 3).max(Duration::from_millis(1));
        while !pause.is_zero() {
            let now = pause.min(slice);
            // A deadline on nothing: the pause.
            let _ = timeout(now, std::future::pending::<()>()).await;
            self.broker.write_all(PING_FRAME).await?;
            pause -= now;
        }
        Ok(())
    }

    async fn deny(&mut self, answer: Option<[u8; 6]>, what: &'static str) {
        self.counters.denied.fetch_add(1, Relaxed);
        if std::mem::replace(&mut self.denied, true) {
            debug!(client = self.client, what, "denied");
        } else {
            warn!(
                client = self.client,
                what, "denied; more of it is told at level debug"
            );
        }
        if let Some(answer) = answer {
            // If nobody takes it, the connection is ending.
            let _ = self.answers.send(answer).await;
        }
    }
}

/// From the broker to the client, with answers of ours between the broker's frames.
pub(super) struct Down<'a, R, W> {
    pub(super) broker: R,
    pub(super) writer: W,
    pub(super) answers: mpsc::Receiver<[u8; 6]>,
    pub(super) counters: &'a Counters,
    /// How long the client may leave what it is sent unread.
    pub(super) keepalive: Duration,
    /// How much of it, in bytes.
    pub(super) most: usize,
    pub(super) backlog: Backlog,
    pub(super) frames: Frames,
}

impl<R, W> Down<'_, R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    /// Passes everything until the broker's end of file.
    pub(super) async fn run(&mut self) -> Result<(), End> {
        let mut room = BytesMut::with_capacity(BUFFER_BYTES);
        let mut ended = false;
        // When the client had nothing to take, or took a piece.
        let mut took = Instant::now();
        while !ended || !self.backlog.is_done() {
            if self.backlog.is_done() {
                took = Instant::now();
            }
            if room.spare_capacity_mut().len() < LEAST_READ {
                room.reserve(BUFFER_BYTES);
            }
            let answering = self.frames.is_between() && self.backlog.bytes() < BUFFER_BYTES;
            // Written before more is read: what waits is what the client does not take.
            tokio::select! {
                biased;
                Some(answer) = self.answers.recv(), if answering => {
                    self.backlog.push(BytesMut::from(&answer[..]));
                }
                written = timeout_at(took + self.keepalive, self.backlog.write_to(&mut self.writer)),
                    if !self.backlog.is_done() =>
                {
                    if written.map_err(|_| End::Deaf(self.keepalive))?? {
                        took = Instant::now();
                    }
                }
                read = self.broker.read_buf(&mut room), if !ended => {
                    ended = read? == 0;
                    self.take(room.split())?;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, piece: BytesMut) -> Result<(), End> {
        self.frames.follow(&piece);
        self.counters
            .bytes_out
            .fetch_add(piece.len() as u64, Relaxed);
        if !piece.is_empty() {
            self.backlog.push(piece);
        }
        if self.backlog.bytes() > self.most {
            return Err(End::Behind(self.most));
        }
        Ok(())
    }

    /// Closes the client's side, then waits until busrt has closed its own: only then is the name
    /// free.
    pub(super) async fn close(&mut self) {
        // Nobody reads it any more.
        self.backlog = Backlog::default();
        let _ = self.writer.shutdown().await;
        let mut rest = [0; 4096];
        while matches!(self.broker.read(&mut rest).await, Ok(1..)) {}
    }
}

/// Where the broker's frames end.
#[derive(Debug, Default)]
pub(super) struct Frames {
    head: [u8; 6],
    headed: usize,
    left: usize,
}

impl Frames {
    /// Whether no frame is under way.
    pub(super) fn is_between(&self) -> bool {
        self.headed == 0 && self.left == 0
    }

    /// Goes on over the next bytes.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = &bytes[skipped..];
            let taken = (self.head.len() - self.headed).min(bytes.len());
            self.head[self.headed..self.headed + taken].copy_from_slice(&bytes[..taken]);
            self.headed += taken;
            bytes = &bytes[taken..];
            if self.headed == self.head.len() {
                self.headed = 0;
                let [kind, length @ .., _] = self.head;
                // An acknowledgement is a head with no more behind it.
                if kind != OP_ACK {
                    self.left = u32::from_le_bytes(length) as usize;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brokers_frames_are_followed_however_they_are_cut() {
        let mut stream = vec![OP_ACK, 255, 255, 255, 255, 1];
        let mut ends = vec![0, 6];
        for len in [0_u32, 1, 7, 300] {
            stream.push(busrt::OP_PUBLISH);
            stream.extend(len.to_le_bytes());
            stream.push(0);
            stream.extend(std::iter::repeat_n(OP_ACK, len as usize));
            ends.push(stream.len());
        }
        for cut in 1..stream.len() {
            let mut frames = Frames::default();
            let mut at = 0;
            for part in stream.chunks(cut) {
                assert_eq!(frames.is_between(), ends.contains(&at), "{at} of {cut}");
                frames.follow(part);
                at += part.len();
            }
            assert!(frames.is_between());
        }
    }
}
