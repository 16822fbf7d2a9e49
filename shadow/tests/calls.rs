//! Calls under a shadow: the primary's alone, and, if they are idempotent, compared behind its back.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

#[path = "common/bad.rs"]
mod bad;
mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bad::{Bad, BadBus};
use common::{crossbeam, numbered, settled, subscribe, take, until, whole, within};
use eventbus_trait::EventBus;
use eventbus_trait::rpc::{Call, CallError, Failure, Methods, Reply, Service};
use shadow::{Calls, NotCompared, ShadowBus, ShadowOptions, Verdict};

const SERVICE: &str = "callee";

/// `echo` repeats, `count` says how often it was asked, `fail` fails.
fn service(runs: &Arc<AtomicU64>) -> Service {
    let counting = || Arc::clone(runs);
    let (echo, count) = (counting(), counting());
    let methods = Methods::new()
        .on("echo", move |call: Call| {
            echo.fetch_add(1, Ordering::SeqCst);
            async move { Ok(Reply::new(call.payload)) }
        })
        .on("count", move |_: Call| {
            let n = count.fetch_add(1, Ordering::SeqCst);
            async move { Ok(Reply::new(n.to_string().into_bytes())) }
        })
        .on("fail", |_: Call| async { Err(Failure::new(3, "no")) })
        .on("hang", |_: Call| async { std::future::pending().await });
    Service::new(SERVICE, methods).concurrency(8)
}

fn call(method: &str) -> Call {
    Call::new(SERVICE, method, "x").deadline(Duration::from_secs(60))
}

/// An event that matches, so that the verdict is of the calls.
async fn one_event(bus: &ShadowBus) {
    let mut events = subscribe(bus, "a.b").await;
    bus.publish(numbered("a.b", 1)).await.unwrap();
    take(&mut events, 1).await;
}

