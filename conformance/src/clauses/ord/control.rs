//! ORD-004: what is no event passes where events cannot.
//!
//! Every subscription is full and every handle has a publish that waits, so that a bus with one
//! way for everything has no room on it.

use std::sync::Arc;

use eventbus_trait::rpc::{Call, Reply, Service};
use eventbus_trait::{BusState, EventBus, Limits, PublishError, Refused, Subscribe, Topic};
use tokio::task::JoinHandle;

use crate::check;
use crate::harness::Capability;
use crate::history::{Op, mark_of};
use crate::stage::{Author, Context, Reader, Stage};
use crate::verdict::{Checked, Unmet, ensure, ensure_eq};

const TOPIC: &str = "full.a";

/// ORD-004: with every data queue full, subscribing, unsubscribing, connecting, calling, serving, asking
/// for counters and state, and shutting a handle down come to their end.
pub(crate) async fn ord_004_control_passes_full_queues(context: Context) -> Checked {
    let limits = Limits {
        // A publish waits for as long as anything here is waited for, and longer.
        publish_deadline: context.patience() * 2,
        ..Limits::default()
    };
    let stage = context.stage_with(limits).await?;
    let handles = [stage.bus(), stage.connect().await?, stage.connect().await?];
    let full = Full::fill(&stage, &handles).await?;

    for bus in &handles {
        tells_of_itself(&stage, bus).await?;
        subscribes(&stage, bus).await?;
        connects(&stage, bus).await?;
        if context.has(Capability::Calls) {
            let service = format!("{}--control", context.client_name());
            calls(&stage, &handles, bus, &service).await?;
        }
        full.is_still_full()?;
    }
    let [near, _, leaving] = handles;
    stage.wait("shutdown", leaving.shutdown()).await??;
    subscribes(&stage, &near).await?;
    full.drains(&stage).await
}

/// Subscriptions of several handles, none of them read, and a publish of each handle that waits.
struct Full {
    readers: Vec<Reader>,
    authors: Vec<Arc<Author>>,
    held: Vec<JoinHandle<Checked>>,
}

impl Full {
    async fn fill(stage: &Stage, handles: &[Arc<dyn EventBus>]) -> Checked<Self> {
        let mut readers = Vec::new();
        for bus in handles {
            let unread = Subscribe::to("full.#")?.capacity(4);
            readers.push(stage.read(bus, unread).await?);
        }
        let authors: Vec<_> = handles.iter().map(|bus| stage.author(bus)).collect();
        let mut taken = 0;
        for author in &authors {
            taken += author.fill(TOPIC).await?.0;
        }
        if taken == 0 {
            return Err(Unmet::unexercised("no queue took anything"));
        }
        let mut held = Vec::new();
        let mut marks = Vec::new();
        for author in &authors {
            let event = author.event(&Topic::new(TOPIC)?);
            marks.extend(mark_of(&event));
            held.push(tokio::spawn(hold(Arc::clone(author), event)));
        }
        let begun = |op: &Op| matches!(op, Op::Invoke(publish) if marks.contains(&publish.mark));
        let all_begun = || stage.recorder().count(begun) == authors.len();
        stage.until("the publishes to begin", all_begun).await?;
        let full = Self {
            readers,
            authors,
            held,
        };
        full.is_still_full()?;
        Ok(full)
    }

    fn is_still_full(&self) -> Checked {
        for author in &self.authors {
            let more = author.try_send(author.event(&Topic::new(TOPIC)?));
            if more.is_ok() || self.held.iter().any(JoinHandle::is_finished) {
                return Err(Unmet::unexercised("a queue that nobody reads has room"));
            }
        }
        Ok(())
    }

    /// Once somebody reads, everything that waited goes on. The last handle has been shut down.
    async fn drains(mut self, stage: &Stage) -> Checked {
        if let Some(mut ended) = self.readers.pop() {
            ended.read_to_end().await?;
        }
        self.authors.pop();
        let held = futures_util::future::try_join_all(self.held);
        let held = async { held.await.map_err(Unmet::broken) };
        for held in stage.while_reading(&mut self.readers, held).await? {
            held?;
        }
        stage.drain(&mut self.readers, &self.authors).await?;
        let history = stage.history();
        check::refused(&history).verdict()?;
        check::lost(&history).verdict()
    }
}

/// Publishes one event more than there is room for. The handle may be shut down meanwhile.
async fn hold(author: Arc<Author>, event: eventbus_trait::Event) -> Checked {
    match author.send(event).await.map_err(Refused::into_parts) {
        Ok(_) | Err((_, PublishError::Closed)) => Ok(()),
        Err((_, reason)) => Err(Unmet::broken(reason)),
    }
}

/// Asked on a thread of its own: neither is a future that could be given up.
async fn tells_of_itself(stage: &Stage, bus: &Arc<dyn EventBus>) -> Checked {
    let asked = Arc::clone(bus);
    let asking =
        tokio::task::spawn_blocking(move || (asked.stats(), asked.state().borrow().clone()));
    let told = stage.wait("counters and state", asking).await?;
    let (stats, state) = told.map_err(Unmet::broken)?;
    ensure_eq!(state, BusState::Connected, "state of a bus that is full");
    let queued = stats.subscriptions.iter().any(|s| s.queued > 0);
    ensure!(queued, "nothing is queued in a full bus: {stats:?}");
    Ok(())
}

/// A subscription is made, gets what is published for it, and ends.
async fn subscribes(stage: &Stage, bus: &Arc<dyn EventBus>) -> Checked {
    let mut reader = stage.reader(bus, "control").await?;
    let author = stage.author(&stage.bus());
    let publishing = author.publish("control");
    stage
        .wait("a publish where there is room", publishing)
        .await??;
    reader.expect().await?;
    reader.unsubscribe().await.map(|_| ())
}

/// A service of this handle is called by each of the others, and ends.
async fn calls(
    stage: &Stage,
    handles: &[Arc<dyn EventBus>],
    bus: &Arc<dyn EventBus>,
    name: &str,
) -> Checked {
    let echo = |call: Call| async move { Ok(Reply::new(call.payload)) };
    let serving = stage.wait("a service", bus.serve(Service::new(name, echo)));
    let serving = serving.await??;
    for caller in handles {
        let call = Call::new(name, "echo", "control").deadline(stage.patience() * 2);
        let reply = stage.wait("a call to end", caller.call(call)).await??;
        ensure_eq!(reply.payload.bytes()?, "control", "a reply");
    }
    let stopping = serving.stop(stage.patience());
    let stopped = stage.wait("the service to end", stopping).await?;
    ensure!(stopped, "a call of the service has not ended");
    Ok(())
}

/// A handle is made and ends.
async fn connects(stage: &Stage, bus: &Arc<dyn EventBus>) -> Checked {
    let handle = stage.wait("a handle", bus.connect(None)).await??;
    Ok(stage.wait("its shutdown", handle.shutdown()).await??)
}
