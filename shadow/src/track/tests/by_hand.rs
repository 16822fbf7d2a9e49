//! The track by hand-made sequences.

use super::*;
use crate::record::GoneOn;
use Side::{Candidate, Primary};

#[test]
fn what_both_deliver_in_order_matches() {
    let mut bench = Bench::new();
    bench.publish(0..10);
    bench.arrive(Primary, 0..10);
    bench.arrive(Candidate, 0..10);
    assert_eq!(bench.counts().matched, 10);
    assert!(bench.track.is_idle());
    assert!(bench.told().is_empty());
}

#[test]
fn a_gap_is_missing_after_the_grace_time_and_late_after_that() {
    let mut bench = Bench::new();
    bench.publish(0..3);
    bench.arrive(Primary, 0..3);
    bench.arrive(Candidate, [0, 2]);
    bench.wait(GRACE - 1);
    bench.sweep();
    assert_eq!(bench.counts().open, 1);
    bench.wait(1);
    bench.sweep();
    assert_eq!(bench.counts().missing, 1);
    assert_eq!(bench.told(), [(DivergenceClass::Missing, Candidate, 1)]);
    bench.wait(7);
    bench.arrive(Candidate, [1]);
    let counts = bench.counts();
    assert_eq!((counts.missing, counts.late, counts.open), (0, 1, 0));
    let last = bench.findings.last().unwrap();
    assert_eq!(last.class, DivergenceClass::Late);
    assert!(last.was_missing);
}

#[test]
fn each_side_is_timed_from_when_it_was_given_the_event() {
    let mut bench = Bench::new();
    bench.expect(0);
    bench.wait(5);
    bench.arrive(Primary, [0]);
    bench.wait(1000);
    bench.offer(0);
    bench.wait(35);
    bench.arrive(Candidate, [0]);
    bench.arrive(Candidate, [0]);
    assert_eq!(bench.latencies, [30]);
}

#[test]
fn one_event_held_back_is_one_divergence() {
    let mut bench = Bench::new();
    bench.publish(0..100);
    bench.arrive(Primary, 0..100);
    bench.arrive(Candidate, 1..100);
    bench.arrive(Candidate, [0]);
    let counts = bench.counts();
    assert_eq!((counts.matched, counts.reordered), (99, 1));
    assert_eq!(bench.told(), [(DivergenceClass::Reordered, Candidate, 0)]);
}

#[test]
fn nothing_is_missing_while_the_application_does_not_read() {
    let mut bench = Bench::new();
    bench.publish(0..3);
    bench.arrive(Candidate, [0, 2]);
    bench.wait(10 * GRACE);
    bench.mark();
    bench.sweep();
    assert_eq!(bench.counts().open, 3);
    assert_eq!(bench.counts().awaited, 0);
    bench.arrive(Primary, 0..3);
    let counts = bench.counts();
    assert_eq!((counts.matched, counts.missing), (2, 1));
    assert_eq!(bench.told(), [(DivergenceClass::Missing, Candidate, 1)]);
}

#[test]
fn a_marker_finds_a_lost_tail_at_once() {
    let mut bench = Bench::new();
    bench.publish(0..3);
    bench.arrive(Primary, 0..3);
    bench.arrive(Candidate, 0..2);
    bench.expect(3);
    bench.arrive(Primary, [3]);
    bench.mark();
    assert_eq!(bench.counts().missing, 1, "2 is behind the marker");
    assert_eq!(
        bench.counts().open,
        1,
        "3 has not been given to the candidate"
    );
    bench.arrive(Candidate, [2]);
    assert_eq!(bench.counts().reordered, 1, "within the grace time");
}

