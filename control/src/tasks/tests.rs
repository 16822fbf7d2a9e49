//! Unit tests of what is sent: it comes back as it was, and what is out of bounds does not come in.

use eventbus_trait::ContentType;
use proptest::prelude::*;

use super::*;

fn mark() -> Mark {
    Mark {
        id: "scan-7/1".to_owned(),
        dispatcher: "agent".to_owned(),
        life: "a1".to_owned(),
        attempt: 2,
    }
}

fn task(payload: eventbus_trait::Payload) -> Task {
    Task {
        mark: mark(),
        capability: "hash".to_owned(),
        deadline: Duration::from_millis(2500),
        priority: 7,
        payload,
    }
}

fn json(text: &'static str) -> eventbus_trait::Payload {
    eventbus_trait::Payload::new(text, ContentType::Json)
}

fn text(payload: &eventbus_trait::Payload) -> String {
    String::from_utf8(payload.bytes().unwrap().to_vec()).unwrap()
}

#[test]
fn an_order_is_one_flat_object() {
    let order = Order::Do(task(json(r#"{"pid":1}"#)));
    assert_eq!(
        text(&order.encode().unwrap()),
        r#"{"v":1,"order":"do","id":"scan-7/1","dispatcher":"agent","life":"a1","attempt":2,"#
            .to_owned()
            + r#""capability":"hash","deadline_ms":2500,"priority":7,"payload":{"json":{"pid":1}}}"#
    );
    assert_eq!(
        text(&Order::Cancel(mark()).encode().unwrap()),
        r#"{"v":1,"order":"cancel","id":"scan-7/1","dispatcher":"agent","life":"a1","attempt":2}"#
    );
}

#[test]
fn an_order_of_few_words_is_enough() {
    let order = Order::decode(
        br#"{"v":1,"order":"do","id":"1","dispatcher":"py","capability":"hash","deadline_ms":1}"#,
    );
    let Ok(Order::Do(task)) = order else {
        panic!("{order:?}");
    };
    assert_eq!(task.mark.attempt, 1);
    assert_eq!(task.priority, DEFAULT_PRIORITY);
    assert_eq!(task.payload, json("null"));
}

#[test]
fn reports_say_why_in_a_word_and_in_a_sentence() {
    let report = |answer| Report {
        mark: mark(),
        member: "procmond-1".to_owned(),
        instance: "i1".to_owned(),
        answer,
    };
    let full = report(Answer::Refused {
        reason: RefusalReason::Full,
        message: "4 run, 64 wait".to_owned(),
    });
    assert_eq!(
        text(&full.encode().unwrap()),
        r#"{"v":1,"report":"refused","id":"scan-7/1","dispatcher":"agent","life":"a1","attempt":2,"#
            .to_owned()
            + r#""member":"procmond-1","instance":"i1","reason":"full","message":"4 run, 64 wait"}"#
    );
    let other = text(&full.encode().unwrap()).replace("full", "tired");
    assert!(matches!(
        Report::decode(other.as_bytes()).unwrap().answer,
        Answer::Refused {
            reason: RefusalReason::Other,
            ..
        }
    ));
    for answer in [
        Answer::Accepted,
        Answer::Cancelled,
        Answer::Done(json("[1,2]")),
        Answer::Failed {
            reason: FailureReason::Panic,
            message: "oh".to_owned(),
        },
        full.answer.clone(),
    ] {
        let report = report(answer);
        let read = Report::decode(&report.encode().unwrap().bytes().unwrap());
        assert_eq!(read, Ok(report));
    }
    let long = report(Answer::Failed {
        reason: FailureReason::Error,
        message: "é".repeat(MAX_MESSAGE_BYTES),
    });
    let read = Report::decode(&long.encode().unwrap().bytes().unwrap()).unwrap();
    let Answer::Failed { message, .. } = read.answer else {
        panic!("{read:?}");
    };
    assert_eq!(message, "é".repeat(MAX_MESSAGE_BYTES / 2));
}

#[test]
fn what_is_out_of_bounds_does_not_come_in() {
    let good = text(&Order::Do(task(json("1"))).encode().unwrap());
    assert!(Order::decode(good.as_bytes()).is_ok());
    let long = format!(r#""id":"{}""#, "x".repeat(MAX_ID_BYTES + 1));
    for (part, instead, field) in [
        (r#""id":"scan-7/1""#, r#""id":"""#, "`id` is not"),
        (r#""id":"scan-7/1""#, &long, "`id` is not"),
        (r#""agent""#, r#""a.#""#, "`dispatcher` is not"),
        (r#""hash""#, r#""""#, "`capability` is not"),
        ("2500", "0", "`deadline_ms` is not"),
        ("2500", "86400001", "`deadline_ms` is not"),
        (r#""capability":"hash","#, "", "`capability` is missing"),
        (r#""v":1"#, r#""v":2"#, "version 2 is not 1"),
        (r#"{"json":1}"#, r#"{"base64":"?"}"#, "`base64` is not"),
        (
            r#"{"json":1}"#,
            r#"{"json":1,"base64":""}"#,
            "`json` is not",
        ),
        (r#""attempt":2"#, r#""attempt":-2"#, "not a message"),
    ] {
        let bad = good.replacen(part, instead, 1);
        assert_ne!(bad, good, "{part} is not in there");
        let error = Order::decode(bad.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(field), "{bad}: {error}");
    }
    assert_eq!(
        Order::decode(br#"{"v":3,"else":true}"#),
        Err(Malformed::Version { version: 3 })
    );
}

#[test]
fn what_is_wrong_is_said_without_what_it_says() {
    for bad in [
        r#"{"v":1,"order":"secret"}"#,
        r#"{"v":1,"report":"secret"}"#,
        "secret",
    ] {
        for error in [
            Order::decode(bad.as_bytes()).unwrap_err().to_string(),
            Report::decode(bad.as_bytes()).unwrap_err().to_string(),
        ] {
            assert!(!error.contains("secret"), "{error}");
            assert!(error.contains(", at line 1 column "), "{error}");
        }
    }
}

fn payloads() -> impl Strategy<Value = eventbus_trait::Payload> {
    let bytes = prop::collection::vec(any::<u8>(), 0..64);
    let types = prop::sample::select(vec![
        ContentType::Json,
        ContentType::Protobuf,
        ContentType::Raw,
        ContentType::parse("text/csv"),
    ]);
    let values = prop::sample::select(vec![
        "null",
        " 1",
        "1e400",
        r#"{"b":1,"a":18446744073709551616}"#,
        "\"\\u0000\"",
    ]);
    prop_oneof![
        (bytes, types).prop_map(|(bytes, kind)| eventbus_trait::Payload::new(bytes, kind)),
        values.prop_map(json),
    ]
}

proptest! {
    #[test]
    fn any_payload_comes_back_byte_by_byte(payload in payloads()) {
        let order = Order::Do(task(payload));
        let read = Order::decode(&order.encode().unwrap().bytes().unwrap()).unwrap();
        prop_assert_eq!(read, order);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Order::decode(&bytes).is_err());
        prop_assert!(Report::decode(&bytes).is_err());
    }
}
