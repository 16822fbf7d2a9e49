//! LIF-004: a shadow leaves no thread behind. In a program of its own, because it counts threads.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

#[path = "common/bad.rs"]
mod bad;
mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bad::{Bad, BadBus};
use common::{crossbeam, numbered, shadow, subscribe, take, until, whole, within};
use eventbus_trait::EventBus;
use shadow::{ShadowBus, ShadowOptions};

/// How many threads of this process are a candidate's. A thread gives itself its name when it has its first
/// turn, and may be seen for a moment after it was joined.
fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| {
        // A thread may end while it is looked at.
        std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
    });
    // The kernel keeps 15 characters.
    names
        .filter(|name| name.starts_with("shadow-candidat"))
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_behind() {
    assert_eq!(threads(), 0);
    // Shut down.
    let bus = shadow(whole());
    let other = bus.connect(None).await.unwrap();
    let mut events = subscribe(&*bus, "#").await;
    bus.publish(numbered("a", 0)).await.unwrap();
    take(&mut events, 1).await;
    until("a thread", || threads() == 1).await;
    within(bus.shutdown()).await.unwrap();
    assert_eq!(threads(), 1, "the other handle is still there");
    within(other.shutdown()).await.unwrap();
    until("no thread", || threads() == 0).await;
    assert_eq!(bus.report().matched, 1);

    // Dropped without a word.
    let bus = shadow(whole());
    let events = subscribe(&*bus, "#").await;
    until("a thread", || threads() == 1).await;
    drop(bus);
    until("no thread", || threads() == 0).await;
    drop(events);

    // Hung.
    let options = || ShadowOptions {
        shutdown_wait: Duration::from_millis(50),
        ..ShadowOptions::default()
    };
    for bad in [
        Bad::HangsInPublish,
        Bad::HangsInSubscribe,
        Bad::HangsInShutdown,
    ] {
        for dropped in [false, true] {
            let candidate = Arc::new(BadBus::new(crossbeam(), bad));
            let bus = ShadowBus::new(crossbeam(), candidate, options());
            let _events = subscribe(&*bus, "#").await;
            for n in 0..5 {
                bus.publish(numbered("a", n)).await.unwrap();
            }
            if !dropped {
                within(bus.shutdown()).await.unwrap();
            }
            drop(bus);
            until("no thread", || threads() == 0).await;
        }
    }

    // Blocked: nobody waits for ever, and it goes when it can.
    let candidate = BadBus::new(crossbeam(), Bad::BlocksInPublish);
    let released = Arc::clone(&candidate.released);
    let bus = ShadowBus::new(crossbeam(), Arc::new(candidate), options());
    for n in 0..5 {
        bus.publish(numbered("a", n)).await.unwrap();
    }
    until("a thread", || threads() == 1).await;
    within(bus.shutdown()).await.unwrap();
    assert_eq!(threads(), 1);
    released.store(true, Ordering::Release);
    until("no thread", || threads() == 0).await;
}
