//! The checkers on histories made by hand: each finds what is there for it and stays silent
//! otherwise.

mod order;
mod reduction;

use eventbus_trait::{Delivery, Origin, PublisherId, Topic, TopicFilter};

use super::*;
use crate::history::{Arrival, Interest, Op, Publication, Recorder};

/// Writes histories of subscriptions of `a.#` and author 0 in short words.
#[derive(Default)]
struct Script(Recorder);

const HANDLE: PublisherId = PublisherId([1; 16]);

fn mark(sequence: u64) -> Mark {
    Mark {
        author: 0,
        sequence,
    }
}

fn stamp(publisher: PublisherId, sequence: u64) -> Origin {
    Origin {
        publisher,
        epoch: 1,
        sequence,
    }
}

fn topic(sequence: u64) -> Topic {
    Topic::new(if sequence.is_multiple_of(2) {
        "a.even"
    } else {
        "a.odd"
    })
    .unwrap()
}

impl Script {
    fn subscribe(self, name: &str) -> Self {
        self.subscribe_to(name, "a.#", false)
    }

    fn subscribe_to(self, name: &str, filter: &str, lossy: bool) -> Self {
        self.0.record(Op::Subscribed(Interest {
            subscription: name.into(),
            filters: vec![TopicFilter::new(filter).unwrap()],
            excluded: None,
            lossy,
        }));
        self
    }

    fn invoke(self, sequence: u64) -> Self {
        self.0.record(Op::Invoke(Publication {
            mark: mark(sequence),
            handle: HANDLE,
            topic: topic(sequence),
            digest: sequence,
            delivery: Delivery::AtLeastOnce,
        }));
        self
    }

    fn cancel(self, sequence: u64) -> Self {
        let script = self.invoke(sequence);
        script.0.record(Op::Unknown(mark(sequence)));
        script
    }

    fn publish(self, sequences: impl IntoIterator<Item = u64>) -> Self {
        sequences.into_iter().fold(self, |script, sequence| {
            let script = script.invoke(sequence);
            script.0.record(Op::Accepted(mark(sequence)));
            script
        })
    }

    fn refuse(self, sequence: u64) -> Self {
        let script = self.invoke(sequence);
        script.0.record(Op::Refused(mark(sequence)));
        script
    }

    fn arrive(self, name: &str, sequences: impl IntoIterator<Item = u64>) -> Self {
        for sequence in sequences {
            self.arrival(name, sequence, topic(sequence), sequence);
        }
        self
    }

    fn arrival(&self, name: &str, sequence: u64, topic: Topic, digest: u64) {
        let stamp = Some(stamp(HANDLE, sequence));
        self.stamped(name, sequence, topic, digest, stamp);
    }

    fn stamped(
        &self,
        name: &str,
        sequence: u64,
        topic: Topic,
        digest: u64,
        origin: Option<Origin>,
    ) {
        self.0.record(Op::Delivered(Arrival {
            subscription: name.into(),
            mark: Some(mark(sequence)),
            topic,
            digest,
            origin,
        }));
    }

    fn end(self, name: &str) -> Self {
        self.0.record(Op::Ended(name.into()));
        self
    }

    fn lag(self, name: &str, n: u64) -> Self {
        self.0.record(Op::Lagged(name.into(), n));
        self
    }

    fn drain(self, name: &str) -> History {
        self.0.record(Op::Drained(name.into()));
        self.0.history()
    }
}

/// What each checker says, by name, so that a test shows that the others stay silent. Skips are
/// left out: whatever is lost or late was skipped first.
fn anomalies(history: &History) -> Vec<(Kind, Option<u64>)> {
    let all = [
        lost(history),
        duplicates(history),
        phantoms(history),
        refused(history),
        nonmonotonic(history, Within::Author),
        corrupted(history),
    ];
    all.iter()
        .flat_map(|findings| &findings.anomalies)
        .map(|a| (a.kind, a.mark.map(|m| m.sequence)))
        .collect()
}