#[test]
fn a_candidate_that_stays_silent_has_lost_it() {
    let mut bench = Bench::new();
    bench.publish(0..2);
    bench.arrive(Primary, 0..2);
    bench.arrive(Candidate, [0]);
    bench.with(|track, cx| track.mark(1, cx.now));
    bench.wait(SILENCE);
    let heard_at = bench.now - 1;
    bench.with(|track, cx| track.give_up_mark(heard_at, cx));
    assert_eq!(bench.counts().open, 1, "the candidate is still delivering");
    bench.wait(SILENCE);
    bench.with(|track, cx| track.give_up_mark(heard_at, cx));
    assert_eq!(bench.counts().missing, 1);
    assert!(bench.findings[0].detail.contains("silent"));
    bench.wait(1);
    bench.arrive(Candidate, [1]);
    assert_eq!((bench.counts().late, bench.counts().reordered), (1, 0));
    assert!(bench.findings[1].detail.contains("given up"));
}

#[test]
fn a_candidate_that_stands_still_and_goes_on_in_order_is_slow() {
    let mut bench = Bench::new();
    bench.publish(0..20);
    bench.arrive(Primary, 0..20);
    for _ in 0..(SILENCE / GRACE - 1) {
        let now = bench.now;
        assert_eq!(
            bench.track.wants_mark(now),
            Some(19),
            "the last one is late"
        );
        bench.with(|track, cx| track.mark(19, cx.now));
        bench.wait(GRACE);
        bench.with(|track, cx| track.give_up_mark(0, cx));
    }
    bench.arrive(Candidate, 0..20);
    bench.with(|track, cx| track.marked(19, cx));
    assert_eq!((bench.counts().matched, bench.findings.len()), (20, 0));
}

#[test]
fn the_answer_to_a_second_marker_finds_what_was_lost_with_the_first() {
    let mut bench = Bench::new();
    bench.publish(0..2);
    bench.arrive(Primary, 0..2);
    bench.arrive(Candidate, [0]);
    bench.with(|track, cx| track.mark(1, cx.now));
    bench.wait(GRACE);
    let now = bench.now;
    assert_eq!(bench.track.wants_mark(now), Some(1));
    bench.with(|track, cx| track.mark(1, cx.now));
    bench.with(|track, cx| track.marked(1, cx));
    assert_eq!(bench.counts().missing, 1);
}

#[test]
fn no_second_marker_is_wanted_behind_the_same_events() {
    let mut bench = Bench::new();
    assert_eq!(bench.track.wants_mark(1), None);
    bench.expect(0);
    assert_eq!(
        bench.track.wants_mark(1),
        None,
        "not given to the candidate"
    );
    bench.offer(0);
    assert_eq!(bench.track.wants_mark(1), Some(0));
    bench.mark();
    assert_eq!(bench.track.wants_mark(1), None);
    bench.expect(1);
    assert_eq!(
        bench.track.wants_mark(1),
        None,
        "nothing new was given to it"
    );
    bench.offer(1);
    assert_eq!(bench.track.wants_mark(1), Some(1));
}

#[test]
fn duplicates_are_found_before_and_after_the_slot_is_free() {
    let mut bench = Bench::with_window(4000);
    bench.publish(0..2000);
    bench.arrive(Primary, 0..1000);
    bench.arrive(Candidate, [0]);
    bench.arrive(Candidate, [0]);
    bench.arrive(Candidate, 1..1000);
    bench.arrive(Primary, [999, 3]);
    let counts = bench.counts();
    assert_eq!((counts.matched, counts.duplicates), (1000, 3));
    let duplicate = DivergenceClass::Duplicate;
    assert_eq!(
        bench.told(),
        [
            (duplicate, Candidate, 0),
            (duplicate, Primary, 999),
            (duplicate, Primary, 3)
        ]
    );
}

#[test]
fn what_was_never_published_here_is_a_phantom() {
    let mut bench = Bench::new();
    bench.publish([2, 4, 6]);
    for sequence in [0, 3, 7] {
        bench.arrive(Candidate, [sequence]);
    }
    bench.arrive(Primary, [5]);
    bench.arrive(Primary, [2, 4, 6]);
    bench.arrive(Candidate, [2, 4, 6]);
    bench.arrive(Candidate, [1, 5]);
    let counts = bench.counts();
    assert_eq!((counts.phantoms, counts.matched), (6, 3));
    assert_eq!(counts.duplicates, 0);
}

