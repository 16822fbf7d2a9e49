//! RPC-001 and RPC-008: each call ends, once, whatever its callee does or suffers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use eventbus_trait::rpc::{Call, CallError, Failure, Handler, Methods, Reply, ServeError, Service};
use eventbus_trait::{EventBus, Limits};
use futures_util::future::join_all;
use parking_lot::Mutex;

use super::faults;
use super::many::calls_whose_callee_ends;
use super::scene::{CODE, Census, Gate, MOMENT, Scene, methods, number_of};
use crate::harness::Capability;
use crate::stage::Context;
use crate::verdict::{Checked, Unmet, ensure, ensure_eq};

/// Calls of each kind.
const EACH: u64 = 60;
/// Calls under way when a callee ends.
const PENDING: u64 = 20;

/// How often each call was handled.
#[derive(Clone, Default)]
pub(super) struct Handled(Arc<Mutex<BTreeMap<u64, u32>>>);

impl Handled {
    pub(super) fn each(&self) -> BTreeMap<u64, u32> {
        self.0.lock().clone()
    }
}

/// Methods whose calls are counted one by one.
pub(super) struct Counting {
    pub(super) inner: Methods,
    pub(super) handled: Handled,
}

#[async_trait::async_trait]
impl Handler for Counting {
    async fn handle(&self, call: Call) -> Result<Reply, Failure> {
        *self.handled.0.lock().entry(number_of(&call)?).or_default() += 1;
        self.inner.handle(call).await
    }

    fn has(&self, method: &str) -> bool {
        self.inner.has(method)
    }
}

/// RPC-001: calls that are answered, that fail, that time out and that are given up, all at once: each
/// ends in its own way, was carried out once at most, and is in one counter. So it is while connections
/// and brokers are hurt, where they can be.
pub(crate) async fn rpc_001_a_call_ends_once(context: Context) -> Checked {
    let scene = Scene::new(&context, Limits::default()).await?;
    let (census, handled) = (Census::default(), Handled::default());
    let counting = Counting {
        inner: methods(&census, &Gate::closed()),
        handled: handled.clone(),
    };
    let name = scene.name(1);
    let service = Service::new(&*name, counting).concurrency(1_000);
    let _serving = scene.serve(service).await?;

    let given_up: Vec<_> = (0..EACH)
        .map(|n| {
            let (caller, call) = (Arc::clone(&scene.caller), scene.call(&name, "hang", n));
            tokio::spawn(async move { caller.call(call).await })
        })
        .collect();
    let all_begun = || census.there() == EACH;
    scene.stage.until("the calls to begin", all_begun).await?;
    let kinds = [("echo", 1), ("fail", 2), ("hang", 3)];
    let calls = kinds
        .into_iter()
        .flat_map(|(method, kind)| (0..EACH).map(move |n| (method, kind * EACH + n)));
    let scene_ref = &scene;
    let name_ref = name.as_str();
    let ending = join_all(calls.map(|(method, number)| async move {
        let call = scene_ref.call(name_ref, method, number);
        let call = if method == "hang" {
            call.deadline(MOMENT)
        } else {
            call
        };
        (method, number, scene_ref.caller.call(call).await)
    }));
    let ended = scene.stage.wait("every call to end", ending).await?;
    for (method, number, result) in ended {
        ensure_eq!(result.map(|_| ()), ends(method, &name), "call {number}");
    }
    for call in given_up {
        call.abort();
        let ended = scene.stage.wait("a call that is given up", call).await?;
        ensure!(ended.is_err(), "a call that hangs ended by itself");
    }
    scene.quiet(&name).await?;
    for (number, times) in &*handled.0.lock() {
        ensure_eq!(*times, 1, "times that call {number} was carried out");
    }
    let calls = scene.calls();
    let counted = (calls.made, calls.replied, calls.failed, calls.cancelled);
    ensure_eq!(
        counted,
        (4 * EACH, EACH, 2 * EACH, EACH),
        "calls made, replied to, failed and cancelled"
    );
    if context.has(Capability::Faults) {
        context.close(scene.stage).await?;
        faults::connections_are_hurt(&context).await?;
    }
    Ok(())
}

fn ends(method: &str, service: &str) -> Result<(), CallError> {
    let service = service.to_owned();
    match method {
        "echo" => Ok(()),
        "fail" => Err(CallError::Failed {
            service,
            code: CODE,
            message: "on purpose".to_owned(),
        }),
        _ => Err(CallError::Deadline {
            service,
            deadline: MOMENT,
        }),
    }
}

