//! A client and its broker's end, which the test is.

use std::time::Duration;

use busrt::{ERR_ACCESS, ERR_BUSY, ERR_OTHER, ErrorKind, OP_MESSAGE, RESPONSE_OK};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex, split};
use tokio::time::timeout;

use super::super::{WireClient, register};
use super::{announced, answer, frame};

const GREETING: [u8; 3] = [0xEB, 1, 0];
const PATIENT: Duration = Duration::from_secs(60);
const LIMIT: usize = 1 << 20;

/// A client, with `room` bytes between it and its broker each way.
fn client(room: usize, keepalive: Duration) -> (WireClient, DuplexStream) {
    let (near, far) = duplex(room);
    let (reader, writer) = split(near);
    let client = WireClient::new(reader, writer, BytesMut::new(), keepalive, LIMIT);
    (client, far)
}

async fn patiently<T>(work: impl Future<Output = T>) -> T {
    timeout(PATIENT, work).await.expect("it hangs")
}

#[tokio::test]
async fn what_follows_the_handshake_is_not_lost() {
    let (mut near, mut far) = duplex(4096);
    let mut said = GREETING.to_vec();
    said.extend([RESPONSE_OK, RESPONSE_OK]);
    said.extend(frame(OP_MESSAGE, &["one"], b"early"));
    far.write_all(&said).await.unwrap();
    // The first byte has been read by whoever connected.
    let mut read = BytesMut::from(&[near.read_u8().await.unwrap()][..]);
    let registering = register(&mut near, &mut read, "two", PATIENT);
    patiently(registering).await.unwrap();
    let mut heard = [0; 8];
    far.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, [0xEB, 1, 0, 3, 0, b't', b'w', b'o']);
    let (reader, writer) = split(near);
    let mut client = WireClient::new(reader, writer, read, PATIENT, LIMIT);
    let mut reader = client.take_reader().unwrap();
    let first = patiently(reader.next()).await.unwrap().unwrap();
    assert_eq!(
        (first.sender(), &first.payload()[..]),
        ("one", &b"early"[..])
    );
    assert!(client.take_reader().is_none());
}

#[tokio::test]
async fn a_refusal_is_heard_though_the_broker_has_hung_up() {
    for (said, kind) in [
        (&[0xEB, 1, 0, ERR_OTHER][..], ErrorKind::Other),
        (&[0xEB, 1, 0, RESPONSE_OK, ERR_BUSY], ErrorKind::Busy),
        (&[0xEB, 1, 0, RESPONSE_OK], ErrorKind::Eof),
        (&[0xEB, 2, 0], ErrorKind::NotSupported),
        (b"HTTP", ErrorKind::NotSupported),
        (&[], ErrorKind::Eof),
    ] {
        let (mut near, mut far) = duplex(4096);
        far.write_all(said).await.unwrap();
        drop(far);
        let mut read = BytesMut::new();
        let registering = register(&mut near, &mut read, "one", PATIENT);
        let reason = patiently(registering).await.unwrap_err();
        assert_eq!(reason.kind(), kind, "{said:?}: {reason}");
    }
}

#[tokio::test]
async fn a_broker_that_says_nothing_is_not_waited_for() {
    let (mut near, _far) = duplex(4096);
    let soon = Duration::from_millis(20);
    let mut read = BytesMut::new();
    let registering = register(&mut near, &mut read, "one", soon);
    let reason = patiently(registering).await.unwrap_err();
    assert_eq!(reason.kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn each_operation_gets_its_own_answer() {
    let (mut client, mut far) = client(4096, PATIENT);
    let mut reader = client.take_reader().unwrap();
    let reading = tokio::spawn(async move { reader.next().await.map(|frame| frame.is_none()) });
    let first = client.publish("a", vec![], true).await.unwrap().unwrap();
    let none = client.send("b", vec![], false).await.unwrap();
    assert!(none.is_none());
    let third = client.subscribe(&["c", "d"]).await.unwrap().unwrap();
    let fourth = client.send("e", vec![], true).await.unwrap().unwrap();
    let said = [answer(3, ERR_ACCESS), answer(3, RESPONSE_OK), answer(1, 1)];
    far.write_all(&said.concat()).await.unwrap();
    patiently(client.answered(first)).await.unwrap();
    let denied = patiently(client.answered(third)).await.unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::Access);
    drop(far);
    assert!(patiently(fourth).await.is_err(), "it is answered by nobody");
    assert!(patiently(reading).await.unwrap().unwrap());
    let late = client.send("e", vec![], true).await;
    assert!(late.is_err(), "nobody reads its answer");
}

#[tokio::test]
async fn nobody_waits_for_a_reader_that_is_gone() {
    let (mut client, _far) = client(4096, PATIENT);
    let reader = client.take_reader().unwrap();
    let awaited = client.publish("a", vec![], true).await.unwrap().unwrap();
    drop(reader);
    assert!(patiently(awaited).await.is_err());
}

/// The first question is asked before anybody drains the connection.
#[tokio::test]
async fn an_answer_is_found_behind_frames_that_are_kept() {
    let (mut client, mut far) = client(1 << 20, PATIENT);
    let mut said = Vec::new();
    for at in 0..100_u8 {
        said.extend(frame(OP_MESSAGE, &["one"], &[at]));
    }
    said.extend(answer(1, ERR_ACCESS));
    said.extend(frame(OP_MESSAGE, &["one"], &[100]));
    far.write_all(&said).await.unwrap();
    let awaited = client.send("a", vec![], true).await.unwrap().unwrap();
    let denied = patiently(client.answered(awaited)).await.unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::Access);
    let awaited = client.send("a", vec![], true).await.unwrap().unwrap();
    drop(far);
    assert!(
        patiently(client.answered(awaited)).await.is_err(),
        "it ended"
    );
    let mut reader = client.take_reader().unwrap();
    for at in 0..=100_u8 {
        let frame = patiently(reader.next()).await.unwrap().unwrap();
        assert_eq!(frame.payload()[..], [at]);
    }
    assert!(patiently(reader.next()).await.unwrap().is_none());
}

