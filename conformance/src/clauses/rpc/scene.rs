//! Two handles of one bus, one of which serves, and handlers that do what a clause wants.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use eventbus_trait::rpc::{
    Call, CallError, CallStats, Failure, Methods, Reply, Service, ServiceStats, Serving,
};
use eventbus_trait::{EventBus, Limits};
use tokio::sync::watch;

use crate::stage::{Context, Stage};
use crate::verdict::{Checked, ensure};

/// The application's own code of a failure.
pub(super) const CODE: i16 = 7;

/// Two handles of one bus.
pub(super) struct Scene {
    pub(super) stage: Stage,
    pub(super) callee: Arc<dyn EventBus>,
    pub(super) caller: Arc<dyn EventBus>,
    client: String,
}

impl Scene {
    pub(super) async fn new(context: &Context, limits: Limits) -> Checked<Self> {
        let stage = context.stage_with(limits).await?;
        Ok(Self {
            callee: stage.bus(),
            caller: stage.connect().await?,
            // A name that may be had wherever names are bound to certificates.
            client: context.client_name().to_owned(),
            stage,
        })
    }

    /// The name of a service; another number is another one.
    pub(super) fn name(&self, number: u32) -> String {
        format!("{}--rpc{number}", self.client)
    }

    pub(super) async fn serve(&self, service: Service) -> Checked<Serving> {
        self.serve_on(&Arc::clone(&self.callee), service).await
    }

    pub(super) async fn serve_on(
        &self,
        bus: &Arc<dyn EventBus>,
        service: Service,
    ) -> Checked<Serving> {
        Ok(self.stage.wait("a service", bus.serve(service)).await??)
    }

    /// A call that has all the time there is: it is to end for another reason.
    pub(super) fn call(&self, service: &str, method: &str, number: u64) -> Call {
        let call = Call::new(service, method, number.to_string().into_bytes());
        call.deadline(self.stage.patience() * 2)
    }

    /// Makes a call, and waits for its end.
    pub(super) async fn made(&self, call: Call) -> Checked<Result<Reply, CallError>> {
        let calling = self.caller.call(call);
        self.stage.wait("a call to end", calling).await
    }

    /// Counters of what the caller has made.
    pub(super) fn calls(&self) -> CallStats {
        self.caller.stats().calls
    }

    /// Counters of a service of the callee's.
    pub(super) fn served(&self, name: &str) -> ServiceStats {
        let services = self.callee.stats().services;
        let found = services.into_iter().find(|service| service.name == name);
        found.unwrap_or_default()
    }

    /// Waits until neither side has a call under way.
    pub(super) async fn quiet(&self, name: &str) -> Checked {
        let quiet = || {
            let served = self.served(name);
            self.calls().outstanding == 0 && served.running + served.waiting == 0
        };
        self.stage.until("every call to end", quiet).await?;
        let served = self.served(name);
        ensure!(
            served.is_conserved(),
            "calls of a service do not add up: {served:?}"
        );
        Ok(())
    }
}

/// The number in a request or reply.
pub(super) fn number(bytes: &[u8]) -> Option<u64> {
    str::from_utf8(bytes).ok()?.parse().ok()
}

pub(super) fn number_of(call: &Call) -> Result<u64, Failure> {
    let bytes = call.payload.bytes()?;
    number(&bytes).ok_or_else(|| Failure::new(CODE, "no number"))
}

/// A gate that handlers wait at.
#[derive(Clone)]
pub(super) struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub(super) fn closed() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    pub(super) fn open(&self) {
        self.0.send_replace(true);
    }

    pub(super) async fn pass(&self) {
        // The sender is here.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// How many handlers have begun, how many are there, and how many there were at once.
#[derive(Clone, Default)]
pub(super) struct Census(Arc<Counts>);

#[derive(Default)]
struct Counts {
    begun: AtomicU64,
    there: AtomicU64,
    most: AtomicU64,
}

/// A handler that is there, until it is dropped.
pub(super) struct There(Arc<Counts>);

impl Census {
    pub(super) fn enter(&self) -> There {
        self.0.begun.fetch_add(1, Ordering::SeqCst);
        let there = self.0.there.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.most.fetch_max(there, Ordering::SeqCst);
        There(Arc::clone(&self.0))
    }

    pub(super) fn begun(&self) -> u64 {
        self.0.begun.load(Ordering::SeqCst)
    }

    pub(super) fn there(&self) -> u64 {
        self.0.there.load(Ordering::SeqCst)
    }

    pub(super) fn most(&self) -> u64 {
        self.0.most.load(Ordering::SeqCst)
    }
}

impl Drop for There {
    fn drop(&mut self) {
        self.0.there.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Methods that every clause can do with: `echo` says what it was sent, `fail` fails, `hang` never
/// ends, `wait` echoes when the gate is open.
pub(super) fn methods(census: &Census, gate: &Gate) -> Methods {
    let entering = || census.clone();
    let (echo, fail, hang, wait) = (entering(), entering(), entering(), entering());
    let gate = gate.clone();
    Methods::new()
        .on("echo", move |call: Call| {
            let there = echo.enter();
            async move {
                let _there = there;
                Ok(Reply::new(call.payload))
            }
        })
        .on("fail", move |_: Call| {
            let there = fail.enter();
            async move {
                let _there = there;
                Err(Failure::new(CODE, "on purpose"))
            }
        })
        .on("hang", move |_: Call| {
            let there = hang.enter();
            async move {
                let _there = there;
                std::future::pending().await
            }
        })
        .on("wait", move |call: Call| {
            let (there, gate) = (wait.enter(), gate.clone());
            async move {
                let _there = there;
                gate.pass().await;
                Ok(Reply::new(call.payload))
            }
        })
}

/// A moment that a handler on any machine has begun within, or need not have.
pub(super) const MOMENT: Duration = Duration::from_millis(100);
