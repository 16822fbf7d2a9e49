//! RPC-002 and RPC-003: a reply is for its own call, and for nobody when that has ended.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use eventbus_trait::rpc::{Call, CallError, Methods, Reply, Service};
use eventbus_trait::{ContentType, Correlation, Limits, Payload};
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};

use super::scene::{Census, Gate, MOMENT, Scene, number};
use crate::stage::Context;
use crate::verdict::{Checked, Unmet, ensure_eq};

/// Calls of each caller at each service.
const EACH: u64 = 150;
/// Replies that come too late.
const LATE: u64 = 10;

/// RPC-002: several callers call several services, and handlers end in another order than they have
/// begun: each call has the reply to itself, from its own callee, with what belongs to it.
pub(crate) async fn rpc_002_its_own_reply(context: Context) -> Checked {
    let scene = Scene::new(&context, Limits::default()).await?;
    let gate = Gate::closed();
    let census = Census::default();
    let names = [scene.name(1), scene.name(2)];
    let mut serving = Vec::new();
    for name in &names {
        let service = Service::new(&**name, signing(name, &census, &gate));
        serving.push(scene.serve(service.concurrency(1_000)).await?);
    }
    let other = scene.stage.connect().await?;
    let callers = [Arc::clone(&scene.caller), Arc::clone(&scene.callee), other];
    let mut calls = Vec::new();
    for (at, caller) in callers.iter().enumerate() {
        for name in &names {
            for n in 0..EACH {
                let id = format!("{at}/{name}/{n}");
                let call = scene.call(name, "sign", n);
                let call = call.correlation(Correlation::new(&*id).tag("caller", at.to_string()));
                let want = format!("{name} {id} {n}");
                let caller = Arc::clone(caller);
                calls.push(async move { (want, caller.call(call).await) });
            }
        }
    }
    let all = calls.len() as u64;
    let opening = async {
        // Nobody is answered before all are there.
        scene
            .stage
            .until("the calls to begin", || census.begun() == all)
            .await?;
        gate.open();
        Ok::<_, Unmet>(())
    };
    let both = futures_util::future::join(join_all(calls), opening);
    let (ended, opened) = scene.stage.wait("every call to end", both).await?;
    opened?;
    for (want, result) in ended {
        let reply = result?;
        let content_type = reply.payload.content_type().clone();
        ensure_eq!(content_type, ContentType::Json, "content type of a reply");
        let have = String::from_utf8_lossy(&reply.payload.bytes()?).into_owned();
        ensure_eq!(have, want, "a reply");
    }
    for name in &names {
        scene.quiet(name).await?;
    }
    Ok(())
}

/// A method that answers with its service, the call's correlation, and its request.
fn signing(name: &str, census: &Census, gate: &Gate) -> Methods {
    let (name, census, gate) = (name.to_owned(), census.clone(), gate.clone());
    Methods::new().on("sign", move |call: Call| {
        let (name, gate, there) = (name.clone(), gate.clone(), census.enter());
        async move {
            let _there = there;
            gate.pass().await;
            let bytes = call.payload.bytes()?;
            let own = number(&bytes).unwrap_or_default();
            for _ in 0..(own * 7) % 11 {
                tokio::task::yield_now().await;
            }
            let id = call.correlation.map(|correlation| correlation.id);
            let signed = format!("{name} {} {own}", id.unwrap_or_default());
            Ok(Reply::new(Payload::new(signed, ContentType::Json)))
        }
    })
}

/// A runtime for handlers that block, which would otherwise hold up those who wait for them.
struct Blocking(Option<Runtime>);

impl Blocking {
    fn new() -> Checked<Self> {
        let threads = Builder::new_multi_thread().worker_threads(3).build();
        threads
            .map(|runtime| Self(Some(runtime)))
            .map_err(Unmet::broken)
    }
}

impl Drop for Blocking {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// RPC-003: a handler that does not notice its deadline replies when its caller has ended. Another call
/// of the same caller, under way at that moment, has its own reply.
pub(crate) async fn rpc_003_late_is_nobodys(context: Context) -> Checked {
    let scene = Scene::new(&context, Limits::default()).await?;
    let blocking = Blocking::new()?;
    let (release, released) = sync_channel(1);
    let gate = Arc::new(Mutex::new(Gate::closed()));
    let name = scene.name(1);
    let service = Service::new(&*name, late(released, &gate));
    let _serving = {
        let (callee, runtime) = (Arc::clone(&scene.callee), blocking.0.as_ref());
        let serving =
            runtime.map(|runtime| runtime.spawn(async move { callee.serve(service).await }));
        let serving = serving.ok_or_else(|| Unmet::broken("no runtime"))?;
        let served = scene.stage.wait("a service", serving).await?;
        served.map_err(Unmet::broken)??
    };
    for round in 0..LATE {
        let late = scene.call(&name, "late", round).deadline(MOMENT);
        let timed_out = CallError::Deadline {
            service: name.clone(),
            deadline: MOMENT,
        };
        ensure_eq!(
            scene.made(late).await?,
            Err(timed_out),
            "a call that blocks"
        );
        one_after_it(&scene, &name, &release, &gate, round).await?;
    }
    let failed = scene.calls().failed;
    ensure_eq!(failed, LATE, "calls that timed out");
    scene.quiet(&name).await
}

/// Makes a call, lets the reply of the one before come, and then its own.
async fn one_after_it(
    scene: &Scene,
    name: &str,
    release: &SyncSender<()>,
    gate: &Mutex<Gate>,
    round: u64,
) -> Checked {
    let own = Gate::closed();
    *gate.lock() = own.clone();
    let before = scene.served(name);
    let releasing = async {
        let waits = || scene.served(name).running == before.running + 1;
        scene.stage.until("a call to begin", waits).await?;
        release.send(()).map_err(Unmet::broken)?;
        let replied = || scene.served(name).running == before.running;
        scene.stage.until("the late reply", replied).await?;
        own.open();
        Ok::<_, Unmet>(())
    };
    let call = scene.call(name, "wait", 1_000 + round);
    let both = futures_util::future::join(scene.caller.call(call), releasing);
    let (result, released) = scene.stage.wait("the next call to end", both).await?;
    released?;
    let bytes = result?.payload.bytes()?;
    ensure_eq!(
        number(&bytes),
        Some(1_000 + round),
        "the reply after a late one"
    );
    Ok(())
}

fn late(released: Receiver<()>, gate: &Arc<Mutex<Gate>>) -> Methods {
    let released = Arc::new(Mutex::new(released));
    let gate = Arc::clone(gate);
    Methods::new()
        .on("late", move |call: Call| {
            let released = Arc::clone(&released);
            async move {
                // Not in the future that is dropped: its thread is blocked until then.
                let _ = released.lock().recv();
                Ok(Reply::new(call.payload))
            }
        })
        .on("wait", move |call: Call| {
            let gate = gate.lock().clone();
            async move {
                gate.pass().await;
                Ok(Reply::new(call.payload))
            }
        })
}