/// RPC-008: who serves a name no more, whose handle is shut down, or dropped, ends the calls that were
/// under way; after it there is no such service. So it is in the middle of 10,000 calls, 100 at a time,
/// and of a process that is killed, where there is one.
pub(crate) async fn rpc_008_a_callee_ends(context: Context) -> Checked {
    let limits = Limits {
        // How long a handle that shuts down lets calls end by themselves.
        publish_deadline: Duration::from_millis(200),
        ..Limits::default()
    };
    let scene = Scene::new(&context, limits).await?;
    stops_serving(&scene).await?;
    let handle = scene
        .stage
        .wait("a handle", scene.callee.connect(None))
        .await??;
    let pending = Pending::begin(&scene, &handle, 2).await?;
    scene
        .stage
        .wait("its shutdown", handle.shutdown())
        .await??;
    pending.ends(&scene).await?;
    is_closed(&scene, &handle).await?;
    let handle = scene
        .stage
        .wait("a handle", scene.callee.connect(None))
        .await??;
    let pending = Pending::begin(&scene, &handle, 3).await?;
    drop(handle);
    pending.ends(&scene).await?;
    is_dropped_in_the_middle(&scene).await?;
    if context.has(Capability::Faults) {
        context.close(scene.stage).await?;
        faults::a_process_is_killed(&context).await?;
    }
    Ok(())
}

/// The callee's handle goes in the middle of many calls, and nothing of them is left at either end.
async fn is_dropped_in_the_middle(scene: &Scene) -> Checked {
    let connecting = scene.callee.connect(None);
    let handle = scene.stage.wait("a handle", connecting).await??;
    let name = scene.name(5);
    let service = Service::new(&*name, methods(&Census::default(), &Gate::closed()));
    let service = service.concurrency(1_000);
    let serving = scene.serve_on(&handle, service.clone()).await?;
    let dropping = async {
        drop(serving);
        drop(handle);
        Ok(())
    };
    calls_whose_callee_ends(&scene.stage, &scene.caller, &name, dropping).await?;
    let desk = service.desk();
    let given_back = || desk.stats().running + desk.stats().waiting == 0;
    scene
        .stage
        .until("every slot of the callee to be given back", given_back)
        .await?;
    let stats = desk.stats();
    ensure!(
        stats.is_conserved(),
        "calls of a service do not add up: {stats:?}"
    );
    Ok(())
}

/// A handle that was shut down neither calls nor serves (LIF-001).
async fn is_closed(scene: &Scene, handle: &Arc<dyn EventBus>) -> Checked {
    let calling = handle.call(scene.call(&scene.name(1), "echo", 1));
    let called = scene.stage.wait("a call to end", calling).await?;
    ensure_eq!(
        called.map(|_| ()),
        Err(CallError::Closed),
        "a call after shutdown"
    );
    let service = Service::new(scene.name(4), |call: Call| async move {
        Ok(Reply::new(call.payload))
    });
    let serving = scene.stage.wait("a service", handle.serve(service)).await?;
    ensure_eq!(
        serving.err(),
        Some(ServeError::Closed),
        "serving after shutdown"
    );
    Ok(())
}

async fn stops_serving(scene: &Scene) -> Checked {
    let mut pending = Pending::begin(scene, &scene.callee, 1).await?;
    drop(pending.serving.take());
    pending.ends(scene).await
}

/// Calls that hang at a service.
struct Pending {
    name: String,
    serving: Option<eventbus_trait::rpc::Serving>,
    calls: Vec<tokio::task::JoinHandle<Result<Reply, CallError>>>,
}

impl Pending {
    async fn begin(scene: &Scene, on: &Arc<dyn EventBus>, number: u32) -> Checked<Self> {
        let (census, name) = (Census::default(), scene.name(number));
        let service = Service::new(&*name, methods(&census, &Gate::closed()));
        let service = service.concurrency(1_000);
        let serving = Some(scene.serve_on(on, service).await?);
        let calls = (0..PENDING)
            .map(|n| {
                let (caller, call) = (Arc::clone(&scene.caller), scene.call(&name, "hang", n));
                tokio::spawn(async move { caller.call(call).await })
            })
            .collect();
        let begun = || census.there() == PENDING;
        scene.stage.until("the calls to begin", begun).await?;
        Ok(Self {
            name,
            serving,
            calls,
        })
    }

    async fn ends(self, scene: &Scene) -> Checked {
        let gone = CallError::CalleeGone {
            service: self.name.clone(),
        };
        for call in self.calls {
            let ended = scene
                .stage
                .wait("a call whose callee is gone", call)
                .await?;
            let ended = ended.map_err(Unmet::broken)?;
            ensure_eq!(ended.map(|_| ()), Err(gone.clone()), "a call under way");
        }
        let none = CallError::NoService {
            service: self.name.clone(),
        };
        // The name may be given back a moment later.
        loop {
            let again = scene.call(&self.name, "echo", 0).deadline(MOMENT);
            match scene.made(again).await? {
                Err(error) if error == none => return Ok(()),
                Err(error) if error == gone => {}
                Err(CallError::Deadline { .. }) => {}
                other => return Err(Unmet::broken(format_args!("a call afterwards: {other:?}"))),
            }
        }
    }
}
