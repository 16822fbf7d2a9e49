//! What is on its way to a client that has not taken it yet.
//!
//! Frames are kept as busrt shares them: one that goes to ten clients is there once. Their heads
//! are made when they are written, many frames in one call, and what is large is written from
//! where it lies.
//!
//! Invariant: `bytes` is what is still to be written, and `cost` at least the memory that it holds.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::Pin;

use busrt::{Frame, FrameKind};
use smallvec::SmallVec;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// What a frame costs beside its bytes: the names in it, and its place here.
const FRAME_COST: usize = 256;
/// Most pieces, and bytes, that are offered to one call.
const MOST_PIECES: usize = 64;
const MOST_BYTES: usize = 256 * 1024;
/// Most that is put together for one call: if it takes less, the rest is put together again.
const MOST_MADE: usize = 32 * 1024;
/// Payloads up to this size are copied beside their heads, which costs less than a piece of theirs.
const SMALL: usize = 512;
/// A frame's head for a client: kind, length, realtime.
const HEAD: usize = 6;

enum Entry {
    Frame(Frame),
    /// Something of our own, whole frames all of it.
    Answer([u8; HEAD]),
    Welcome(Box<[u8]>),
}

/// A piece of what is to be written.
enum Piece {
    /// Of what was put together.
    Made(Range<usize>),
    /// The payload of an entry.
    Payload(usize),
}

#[derive(Default)]
pub(super) struct Backlog {
    entries: VecDeque<Entry>,
    /// Of the first entry.
    gone: usize,
    bytes: usize,
    cost: usize,
    made: Vec<u8>,
    /// Something was written and may still be on its way through TLS.
    unflushed: bool,
}

impl Entry {
    /// Bytes on the wire.
    fn len(&self) -> usize {
        match self {
            Self::Frame(frame) => HEAD + body_len(frame),
            Self::Answer(answer) => answer.len(),
            Self::Welcome(bytes) => bytes.len(),
        }
    }

    fn cost(&self) -> usize {
        self.len()
            + match self {
                Self::Frame(_) => FRAME_COST,
                _ => size_of::<Self>(),
            }
    }
}

fn body_len(frame: &Frame) -> usize {
    let topic = frame.topic().map_or(0, |topic| topic.len() + 1);
    let header = frame.header().map_or(0, <[u8]>::len);
    frame.sender().len() + 1 + topic + header + frame.payload().len()
}

/// All of a frame that stands before its payload.
fn put_head(frame: &Frame, out: &mut Vec<u8>) {
    out.push(frame.kind() as u8);
    let length = u32::try_from(body_len(frame)).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.push(u8::from(frame.is_realtime()));
    out.extend_from_slice(frame.sender().as_bytes());
    out.push(0);
    if let Some(topic) = frame.topic() {
        out.extend_from_slice(topic.as_bytes());
        out.push(0);
    }
    out.extend_from_slice(frame.header().unwrap_or_default());
}

impl Backlog {
    /// How much there is to be written, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What keeping it costs, in bytes.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    /// Whether there is nothing to be done.
    pub(super) fn is_done(&self) -> bool {
        self.entries.is_empty() && !self.unflushed
    }

    /// Adds what another client has sent.
    pub(super) fn push(&mut self, frame: Frame) {
        // busrt sends its own clients nothing else; other kinds have no sender.
        let kinds = [FrameKind::Publish, FrameKind::Message, FrameKind::Broadcast];
        if kinds.contains(&frame.kind()) {
            self.add(Entry::Frame(frame));
        }
    }

    /// Adds an acknowledgement, or a ping.
    pub(super) fn answer(&mut self, answer: [u8; HEAD]) {
        self.add(Entry::Answer(answer));
    }

    /// Adds what a client is told first.
    pub(super) fn welcome(&mut self, bytes: Vec<u8>) {
        self.add(Entry::Welcome(bytes.into()));
    }

    fn add(&mut self, entry: Entry) {
        self.bytes += entry.len();
        self.cost += entry.cost();
        self.entries.push_back(entry);
    }

