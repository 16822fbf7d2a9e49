//! Frames out of bytes, bytes out of frames.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use busrt::{ERR_ACCESS, FrameKind, OP_MESSAGE, OP_NOP, OP_PUBLISH, RESPONSE_OK};
use bytes::BytesMut;
use proptest::prelude::*;
use tokio::io::AsyncWrite;

use super::super::decode::{Arrived, Broken, Decoder, HEAD, WireFrame};
use super::super::outgoing::Outgoing;
use super::{announced, answer, frame};
use crate::transport::BUFFER_BYTES;

const LIMIT: usize = 1 << 20;

fn decoder() -> Decoder {
    Decoder::new(BytesMut::new(), LIMIT)
}

/// Reads as much of `bytes` as there is room for, and says what then was whole.
fn read(decoder: &mut Decoder, bytes: &mut &[u8], cut: usize) -> Result<Vec<Arrived>, Broken> {
    let room = decoder.room();
    let spare = room.capacity() - room.len();
    assert!(spare > 0, "no room for {} bytes", bytes.len());
    let (now, rest) = bytes.split_at(spare.min(cut).min(bytes.len()));
    room.extend_from_slice(now);
    *bytes = rest;
    let mut whole = Vec::new();
    while let Some(arrived) = decoder.next()? {
        whole.push(arrived);
    }
    Ok(whole)
}

fn read_all(mut bytes: &[u8], cut: usize) -> Result<Vec<Arrived>, Broken> {
    let mut decoder = decoder();
    let mut whole = Vec::new();
    while !bytes.is_empty() {
        whole.extend(read(&mut decoder, &mut bytes, cut)?);
    }
    Ok(whole)
}

fn told(arrived: &[Arrived]) -> Vec<String> {
    arrived.iter().map(tell).collect()
}

fn tell(arrived: &Arrived) -> String {
    match arrived {
        Arrived::Nothing => "nothing".to_owned(),
        Arrived::Answer { id, code } => format!("answer {id} {code}"),
        Arrived::Frame(frame) => {
            let (kind, sender, topic) = (frame.kind(), frame.sender(), frame.topic());
            format!("{kind:?} {sender} {topic:?} {:?}", frame.payload())
        }
    }
}

fn stream() -> (Vec<u8>, Vec<String>) {
    let parts = [
        frame(OP_PUBLISH, &["one", "eb/a"], b"x\0y"),
        answer(u32::MAX, ERR_ACCESS),
        frame(OP_NOP, &[], b""),
        frame(OP_MESSAGE, &["two"], b""),
        frame(OP_PUBLISH, &["", ""], b""),
        answer(1, RESPONSE_OK),
    ];
    let told = [
        r#"Publish one Some("eb/a") b"x\0y""#.to_owned(),
        format!("answer {} {ERR_ACCESS}", u32::MAX),
        "nothing".to_owned(),
        r#"Message two None b"""#.to_owned(),
        r#"Publish  Some("") b"""#.to_owned(),
        format!("answer 1 {RESPONSE_OK}"),
    ];
    (parts.concat(), told.into())
}

#[test]
fn frames_are_whole_wherever_they_are_cut() {
    let (stream, expected) = stream();
    for cut in 1..=stream.len() {
        assert_eq!(told(&read_all(&stream, cut).unwrap()), expected, "by {cut}");
        let mut decoder = decoder();
        let (mut head, mut tail) = stream.split_at(cut);
        let mut whole = read(&mut decoder, &mut head, cut).unwrap();
        whole.extend(read(&mut decoder, &mut tail, usize::MAX).unwrap());
        assert_eq!(told(&whole), expected, "at {cut}");
    }
}

#[test]
fn large_and_small_frames_follow_each_other() {
    let sizes = [0, 70_000, 1, 65_536, 200_000, 4_000, 150_000, 3, 900_000, 1];
    let mut stream = Vec::new();
    for (at, size) in sizes.iter().enumerate() {
        let payload = vec![u8::try_from(at).unwrap(); *size];
        stream.extend(frame(OP_PUBLISH, &["one", "eb/a"], &payload));
    }
    for cut in [1_000, 4_096, 65_536, usize::MAX] {
        let mut at = 0;
        for arrived in read_all(&stream, cut).unwrap() {
            let payload = payload(&arrived);
            assert_eq!(payload.len(), sizes[at]);
            assert!(payload.iter().all(|byte| usize::from(*byte) == at));
            at += 1;
        }
        assert_eq!(at, sizes.len());
    }
}