#[test]
fn the_first_of_both_classes_is_the_content() {
    let mut bench = Bench::new();
    bench.publish(0..2);
    bench.arrive(Primary, 0..2);
    bench.arrive_with(Candidate, 1, 0);
    bench.arrive_with(Candidate, 0, 7);
    let counts = bench.counts();
    assert_eq!(
        (counts.differs, counts.reordered, counts.matched),
        (1, 0, 1)
    );
    assert_eq!(bench.told(), [(DivergenceClass::Differs, Candidate, 0)]);
}

#[test]
fn the_primary_is_held_to_the_same_rules() {
    let mut bench = Bench::new();
    bench.publish(0..4);
    bench.arrive(Candidate, 0..4);
    bench.arrive(Primary, [1, 0, 3]);
    bench.wait(GRACE);
    bench.sweep();
    assert_eq!(
        bench.told(),
        [
            (DivergenceClass::Reordered, Primary, 0),
            (DivergenceClass::Missing, Primary, 2)
        ]
    );
}

#[test]
fn what_neither_delivers_is_no_divergence() {
    let mut bench = Bench::new();
    bench.publish(0..2);
    bench.arrive(Primary, [1]);
    bench.arrive(Candidate, [1]);
    bench.wait(GRACE);
    bench.sweep();
    let counts = bench.counts();
    assert_eq!(counts.by_reason(), [(Reason::Neither, 1)].into());
    assert!(bench.told().is_empty());
}

#[test]
fn what_a_side_says_it_dropped_is_not_missing() {
    for side in [Primary, Candidate] {
        let mut bench = Bench::new();
        for sequence in 0..4 {
            bench.expect_as(sequence, |e| e.may_drop = [sequence > 0; 2]);
            bench.offer(sequence);
        }
        bench.arrive(side.other(), 0..4);
        bench.dropped.add(side, 1);
        bench.arrive(side, [3]);
        bench.wait(GRACE);
        bench.sweep();
        let counts = bench.counts();
        assert_eq!(counts.by_reason(), [(Reason::Lagged, 1)].into());
        // 0 may not be dropped, and only one of 1 and 2 was.
        assert_eq!((counts.missing, counts.matched), (2, 1));
        assert!(bench.told().contains(&(DivergenceClass::Missing, side, 0)));
    }
}

#[test]
fn a_dropped_tail_of_the_primary_is_found_when_the_application_has_read_all() {
    let mut bench = Bench::new();
    for sequence in 0..2 {
        bench.expect_as(sequence, |e| e.may_drop = [true, false]);
        bench.offer(sequence);
    }
    bench.arrive(Candidate, 0..2);
    bench.arrive(Primary, [0]);
    bench.dropped.add(Primary, 1);
    let idle_since = Some(bench.now);
    bench.wait(GRACE - 1);
    bench.with(|track, cx| track.sweep(idle_since, cx));
    assert_eq!(bench.counts().open, 1);
    bench.wait(1);
    bench.with(|track, cx| track.sweep(None, cx));
    assert_eq!(bench.counts().open, 1, "the application is busy");
    bench.with(|track, cx| track.sweep(idle_since, cx));
    assert_eq!(bench.counts().by_reason(), [(Reason::Lagged, 1)].into());
}

#[test]
fn nothing_else_is_taken_for_dropped() {
    let mut bench = Bench::new();
    bench.publish([0]);
    bench.arrive(Candidate, [0]);
    bench.dropped.add(Primary, 1);
    bench.wait(2 * GRACE);
    let idle_since = Some(bench.now - GRACE);
    bench.with(|track, cx| track.sweep(idle_since, cx));
    assert_eq!(bench.counts().open, 1, "it may not be dropped");
}