#[test]
fn a_history_in_order_has_nothing_wrong() {
    let history = Script::default()
        .subscribe("s")
        .publish(0..9)
        .arrive("s", 0..9)
        .drain("s");
    assert_eq!(anomalies(&history), []);
    assert_eq!(lost(&history).examined, 9);
    assert_eq!(lost(&history).verdict(), Ok(()));
    assert_eq!(uncounted(&history).verdict(), Ok(()));
}

/// What is missing of 0 to 5 on two topics, as the kind and the shape of the loss of each.
fn losses(arrived: impl IntoIterator<Item = u64>) -> Vec<(u64, Kind, Shape)> {
    let script = Script::default().subscribe("s").publish(0..6);
    let found = lost(&script.arrive("s", arrived).drain("s"));
    let loss = |a: &Anomaly| (a.mark.unwrap().sequence, a.kind, a.shape.unwrap());
    found.anomalies.iter().map(loss).collect()
}

#[test]
fn a_loss_has_a_kind_and_a_shape() {
    use {Kind::Lost, Kind::Unseen, Shape::Middle, Shape::Prefix, Shape::Suffix, Shape::Whole};
    assert_eq!(losses([0, 1, 2, 3, 4, 5]), []);
    assert_eq!(losses([0, 1, 3, 4, 5]), [(2, Lost, Middle)]);
    assert_eq!(losses([1, 2, 3, 4, 5]), [(0, Lost, Prefix)]);
    assert_eq!(losses([1, 3, 4, 5]), [(0, Lost, Prefix), (2, Lost, Prefix)]);
    assert_eq!(losses([0, 1, 2, 3, 5]), [(4, Unseen, Suffix)]);
    assert_eq!(
        losses([0, 1, 3, 5]),
        [(2, Unseen, Suffix), (4, Unseen, Suffix)]
    );
    let odd = [1, 3, 5].map(|n| (n, Unseen, Whole));
    assert_eq!(losses([0, 2, 4]), odd, "the other topic says nothing");
    assert_eq!(
        losses([3, 2]),
        [
            (0, Lost, Prefix),
            (1, Lost, Prefix),
            (4, Unseen, Suffix),
            (5, Unseen, Suffix)
        ]
    );
    assert_eq!(losses([]).len(), 6);
}

#[test]
fn a_loss_is_told_in_words() {
    let script = Script::default().subscribe("s").publish(0..4);
    let text = lost(&script.arrive("s", [0, 1]).drain("s")).verdict();
    let text = text.unwrap_err().to_string();
    let says = "2 anomalies in 4 examined: unseen in `s`: event 0:2 on `a.even`, of the suffix of 2 \
                that author 0 owed; unseen in `s`: event 0:3";
    assert!(text.starts_with(says), "{text}");
    assert!(
        text.contains("\nsmallest history of the first, 4 entries:\n"),
        "{text}"
    );
}

#[test]
fn only_what_was_owed_can_be_lost() {
    let before = Script::default().publish(0..1).subscribe("s").publish(1..2);
    assert_eq!(anomalies(&before.arrive("s", [1]).drain("s")), []);
    let elsewhere = Script::default()
        .subscribe_to("s", "a.odd", false)
        .publish(0..4);
    assert_eq!(anomalies(&elsewhere.arrive("s", [1, 3]).drain("s")), []);
    let lossy = Script::default()
        .subscribe_to("s", "a.#", true)
        .publish(0..4);
    assert_eq!(anomalies(&lossy.drain("s")), []);
    let refused = Script::default().subscribe("s").refuse(0);
    assert_eq!(anomalies(&refused.drain("s")), []);
    let cancelled = Script::default().subscribe("s").cancel(0).cancel(1);
    assert_eq!(anomalies(&cancelled.arrive("s", [1]).drain("s")), []);
    let ended = Script::default().subscribe("s").publish(0..4).end("s");
    assert_eq!(anomalies(&ended.0.history()), []);
    let read = Script::default().subscribe("s").publish(0..2);
    read.0.record(Op::Drained("s".into()));
    let then_ended = read.publish(2..4).end("s").0.history();
    assert_eq!(
        anomalies(&then_ended),
        [(Kind::Unseen, Some(0)), (Kind::Unseen, Some(1))]
    );
}

