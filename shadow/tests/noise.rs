//! The noise floor: what two primaries differ by is measured on the application's traffic, and a
//! candidate is judged against that.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

#[path = "common/bad.rs"]
mod bad;
mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bad::{Bad, BadBus};
use common::{
    WATCHDOG, crossbeam, number, numbered, settled, subscribe, take, until, whole, within,
};
use eventbus_trait::EventBus;
use shadow::sabotage::{Sabotage, SabotageBus};
use shadow::{
    AttachError, CalibrationError, Inversions, NoiseFloor, Report, ShadowBus, ShadowOptions,
    Verdict,
};
use tokio::task::JoinHandle;

/// Two publishers and a reader of their own, until they are told to stop.
struct Traffic {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Traffic {
    async fn begin(bus: &Arc<ShadowBus>) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let mut tasks = Vec::new();
        let mut events = subscribe(&**bus, "#").await;
        tasks.push(tokio::spawn(async move {
            let mut next = [0; 2];
            while let Some(event) = events.recv().await {
                let publisher = usize::from(event.topic().as_str() == "b");
                assert_eq!(number(&event), next[publisher]);
                next[publisher] += 1;
            }
        }));
        for topic in ["a", "b"] {
            let handle = bus.connect(None).await.unwrap();
            let stop = Arc::clone(&stop);
            tasks.push(tokio::spawn(async move {
                for n in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    handle.publish(numbered(topic, n)).await.unwrap();
                    tokio::task::yield_now().await;
                }
            }));
        }
        Self { stop, tasks }
    }

    async fn end(self, bus: &ShadowBus) {
        self.stop.store(true, Ordering::Relaxed);
        bus.shutdown().await.unwrap();
        for task in self.tasks {
            within(task).await.unwrap();
        }
    }
}

/// Two publishers in turn, and everything read after that.
async fn in_turn(bus: &ShadowBus, rounds: u64) -> Report {
    let other = bus.connect(None).await.unwrap();
    let mut events = subscribe(bus, "#").await;
    for n in 0..rounds {
        bus.publish(numbered("a", n)).await.unwrap();
        other.publish(numbered("b", n)).await.unwrap();
    }
    take(&mut events, 2 * rounds as usize).await;
    settled(bus).await
}

