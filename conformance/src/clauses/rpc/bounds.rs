//! RPC-007 and RPC-009: what runs is bounded, and what was given up runs no more.

use std::sync::Arc;

use eventbus_trait::Limits;
use eventbus_trait::rpc::{CallError, Service};
use futures_util::future::join_all;

use super::scene::{Census, Gate, MOMENT, Scene, methods, number};
use crate::stage::Context;
use crate::verdict::{Checked, Unmet, ensure, ensure_eq};

/// Calls that are given up, one after the other.
const GIVEN_UP: u64 = 20;
const CONCURRENCY: usize = 3;
const QUEUE: usize = 4;
/// Calls of one handle.
const MOST_CALLS: usize = 32;
/// Calls that find no room.
const TOO_MANY: usize = 10;

/// RPC-007: a call that is dropped gives back its place at the service, where there is one only, its
/// place among the handle's calls, of which there are two, and its handler is dropped.
pub(crate) async fn rpc_007_a_dropped_call_leaves_nothing(context: Context) -> Checked {
    let limits = Limits {
        max_calls: 2,
        ..Limits::default()
    };
    let scene = Scene::new(&context, limits).await?;
    let census = Census::default();
    let name = scene.name(1);
    let service = Service::new(&*name, methods(&census, &Gate::closed()));
    let _serving = scene.serve(service.concurrency(1).queue(0)).await?;
    for round in 0..GIVEN_UP {
        let (caller, call) = (Arc::clone(&scene.caller), scene.call(&name, "hang", round));
        let call = tokio::spawn(async move { caller.call(call).await });
        let begun = || census.there() == 1;
        scene.stage.until("a call to begin", begun).await?;
        call.abort();
        let _ = scene.stage.wait("a call that is given up", call).await?;
        let dropped = || census.there() == 0;
        scene
            .stage
            .until("its handler to be dropped", dropped)
            .await?;
        scene.quiet(&name).await?;
    }
    // One that is never polled again, and one that never was polled.
    let mut polled = Box::pin(scene.caller.call(scene.call(&name, "hang", 0)));
    let _ = futures_util::poll!(polled.as_mut());
    drop(polled);
    drop(scene.caller.call(scene.call(&name, "hang", 0)));
    scene.quiet(&name).await?;
    let calls = scene.calls();
    ensure_eq!(calls.cancelled, GIVEN_UP + 1, "calls that were cancelled");
    let bytes = scene.made(scene.call(&name, "echo", 5)).await??;
    let bytes = bytes.payload.bytes()?;
    ensure_eq!(number(&bytes), Some(5), "the reply after all of them");
    Ok(())
}

/// RPC-009: as many handlers run as the service says, as many calls more wait, in their order, and what
/// comes then is refused at once. A handle that has as many calls as it may have makes no more.
pub(crate) async fn rpc_009_load_is_bounded(context: Context) -> Checked {
    let limits = Limits {
        max_calls: MOST_CALLS,
        ..Limits::default()
    };
    let scene = Scene::new(&context, limits).await?;
    let (census, gate) = (Census::default(), Gate::closed());
    let name = scene.name(1);
    let service = Service::new(&*name, methods(&census, &gate));
    let service = service.concurrency(CONCURRENCY).queue(QUEUE);
    let _serving = scene.serve(service).await?;
    let mut held = Vec::new();
    for n in 0..(CONCURRENCY + QUEUE) as u64 {
        let (caller, call) = (Arc::clone(&scene.caller), scene.call(&name, "wait", n));
        held.push(tokio::spawn(async move { caller.call(call).await }));
        let admitted = || scene.served(&name).admitted > n;
        scene.stage.until("a call to be admitted", admitted).await?;
    }
    let full = || {
        let served = scene.served(&name);
        (served.running, served.waiting) == (CONCURRENCY as u64, QUEUE as u64)
    };
    scene.stage.until("the service to be full", full).await?;
    let busy = CallError::Busy {
        service: name.clone(),
        limit: CONCURRENCY + QUEUE,
    };
    for n in 0..TOO_MANY as u64 {
        let ended = scene.made(scene.call(&name, "echo", n)).await?;
        ensure_eq!(ended, Err(busy.clone()), "a call beyond the bound");
    }
    ensure!(!busy.may_have_run(), "a refused call may have run");
    gate.open();
    for (n, call) in held.into_iter().enumerate() {
        let reply = scene.stage.wait("a call to end", call).await?;
        let bytes = reply.map_err(Unmet::broken)??.payload.bytes()?;
        ensure_eq!(number(&bytes), Some(n as u64), "a reply");
    }
    scene.quiet(&name).await?;
    ensure_eq!(census.most(), CONCURRENCY as u64, "handlers at once");
    let served = scene.served(&name);
    ensure_eq!(served.most_running, CONCURRENCY as u64, "most_running");
    ensure_eq!(served.busy, TOO_MANY as u64, "calls refused");
    makes_no_more(&scene, MOST_CALLS).await
}

async fn makes_no_more(scene: &Scene, limit: usize) -> Checked {
    let (census, name) = (Census::default(), scene.name(2));
    let service = Service::new(&*name, methods(&census, &Gate::closed()));
    let _serving = scene.serve(service.concurrency(1_000)).await?;
    let calls = (0..=limit as u64).map(|n| {
        let call = scene.call(&name, "hang", n).deadline(MOMENT * 5);
        scene.caller.call(call)
    });
    let ended = scene
        .stage
        .wait("every call to end", join_all(calls))
        .await?;
    let too_many = CallError::TooManyCalls { limit };
    let refused = ended.iter().filter(|end| **end == Err(too_many.clone()));
    ensure_eq!(refused.count(), 1, "calls beyond the handle's limit");
    scene.quiet(&name).await
}
