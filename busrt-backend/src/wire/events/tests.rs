//! Events written, checked and read.

use super::super::blocks::LARGE;
use super::*;

fn stamp() -> Stamp {
    Stamp {
        topic: Topic::new("a").unwrap(),
        publisher: PublisherId([7; 16]),
        epoch: 3,
    }
}

fn written(payloads: &[&'static [u8]]) -> WrittenEvents {
    let mut written = WrittenEvents::default();
    for (n, payload) in payloads.iter().enumerate() {
        let event = Event::on(stamp().topic, Payload::raw(*payload));
        written.push(&event, payload, None, n as u64);
    }
    written
}

fn sequence(event: Event) -> u64 {
    event.origin().unwrap().sequence
}

#[test]
fn what_is_left_is_counted_down() {
    let mut events = written(&[b"one", b"", b"three"]).read(stamp(), 0);
    assert_eq!((events.len(), events.size()), (3, 8));
    assert_eq!(events.next().map(sequence), Some(0));
    assert_eq!((events.len(), events.size()), (2, 5));
    events.let_go(1);
    assert_eq!((events.len(), events.size()), (1, 5));
    assert_eq!(events.next().map(sequence), Some(2));
    assert_eq!((events.next(), events.size()), (None, 0));
}

#[test]
fn metadata_is_read_at_once_and_its_faults_are_found_at_once() {
    let event = Event::on(stamp().topic, Payload::raw("x")).header("name", "value");
    let mut written = WrittenEvents::default();
    written.push(&event, b"x", None, 5);
    let read = written.read(stamp(), 0);
    assert!(matches!(read.0, Repr::Read(_)));
    assert_eq!(read.size(), 10);
    let mut broken = written.bytes;
    let at = broken.iter().position(|byte| *byte == b'{').unwrap();
    broken[at] = b'[';
    let broken = Bytes::from(broken);
    let read = Events::check(stamp(), Reader::new(&broken), 1);
    assert_eq!(read, Err(WireError::Invalid { field: "metadata" }));
}

#[test]
fn who_shares_events_takes_each_at_its_own_pace() {
    let events = written(&[b"one", b"two", b"three"]).read(stamp(), 0);
    let size = events.size();
    let all: Vec<Event> = events.clone().collect();
    let shared = events.shared();
    let (mut fast, mut slow) = (shared.clone(), shared.clone());
    assert_eq!((fast.len(), fast.size()), (3, size));
    assert_eq!(fast.by_ref().collect::<Vec<_>>(), all);
    assert_eq!((fast.len(), fast.size(), fast.next()), (0, 0, None));
    slow.let_go(1);
    assert_eq!((slow.len(), slow.size()), (2, 8));
    assert_eq!(slow.collect::<Vec<_>>(), all[1..]);
    let payload = |events: &Events| {
        let first = events.clone().next().unwrap();
        first.payload().encoded().unwrap().as_ptr()
    };
    assert_eq!(payload(&shared), payload(&shared.clone()), "made once");
}

#[test]
fn who_keeps_an_event_keeps_little_beside_it() {
    let payloads: Vec<Vec<u8>> = [100, 5_000, LARGE, 3, LARGE + 1, 0, 100]
        .iter()
        .cycle()
        .take(70)
        .map(|len| (0..*len).map(|n| n as u8).collect())
        .collect();
    let mut written = WrittenEvents::default();
    for payload in &payloads {
        let event = Event::on(stamp().topic, Payload::raw(payload.clone()));
        written.push(&event, payload, None, 0);
    }
    let frame = Bytes::from(written.bytes);
    let lies_in = |whole: &Bytes, part: &Bytes| {
        let (whole, part) = (whole.as_ptr_range(), part.as_ptr_range());
        whole.start <= part.start && part.end <= whole.end
    };
    let events = Events::check(stamp(), Reader::new(&frame), payloads.len()).unwrap();
    for (event, payload) in events.zip(&payloads) {
        let bytes = event.bytes().unwrap();
        assert_eq!(bytes, payload);
        assert_eq!(lies_in(&frame, &bytes), bytes.len() > LARGE);
    }
}

#[test]
fn small_payloads_share_a_block() {
    let payloads: [&[u8]; 3] = [b"one", b"two", b"three"];
    let kept: Vec<Bytes> = written(&payloads)
        .read(stamp(), 0)
        .map(|event| event.bytes().unwrap())
        .collect();
    for pair in kept.windows(2) {
        let apart = pair[1].as_ptr() as usize - pair[0].as_ptr() as usize;
        assert_eq!(apart, pair[0].len() + MIN_EVENT);
    }
}

#[test]
fn the_first_events_can_be_left_out() {
    let mut written = written(&[b"one", b"two", b"three"]);
    written.set_first_sequence(9);
    for (skip, first) in [
        (0, Some(9)),
        (1, Some(1)),
        (2, Some(2)),
        (3, None),
        (4, None),
    ] {
        let mut events = written.read(stamp(), skip);
        assert_eq!(events.len() as u32, 3_u32.saturating_sub(skip));
        assert_eq!(events.next().map(sequence), first);
    }
}