fn floor(inversions: Inversions) -> NoiseFloor {
    let samples = serde_json::json!({
        "backend": "crossbeam", "samples": 1000, "inversions": inversions,
        "latency": {"samples": 1000, "p50_us": 0, "p99_us": 5, "max_us": 9},
        "latency_ratio": {"p50": 1.5, "p99": 2.0},
        "lateness": {"deliveries": 10, "p50_us": 1, "p99_us": 5, "max_us": 9},
    });
    serde_json::from_value(samples).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_primaries_give_a_floor_and_nobody_notices() {
    let path = std::env::temp_dir().join(format!("shadow-noise-{}", std::process::id()));
    let options = ShadowOptions {
        divergence_file: Some(shadow::DivergenceFile::new(&path)),
        ..whole()
    };
    let bus = ShadowBus::alone(crossbeam(), options);
    let traffic = Traffic::begin(&bus).await;
    let time = Duration::from_millis(200);
    // Who has the processor for himself all that time meets no other publisher, and who has it not at
    // all publishes too little.
    let floor = within(async {
        loop {
            match bus.calibrate(crossbeam(), time, WATCHDOG).await {
                Ok(floor) if floor.inversions.pairs > 0 => return floor,
                Ok(_) | Err(CalibrationError::TooFew { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
    })
    .await;
    assert!(!bus.is_attached());
    assert!(!path.exists(), "the file is the candidate's");
    assert_eq!(floor.backend, "crossbeam");
    assert!(
        floor.samples >= 100 && floor.latency.samples == floor.samples,
        "{floor:?}"
    );
    assert!(
        floor.latency_ratio.p50 > 0.0 && floor.latency_ratio.p99 > 0.0,
        "{floor:?}"
    );
    assert!(floor.lateness.deliveries <= floor.samples, "{floor:?}");
    // What comes next is judged by it.
    let options = ShadowOptions {
        noise_floor: Some(floor.clone()),
        latency_limit: 1e9,
        inversion_limit: 1.0,
        ..whole()
    };
    bus.attach_with(crossbeam(), options).unwrap();
    until("measured", || {
        let report = bus.report();
        report.latency.samples >= 1_000 && report.inversions.pairs > 0
    })
    .await;
    let report = within(bus.detach(WATCHDOG)).await.unwrap();
    let noise = report.noise.as_ref().unwrap();
    assert_eq!((&noise.floor, &noise.beyond[..]), (&floor, &[][..]));
    assert!(
        noise.latency.is_some() && noise.inversions.is_some(),
        "{noise:?}"
    );
    assert_eq!(report.verdict, Verdict::Match, "{report:#?}");
    let table = report.table();
    assert!(table.contains("noise floor of two crossbeam"), "{table}");
    let json = serde_json::to_string(&report).unwrap();
    let read: Report = serde_json::from_str(&json).unwrap();
    assert_eq!(read.noise.unwrap().floor.samples, floor.samples);
    traffic.end(&bus).await;
}

/// No order is promised across publishers: it is counted, and judged only against a floor.
#[tokio::test]
async fn publishers_in_another_order_are_counted_and_no_divergence() {
    let mixing = || Arc::new(BadBus::new(crossbeam(), Bad::MixesPublishers));
    let bus = ShadowBus::new(crossbeam(), mixing(), whole());
    let report = in_turn(&bus, 1_000).await;
    let Inversions { pairs, inverted } = report.inversions;
    assert!(inverted > 10 && inverted < pairs, "{:?}", report.inversions);
    assert_eq!(
        (report.diverged(), report.matched),
        (0, 2_000),
        "{report:#?}"
    );
    assert_eq!(
        report.verdict,
        Verdict::Match,
        "there is no floor to judge by"
    );
    assert!(
        report.table().contains("publishers inverted"),
        "{}",
        report.table()
    );

    let judged = async |inverted: u64| {
        let options = ShadowOptions {
            noise_floor: Some(floor(Inversions {
                pairs: 1_000,
                inverted,
            })),
            latency_limit: 1e9,
            inversion_limit: 0.01,
            ..whole()
        };
        in_turn(&ShadowBus::new(crossbeam(), mixing(), options), 1_000).await
    };
    let report = judged(0).await;
    assert_eq!(report.verdict, Verdict::Inconclusive, "{report:#?}");
    let [beyond] = &report.noise.as_ref().unwrap().beyond[..] else {
        panic!("{report:#?}");
    };
    assert!(beyond.starts_with("it inverts"), "{beyond}");
    assert!(report.table().contains("it inverts"), "{}", report.table());
    let report = judged(900).await;
    assert_eq!(report.verdict, Verdict::Match, "{report:#?}");
}

#[tokio::test]
async fn a_candidate_slower_than_noise_is_no_match() {
    let slow = Arc::new(BadBus::new(crossbeam(), Bad::IsSlow));
    let options = ShadowOptions {
        noise_floor: Some(floor(Inversions::default())),
        ..whole()
    };
    let bus = ShadowBus::new(crossbeam(), slow, options);
    let mut events = subscribe(&*bus, "#").await;
    for n in 0..150 {
        bus.publish(numbered("a", n)).await.unwrap();
        take(&mut events, 1).await;
    }
    let report = settled(&bus).await;
    assert_eq!(
        (report.matched, report.verdict),
        (150, Verdict::Inconclusive),
        "{report:#?}"
    );
    let noise = report.noise.as_ref().unwrap();
    assert!(noise.latency.unwrap() > 10.0, "{noise:?}");
    assert!(
        noise.beyond[0].starts_with("its median latency is"),
        "{noise:?}"
    );
    assert!(
        report.lateness.deliveries > 100 && report.lateness.p50_us > 1_000,
        "{report:#?}"
    );
    assert!(report.latency_ratio().unwrap().p50 > 15.0, "{report:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_floor_is_refused_and_let_go() {
    let (time, bus) = (
        Duration::from_millis(250),
        ShadowBus::alone(crossbeam(), whole()),
    );
    let quiet = within(bus.calibrate(crossbeam(), time, WATCHDOG)).await;
    assert_eq!(quiet.unwrap_err(), CalibrationError::TooFew { samples: 0 });
    let traffic = Traffic::begin(&bus).await;
    let diverged = within(async {
        loop {
            let saboteur = SabotageBus::new(crossbeam(), Sabotage::Corrupt, 0.5, 1);
            match bus.calibrate(saboteur, time, WATCHDOG).await.unwrap_err() {
                // The traffic has had no turn.
                CalibrationError::TooFew { .. } => {}
                other => return other,
            }
        }
    })
    .await;
    assert!(
        matches!(diverged, CalibrationError::Diverged { .. }),
        "{diverged}"
    );
    bus.attach(crossbeam()).unwrap();
    let attached = bus
        .calibrate(crossbeam(), time, WATCHDOG)
        .await
        .unwrap_err();
    assert_eq!(attached, CalibrationError::Attach(AttachError::Attached));
    assert!(bus.is_attached(), "the candidate is not its own");
    within(bus.detach(WATCHDOG)).await.unwrap();
    // Cancelled.
    let cancelled = tokio::time::timeout(time, bus.calibrate(crossbeam(), WATCHDOG, WATCHDOG));
    assert!(cancelled.await.is_err());
    assert!(!bus.is_attached());
    traffic.end(&bus).await;
}

/// Whoever takes the second primary away and brings a candidate keeps that.
#[tokio::test]
async fn a_calibration_lets_go_of_its_own_alone() {
    let bus = ShadowBus::alone(crossbeam(), whole());
    let mut calibrating = Box::pin(bus.calibrate(crossbeam(), Duration::from_millis(50), WATCHDOG));
    tokio::select! {
        biased;
        _ = &mut calibrating => panic!("there was no time"),
        () = tokio::task::yield_now() => {}
    }
    assert!(bus.is_attached());
    within(bus.detach(WATCHDOG)).await.unwrap();
    bus.attach(crossbeam()).unwrap();
    let detached = within(calibrating).await.unwrap_err();
    assert_eq!(detached, CalibrationError::Detached);
    assert!(bus.is_attached());
}