fn payload(arrived: &Arrived) -> bytes::Bytes {
    match arrived {
        Arrived::Frame(frame) => WireFrame::payload(frame),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_no_frame_is_named() {
    for kind in [0x03, 0x7F, 0xFF] {
        let reason = read_all(&announced(kind, 0), 1).unwrap_err();
        assert_eq!(reason, Broken::Kind { kind });
    }
    let reason = read_all(&frame(OP_MESSAGE, &[], b"no end"), 99).unwrap_err();
    assert_eq!(reason, Broken::Name { what: "sender" });
    let reason = read_all(&frame(OP_PUBLISH, &["one"], b"eb/a"), 99).unwrap_err();
    assert_eq!(reason, Broken::Name { what: "topic" });
    let reason = read_all(&frame(OP_PUBLISH, &["one"], b"\xFF\0"), 99).unwrap_err();
    assert_eq!(reason, Broken::Name { what: "topic" });
}

#[test]
fn a_frame_over_the_limit_is_an_error_as_soon_as_it_is_announced() {
    let largest = LIMIT - HEAD;
    assert!(
        read_all(&announced(OP_PUBLISH, largest), 99)
            .unwrap()
            .is_empty()
    );
    for len in [largest + 1, u32::MAX as usize] {
        let reason = read_all(&announced(OP_PUBLISH, len), 99).unwrap_err();
        let limit = largest;
        assert_eq!(reason, Broken::Length { len, limit });
        let text = busrt::Error::from(reason).to_string();
        assert!(text.contains(&format!("{len} bytes")), "{text}");
        assert!(text.contains(&format!("{limit};")), "{text}");
    }
}

#[test]
fn an_announcement_alone_takes_no_memory() {
    let mut decoder = decoder();
    let mut bytes = &announced(OP_PUBLISH, LIMIT - HEAD)[..];
    assert!(read(&mut decoder, &mut bytes, 99).unwrap().is_empty());
    decoder.room();
    assert!(decoder.size() <= 3 * BUFFER_BYTES, "{}", decoder.size());
    let mut come = HEAD;
    while come < LIMIT {
        let mut piece = &[1; 10_000][..(LIMIT - come).min(10_000)];
        come += piece.len();
        while !piece.is_empty() {
            if read(&mut decoder, &mut piece, usize::MAX).is_err() {
                return assert_eq!(come, LIMIT, "it has no NUL");
            }
            let most = (2 * come).max(3 * BUFFER_BYTES);
            assert!(decoder.size() <= most, "{} for {come}", decoder.size());
        }
    }
    panic!("a frame without names was taken");
}

#[test]
fn a_buffer_is_used_again_unless_somebody_holds_a_part_of_it() {
    let mut decoder = decoder();
    let one = frame(OP_MESSAGE, &["one"], &[7; 50_000]);
    let mut places = Vec::new();
    let mut held = Vec::new();
    for round in 0..6 {
        let mut bytes = &one[..];
        let mut whole = Vec::new();
        while !bytes.is_empty() {
            whole.extend(read(&mut decoder, &mut bytes, usize::MAX).unwrap());
        }
        let payload = payload(&whole[0]);
        drop(whole);
        places.push(payload.as_ptr());
        if round >= 3 {
            held.push(payload);
        }
    }
    assert_eq!(places[1], places[2], "nobody holds it");
    assert!(held.iter().all(|payload| **payload == [7; 50_000]));
}

#[test]
fn a_small_payload_keeps_little_beside_it() {
    let mut decoder = decoder();
    let mut large = &frame(OP_MESSAGE, &["one"], &vec![1; 900_000])[..];
    while !large.is_empty() {
        read(&mut decoder, &mut large, usize::MAX).unwrap();
    }
    for _ in 0..3 {
        let mut small = &frame(OP_MESSAGE, &["one"], b"small")[..];
        let whole = read(&mut decoder, &mut small, usize::MAX).unwrap();
        assert_eq!(payload(&whole[0]), b"small"[..]);
        assert!(decoder.size() <= 3 * BUFFER_BYTES, "{}", decoder.size());
    }
}

/// Takes so many bytes at once, and none every other time.
struct Trickle {
    taken: Vec<u8>,
    at_once: usize,
    ready: bool,
    writes: usize,
}

impl Trickle {
    fn new(at_once: usize) -> Self {
        Self {
            taken: Vec::new(),
            at_once,
            ready: true,
            writes: 0,
        }
    }
}

impl AsyncWrite for Trickle {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.ready = !self.ready || self.at_once == usize::MAX;
        if !self.ready {
            return Poll::Pending;
        }
        self.writes += 1;
        let now = self.at_once.min(bytes.len());
        self.taken.extend_from_slice(&bytes[..now]);
        Poll::Ready(Ok(now))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let mut some = Vec::new();
        for slice in slices {
            let room = self.at_once - some.len();
            some.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        self.as_mut().poll_write(cx, &some)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn write_all(outgoing: &mut Outgoing, to: &mut Trickle) {
    let mut cx = Context::from_waker(Waker::noop());
    while !outgoing.is_empty() {
        // Pending is a write that is cancelled.
        if let Poll::Ready(written) = outgoing.poll_write(&mut cx, to) {
            written.unwrap();
        }
    }
}

#[test]
fn frames_are_written_as_busrt_reads_them() {
    let mut outgoing = Outgoing::default();
    outgoing
        .frame(0x0403_0201, 0xC1, Some("eb/a"), b"xy".into())
        .unwrap();
    outgoing.frame(7, 0xC2, None, b"eb/a\0eb/b".into()).unwrap();
    outgoing.small(busrt::PING_FRAME);
    let mut to = Trickle::new(usize::MAX);
    write_all(&mut outgoing, &mut to);
    let expected = [
        &[1, 2, 3, 4, 0xC1, 7, 0, 0, 0][..],
        b"eb/a\0xy",
        &[7, 0, 0, 0, 0xC2, 9, 0, 0, 0],
        b"eb/a\0eb/b",
        &[0; 9],
    ];
    assert_eq!(to.taken, expected.concat());
    assert_eq!(to.writes, 1, "small frames make one write");
}

proptest! {
    #[test]
    fn nothing_is_lost_or_repeated_however_little_a_write_takes(
        sizes in proptest::collection::vec(0_usize..6_000, 1..50),
        at_once in 40_usize..9_000,
    ) {
        let mut outgoing = Outgoing::default();
        let mut expected = Vec::new();
        let mut to = Trickle::new(at_once);
        for (id, size) in (0_u32..).zip(&sizes) {
            let payload = vec![id.to_le_bytes()[0]; *size];
            expected.extend(id.to_le_bytes());
            expected.push(0x81);
            expected.extend(u32::try_from(size + 2).unwrap().to_le_bytes());
            expected.extend(b"t\0");
            expected.extend(&payload);
            outgoing.frame(id, 0x81, Some("t"), payload).unwrap();
            // Another frame may come while one is half written.
            let mut cx = Context::from_waker(Waker::noop());
            let _ = outgoing.poll_write(&mut cx, &mut to);
        }
        prop_assert_eq!(to.taken.len() + outgoing.bytes(), expected.len());
        write_all(&mut outgoing, &mut to);
        prop_assert!(to.taken == expected);
    }

    #[test]
    fn no_bytes_panic_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 1_usize..50) {
        let whole = read_all(&bytes, 200).map(|whole| told(&whole));
        let cut = read_all(&bytes, cut).map(|whole| told(&whole));
        prop_assert_eq!(whole, cut);
    }
}

#[test]
fn kinds_are_busrts() {
    for (kind, expected) in [
        (OP_PUBLISH, FrameKind::Publish),
        (OP_MESSAGE, FrameKind::Message),
        (busrt::OP_BROADCAST, FrameKind::Broadcast),
    ] {
        let whole = read_all(&frame(kind, &["one", "two"], b""), 99).unwrap();
        assert!(matches!(&whole[..], [Arrived::Frame(frame)] if frame.kind() == expected));
    }
}