/// Frames that nobody drains do not fill the memory.
#[tokio::test]
async fn only_so_much_is_read_ahead() {
    let (mut client, mut far) = client(1 << 20, PATIENT);
    for _ in 0..2_000 {
        let one = frame(OP_MESSAGE, &["one"], b"");
        far.write_all(&one).await.unwrap();
    }
    far.write_all(&answer(1, RESPONSE_OK)).await.unwrap();
    let mut awaited = client.send("a", vec![], true).await.unwrap().unwrap();
    let mut reader = client.take_reader().unwrap();
    let ahead = timeout(Duration::from_millis(100), reader.read_ahead());
    assert!(ahead.await.is_err());
    assert!(awaited.try_recv().is_err(), "it is behind too many frames");
    for _ in 0..2_000 {
        assert!(patiently(reader.next()).await.unwrap().is_some());
    }
    drop(far);
    assert!(patiently(reader.next()).await.unwrap().is_none());
    assert!(awaited.try_recv().unwrap().is_ok());
}

#[tokio::test]
async fn a_connection_that_makes_no_sense_says_so() {
    let (mut client, mut far) = client(4096, PATIENT);
    let mut reader = client.take_reader().unwrap();
    far.write_all(&frame(OP_MESSAGE, &["one"], b"x"))
        .await
        .unwrap();
    far.write_all(&announced(OP_MESSAGE, LIMIT)).await.unwrap();
    assert!(patiently(reader.next()).await.unwrap().is_some());
    let reason = patiently(reader.next()).await.unwrap_err().to_string();
    assert!(reason.contains("over the limit"), "{reason}");
    far.write_all(&[0x55; 6]).await.unwrap();
}

#[tokio::test]
async fn a_flush_that_is_cancelled_goes_on_where_it_was() {
    let (mut client, mut far) = client(1_000, PATIENT);
    let mut expected = Vec::new();
    for (id, size) in [(1_u32, 10), (2, 5_000), (3, 700), (4, 20_000)] {
        let payload = vec![id.to_le_bytes()[0]; size];
        expected.extend(id.to_le_bytes());
        expected.push(busrt::OP_PUBLISH | 2 << 6);
        expected.extend(u32::try_from(size + 2).unwrap().to_le_bytes());
        expected.extend(b"t\0");
        expected.extend(&payload);
        client.publish("t", payload, false).await.unwrap();
    }
    let mut heard = Vec::new();
    while heard.len() < expected.len() {
        tokio::select! {
            biased;
            done = client.flush() => done.unwrap(),
            () = std::future::ready(()) => {}
        }
        let mut some = [0; 333];
        let bytes = patiently(far.read(&mut some)).await.unwrap();
        heard.extend_from_slice(&some[..bytes]);
    }
    assert!(heard == expected);
}

#[tokio::test]
async fn much_is_sent_before_it_is_told_to() {
    let (mut client, mut far) = client(1 << 20, PATIENT);
    for _ in 0..64 {
        client.publish("t", vec![1; 1_000], false).await.unwrap();
    }
    let mut some = [0; 4096];
    let quiet = timeout(Duration::from_millis(20), far.read(&mut some));
    assert!(quiet.await.is_err(), "it is to wait for the flush");
    for _ in 0..2 {
        client.publish("t", vec![1; 1_000], false).await.unwrap();
    }
    assert!(patiently(far.read(&mut some)).await.unwrap() > 0);
}

#[tokio::test]
async fn a_broker_that_takes_nothing_is_not_waited_for() {
    let soon = Duration::from_millis(50);
    let (mut client, _far) = client(100, soon);
    client.publish("t", vec![0; 500], false).await.unwrap();
    let reason = patiently(client.flush()).await.unwrap_err();
    assert_eq!(reason.kind(), ErrorKind::Timeout);
    assert!(reason.to_string().contains("taken nothing"), "{reason}");
}

#[tokio::test]
async fn closing_sends_what_is_left() {
    let (mut client, mut far) = client(4096, PATIENT);
    client.ping().await.unwrap();
    patiently(client.close()).await;
    let mut heard = Vec::new();
    patiently(far.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard, [0; 9]);
}
