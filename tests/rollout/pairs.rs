//! MIG-003: between any two phases, forward and back, while events flow.

use std::sync::Arc;
use std::time::Duration;

use eventbus::EventBus;
use eventbus::rollout::{self, What};

use super::load::Load;
use super::scene::{Scene, run};

/// Forward and back so many times.
const TIMES: u32 = 3;

async fn there_and_back(from: &str, to: &str) {
    let scene = Scene::new();
    let config = scene.config(scene.rollout(&[from, to]));
    let bus = rollout::open(&config).await.unwrap();
    let controller = bus.controller().clone();
    let all: Arc<dyn EventBus> = bus.clone();
    let load = Load::start(&all, 4, 4).await;
    let mut longest = 0;
    for _ in 0..TIMES {
        load.flows(2_000).await;
        let forward = controller.advance(true).await.unwrap();
        assert_eq!(forward.what, What::Advanced);
        assert_eq!(controller.status().stage, 1);
        load.flows(2_000).await;
        let back = controller.back().await.unwrap();
        assert_eq!(back.what, What::WentBack);
        longest = longest
            .max(forward.publish_delay_us)
            .max(back.publish_delay_us);
    }
    let (events, publish) = load.end().await;
    let status = controller.status();
    assert_eq!(status.cutovers, u64::from(2 * TIMES));
    // What publishers measured themselves, until they ran again.
    assert!(status.longest_publish_delay_us >= longest);
    let longest = Duration::from_micros(status.longest_publish_delay_us);
    println!(
        "{from} <-> {to}: {events} events, held up for {longest:?} at most, longest publish {publish:?}"
    );
    assert!(
        longest > Duration::ZERO,
        "nobody was held: nothing was moved under load"
    );
    bus.shutdown().await.unwrap();
}

#[test]
fn mig_003_crossbeam_and_in_process() {
    run(there_and_back("crossbeam", "in-process"));
}

#[test]
fn mig_003_crossbeam_and_unix() {
    run(there_and_back("crossbeam", "unix"));
}

#[test]
fn mig_003_crossbeam_and_tcp() {
    run(there_and_back("crossbeam", "tcp"));
}

#[test]
fn mig_003_in_process_and_unix() {
    run(there_and_back("in-process", "unix"));
}

#[test]
fn mig_003_in_process_and_tcp() {
    run(there_and_back("in-process", "tcp"));
}

#[test]
fn mig_003_unix_and_tcp() {
    run(there_and_back("unix", "tcp"));
}
