//! Every message is read as it was written, and nothing else is read.

use proptest::prelude::*;

use super::*;

fn all() -> Vec<Control> {
    let member = Member {
        client: "eb-1".into(),
    };
    let info = SubscriptionInfo {
        id: 9,
        name: "näme".into(),
        filters: vec![
            TopicFilter::new("a.*.#").unwrap(),
            TopicFilter::new("#").unwrap(),
        ],
        link: 1,
        received: 17,
        received_bytes: 18,
        credit: 4096,
        credit_bytes: 1 << 40,
    };
    let status = StatusEntry {
        subscription: 9,
        next: u64::MAX,
        dropped: 3,
    };
    let ack = AckEntry {
        subscription: 9,
        received: 1,
        credit: 2,
        credit_bytes: 3,
    };
    let publisher = PublisherId([5; 16]);
    vec![
        Control::Join,
        Control::Members(vec![member.clone(), member.clone()]),
        Control::JoinRefused(Refusal::TooManyMembers),
        Control::Leave,
        Control::Joined(member.clone()),
        Control::Left(member.clone()),
        Control::Lost(member),
        Control::Grant {
            publish: info.filters.clone(),
            subscribe: Vec::new(),
        },
        Control::Probe,
        Control::Hello {
            publisher,
            subscriptions: vec![info.clone(), info.clone()],
        },
        Control::Welcome {
            publisher,
            subscriptions: vec![info.clone()],
        },
        Control::Open(info),
        Control::Opened {
            subscription: 9,
            first: 1,
        },
        Control::OpenRefused {
            subscription: 9,
            refusal: Refusal::NameInUse,
        },
        Control::Close { subscription: 9 },
        Control::Closed(status),
        Control::Ack(vec![ack, ack]),
        Control::Status(vec![status]),
    ]
}

#[test]
fn messages_read_back_and_every_cut_is_an_error() {
    for message in all() {
        let bytes = Bytes::from(message.write());
        assert_eq!(Control::read(&bytes), Ok(Some(message.clone())));
        for cut in 4..bytes.len() {
            assert!(
                Control::read(&bytes.slice(..cut)).is_err(),
                "{message:?} cut at {cut}"
            );
        }
    }
    assert_eq!(Control::read(&Bytes::from_static(b"{}")), Ok(None));
}

proptest! {
    #[test]
    fn no_bytes_panic_the_reader(tail in proptest::collection::vec(any::<u8>(), 0..100)) {
        let mut bytes = MAGIC.to_vec();
        bytes.push(VERSION);
        bytes.extend(tail);
        let _ = Control::read(&bytes.into());
    }
}
