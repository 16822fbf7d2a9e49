//! A rollout through its shadows: compared before it is moved.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use eventbus::rollout::{self, Activity, Controller, Mode, Status, Verdict, What};
use eventbus::{Event, EventBus, Subscribe, Topic};
use serde::{Deserialize, Serialize, Serializer};

use super::load::Load;
use super::scene::{Scene, run};

async fn until(controller: &Controller, wanted: impl Fn(&Status) -> bool) -> Status {
    loop {
        let status = controller.status();
        if wanted(&status) {
            return status;
        }
        assert_ne!(status.activity, Activity::Paused, "{status:?}");
        tokio::task::yield_now().await;
    }
}

#[test]
fn mig_003_through_shadows_by_itself_and_back() {
    run(async {
        let scene = Scene::new();
        let mut rollout = scene.rollout(&["crossbeam", "in-process", "unix"]);
        rollout.shadow = true;
        rollout.mode = Mode::Automatic;
        rollout.gates.min_events = 500;
        // What a phase takes on a busy machine is not what is tested here.
        rollout.gates.latency_ratio = 1e9;
        rollout.gates.throughput_ratio = 0.0;
        let bus = rollout::open(&scene.config(rollout)).await.unwrap();
        let all: Arc<dyn EventBus> = bus.clone();
        let load = Load::start(&all, 2, 2).await;
        let controller = bus.controller();
        let (ended, mut own) = (Arc::new(AtomicBool::new(false)), 0);
        let publishing = tokio::spawn({
            let (bus, ended) = (bus.clone(), Arc::clone(&ended));
            async move {
                while !ended.load(Ordering::Relaxed) {
                    bus.publish(Event::new("own", "x").unwrap()).await.unwrap();
                    own += 1;
                    tokio::task::yield_now().await;
                }
                own
            }
        });
        let status = until(controller, |s| {
            matches!(s.activity, Activity::Done | Activity::Halted)
        })
        .await;
        assert_eq!(status.activity, Activity::Done, "{:?}", status.last_error);
        assert_eq!((status.stage, status.cutovers), (4, 2));
        let advanced = |s: &Status| {
            s.history
                .iter()
                .filter(|e| e.what == What::Advanced)
                .count()
        };
        assert_eq!(advanced(&controller.status()), 4);
        controller.pause().await.unwrap();
        for stage in (0..4).rev() {
            load.flows(200).await;
            controller.back().await.unwrap();
            controller.pause().await.unwrap();
            assert_eq!(controller.status().stage, stage);
        }
        load.end().await;
        ended.store(true, Ordering::Relaxed);
        let own: u64 = publishing.await.unwrap();
        // Copies that went to a candidate are not the application's.
        assert_eq!(bus.stats().published, own);
        bus.shutdown().await.unwrap();
    });
}

#[test]
fn a_gate_that_fails_halts_the_rollout_and_takes_it_back_if_it_may() {
    run(async {
        for fall_back in [false, true] {
            let scene = Scene::new();
            let mut rollout = scene.rollout(&["crossbeam", "in-process"]);
            rollout.shadow = true;
            rollout.mode = Mode::Automatic;
            rollout.fall_back = fall_back;
            // No candidate is as fast.
            rollout.gates.latency_ratio = 0.0;
            let bus = rollout::open(&scene.config(rollout)).await.unwrap();
            let all: Arc<dyn EventBus> = bus.clone();
            let load = Load::start(&all, 2, 2).await;
            let status = until(bus.controller(), |s| s.activity == Activity::Halted).await;
            assert_eq!(status.stage, usize::from(!fall_back), "{status:?}");
            assert_eq!(status.phase, "crossbeam");
            let reason = status.last_error.unwrap();
            assert!(reason.starts_with("latency: "), "{reason}");
            let whats: Vec<_> = status.history.iter().map(|entry| entry.what).collect();
            assert_eq!(whats.contains(&What::WentBack), fall_back);
            assert_eq!(whats.last(), Some(&What::Halted));
            load.end().await;
            bus.shutdown().await.unwrap();
        }
    });
}

#[test]
fn a_restart_goes_on_with_the_shadow_that_there_was() {
    run(async {
        let scene = Scene::new();
        let mut rollout = scene.rollout(&["crossbeam", "in-process"]);
        rollout.shadow = true;
        let config = scene.config(rollout);
        let bus = rollout::open(&config).await.unwrap();
        bus.controller().advance(true).await.unwrap();
        bus.shutdown().await.unwrap();
        let bus = rollout::open(&config).await.unwrap();
        let all: Arc<dyn EventBus> = bus.clone();
        let load = Load::start(&all, 1, 1).await;
        // It compares, so there is something to be found.
        let compared = |s: &Status| {
            let events = s.gates.iter().find(|gate| gate.name == "events");
            events.is_some_and(|g| g.wanted.contains("compared") && g.verdict == Verdict::Pass)
        };
        let status = until(bus.controller(), compared).await;
        assert_eq!((status.stage, &*status.phase), (1, "crossbeam"));
        load.end().await;
        bus.shutdown().await.unwrap();
    });
}

static ENCODED: AtomicU64 = AtomicU64::new(0);

/// Counts how often it is encoded.
#[derive(Deserialize)]
struct Counted;

impl Serialize for Counted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ENCODED.fetch_add(1, Ordering::SeqCst);
        serializer.serialize_unit()
    }
}

#[test]
fn a_value_is_encoded_where_it_leaves_the_process_or_is_compared_and_only_once() {
    const EVENTS: u64 = 5;
    run(async {
        let scene = Scene::new();
        let mut rollout = scene.rollout(&["crossbeam", "in-process"]);
        rollout.shadow = true;
        let bus = rollout::open(&scene.config(rollout)).await.unwrap();
        let mut events = bus.subscribe(Subscribe::to("a").unwrap()).await.unwrap();
        let publisher = bus.publisher(Topic::new("a").unwrap());
        let mut due = 0;
        for (stage, each) in [("crossbeam", 0), ("shadow(", 1), ("in-process", 1)] {
            let status = bus.controller().status();
            let name = &status.stages[status.stage].name;
            assert!(name.starts_with(stage), "{name}");
            for n in 0..EVENTS {
                let event = Event::typed("a", Counted).unwrap();
                match n % 2 {
                    0 => drop(bus.publish(event).await.unwrap()),
                    _ => drop(publisher.publish(event).await.unwrap()),
                }
                events.recv().await.unwrap();
            }
            due += EVENTS * each;
            // A comparison that ends has had everything.
            if status.stage < 2 {
                bus.controller().advance(true).await.unwrap();
            }
            assert_eq!(ENCODED.load(Ordering::SeqCst), due, "{stage}");
        }
        bus.shutdown().await.unwrap();
    });
}
