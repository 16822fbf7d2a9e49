//! The broker's frames, cut out of what arrives, where it lies.
//!
//! Frames are handed out as parts of the buffer that they were read into. A buffer is used again
//! once nobody holds a part of it, and is small, so that a small payload that is kept does not keep
//! much beside it; a frame that does not fit gets a buffer of its own.
//!
//! Invariant: a buffer is larger than [`WHOLE`] only for a frame of which half has come, and never
//! larger than the limit.

use busrt::{Error, FrameKind};
use bytes::{Buf as _, Bytes, BytesMut};

use crate::transport::BUFFER_BYTES;

/// Bytes of a frame's head: kind, length, and whether it is urgent.
pub(super) const HEAD: usize = 6;
/// Least room to read into.
const LEAST_READ: usize = 4_096;
/// A frame of so many bytes gets its buffer at once: the largest that sessions make, unless one
/// event alone is larger.
const WHOLE: usize = 160 * 1024;

/// Why the broker's bytes make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error("no frame is of kind {kind:#04x}")]
    Kind { kind: u8 },
    #[error(
        "a frame of {len} bytes is over the limit of {limit}; does the other end have a larger `max_event_size`?"
    )]
    Length { len: usize, limit: usize },
    #[error("a frame's {what} is not valid")]
    Name { what: &'static str },
}

impl From<Broken> for Error {
    fn from(reason: Broken) -> Self {
        Self::data(reason)
    }
}

/// What has arrived.
#[derive(Debug)]
pub(super) enum Arrived {
    /// A sign of life.
    Nothing,
    /// The answer to an operation of ours.
    Answer { id: u32, code: u8 },
    /// Something of another client.
    Frame(WireFrame),
}

/// A frame of another client. Its payload shares the memory that it was read into.
#[derive(Debug)]
pub(crate) struct WireFrame {
    kind: FrameKind,
    /// Sender, topic if there is one, payload; a NUL between them.
    body: Bytes,
    sender: usize,
    topic: Option<usize>,
}

impl WireFrame {
    fn new(kind: FrameKind, body: Bytes) -> Result<Self, Broken> {
        let sender = until_nul(&body, "sender")?;
        let topic = match kind {
            FrameKind::Publish => Some(until_nul(&body[sender + 1..], "topic")?),
            _ => None,
        };
        Ok(Self {
            kind,
            body,
            sender,
            topic,
        })
    }

    pub(crate) fn kind(&self) -> FrameKind {
        self.kind
    }

    pub(crate) fn sender(&self) -> &str {
        self.text(0, self.sender)
    }

    pub(crate) fn topic(&self) -> Option<&str> {
        self.topic.map(|len| self.text(self.sender + 1, len))
    }

    pub(crate) fn payload(&self) -> Bytes {
        let names = self.sender + 1 + self.topic.map_or(0, |len| len + 1);
        self.body.slice(names..)
    }

    /// It was found to be text.
    fn text(&self, from: usize, len: usize) -> &str {
        let bytes = self.body.get(from..from + len).unwrap_or_default();
        str::from_utf8(bytes).unwrap_or_default()
    }
}

/// How long the text is that `bytes` begin with.
fn until_nul(bytes: &[u8], what: &'static str) -> Result<usize, Broken> {
    let end = bytes.iter().position(|byte| *byte == 0);
    let end = end.ok_or(Broken::Name { what })?;
    match str::from_utf8(&bytes[..end]) {
        Ok(_) => Ok(end),
        Err(_) => Err(Broken::Name { what }),
    }
}

#[derive(Debug)]
pub(super) struct Decoder {
    buffer: BytesMut,
    /// Bytes of the memory that `buffer` is the end of.
    size: usize,
    /// Longest frame, its head included.
    limit: usize,
    /// What a new buffer is to hold at least.
    usual: usize,
}

impl Decoder {
    /// Begins with what was read already. Frames announced to be longer than `limit` bytes are an
    /// error.
    pub(super) fn new(read: BytesMut, limit: usize) -> Self {
        Self {
            size: read.capacity(),
            buffer: read,
            limit,
            usual: BUFFER_BYTES,
        }
    }

    /// Takes the next that has come whole; `None` if more must be read.
    pub(super) fn next(&mut self) -> Result<Option<Arrived>, Broken> {
        let Some((head, _)) = self.buffer.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let [kind, number @ .., last] = *head;
        let number = u32::from_le_bytes(number);
        let arrived = match FrameKind::try_from(kind) {
            Ok(FrameKind::Nop) => Arrived::Nothing,
            Ok(FrameKind::Acknowledge) => Arrived::Answer {
                id: number,
                code: last,
            },
            Ok(kind) => {
                let whole = self.whole(number)?;
                if self.buffer.len() < whole {
                    return Ok(None);
                }
                let mut frame = self.buffer.split_to(whole).freeze();
                frame.advance(HEAD);
                // The next is likely to be as large.
                self.usual = if whole > BUFFER_BYTES / 2 {
                    WHOLE
                } else {
                    BUFFER_BYTES
                };
                return WireFrame::new(kind, frame).map(|frame| Some(Arrived::Frame(frame)));
            }
            Err(_) => return Err(Broken::Kind { kind }),
        };
        self.buffer.advance(HEAD);
        Ok(Some(arrived))
    }

    fn whole(&self, announced: u32) -> Result<usize, Broken> {
        let len = usize::try_from(announced).unwrap_or(usize::MAX);
        let whole = len.saturating_add(HEAD);
        if whole > self.limit {
            return Err(Broken::Length {
                len,
                limit: self.limit - HEAD,
            });
        }
        Ok(whole)
    }

    /// Where to read more, once nothing is whole any more. It has room for at least one byte.
    pub(super) fn room(&mut self) -> &mut BytesMut {
        let have = self.buffer.len();
        let whole = match self.buffer.split_first_chunk::<HEAD>() {
            Some(([_, number @ .., _], _)) => {
                self.whole(u32::from_le_bytes(*number)).unwrap_or(HEAD)
            }
            None => HEAD,
        };
        let (least, size) = if whole <= BUFFER_BYTES {
            let least = whole.max(have + LEAST_READ);
            (least, least.max(self.usual))
        } else {
            // As the bytes come, not as they are announced.
            let least = whole.min(WHOLE.max(have + LEAST_READ));
            (least, whole.min(WHOLE.max(2 * have)).max(least))
        };
        if self.buffer.capacity() < least && !self.reuse(least - have) {
            let mut buffer = BytesMut::with_capacity(size);
            buffer.extend_from_slice(&self.buffer);
            self.size = size;
            self.buffer = buffer;
        }
        &mut self.buffer
    }

    /// Takes the memory from its beginning, if nobody holds a part of it.
    fn reuse(&mut self, more: usize) -> bool {
        self.size <= WHOLE && self.buffer.try_reclaim(more)
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.size
    }
}