#[test]
fn what_is_given_up_is_unverified_whatever_comes_then() {
    for reason in [Reason::Cancelled, Reason::QueueFull, Reason::Refused] {
        let mut bench = Bench::new();
        bench.expect(0);
        bench.with(|track, cx| track.give_up(0, reason, cx.now));
        bench.publish([1]);
        bench.arrive(Primary, 0..2);
        bench.arrive(Candidate, [1]);
        bench.wait(GRACE);
        bench.sweep();
        let counts = bench.counts();
        assert_eq!(counts.by_reason(), [(reason, 1)].into());
        assert_eq!(counts.matched, 1);
        assert!(bench.told().is_empty());
    }
}

#[test]
fn what_goes_out_of_turn_overtakes_nothing() {
    let mut bench = Bench::new();
    bench.publish([0]);
    bench.expect_as(1, |e| {
        e.class = Class::Unverified(Reason::Unordered);
        e.ordered = false;
    });
    bench.offer(1);
    bench.publish([2]);
    bench.arrive(Primary, [1, 0, 2]);
    bench.arrive(Candidate, [0, 2, 1]);
    let counts = bench.counts();
    assert_eq!(counts.matched, 2);
    assert!(bench.told().is_empty());
    assert!(bench.track.is_idle());
}

/// A layer above stamps them, and two of its publishers meet on the way to here.
#[test]
fn what_was_stamped_first_and_published_second_is_in_no_order() {
    let mut bench = Bench::new();
    bench.publish([0, 11]);
    bench.arrive(Primary, [0, 11]);
    bench.arrive(Candidate, [0, 11]);
    bench.publish([10]);
    bench.arrive(Primary, [10]);
    bench.arrive(Candidate, [10]);
    // Each side may be given either of them first.
    bench.publish([13, 12]);
    bench.arrive(Primary, [13, 12]);
    bench.arrive(Candidate, [12, 13]);
    bench.publish([14]);
    bench.arrive(Primary, [14]);
    bench.arrive(Candidate, [14]);
    assert!(bench.told().is_empty(), "{:?}", bench.told());
    let counts = bench.counts();
    assert_eq!(counts.matched, 4);
    assert_eq!(counts.by_reason(), [(Reason::Unordered, 2)].into());
    assert!(bench.track.is_idle());
}

#[test]
fn a_refused_event_leaves_nothing_behind() {
    let mut bench = Bench::new();
    bench.publish(0..2);
    bench.with(|track, _| track.withdraw(1));
    assert_eq!(bench.counts().expected, 1);
    // Its sequence is given to the next one.
    bench.publish([1]);
    bench.arrive(Primary, 0..2);
    bench.arrive(Candidate, 0..2);
    assert_eq!(bench.counts().matched, 2);
    (2..5).for_each(|sequence| bench.expect(sequence));
    for sequence in (2..5).rev() {
        bench.with(|track, _| track.withdraw(sequence));
    }
    bench.publish(2..5);
    bench.arrive(Primary, 2..5);
    bench.arrive(Candidate, 2..5);
    assert_eq!(bench.counts().matched, 5);
}

#[test]
fn a_side_that_is_gone_leaves_the_rest_unverified() {
    let mut bench = Bench::new();
    bench.publish(0..3);
    bench.arrive(Primary, 0..2);
    bench.arrive(Candidate, [0]);
    bench.with(|track, cx| track.close(Candidate, Reason::Unavailable, cx.now));
    bench.publish([3]);
    assert_eq!(
        bench.counts().by_reason(),
        [(Reason::Unavailable, 3)].into()
    );
    bench.arrive(Primary, 2..4);
    assert!(bench.told().is_empty());
    assert!(bench.track.is_idle());
}