#[test]
fn a_duplicate_is_a_duplicate_and_not_nonmonotonic() {
    let script = Script::default().subscribe("s").publish(0..3);
    let history = script.arrive("s", [0, 1, 2, 1]).drain("s");
    assert_eq!(anomalies(&history), [(Kind::Duplicate, Some(1))]);
}

#[test]
fn two_subscriptions_get_a_copy_each() {
    let script = Script::default()
        .subscribe("s")
        .subscribe("t")
        .publish(0..2);
    let script = script.arrive("s", 0..2).arrive("t", 0..2);
    script.0.record(Op::Drained("s".into()));
    assert_eq!(anomalies(&script.drain("t")), []);
}

#[test]
fn a_phantom_is_what_nobody_published_or_wanted() {
    let script = Script::default().subscribe("s").publish(0..1);
    assert_eq!(
        anomalies(&script.arrive("s", [0, 7]).drain("s")),
        [(Kind::Phantom, Some(7))]
    );
    let script = Script::default()
        .subscribe_to("s", "a.even", false)
        .publish(0..2);
    assert_eq!(
        anomalies(&script.arrive("s", [0, 1]).drain("s")),
        [(Kind::Phantom, Some(1))]
    );
}

#[test]
fn a_refused_event_must_not_come() {
    let script = Script::default().subscribe("s").publish(0..1).refuse(1);
    let history = script.arrive("s", [0, 1]).drain("s");
    assert_eq!(anomalies(&history), [(Kind::Refused, Some(1))]);
}

#[test]
fn a_changed_event_is_corrupted() {
    let script = Script::default().subscribe("s").publish(0..2);
    script.arrival("s", 0, topic(0), 99);
    script.arrival("s", 1, topic(0), 1);
    let history = script.drain("s");
    assert_eq!(
        anomalies(&history),
        [(Kind::Corrupted, Some(0)), (Kind::Corrupted, Some(1))]
    );
}

#[test]
fn a_gap_must_be_counted_where_it_is() {
    let script = || {
        Script::default()
            .subscribe_to("s", "a.#", true)
            .publish(0..6)
    };
    let kept = script()
        .arrive("s", 0..2)
        .lag("s", 3)
        .arrive("s", 5..6)
        .drain("s");
    assert_eq!(uncounted(&kept).verdict(), Ok(()));
    let late = script()
        .arrive("s", 0..2)
        .arrive("s", 5..6)
        .lag("s", 3)
        .drain("s");
    assert_eq!(uncounted(&late).anomalies[0].mark, Some(mark(5)));
    let short = script().arrive("s", 0..2).lag("s", 3).drain("s");
    assert!(uncounted(&short).verdict().is_err());
    let over = script().arrive("s", 0..2).lag("s", 5).drain("s");
    assert!(uncounted(&over).verdict().is_err());
}

#[test]
fn what_was_cancelled_may_count_or_not() {
    for (counted, verdict) in [(3, true), (4, true), (2, false), (5, false)] {
        let script = Script::default().subscribe_to("s", "a.#", true);
        let script = script.publish(0..2).cancel(2).publish(3..4);
        let history = script.arrive("s", 0..1).lag("s", counted - 1).drain("s");
        assert_eq!(uncounted(&history).verdict().is_ok(), verdict, "{counted}");
    }
}

#[test]
fn a_history_of_nothing_is_not_judged() {
    let empty = Script::default().subscribe("s").drain("s");
    for findings in [
        lost(&empty),
        duplicates(&empty),
        refused(&empty),
        uncounted(&empty),
    ] {
        assert!(matches!(findings.verdict(), Err(Unmet::Unexercised(_))));
    }
    let unread = Script::default().subscribe("s").publish(0..1).0.history();
    assert!(matches!(
        lost(&unread).verdict(),
        Err(Unmet::Unexercised(_))
    ));
}

#[test]
fn a_life_of_a_name_is_judged_by_itself() {
    let script = Script::default().subscribe("s").publish(0..1);
    script.0.record(Op::Ended("s".into()));
    let history = script
        .subscribe("s")
        .publish(1..2)
        .arrive("s", [1])
        .drain("s");
    assert_eq!(anomalies(&history), []);
}
