//! What a whole run measures: the headline, each other dimension varied alone, latency, curves.

use crate::report::results::{Curve, Method, Point, Series, Table};
use crate::rounds::{Rounds, median};
use crate::scenario::{Contender, Pace, Sample, Scenario, Style};

/// One publisher, one subscriber, 100 bytes, at least once, one by one.
pub(crate) fn headline(rounds: &Rounds, method: &Method) -> Table {
    let scenario = |contender| Scenario::headline(contender, method.headline_seconds);
    rounds.table("headline", Contender::ALL.map(scenario).into())
}

/// One thing that is changed.
type Change = fn(&mut Scenario);

const CHANGES: [(&str, Change); 8] = [
    ("1 publisher, 10 subscribers", |s| {
        (s.subscribers, s.readers) = (10, 10);
    }),
    ("4 publishers, 4 subscribers", |s| {
        (s.publishers, s.subscribers, s.readers) = (4, 4, 4);
    }),
    ("16 B", |s| s.payload = 16),
    ("1 KiB", |s| s.payload = 1 << 10),
    ("64 KiB", |s| s.payload = 64 << 10),
    ("at most once", |s| s.at_least_once = false),
    ("at most once, flooded", |s| {
        (s.at_least_once, s.flooded) = (false, true);
    }),
    ("batches of 100", |s| s.batch = 100),
];

/// The headline with one thing changed.
pub(crate) fn matrix(rounds: &Rounds, method: &Method) -> Vec<Table> {
    let table = |(name, change): (&str, Change)| {
        let scenario = |contender| {
            let mut scenario = Scenario::headline(contender, method.table_seconds);
            change(&mut scenario);
            scenario
        };
        rounds.table(name, Contender::ALL.map(scenario).into())
    };
    CHANGES.map(table).into()
}

/// One way, at a rate and as fast as it goes.
pub(crate) fn latency(rounds: &Rounds, method: &Method) -> Vec<Table> {
    let scheduled = |style| {
        let contenders = Contender::ALL
            .into_iter()
            .filter(move |one| one.can_be(style));
        let scenario = |contender| Scenario {
            pace: Pace::Scheduled {
                per_second: method.per_second,
                events: method.scheduled,
            },
            style,
            stamped: true,
            ..Scenario::headline(contender, 0.0)
        };
        contenders.map(scenario).collect()
    };
    let saturated = Contender::ALL.map(|contender| Scenario {
        stamped: true,
        ..Scenario::headline(contender, method.table_seconds)
    });
    vec![
        rounds.table("threads", scheduled(Style::Threads)),
        rounds.table("tasks", scheduled(Style::Tasks)),
        rounds.table("saturated", saturated.into()),
    ]
}

/// Something that grows.
struct Growing {
    name: &'static str,
    title: &'static str,
    grows: &'static str,
    at: &'static [usize],
    set: fn(&mut Scenario, usize),
}

const TENS: &[usize] = &[1, 10, 100, 1_000, 10_000];
const TO_A_HUNDRED: &[usize] = &[1, 3, 10, 30, 100];
const SIZES: &[usize] = &[
    1 << 4,
    1 << 6,
    1 << 8,
    1 << 10,
    1 << 12,
    1 << 14,
    1 << 16,
    1 << 18,
    1 << 20,
];

const GROWING: [Growing; 5] = [
    Growing {
        name: "subscriptions",
        title: "Subscriptions that do not match",
        grows: "subscriptions beside the one that matches",
        at: TENS,
        set: |s, x| s.idle = x,
    },
    Growing {
        name: "topics",
        title: "Topics, published in turn, each with its own subscription",
        grows: "topics",
        at: TENS,
        set: |s, x| s.topics = x,
    },
    Growing {
        name: "connections",
        title: "Connections that publish in turn",
        grows: "connections",
        at: TO_A_HUNDRED,
        set: |s, x| s.connections = x,
    },
    Growing {
        name: "subscribers",
        title: "Subscribers of one topic, read in turn by two threads",
        grows: "subscribers",
        at: TO_A_HUNDRED,
        set: |s, x| {
            s.subscribers = x;
            s.readers = x.min(2);
        },
    },
    Growing {
        name: "payload",
        title: "Payload",
        grows: "bytes of payload",
        at: SIZES,
        set: |s, x| s.payload = x,
    },
];

/// What an event costs when something grows.
pub(crate) fn curves(rounds: &Rounds, method: &Method) -> Vec<Curve> {
    let curve = |growing| curve(rounds, method, growing);
    GROWING.iter().map(curve).collect()
}

fn curve(rounds: &Rounds, method: &Method, growing: &Growing) -> Curve {
    let scenario = |contender: Contender, x: usize| {
        let mut scenario = Scenario::headline(contender, method.curve_seconds);
        (growing.set)(&mut scenario, x);
        scenario
    };
    let at = growing.at.iter();
    let all: Vec<_> = at
        .flat_map(|x| Contender::OURS.map(|contender| scenario(contender, *x)))
        .collect();
    let samples = rounds.samples(growing.name, &all);
    let mut series = Contender::OURS.map(|contender| Series {
        name: contender.name().to_owned(),
        points: Vec::new(),
    });
    for (x, samples) in growing.at.iter().zip(samples.chunks(series.len())) {
        for (series, samples) in series.iter_mut().zip(samples) {
            series.points.push(Point {
                x: *x as u64,
                cost: median(samples.iter().map(Sample::cost)),
                cpu: median(samples.iter().map(Sample::cpu)),
            });
        }
    }
    Curve {
        name: growing.name.to_owned(),
        title: growing.title.to_owned(),
        grows: growing.grows.to_owned(),
        series: series.into(),
    }
}