    /// Goes on writing, and says how much has gone; nothing, if all had and is flushed now. Dropped
    /// before it is ready, it has written nothing.
    pub(super) async fn write_to(
        &mut self,
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<usize> {
        if self.entries.is_empty() {
            writer.flush().await?;
            self.unflushed = false;
            return Ok(0);
        }
        let pieces = self.gather();
        let written = poll_fn(|cx| {
            let mut slices = self.slices(&pieces);
            let mut rest = slices.as_mut_slice();
            IoSlice::advance_slices(&mut rest, self.gone);
            Pin::new(&mut *writer).poll_write_vectored(cx, rest)
        })
        .await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.unflushed = true;
        self.let_go(written);
        Ok(written)
    }

    /// Puts together what can be offered to one call.
    fn gather(&mut self) -> SmallVec<[Piece; MOST_PIECES]> {
        let Self { entries, made, .. } = self;
        let mut pieces = SmallVec::new();
        let (mut from, mut large) = (0, 0);
        made.clear();
        for (n, entry) in entries.iter().enumerate() {
            let enough = made.len() > MOST_MADE || made.len() + large > MOST_BYTES;
            if enough || pieces.len() + 2 > MOST_PIECES {
                break;
            }
            match entry {
                Entry::Answer(answer) => made.extend_from_slice(answer),
                Entry::Welcome(bytes) => made.extend_from_slice(bytes),
                Entry::Frame(frame) => {
                    put_head(frame, made);
                    let payload = frame.payload();
                    if payload.len() <= SMALL {
                        made.extend_from_slice(payload);
                    } else {
                        pieces.push(Piece::Made(from..made.len()));
                        pieces.push(Piece::Payload(n));
                        from = made.len();
                        large += payload.len();
                    }
                }
            }
        }
        if from < made.len() {
            pieces.push(Piece::Made(from..made.len()));
        }
        pieces
    }

    fn slices<'a>(&'a self, pieces: &[Piece]) -> SmallVec<[IoSlice<'a>; MOST_PIECES]> {
        let of_piece = |piece: &Piece| match piece {
            Piece::Made(range) => &self.made[range.clone()],
            Piece::Payload(n) => match &self.entries[*n] {
                Entry::Frame(frame) => frame.payload(),
                _ => &[],
            },
        };
        pieces.iter().map(of_piece).map(IoSlice::new).collect()
    }

    /// So much has been written.
    fn let_go(&mut self, written: usize) {
        self.bytes -= written;
        self.gone += written;
        while let Some(first) = self.entries.front() {
            let len = first.len();
            if len > self.gone {
                break;
            }
            self.gone -= len;
            self.cost -= first.cost();
            self.entries.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::{Context, Poll};

    use busrt::FrameData;

    use super::*;

    /// Takes so much at a time, and remembers where from.
    struct Taker {
        most: usize,
        taken: Vec<u8>,
        from: Vec<*const u8>,
        calls: usize,
    }

    impl Taker {
        fn new(most: usize) -> Self {
            Self {
                most,
                taken: Vec::new(),
                from: Vec::new(),
                calls: 0,
            }
        }
    }

    impl AsyncWrite for Taker {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.calls += 1;
            let before = self.taken.len();
            for slice in slices {
                let room = self.most - (self.taken.len() - before);
                self.taken.extend(slice.iter().take(room));
                self.from.push(slice.as_ptr());
            }
            Poll::Ready(Ok(self.taken.len() - before))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn frame(payload: &[u8]) -> Frame {
        let (kind, sender, topic) = (FrameKind::Publish, "me".to_owned(), "eb/a".to_owned());
        let (buf, header) = ([b"eb/a\0", payload].concat(), Some(vec![1, 2]));
        Arc::new(FrameData::new(
            kind,
            Some(sender),
            Some(topic),
            header,
            buf,
            5,
            true,
        ))
    }

    fn on_the_wire(payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(3 + 5 + 2 + payload.len()).unwrap();
        let head = [&[busrt::OP_PUBLISH][..], &length.to_le_bytes(), &[1]].concat();
        [&head[..], b"me\0eb/a\0\x01\x02", payload].concat()
    }

    #[tokio::test]
    async fn whatever_is_taken_at_a_time_it_is_the_same_in_the_end() {
        let payloads: Vec<Vec<u8>> = [0, 1, SMALL, SMALL + 1, 3_000, 2]
            .iter()
            .cycle()
            .take(30)
            .map(|len| (0..*len).map(|n| n as u8).collect())
            .collect();
        let mut expected = b"welcome".to_vec();
        for payload in &payloads {
            expected.extend(on_the_wire(payload));
            expected.extend([9; HEAD]);
        }
        for most in [1, 7, 1_000, 4_096, usize::MAX] {
            let mut backlog = Backlog::default();
            backlog.welcome(b"welcome".to_vec());
            for payload in &payloads {
                backlog.push(frame(payload));
                backlog.answer([9; HEAD]);
            }
            assert_eq!(backlog.bytes(), expected.len());
            let mut taker = Taker::new(most);
            while !backlog.is_done() {
                backlog.write_to(&mut taker).await.unwrap();
                assert_eq!(backlog.bytes(), expected.len() - taker.taken.len());
                assert!(backlog.cost() >= backlog.bytes());
            }
            assert!(taker.taken == expected, "{most} at a time");
            assert_eq!((backlog.bytes(), backlog.cost()), (0, 0));
            if most == usize::MAX {
                assert!(taker.calls < 5, "{} calls", taker.calls);
            }
        }
    }

    #[tokio::test]
    async fn one_frame_for_ten_clients_is_there_once() {
        let frame = frame(&[7; 100_000]);
        let payload = frame.payload().as_ptr();
        let mut backlogs: Vec<Backlog> = (0..10).map(|_| Backlog::default()).collect();
        for backlog in &mut backlogs {
            backlog.push(Arc::clone(&frame));
        }
        assert_eq!(Arc::strong_count(&frame), 11);
        for mut backlog in backlogs {
            let mut taker = Taker::new(usize::MAX);
            backlog.write_to(&mut taker).await.unwrap();
            assert!(taker.from.contains(&payload), "it was copied");
            assert!(taker.taken == on_the_wire(&[7; 100_000]));
        }
        assert_eq!(Arc::strong_count(&frame), 1);
    }
}
