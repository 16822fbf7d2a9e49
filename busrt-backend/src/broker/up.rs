//! From a client to busrt: what comes is screened where it lies in the buffer, and a frame that may
//! pass is done once it is whole.
//!
//! Invariant: nothing reaches busrt that the screen has not passed, and an answer goes out only
//! when what it answers has been done.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use busrt::broker::Client;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, warn};

use super::bucket::Bucket;
use super::end::End;
use super::operation::Operation;
use super::screen::{Screen, Step};
use super::stats::Counters;
use crate::transport::BUFFER_BYTES;

/// Answers that may wait to be put between the frames for a client.
pub(super) const ANSWERS: usize = 64;

/// A client's direction.
pub(super) struct Up<'a, R> {
    pub(super) name: &'a str,
    pub(super) reader: R,
    pub(super) client: &'a mut Client,
    pub(super) screen: Screen,
    pub(super) bucket: Option<Bucket>,
    pub(super) answers: mpsc::Sender<[u8; 6]>,
    pub(super) counters: &'a Counters,
    /// How long a frame may take; before it, a client may be silent for a quarter longer.
    pub(super) keepalive: Duration,
    pub(super) inbound: Inbound,
}

/// What has come and is not done.
pub(super) struct Inbound {
    /// What the screen has still to see is at the beginning of this.
    buffer: Vec<u8>,
    filled: usize,
    /// The frame of which the screen has passed a part.
    operation: Operation,
    /// When the frame under way began.
    began: Instant,
    denied: bool,
}

impl Inbound {
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![0; BUFFER_BYTES],
            filled: 0,
            operation: Operation::default(),
            began: Instant::now(),
            denied: false,
        }
    }

    /// What is done goes; what a frame needs is there, as the bytes come, not as they are announced.
    fn make_room(&mut self, done: usize, need: usize) {
        self.buffer.copy_within(done..self.filled, 0);
        self.filled -= done;
        if self.filled == self.buffer.len() {
            self.buffer.resize(need.min(2 * self.filled), 0);
        } else if self.buffer.len() > BUFFER_BYTES && self.filled < BUFFER_BYTES {
            self.buffer.truncate(BUFFER_BYTES);
            self.buffer.shrink_to_fit();
        }
    }
}

impl<R: AsyncRead + Unpin> Up<'_, R> {
    /// Does what may be done until the client's end of file.
    pub(super) async fn run(mut self) -> Result<(), End> {
        loop {
            let midway = self.inbound.filled > 0 || self.screen.is_inside();
            let of_body = self.inbound.operation.rest().map(|(body, _)| body.len());
            let read = self.read(midway).await?;
            if read == 0 {
                return Ok(());
            }
            let frames = match of_body {
                Some(from) => self.go_on(from, read).await?,
                None => self.pass(read).await?,
            };
            self.counters.bytes_in.fetch_add(read as u64, Relaxed);
            self.counters.frames.fetch_add(frames, Relaxed);
            if frames > 0 || !midway {
                self.inbound.began = Instant::now();
            }
        }
    }

    /// Reads on: a large frame to where it is to stay, anything else to the buffer.
    async fn read(&mut self, midway: bool) -> Result<usize, End> {
        let silence = self.keepalive + self.keepalive / 4;
        let (until, late) = if midway {
            let until = self.inbound.began + self.keepalive;
            (until, End::Stalled(self.keepalive))
        } else {
            (Instant::now() + silence, End::Silent(silence))
        };
        let Inbound {
            buffer,
            filled,
            operation,
            ..
        } = &mut self.inbound;
        let reader = &mut self.reader;
        let reading = async {
            match operation.rest() {
                Some((body, left)) => reader.take(left as u64).read_buf(body).await,
                None => reader.read(&mut buffer[*filled..]).await,
            }
        };
        match timeout_at(until, reading).await {
            Err(_) => Err(late),
            Ok(Ok(read)) => Ok(read),
            // TLS without its farewell.
            Ok(Err(reason)) if reason.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            Ok(Err(reason)) => Err(reason.into()),
        }
    }

    /// Goes on with a large frame, of which so much has come.
    async fn go_on(&mut self, from: usize, read: usize) -> Result<u64, End> {
        self.screen.step(self.inbound.operation.put(from))?;
        if self.inbound.operation.has_come(read) {
            self.act().await?;
        }
        Ok(0)
    }

    /// Screens what has come, does what is whole, and says how many frames began.
    async fn pass(&mut self, read: usize) -> Result<u64, End> {
        self.inbound.filled += read;
        let (mut at, mut frames) = (0, 0);
        loop {
            let bytes = &self.inbound.buffer[at..self.inbound.filled];
            match self.screen.step(bytes)? {
                Step::Pass(count) => {
                    at += count;
                    if self.inbound.operation.take(&bytes[..count]) {
                        self.act().await?;
                    }
                }
                Step::Drop(count) => at += count,
                Step::Frame { events } => {
                    frames += 1;
                    self.inbound.operation.begin(bytes);
                    let pause = self.bucket.as_mut().and_then(|bucket| bucket.take(events));
                    if let Some(pause) = pause {
                        // A deadline on nothing: the pause.
                        let _ = timeout(pause, std::future::pending::<()>()).await;
                    }
                }
                Step::Denied { answer, what } => {
                    frames += 1;
                    self.deny(what);
                    self.answer(answer).await;
                }
                Step::Need(need) => {
                    self.inbound.make_room(at, need);
                    return Ok(frames);
                }
            }
        }
    }

    async fn act(&mut self) -> Result<(), End> {
        let acting = self.inbound.operation.run(self.client);
        let acted = timeout(self.keepalive, acting).await;
        let answer = acted.map_err(|_| End::Stuck(self.keepalive))?;
        self.answer(answer).await;
        Ok(())
    }

    async fn answer(&mut self, answer: Option<[u8; 6]>) {
        if let Some(answer) = answer {
            // If nobody takes it, the connection is ending.
            let _ = self.answers.send(answer).await;
        }
    }

    fn deny(&mut self, what: &'static str) {
        self.counters.denied.fetch_add(1, Relaxed);
        if std::mem::replace(&mut self.inbound.denied, true) {
            debug!(client = self.name, what, "denied");
        } else {
            warn!(
                client = self.name,
                what, "denied; more of it is told at level debug"
            );
        }
    }
}
