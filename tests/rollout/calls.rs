//! Calls while the phase changes: none is lost, none is made twice, and none is cut short.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use eventbus::EventBus;
use eventbus::rollout::{self, PhasedBus};
use eventbus::rpc::{Call, Methods, Reply, Service};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::scene::{PATIENCE, Scene, run};

/// Forward and back so many times.
const TIMES: u32 = 3;
const CALLERS: u64 = 4;
/// Calls that a phase is to carry before the next move.
const FLOW: u64 = 300;
/// The certificate's name entitles to it.
const SERVICE: &str = "collector--calls";
const CONCURRENCY: usize = 3;

/// How often each call was handled.
type Handled = Arc<Mutex<BTreeMap<u64, u32>>>;

fn number(call: &Call) -> u64 {
    let bytes = call.payload.bytes().unwrap();
    u64::from_le_bytes(bytes[..].try_into().unwrap())
}

fn asks(method: &str, number: u64) -> Call {
    let call = Call::new(SERVICE, method, number.to_le_bytes().to_vec());
    call.deadline(PATIENCE)
}

/// `echo` counts what it answers; `hold` answers when it is told to.
fn service(handled: &Handled, held: &watch::Sender<bool>) -> Service {
    let (handled, held) = (Arc::clone(handled), held.subscribe());
    let methods = Methods::new()
        .on("echo", move |call: Call| {
            *handled.lock().unwrap().entry(number(&call)).or_default() += 1;
            async move {
                tokio::task::yield_now().await;
                Ok(Reply::new(call.payload))
            }
        })
        .on("hold", move |call: Call| {
            let mut held = held.clone();
            async move {
                let _ = held.wait_for(|held| !held).await;
                Ok(Reply::new(call.payload))
            }
        });
    Service::new(SERVICE, methods).concurrency(CONCURRENCY)
}

/// Calls one after the other until it is told to stop; each is answered with itself.
async fn keep_calling(bus: Arc<dyn EventBus>, next: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::SeqCst) {
        let number = next.fetch_add(1, Ordering::SeqCst);
        let reply = bus.call(asks("echo", number)).await;
        let reply = reply.unwrap_or_else(|error| panic!("call {number}: {error}"));
        assert_eq!(reply.payload.bytes().unwrap()[..], number.to_le_bytes());
    }
}

/// Moves, with a call under way in the phase that is left: it is answered from there, while others are
/// made in the new phase.
async fn moves(bus: &Arc<PhasedBus>, forward: bool, held: &watch::Sender<bool>) {
    held.send_replace(true);
    let holding = {
        let bus = Arc::clone(bus);
        tokio::spawn(async move { bus.call(asks("hold", 7)).await })
    };
    let before = bus.controller().status().phase;
    let moving = {
        let controller = bus.controller().clone();
        tokio::spawn(async move {
            match forward {
                true => controller.advance(true).await,
                false => controller.back().await,
            }
        })
    };
    let mut beat = tokio::time::interval(Duration::from_millis(1));
    let left = || {
        let cutover = bus.controller().status().cutover;
        cutover.is_some_and(|cutover| cutover.step == rollout::Step::Drain)
    };
    while !left() {
        assert!(!moving.is_finished(), "it did not wait for the call");
        beat.tick().await;
    }
    bus.call(asks("echo", u64::MAX)).await.unwrap();
    assert!(!holding.is_finished());
    held.send_replace(false);
    let reply = holding.await.unwrap().unwrap();
    assert_eq!(reply.payload.bytes().unwrap()[..], 7_u64.to_le_bytes());
    moving.await.unwrap().unwrap();
    assert_ne!(bus.controller().status().phase, before);
}

async fn there_and_back(from: &str, to: &str) {
    let scene = Scene::new();
    let config = scene.config(scene.rollout(&[from, to]));
    let bus = rollout::open(&config).await.unwrap();
    let (handled, held) = (Handled::default(), watch::Sender::new(false));
    let callee = bus.connect(None).await.unwrap();
    let serving = callee.serve(service(&handled, &held)).await.unwrap();
    let (next, stop) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let handle = bus.connect(None).await.unwrap();
        callers.spawn(keep_calling(handle, Arc::clone(&next), Arc::clone(&stop)));
    }
    let flows = async || {
        let until = next.load(Ordering::SeqCst) + FLOW;
        let mut beat = tokio::time::interval(Duration::from_millis(1));
        while next.load(Ordering::SeqCst) < until {
            beat.tick().await;
        }
    };
    for _ in 0..TIMES {
        for forward in [true, false] {
            flows().await;
            moves(&bus, forward, &held).await;
        }
    }
    flows().await;
    stop.store(true, Ordering::SeqCst);
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
    let made = next.load(Ordering::SeqCst);
    let handled = handled.lock().unwrap().clone();
    let others = handled.range(..made);
    assert!(others.clone().all(|(_, times)| *times == 1), "made twice");
    assert_eq!(others.count() as u64, made, "lost");
    let served = callee.stats().services[0].clone();
    assert!(served.is_conserved() && served.running == 0, "{served:?}");
    // One bound over both phases, also while the service is in both.
    assert_eq!(served.most_running, CONCURRENCY as u64);
    assert_eq!(bus.stats().calls.outstanding, 0);
    drop(serving);
    callee.shutdown().await.unwrap();
    bus.shutdown().await.unwrap();
}

#[test]
fn mig_003_no_call_is_lost_between_crossbeam_and_in_process() {
    run(there_and_back("crossbeam", "in-process"));
}

#[test]
fn mig_003_no_call_is_lost_between_in_process_and_unix() {
    run(there_and_back("in-process", "unix"));
}

#[test]
fn mig_003_no_call_is_lost_between_unix_and_tcp() {
    run(there_and_back("unix", "tcp"));
}
