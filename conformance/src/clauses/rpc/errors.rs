//! RPC-004 to RPC-006: what went wrong is said, and said at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eventbus_trait::Limits;
use eventbus_trait::rpc::{Call, CallError, Methods, Reply, Service};
use parking_lot::Mutex;

use super::scene::{Census, Gate, Scene, methods, number};
use crate::stage::Context;
use crate::verdict::{Checked, Unmet, ensure, ensure_eq};

/// The deadline of a call that is to reach it: long enough for a handler to begin on a busy machine.
const DEADLINE: Duration = Duration::from_secs(1);

/// RPC-004: a call whose handler hangs ends at its deadline, not before, with an error that says that it
/// may have been carried out; the handler knew how much time there was, and is dropped.
pub(crate) async fn rpc_004_a_timeout_says_so(context: Context) -> Checked {
    let scene = Scene::new(&context, Limits::default()).await?;
    let census = Census::default();
    let told = Arc::new(Mutex::new(None));
    let (entering, telling) = (census.clone(), Arc::clone(&told));
    let hang = move |call: Call| {
        *telling.lock() = Some(call.deadline);
        let there = entering.enter();
        async move {
            let _there = there;
            std::future::pending::<()>().await;
            Ok(Reply::empty())
        }
    };
    let name = scene.name(1);
    let _serving = scene.serve(Service::new(&*name, hang)).await?;
    let began = Instant::now();
    let call = scene.call(&name, "hang", 1).deadline(DEADLINE);
    let ended = scene.made(call).await?;
    let elapsed = began.elapsed();
    let timed_out = CallError::Deadline {
        service: name.clone(),
        deadline: DEADLINE,
    };
    ensure_eq!(ended, Err(timed_out.clone()), "a call that hangs");
    ensure!(elapsed >= DEADLINE, "it ended after {elapsed:?}");
    ensure!(
        timed_out.may_have_run(),
        "{timed_out:?} excludes that it ran"
    );
    ensure!(
        timed_out.to_string().contains("may have been carried out"),
        "it says only: {timed_out}"
    );
    let told = *told.lock();
    match told {
        None => return Err(Unmet::unexercised("the handler had not begun by then")),
        Some(left) => ensure!(
            left <= DEADLINE && !left.is_zero(),
            "the handler was told of {left:?}"
        ),
    }
    let dropped = || census.there() == 0;
    scene
        .stage
        .until("the handler to be dropped", dropped)
        .await?;
    scene.quiet(&name).await
}

/// RPC-005: a service that there is not and a method that there is not are two errors, neither of which
/// waits for anything, not even for a service that is busy. Nothing of it was carried out.
pub(crate) async fn rpc_005_unknown_at_once(context: Context) -> Checked {
    let scene = Scene::new(&context, Limits::default()).await?;
    let (census, gate) = (Census::default(), Gate::closed());
    let name = scene.name(1);
    let service = Service::new(&*name, methods(&census, &gate));
    let _serving = scene.serve(service.concurrency(1).queue(0)).await?;
    let no_method = CallError::NoMethod {
        service: name.clone(),
        method: "nothing".to_owned(),
    };
    // Both have more time than anything here is waited for.
    let nobody = scene.name(9);
    let no_service = CallError::NoService {
        service: nobody.clone(),
    };
    let unknown = async || -> Checked {
        let ended = scene.made(scene.call(&nobody, "echo", 1)).await?;
        ensure_eq!(ended, Err(no_service.clone()), "a call of nobody");
        let ended = scene
            .made(scene.call("no service at all", "echo", 1))
            .await?;
        ensure!(
            matches!(ended, Err(CallError::NoService { .. })),
            "a call of what can be no service: {ended:?}"
        );
        let ended = scene.made(scene.call(&name, "nothing", 1)).await?;
        ensure_eq!(ended, Err(no_method.clone()), "a call of no method");
        Ok(())
    };
    unknown().await?;
    let (caller, call) = (Arc::clone(&scene.caller), scene.call(&name, "wait", 1));
    let held = tokio::spawn(async move { caller.call(call).await });
    let begun = || census.there() == 1;
    scene.stage.until("a call to begin", begun).await?;
    unknown().await?;
    gate.open();
    let held = scene.stage.wait("a call to end", held).await?;
    held.map_err(Unmet::broken)??;
    let may = [no_service, no_method].iter().any(CallError::may_have_run);
    ensure!(!may, "what there is not may have been carried out");
    ensure_eq!(census.begun(), 1, "handlers that have begun");
    let bad = scene.made(scene.call(&name, "no\0method", 1)).await?;
    let bad_method = CallError::BadMethod {
        method: "no\0method".to_owned(),
    };
    ensure_eq!(bad, Err(bad_method), "a call of what can be no method");
    scene.quiet(&name).await
}

/// RPC-006: a handler that panics, before its future or in it, is an error of its own call; others that
/// are under way and that come later are answered.
pub(crate) async fn rpc_006_a_panic_is_an_error(context: Context) -> Checked {
    let scene = Scene::new(&context, Limits::default()).await?;
    let (census, gate) = (Census::default(), Gate::closed());
    let name = scene.name(1);
    let service = Service::new(&*name, panicking(methods(&census, &gate)));
    let _serving = scene.serve(service.concurrency(2).queue(8)).await?;
    let (caller, call) = (Arc::clone(&scene.caller), scene.call(&name, "wait", 7));
    let under_way = tokio::spawn(async move { caller.call(call).await });
    let begun = || census.there() == 1;
    scene.stage.until("a call to begin", begun).await?;
    let panicked = CallError::Panicked {
        service: name.clone(),
    };
    for round in 0..5 {
        for method in ["panics", "panics-later"] {
            let ended = scene.made(scene.call(&name, method, round)).await?;
            ensure_eq!(ended, Err(panicked.clone()), "a handler that panics");
        }
        let bytes = scene.made(scene.call(&name, "echo", round)).await??;
        let bytes = bytes.payload.bytes()?;
        ensure_eq!(number(&bytes), Some(round), "the reply after a panic");
    }
    gate.open();
    let reply = scene.stage.wait("a call to end", under_way).await?;
    let bytes = reply.map_err(Unmet::broken)??.payload.bytes()?;
    ensure_eq!(number(&bytes), Some(7), "the reply to the call under way");
    scene.quiet(&name).await?;
    let served = scene.served(&name);
    ensure_eq!(served.panicked, 10, "panics that were counted");
    Ok(())
}

/// Unwinds without the message that a panic would print.
fn panicking(methods: Methods) -> Methods {
    let unwind = || std::panic::resume_unwind(Box::new("a handler's own panic"));
    methods
        .on("panics", move |_: Call| -> std::future::Ready<_> {
            unwind()
        })
        .on("panics-later", |_: Call| async {
            tokio::task::yield_now().await;
            std::panic::resume_unwind(Box::new("a handler's own panic"))
        })
}
