//! What the fuzz targets run, so that the same corpora run as plain tests.
//!
//! Each takes any bytes, and panics if something that must hold for them does not. This is no part
//! of the crate's interface.

use bytes::Bytes;
use eventbus_trait::Topic;

use crate::broker::fuzzing as door;
use crate::options::is_name;
use crate::wire::call::{Asked, CallFrame, error_of};
use crate::wire::{Control, EventFrame, read_resend};
use crate::{topics, wire};

/// The front door's parser. The first byte says how the rest, a client's stream, is cut, and
/// whether there are rules.
pub fn relay(input: &[u8]) {
    let Some((how, stream)) = input.split_first() else {
        return;
    };
    let (ruled, priced) = (how & 1 != 0, how & 2 != 0);
    let whole = door::transcript(stream, stream.len().max(1), ruled, priced);
    let cut = door::transcript(stream, usize::from(how >> 2) + 1, ruled, priced);
    assert_eq!(whole, cut, "it depends on how the stream is cut");
    assert!(whole.passed.len() + whole.dropped <= stream.len());
    check_passed(&whole.passed);
}

/// What has passed, read as busrt reads it: only the last frame may lack its end.
fn check_passed(mut bytes: &[u8]) {
    while let Some((head, rest)) = bytes.split_first_chunk::<9>() {
        let [_, _, _, _, flags, len @ ..] = *head;
        let len = u32::from_le_bytes(len) as usize;
        if flags == 0 {
            assert_eq!(len, 0);
            bytes = rest;
            continue;
        }
        assert!(len <= door::MAX_FRAME);
        let body = &rest[..rest.len().min(len)];
        let whole = body.len() == len;
        let address = body.split(|byte| *byte == 0).next().unwrap_or(&[]);
        let address = str::from_utf8(address).unwrap_or("\0");
        match flags & 0x3F {
            busrt::OP_PUBLISH => {
                let ours = topics::from_broker(address).is_some() || address == "eb-ping";
                assert!(ours, "published on {address:?}");
            }
            busrt::OP_MESSAGE => assert!(is_name(address), "sent to {address:?}"),
            busrt::OP_SUBSCRIBE | busrt::OP_UNSUBSCRIBE => {
                assert!(whole, "a list passed before its end");
                body.split(|byte| *byte == 0).for_each(check_pattern);
            }
            op => panic!("operation {op:#x} passed"),
        }
        bytes = rest.get(len..).unwrap_or(&[]);
    }
    assert!(bytes.is_empty(), "half a head passed");
}

fn check_pattern(pattern: &[u8]) {
    let text = str::from_utf8(pattern).unwrap_or("\0");
    let segments = topics::split(text).map(|(_, t)| t.replace('/', "."));
    let valid = segments.is_some_and(|text| eventbus_trait::TopicFilter::new(text).is_ok());
    assert!(valid, "subscribed to {text:?}");
}

/// A call's frame, whoever has sent it.
fn check_call(bytes: &Bytes) {
    match CallFrame::read(bytes) {
        Ok(Some(CallFrame::Context(context))) => {
            let written = Bytes::from(context.write());
            let read = CallFrame::read(&written);
            assert_eq!(read, Ok(Some(CallFrame::Context(context))));
        }
        Ok(Some(CallFrame::Ask { ids })) => assert!(ids.len() <= bytes.len()),
        Ok(Some(CallFrame::Error { code, payload, .. })) => {
            let asked = Asked {
                service: String::new(),
                method: String::new(),
                deadline: std::time::Duration::ZERO,
            };
            let _ = error_of(code, &payload, asked);
        }
        _ => {}
    }
}

/// The readers of what sessions send each other. What is read can be written, and read again.
pub fn envelope(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    if let Ok(Some(message)) = Control::read(&bytes) {
        let written = Bytes::from(message.write());
        assert_eq!(Control::read(&written), Ok(Some(message)));
    }
    check_call(&bytes);
    let Ok(topic) = Topic::new("a") else {
        return;
    };
    if let Ok(frame) = EventFrame::read(&topic, &bytes) {
        assert!(wire::is_frame(&bytes));
        assert!(frame.events.len() <= bytes.len());
        assert!(frame.links.len() <= bytes.len());
    }
    if let Ok(Some((topic, frame))) = read_resend(&bytes) {
        assert!(frame.len() < bytes.len());
        let _ = EventFrame::read(&topic, &frame);
    }
}