fn assert_adds_up(calls: &Calls) {
    let ends = calls.unmirrored + calls.same + calls.differs + calls.failed;
    assert_eq!(
        calls.made,
        ends + calls.not_compared + calls.under_way,
        "{calls:?}"
    );
    let reasons: u64 = calls.not_compared_by_reason.values().sum();
    assert_eq!(calls.not_compared, reasons);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_idempotent_is_asked_twice() {
    let bus = common::shadow(whole());
    let runs = Arc::<AtomicU64>::default();
    let _serving = bus.serve(service(&runs)).await.unwrap();
    for _ in 0..10 {
        within(bus.call(call("echo"))).await.unwrap();
    }
    one_event(&bus).await;
    let calls = settled(&bus).await.calls;
    assert_eq!((calls.made, calls.unmirrored), (10, 10));
    assert_eq!(runs.load(Ordering::SeqCst), 10);
    for _ in 0..10 {
        within(bus.call(call("echo").idempotent())).await.unwrap();
    }
    within(bus.call(call("fail").idempotent()))
        .await
        .unwrap_err();
    let report = settled(&bus).await;
    assert_eq!(report.verdict, Verdict::Match, "{}", report.table());
    assert_eq!(
        (report.calls.made, report.calls.same),
        (21, 11),
        "{:?}",
        report.calls
    );
    assert_eq!(runs.load(Ordering::SeqCst), 30);
    assert_adds_up(&report.calls);
    let table = report.table();
    for row in ["not idempotent, not mirrored", "same reply", "other reply"] {
        assert!(table.contains(row), "{row}: {table}");
    }
    let stats = bus.stats();
    assert_eq!(stats.calls.made, 21, "the application's alone");
    assert_eq!(stats.services[0].admitted, 21);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_reply_is_a_divergence_and_is_located() {
    let bus = common::shadow(whole());
    let _serving = bus.serve(service(&Arc::default())).await.unwrap();
    one_event(&bus).await;
    let reply = within(bus.call(call("count").idempotent())).await.unwrap();
    assert_eq!(reply, Reply::new("0"));
    let report = settled(&bus).await;
    assert_eq!(report.verdict, Verdict::Diverged);
    assert_eq!(report.calls.differs, 1);
    let found = &report.calls.differences[0];
    let told = (&*found.service, &*found.method, &*found.detail);
    assert_eq!(told, (SERVICE, "count", "reply of 1 bytes differs"));
    assert_adds_up(&report.calls);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_compared_is_told_with_its_reason() {
    let (primary, candidate) = (crossbeam(), crossbeam());
    // It is served past the shadow.
    let _serving = primary.serve(service(&Arc::default())).await.unwrap();
    let bus = ShadowBus::new(primary, candidate, whole());
    one_event(&bus).await;
    within(bus.call(call("echo").idempotent())).await.unwrap();
    let none = Call::new("nobody", "echo", "x").idempotent();
    within(bus.call(none)).await.unwrap_err();
    let calling = bus.call(call("hang").idempotent());
    assert!(
        tokio::time::timeout(Duration::from_millis(20), calling)
            .await
            .is_err()
    );
    let report = settled(&bus).await;
    let reasons = &report.calls.not_compared_by_reason;
    for reason in [
        NotCompared::NoCopy,
        NotCompared::NoAnswer,
        NotCompared::Cancelled,
    ] {
        assert_eq!(reasons.get(&reason), Some(&1), "{reasons:?}");
    }
    assert_eq!(report.verdict, Verdict::Match, "{}", report.table());
    assert_adds_up(&report.calls);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_are_copied_for_whoever_comes_and_goes() {
    let bus = ShadowBus::alone(crossbeam(), whole());
    let serving = bus.serve(service(&Arc::default())).await.unwrap();
    within(bus.call(call("echo").idempotent())).await.unwrap();
    for _ in 0..3 {
        let candidate = crossbeam();
        bus.attach(Arc::<crossbeam_backend::CrossbeamBus>::clone(&candidate))
            .unwrap();
        within(bus.call(call("echo").idempotent())).await.unwrap();
        assert_eq!(settled(&bus).await.calls.same, 1);
        let report = within(bus.detach(common::WATCHDOG)).await.unwrap();
        assert_eq!((report.calls.made, report.calls.same), (1, 1));
        // The copy goes with the comparison.
        let copy = || async {
            candidate
                .call(Call::new("callee--mirror", "echo", ""))
                .await
        };
        let none = CallError::NoService {
            service: "callee--mirror".to_owned(),
        };
        assert_eq!(within(copy()).await, Err(none));
    }
    bus.attach(crossbeam()).unwrap();
    assert!(within(serving.stop(Duration::from_secs(5))).await);
    let again = bus.serve(service(&Arc::default())).await.unwrap();
    within(bus.call(call("echo").idempotent())).await.unwrap();
    assert_eq!(settled(&bus).await.calls.same, 1);
    drop(again);
    within(bus.shutdown()).await.unwrap();
}

/// MIG-001, for calls: whatever the candidate does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_caller_has_the_primarys_answer_alone() {
    for bad in Bad::CALLS {
        let candidate = BadBus::new(crossbeam(), bad);
        let released = Arc::clone(&candidate.released);
        let options = ShadowOptions {
            shutdown_wait: Duration::from_millis(100),
            mirrored_calls: 4,
            ..ShadowOptions::default()
        };
        let bus = ShadowBus::new(crossbeam(), Arc::new(candidate), options);
        let _serving = within(bus.serve(service(&Arc::default()))).await.unwrap();
        for _ in 0..20 {
            let reply = within(bus.call(call("echo").idempotent())).await;
            assert_eq!(reply, Ok(Reply::new("x")), "{bad:?}");
        }
        within(bus.shutdown()).await.unwrap();
        // Before that, it would have gone on and answered.
        released.store(true, Ordering::Release);
        until("every call to be counted", || {
            bus.report().calls.under_way == 0
        })
        .await;
        let report = bus.report();
        assert_adds_up(&report.calls);
        assert_eq!((report.calls.made, report.calls.same), (20, 0), "{bad:?}");
        assert_ne!(report.verdict, Verdict::Match, "{bad:?}");
    }
}

/// The slots are the service's: a call of its own never waits for a copy that hangs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_runs_gives_way() {
    let runs = Arc::<AtomicU64>::default();
    let counting = Arc::clone(&runs);
    let second_hangs = move |call: Call| {
        let hangs = counting.fetch_add(1, Ordering::SeqCst) == 1;
        async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            Ok(Reply::new(call.payload))
        }
    };
    let bus = common::shadow(whole());
    let service = Service::new(SERVICE, Methods::new().on("echo", second_hangs));
    let service = service.concurrency(1).queue(0);
    let _serving = bus.serve(service).await.unwrap();
    within(bus.call(call("echo").idempotent())).await.unwrap();
    until("the copy to hang", || runs.load(Ordering::SeqCst) == 2).await;
    within(bus.call(call("echo"))).await.unwrap();
    let calls = settled(&bus).await.calls;
    let yielded = calls.not_compared_by_reason.get(&NotCompared::Yielded);
    assert_eq!((calls.made, yielded), (2, Some(&1)), "{calls:?}");
}
