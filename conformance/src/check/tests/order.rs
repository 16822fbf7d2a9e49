//! Order, skips and stamps.

use super::*;

/// The kinds and sequences that `findings` has.
fn found(findings: &Findings) -> Vec<(Kind, u64)> {
    let anomaly = |a: &Anomaly| (a.kind, a.mark.unwrap().sequence);
    findings.anomalies.iter().map(anomaly).collect()
}

fn arrived(sequences: impl IntoIterator<Item = u64>) -> Script {
    let script = Script::default().subscribe("s").publish(0..6);
    script.arrive("s", sequences)
}

#[test]
fn order_holds_within_a_topic_or_across_topics() {
    let across = arrived([1, 0, 3, 2]).drain("s");
    assert_eq!(found(&nonmonotonic(&across, Within::Topic)), []);
    assert_eq!(
        found(&nonmonotonic(&across, Within::Author)),
        [(Kind::Nonmonotonic, 0), (Kind::Nonmonotonic, 2)]
    );
    let within = arrived([2, 1, 0, 3]).drain("s");
    assert_eq!(
        found(&nonmonotonic(&within, Within::Topic)),
        [(Kind::Nonmonotonic, 0)]
    );
    let gaps = arrived([0, 3, 5, 5, 3]).drain("s");
    assert_eq!(found(&nonmonotonic(&gaps, Within::Author)), []);
}

#[test]
fn a_delivery_skips_what_was_owed_before_it() {
    let in_order = arrived(0..4).end("s").0.history();
    assert_eq!(found(&skips(&in_order, Within::Author)), []);
    assert_eq!(skips(&in_order, Within::Author).examined, 4);

    // Not read to its end, so nothing can be said to be lost; but 0 and 2 should have been there.
    let skipped = arrived([1, 4, 3]).end("s").0.history();
    assert_eq!(found(&skips(&skipped, Within::Topic)), [(Kind::Skip, 0)]);
    assert_eq!(
        found(&skips(&skipped, Within::Author)),
        [(Kind::Skip, 0), (Kind::Skip, 2)]
    );
    let text = skips(&skipped, Within::Topic).anomalies[0].to_string();
    assert!(
        text.ends_with("`a.even` and 1 after it had not come when 0:4 did"),
        "{text}"
    );
}

#[test]
fn only_what_was_owed_can_be_skipped() {
    let script = Script::default().publish(0..1).subscribe("s").refuse(1);
    let script = script.cancel(2).publish(3..4).arrive("s", [3]);
    let findings = skips(&script.0.history(), Within::Author);
    assert_eq!((found(&findings), findings.examined), (vec![], 1));
    let lossy = Script::default().subscribe_to("s", "a.#", true);
    let lossy = lossy.publish(0..4).arrive("s", [3]).drain("s");
    assert_eq!(skips(&lossy, Within::Author).examined, 0);
}

#[test]
fn stamps_are_the_handles_and_rise() {
    let history = arrived([0, 1, 2, 4]).drain("s");
    let findings = stamps(&history, Within::Author);
    assert_eq!((found(&findings), findings.examined), (vec![], 4));
}

#[test]
fn a_wrong_stamp_is_corrupted() {
    let wrong = |origin| {
        let script = arrived([0]).subscribe("t").arrive("t", [0]);
        script.stamped("t", 1, topic(1), 1, origin);
        found(&stamps(&script.drain("s"), Within::Author))
    };
    assert_eq!(wrong(Some(stamp(HANDLE, 1))), []);
    assert_eq!(wrong(None), [(Kind::Corrupted, 1)]);
    let stranger = PublisherId([2; 16]);
    assert_eq!(wrong(Some(stamp(stranger, 1))), [(Kind::Corrupted, 1)]);
}

#[test]
fn an_event_has_one_stamp_in_all_subscriptions() {
    let script = arrived([0, 1]).subscribe("t");
    script.stamped("t", 1, topic(1), 1, Some(stamp(HANDLE, 7)));
    let findings = stamps(&script.drain("s"), Within::Author);
    assert_eq!(found(&findings), [(Kind::Corrupted, 1)]);
}

#[test]
fn a_stamp_that_does_not_rise_is_nonmonotonic() {
    let falling = |first: u64, then: u64, within| {
        let script = arrived([]);
        script.stamped("s", 0, topic(0), 0, Some(stamp(HANDLE, first)));
        script.stamped("s", 1, topic(1), 1, Some(stamp(HANDLE, then)));
        found(&stamps(&script.drain("s"), within))
    };
    assert_eq!(falling(3, 4, Within::Author), []);
    assert_eq!(falling(4, 3, Within::Topic), [], "on two topics");
    for then in [3, 4] {
        let found = falling(4, then, Within::Author);
        assert_eq!(found, [(Kind::Nonmonotonic, 1)], "4, then {then}");
    }
}
