//! Frames of calls, read back, cut and damaged.

use proptest::prelude::*;

use super::*;

fn read(bytes: Vec<u8>) -> CallFrame {
    CallFrame::read(&bytes.into()).unwrap().unwrap()
}

fn asked() -> Asked {
    Asked {
        service: "s".to_owned(),
        method: "m".to_owned(),
        deadline: Duration::from_secs(1),
    }
}

fn context(correlation: Option<Correlation>) -> Context {
    Context {
        id: 7,
        left: Duration::from_micros(1_234_567),
        idempotent: true,
        content_type: ContentType::Other("text/x".into()),
        correlation,
    }
}

#[test]
fn everything_reads_back() {
    for correlation in [None, Some(Correlation::new("c").child("d").tag("k", "ü"))] {
        let context = context(correlation);
        assert_eq!(read(context.write()), CallFrame::Context(context));
    }
    assert_eq!(read(cancel(9)), CallFrame::Cancel { id: 9 });
    let ids = vec![1, u32::MAX];
    assert_eq!(read(ask(&ids)), CallFrame::Ask { ids });
    assert_eq!(
        read(request(3, "do", b"\0\xFF")),
        CallFrame::Request {
            id: 3,
            method: "do".to_owned(),
            payload: Bytes::from_static(b"\0\xFF"),
        }
    );
    for enveloped in [true, false] {
        let content_type = if enveloped {
            ContentType::Json
        } else {
            ContentType::Raw
        };
        assert_eq!(
            read(reply(4, &ContentType::Json, b"{}", enveloped)),
            CallFrame::Reply {
                id: 4,
                content_type,
                payload: Bytes::from_static(b"{}"),
            }
        );
    }
}

#[test]
fn an_error_is_the_same_value_at_the_caller() {
    let service = || "s".to_owned();
    let errors = [
        CallError::NoService { service: service() },
        CallError::NoMethod {
            service: service(),
            method: "m".to_owned(),
        },
        CallError::Busy {
            service: service(),
            limit: 17,
        },
        CallError::Failed {
            service: service(),
            code: -7,
            message: "voll — ü".to_owned(),
        },
        CallError::Panicked { service: service() },
        CallError::CalleeGone { service: service() },
        CallError::ReplyTooLarge { size: 9, limit: 8 },
        CallError::Deadline {
            service: service(),
            deadline: asked().deadline,
        },
    ];
    for sent in errors {
        let CallFrame::Error {
            id: 5,
            code,
            payload,
        } = read(error(5, &sent, true))
        else {
            panic!("{sent}");
        };
        assert_eq!(error_of(code, &payload, asked()), sent);
    }
}

#[test]
fn who_knows_no_envelope_gets_busrts_codes_and_words() {
    let failed = CallError::Failed {
        service: "s".to_owned(),
        code: 12,
        message: "no".to_owned(),
    };
    assert_eq!(error(1, &failed, false), b"\x12\x01\0\0\0\x0C\0no");
    let unknown = Bytes::from_static(b"?");
    let no_method = error_of(NO_METHOD, &unknown, asked());
    assert!(matches!(no_method, CallError::NoMethod { .. }));
    let other = error_of(-32603, &unknown, asked());
    assert!(matches!(other, CallError::Failed { code: -32603, .. }));
}

#[test]
fn what_is_none_of_ours_is_left_alone() {
    for other in [&b""[..], b"\x02", b"\xEB\x05EC\x01\x05", b"{}"] {
        assert_eq!(CallFrame::read(&Bytes::copy_from_slice(other)), Ok(None));
    }
    let note = Bytes::from_static(b"\0hello");
    assert_eq!(CallFrame::read(&note), Ok(Some(CallFrame::Notification)));
}

#[test]
fn every_cut_of_a_head_is_an_error() {
    let whole = Bytes::from(context(None).write());
    for cut in 5..whole.len() {
        assert!(CallFrame::read(&whole.slice(..cut)).is_err(), "{cut}");
    }
    assert!(CallFrame::read(&Bytes::from_static(b"\x01\x01\0\0\0do")).is_err());
    let mut later = whole.to_vec();
    later[5] = 2;
    let read = CallFrame::read(&later.into());
    assert!(matches!(read, Err(WireError::Version { version: 2, .. })));
}

proptest! {
    #[test]
    fn no_bytes_panic_the_reader(kind in 0_u8..0x14, ours: bool, tail in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = vec![kind];
        if ours {
            bytes.extend_from_slice(&OURS);
        }
        bytes.extend(&tail);
        crate::fuzzing::envelope(&bytes);
    }
}
