//! A track on a bench: with a clock of its own, checked after each step.

mod by_hand;
mod by_reference;

use eventbus_trait::{Event, Topic};

use super::*;

const GRACE: Nanos = 100;
const SILENCE: Nanos = 1_000;

/// A track with its clock.
pub(super) struct Bench {
    track: Track,
    dropped: Dropped,
    now: Nanos,
    findings: Vec<Finding>,
    latencies: Vec<i64>,
    /// How many findings of a call are shown with what they were concluded from.
    traces: usize,
}

impl Bench {
    fn new() -> Self {
        Self::with_window(1000)
    }

    fn with_window(window: usize) -> Self {
        Self {
            track: Track::new(Rules {
                grace: GRACE,
                silence: SILENCE,
                window,
                context: 0,
            }),
            dropped: Dropped::default(),
            now: 1,
            findings: Vec::new(),
            latencies: Vec::new(),
            traces: 0,
        }
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Track, &mut Context<'_>) -> T) -> T {
        let mut cx = Context::new(self.now, &self.dropped);
        cx.traces = self.traces;
        let result = act(&mut self.track, &mut cx);
        self.findings.append(&mut cx.findings);
        self.latencies
            .extend(cx.latencies.map(crate::latency::difference));
        self.check();
        result
    }

    fn expect_as(&mut self, sequence: u64, change: impl FnOnce(&mut Expect)) {
        let mut expect = Expect {
            sequence,
            class: Class::Open,
            ordered: true,
            sampled: true,
            may_drop: [false; 2],
        };
        change(&mut expect);
        assert!(self.with(|track, cx| track.expect(expect, cx)));
    }

    fn expect(&mut self, sequence: u64) {
        self.expect_as(sequence, |_| {});
    }

    fn offer(&mut self, sequence: u64) {
        self.with(|track, cx| track.offered(sequence, cx.now));
    }

    /// Expects events and gives them to the candidate.
    fn publish(&mut self, sequences: impl IntoIterator<Item = u64>) {
        for sequence in sequences {
            self.expect(sequence);
            self.offer(sequence);
        }
    }

    fn arrive_with(&mut self, side: Side, sequence: u64, content: u8) {
        let event = Event::on(Topic::new("a").unwrap(), vec![content].into());
        let taken =
            self.with(|track, cx| track.arrive(side, sequence, &Delivered::new(&event), cx));
        assert!(taken);
    }

    fn arrive(&mut self, side: Side, sequences: impl IntoIterator<Item = u64>) {
        for sequence in sequences {
            self.arrive_with(side, sequence, 0);
        }
    }

    fn sweep(&mut self) {
        self.with(|track, cx| track.sweep(None, cx));
    }

    fn wait(&mut self, nanos: Nanos) {
        self.now += nanos;
    }

    fn mark(&mut self) {
        let now = self.now;
        if let Some(cut) = self.track.wants_mark(now) {
            self.with(|track, cx| {
                track.mark(cut, now);
                track.marked(cut, cx);
            });
        }
    }

    /// What must hold at every instant.
    fn check(&self) {
        let counts = &self.track.counts;
        assert!(counts.law_holds(), "{counts:?}");
        let slots = &self.track.slots;
        let open = slots.iter().filter(|s| s.class == Class::Open).count();
        assert_eq!(counts.open, open as u64);
        let awaited = slots.iter().filter(|s| s.is_awaited()).count();
        assert_eq!(counts.awaited, awaited as u64);
        assert!(slots.iter().is_sorted_by(|a, b| a.sequence < b.sequence));
        for cursor in &self.track.sides {
            let next = slots.partition_point(|s| Some(s.sequence) <= cursor.highest);
            assert_eq!(cursor.next, next, "{cursor:?}");
        }
    }

    fn counts(&self) -> Counts {
        self.track.counts()
    }

    fn told(&self) -> Vec<(DivergenceClass, Side, u64)> {
        let told = |f: &Finding| (f.class, f.side, f.sequence);
        self.findings.iter().map(told).collect()
    }
}
