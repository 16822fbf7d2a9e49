//! MIG-002, with a million streams in the room of a thousand: what does not fit is unverified,
//! nothing is invented, nothing is a match that was not compared, and memory stays where it is. In a
//! program of its own, because it looks at the memory of the process.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

mod common;

use std::sync::Arc;

use common::{assert_law, crossbeam, settled, take, until, whole};
use eventbus_trait::{Event, EventBus, Origin, Payload, PublisherId, Subscribe, Topic};
use shadow::sabotage::{Sabotage, SabotageBus};
use shadow::{Reason, Report, ShadowBus, ShadowOptions, Verdict};

const ROOM: usize = 1_000;
const TOPICS: usize = 1_000;
const PUBLISHERS: usize = 1_000;
/// Published before anything is read: more than there is room for.
const AT_ONCE: usize = 4 * ROOM;
/// Far less than a million of anything takes.
const MOST_GROWTH: u64 = 32 << 20;

/// Resident memory in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

fn options() -> ShadowOptions {
    ShadowOptions {
        max_streams: ROOM,
        max_divergences: 100,
        ..whole()
    }
}

/// One event for each of `streams` pairs of topic and publisher, read in between.
async fn one_each(bus: &ShadowBus, streams: usize, mut between: impl FnMut(usize)) -> Report {
    let subscribe = Subscribe::to("#").unwrap().capacity(2 * AT_ONCE);
    let mut events = bus.subscribe(subscribe).await.unwrap();
    let topics: Vec<_> = (0..TOPICS)
        .map(|n| Topic::new(format!("t.{n}")).unwrap())
        .collect();
    for n in 0..streams {
        let origin = Origin {
            publisher: PublisherId((1 + n as u128 / TOPICS as u128).to_be_bytes()),
            epoch: 1,
            sequence: n as u64,
        };
        let event = Event::on(topics[n % TOPICS].clone(), Payload::raw(vec![0; 8]));
        bus.publish(event.given_origin(origin)).await.unwrap();
        if (n + 1).is_multiple_of(AT_ONCE) {
            take(&mut events, AT_ONCE).await;
            assert!(bus.glance().streams <= ROOM as u64, "{:?}", bus.glance());
            between(n + 1);
        }
    }
    settled(bus).await
}

fn unverified(report: &Report, reason: Reason) -> u64 {
    report
        .unverified_by_reason
        .get(&reason)
        .copied()
        .unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_streams_in_the_room_of_a_thousand() {
    let all = TOPICS * PUBLISHERS;
    let bus = ShadowBus::new(crossbeam(), crossbeam(), options());
    let mut early = 0;
    let report = one_each(&bus, all, |published| {
        if published == all / 5 {
            early = resident();
        }
    })
    .await;
    let grown = resident().saturating_sub(early);
    println!("{grown} bytes more at the end; {} matched", report.matched);
    assert!(early > 0 && grown < MOST_GROWTH, "{grown} bytes more");
    assert_eq!(report.expected, all as u64);
    assert_eq!(report.diverged(), 0, "{report:#?}");
    let streams = unverified(&report, Reason::Streams);
    assert!(streams > 0 && report.matched >= ROOM as u64, "{report:#?}");
    assert_eq!(report.unverified, streams, "{report:#?}");
    assert_eq!(report.verdict, Verdict::Inconclusive);
    assert!(bus.glance().streams <= ROOM as u64);
    drop(bus);

    // What the candidate does wrong where nobody looks is no match.
    for kind in [Sabotage::Drop, Sabotage::Duplicate, Sabotage::Corrupt] {
        let saboteur = SabotageBus::new(crossbeam(), kind, 0.05, 7);
        let bus = ShadowBus::new(crossbeam(), Arc::clone(&saboteur) as _, options());
        let report = one_each(&bus, 3 * AT_ONCE, |_| {}).await;
        let injected = saboteur.injected();
        assert!(injected > 100, "{kind}");
        match kind {
            // Each is told, or is one too many among what was not tracked.
            Sabotage::Duplicate => {
                until("each is counted", || {
                    let report = bus.report();
                    assert_law(&report);
                    report.duplicates + unverified(&report, Reason::Unplaced) == injected
                })
                .await;
            }
            _ => {
                assert!(report.diverged() <= injected, "{kind}: {report:#?}");
                assert!(
                    report.matched + injected <= report.expected,
                    "{kind}: {report:#?}"
                );
            }
        }
        assert!(report.diverged() > 0, "{kind}: {report:#?}");
    }
}
