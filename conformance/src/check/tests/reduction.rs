//! The smallest history of a large one.

use super::*;

const EVENTS: u64 = 2_500;

/// What the smallest history that shows the first anomaly says, a word and a mark per entry.
fn smallest(findings: &Findings) -> Vec<String> {
    let history = findings.smallest.as_ref().unwrap();
    let entry = |op: &Op| {
        let text = op.to_string();
        let words: Vec<_> = text.split_whitespace().take(2).collect();
        words.join(" ")
    };
    history.entries.iter().map(|e| entry(&e.op)).collect()
}

/// Two subscriptions, ten thousand entries; `came` says how one of the events came to the first.
fn large(came: impl Fn(Script, u64) -> Script) -> History {
    let script = Script::default().subscribe("s").subscribe("t");
    let script = (0..EVENTS).fold(script, |script, n| {
        came(script.publish(n..n + 1).arrive("t", [n]), n)
    });
    script.0.record(Op::Drained("t".into()));
    let history = script.drain("s");
    assert!(history.entries.len() >= 4 * EVENTS as usize - 1);
    history
}

#[test]
fn a_lost_event_of_thousands_is_shown_in_six_entries() {
    let history = large(|script, n| script.arrive("s", (n != 1_234).then_some(n)));
    let findings = lost(&history);
    assert_eq!(findings.anomalies.len(), 1);
    let shown = smallest(&findings);
    assert_eq!(shown.len(), 6, "{shown:?}");
    assert_eq!(shown[0], "subscribe s");
    assert_eq!(shown[1..3], ["invoke 0:1234", "ok 0:1234"]);
    assert!(shown[4].starts_with("deliver 0:"), "a later one: {shown:?}");
    assert_eq!(shown[5], "drain s");
}

#[test]
fn an_unseen_event_is_shown_in_four() {
    let history = large(|script, n| script.arrive("s", (n < EVENTS - 1).then_some(n)));
    let shown = smallest(&lost(&history));
    let last = EVENTS - 1;
    let event = [format!("invoke 0:{last}"), format!("ok 0:{last}")];
    let whole = ["subscribe s", &event[0], &event[1], "drain s"];
    assert_eq!(shown, whole);
}

#[test]
fn what_came_wrongly_is_shown_with_how_it_came() {
    let twice = large(|script, n| {
        let copies = if n == 77 { 3 } else { 1 };
        script.arrive("s", std::iter::repeat_n(n, copies))
    });
    let shown = smallest(&duplicates(&twice));
    assert_eq!(
        shown,
        [
            "subscribe s",
            "invoke 0:77",
            "deliver 0:77",
            "deliver 0:77",
            "deliver 0:77",
            "drain s"
        ]
    );
    let late = large(|script, n| match n {
        500 => script,
        501 => script.arrive("s", [501, 500]),
        _ => script.arrive("s", [n]),
    });
    let shown = smallest(&nonmonotonic(&late, Within::Author));
    assert_eq!(
        shown,
        [
            "subscribe s",
            "invoke 0:500",
            "invoke 0:501",
            "deliver 0:501",
            "deliver 0:500",
            "drain s"
        ]
    );
}

/// Leaving a dropped event out would leave a count behind that nothing is counted in.
#[test]
fn what_is_not_counted_stays_uncounted() {
    let script = Script::default().subscribe_to("s", "a.#", true);
    let script = script.publish(0..900).arrive("s", 0..600).lag("s", 200);
    let findings = uncounted(&script.drain("s"));
    assert!(findings.anomalies[0].detail.contains("800 delivered"));
    let smallest = findings.smallest.unwrap();
    let arrivals = smallest.arrivals("s").count();
    assert_eq!(arrivals, 0, "what came is not the matter");
    let again = uncounted(&smallest).anomalies;
    assert!(again[0].detail.contains("200 delivered"), "{again:?}");
    assert!(again[0].detail.contains("300 owed"), "{again:?}");
}

/// The reduction must not make an anomaly of its own and show that one.
#[test]
fn the_first_anomaly_is_the_one_that_is_shown() {
    let script = Script::default().subscribe("s").publish(0..20);
    let history = script
        .arrive("s", (0..20).filter(|n| *n != 4 && *n != 9))
        .drain("s");
    let findings = lost(&history);
    let again = lost(findings.smallest.as_ref().unwrap());
    assert_eq!(again.anomalies.len(), 1);
    assert_eq!(again.anomalies[0].mark, findings.anomalies[0].mark);
    assert_eq!(findings.anomalies.len(), 2);
}

#[test]
fn nothing_wrong_has_no_smallest_history() {
    let script = Script::default().subscribe("s").publish(0..3);
    assert_eq!(lost(&script.arrive("s", 0..3).drain("s")).smallest, None);
}
