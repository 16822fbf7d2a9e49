//! From busrt to a client, with answers of ours between its frames.
//!
//! busrt lets a publisher wait for a client of its own whose queue is full. So what is in the queue
//! is taken out whenever there is any, whether the client reads or not; what it does not read waits
//! here, counted in bytes, until that is too much or takes too long.
//!
//! Invariant: nothing but the client's reading is ever waited for without looking at the queue, and
//! an answer stands behind whatever was queued before it was given.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use busrt::{EventChannel, Frame};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout_at};

use super::asked::Asked;
use super::backlog::Backlog;
use super::end::End;
use super::stats::Counters;
use crate::transport::BUFFER_BYTES;

/// A ping is a head of zeros.
const PING: [u8; 6] = [0; 6];

/// The direction to a client.
pub(super) struct Down<'a, W> {
    writer: W,
    frames: EventChannel,
    answers: mpsc::Receiver<[u8; 6]>,
    counters: &'a Counters,
    limits: Limits,
    backlog: Backlog,
    /// Where what the client is asked is noted, if that matters.
    asked: Option<Asked>,
    /// As much of it as stands in the counters.
    told: usize,
    ping: Interval,
    progress: Progress,
    /// busrt has no more for the client.
    ended: bool,
}

/// What a client may leave unread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// For how long.
    pub(super) keepalive: Duration,
    /// How much, in bytes.
    pub(super) most: usize,
}

/// How a client gets on with reading.
struct Progress {
    written: u64,
    /// When it had nothing to take, or took a good piece.
    took: Instant,
    /// How much is to be written for the next such piece.
    next: u64,
}

impl Progress {
    fn wrote(&mut self, count: usize, left: usize) {
        self.written += count as u64;
        if self.written >= self.next {
            self.begin(left);
        }
    }

    /// The piece does not grow while it is being taken: who takes one in time is not deaf.
    fn begin(&mut self, left: usize) {
        self.took = Instant::now();
        self.next = self.written + left.clamp(1, BUFFER_BYTES) as u64;
    }
}

impl<'a, W: AsyncWrite + Unpin> Down<'a, W> {
    pub(super) fn new(
        writer: W,
        frames: EventChannel,
        answers: mpsc::Receiver<[u8; 6]>,
        counters: &'a Counters,
        limits: Limits,
    ) -> Self {
        let every = (limits.keepalive / 2).max(Duration::from_millis(1));
        let now = Instant::now();
        let mut ping = interval_at(now + every, every);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            writer,
            frames,
            answers,
            counters,
            limits,
            backlog: Backlog::default(),
            asked: None,
            told: 0,
            ping,
            progress: Progress {
                written: 0,
                took: now,
                next: 1,
            },
            ended: false,
        }
    }

    /// Notes what the client is asked.
    pub(super) fn noting(mut self, asked: Option<Asked>) -> Self {
        self.asked = asked;
        self
    }

    /// Says the first words, and returns when they have gone.
    pub(super) async fn welcome(&mut self, words: Vec<u8>) -> Result<(), End> {
        let until = words.len() as u64;
        self.backlog.welcome(words);
        while self.progress.written < until {
            self.step().await?;
        }
        Ok(())
    }

    /// Passes everything on until busrt has no more.
    pub(super) async fn run(&mut self) -> Result<(), End> {
        while self.step().await? {}
        Ok(())
    }

    /// Takes no more from busrt; what it has queued still goes.
    pub(super) fn hang_up(&mut self) {
        self.frames.close();
    }

    /// Whether there may be more.
    async fn step(&mut self) -> Result<bool, End> {
        // Who always finds something to take must let others run, and so himself write.
        consume_budget().await;
        self.take_all()?;
        if self.backlog.is_done() {
            if self.ended {
                return Ok(false);
            }
            self.progress.begin(0);
        }
        let deaf = self.progress.took + self.limits.keepalive;
        tokio::select! {
            biased;
            written = timeout_at(deaf, self.backlog.write_to(&mut self.writer)),
                if !self.backlog.is_done() =>
            {
                let written = written.map_err(|_| End::Deaf(self.limits.keepalive))??;
                self.counters.bytes_out.fetch_add(written as u64, Relaxed);
                self.progress.wrote(written, self.backlog.bytes());
            }
            Some(answer) = self.answers.recv() => self.answer(answer)?,
            frame = self.frames.recv(), if !self.ended => match frame {
                Ok(frame) => self.take(frame)?,
                Err(_) => self.ended = true,
            },
            _ = self.ping.tick() => {
                if self.backlog.is_done() {
                    self.backlog.answer(PING);
                }
            }
        }
        self.tell();
        Ok(true)
    }

    /// Takes what is there.
    fn take_all(&mut self) -> Result<(), End> {
        while let Ok(answer) = self.answers.try_recv() {
            self.answer(answer)?;
        }
        self.take_queued()?;
        self.tell();
        Ok(())
    }

    /// Puts an answer behind whatever was queued before it.
    fn answer(&mut self, answer: [u8; 6]) -> Result<(), End> {
        self.take_queued()?;
        self.backlog.answer(answer);
        self.check()
    }

    fn take_queued(&mut self) -> Result<(), End> {
        // So many, and not what comes meanwhile: that would have no end.
        for _ in 0..self.frames.len() {
            match self.frames.try_recv() {
                Ok(frame) => self.take(frame)?,
                Err(_) => break,
            }
        }
        Ok(())
    }

    fn take(&mut self, frame: Frame) -> Result<(), End> {
        if let Some(asked) = &self.asked {
            asked.note(&frame);
        }
        self.backlog.push(frame);
        self.check()
    }

    fn check(&self) -> Result<(), End> {
        if self.backlog.cost() > self.limits.most {
            return Err(End::Behind(self.limits.most));
        }
        Ok(())
    }

    /// Counts what is on its way.
    fn tell(&mut self) {
        let now = self.backlog.bytes();
        let change = now.wrapping_sub(std::mem::replace(&mut self.told, now));
        if change != 0 {
            self.counters.unsent.fetch_add(change, Relaxed);
        }
    }

    /// Closes the client's side. What it has not read is lost, and nobody waits for room in its queue
    /// any more.
    pub(super) async fn close(&mut self) {
        self.frames.close();
        self.backlog = Backlog::default();
        self.tell();
        let _ = self.writer.shutdown().await;
    }
}

impl<W> Drop for Down<'_, W> {
    fn drop(&mut self) {
        self.counters.unsent.fetch_sub(self.told, Relaxed);
    }
}