#[test]
fn a_subscription_made_meanwhile_expects_what_is_on_its_way() {
    let mut bench = Bench::new();
    bench.publish([5]);
    bench.arrive(Primary, [5]);
    bench.expect_as(3, |e| {
        e.class = Class::Unverified(Reason::Changing);
        e.ordered = false;
    });
    bench.arrive(Candidate, [3, 5]);
    bench.arrive(Primary, [3]);
    assert_eq!(bench.counts().matched, 1);
    assert!(bench.told().is_empty());
    assert!(bench.track.is_idle());
}

#[test]
fn a_retired_track_takes_nothing() {
    let mut bench = Bench::new();
    bench.publish([0]);
    let counts = bench.track.retire();
    assert_eq!(counts.by_reason(), [(Reason::Unavailable, 1)].into());
    let event = Event::new("a", "x").unwrap();
    let taken = bench.with(|track, cx| track.arrive(Primary, 0, &Delivered::new(&event), cx));
    assert!(!taken);
}

#[test]
fn what_was_given_up_long_ago_is_no_duplicate() {
    let mut bench = Bench::with_window(4);
    bench.publish(0..2000);
    for side in [Primary, Candidate] {
        bench.arrive(side, 0..2000);
    }
    let counts = bench.counts();
    assert_eq!(counts.by_reason(), [(Reason::Window, 1996)].into());
    assert_eq!(counts.matched, 4);
    assert!(bench.told().is_empty());
}

#[test]
fn gaps_beyond_the_bound_are_found_by_a_sweep() {
    let mut bench = Bench::with_window(4);
    for n in 0..20 {
        bench.publish([2 * n, 2 * n + 1]);
        bench.arrive(Primary, [2 * n, 2 * n + 1]);
        bench.arrive(Candidate, [2 * n + 1]);
    }
    bench.wait(GRACE);
    bench.sweep();
    let counts = bench.counts();
    assert_eq!((counts.open, counts.matched), (0, 20));
    assert!(counts.missing > 0);
    assert_eq!(counts.missing + counts.by_reason()[&Reason::Window], 20);
}

#[test]
fn slots_behind_a_lasting_gap_are_let_go() {
    let mut bench = Bench::with_window(1 << 20);
    bench.publish([0]);
    bench.arrive(Primary, [0]);
    for sequence in 1..20_000 {
        bench.track.expect(
            Expect {
                sequence,
                class: Class::Open,
                ordered: true,
                sampled: true,
                may_drop: [false; 2],
            },
            &Context::new(bench.now, &bench.dropped),
        );
        let event = Event::new("a", "x").unwrap();
        for side in [Primary, Candidate] {
            let mut cx = Context::new(bench.now, &bench.dropped);
            bench
                .track
                .arrive(side, sequence, &Delivered::new(&event), &mut cx);
        }
    }
    bench.check();
    assert!(bench.track.slots.len() < 2000);
    assert_eq!(bench.counts().open, 1);
    bench.arrive(Candidate, [0]);
    assert_eq!(bench.counts().reordered, 1);
}

#[test]
fn what_is_lost_together_is_shown_with_who_overtook_it_and_no_more_often_than_is_taken() {
    let mut bench = Bench::new();
    (bench.track.rules.context, bench.traces) = (2 * AROUND, 40);
    bench.publish(0..1000);
    bench.arrive(Primary, 0..1000);
    bench.arrive(Candidate, [500, 900]);
    bench.wait(GRACE);
    bench.sweep();
    assert_eq!(bench.findings.len(), 899);
    let shown: Vec<_> = bench
        .findings
        .iter()
        .map_while(|f| f.trace.as_ref())
        .collect();
    assert_eq!(shown.len(), bench.traces);
    for (at, trace) in shown.into_iter().enumerate() {
        let last = trace.around.last().map(|passage| passage.sequence);
        assert_eq!(last, Some(500), "of {at}");
        assert_eq!(trace.gone_on, GoneOn::Delivered);
    }
}
