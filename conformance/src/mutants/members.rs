//! A control plane with a defect: its members, its dispatchers or whoever gathers do otherwise than they
//! should, or what they say to each other is not what arrives.
//!
//! What one end does wrong looks to the other as if something else had been said. So most of these are
//! words that are changed on their way; the rest are parts that are started with other bounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use control::shutdown::Coordinator;
use control::tasks::worker;
use control::{collector, dispatch, registry, results};
use eventbus_trait::rpc::{Call, CallError, Reply};
use eventbus_trait::{ContentType, Correlation, Event, EventBus, Payload, Topic};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::around::Around;
use super::layered::{Layered, layered};
use super::{Defect, MutantHarness};
use crate::harness::{Plane, Rig};

impl Plane for MutantHarness {
    fn rules(&self, wanted: registry::Rules) -> registry::Rules {
        let mut rules = wanted;
        match self.defect {
            Defect::NeverDegrades => (rules.degrade_after, rules.remove_after) = (1 << 19, 1 << 20),
            Defect::CrowdsMembers => rules.max_members = 1 << 20,
            _ => {}
        }
        rules
    }

    fn dispatcher(&self, wanted: dispatch::Options) -> dispatch::Options {
        let mut options = wanted;
        match self.defect {
            Defect::OverfillsMembers => options.ahead = 64,
            Defect::GivesUpAtOnce => options.attempts = 1,
            Defect::HoardsTasks => options.outstanding = 1 << 20,
            _ => {}
        }
        options
    }

    fn worker(&self, wanted: worker::Options) -> worker::Options {
        let mut options = wanted;
        if self.defect == Defect::ForgetsWhatIsDone {
            options.remember = 0;
        }
        options
    }

    fn host(&self, wanted: collector::Options) -> collector::Options {
        let mut options = wanted;
        if self.defect == Defect::TakesNoOrders {
            options.tasks.dispatchers = 0;
        }
        options
    }

    fn gather(&self, wanted: results::Options) -> results::Options {
        match self.defect {
            Defect::HoardsResults => results::Options::default(),
            _ => wanted,
        }
    }

    fn before(&self, coordinator: Coordinator, first: &str, then: &str) -> Coordinator {
        match self.defect {
            Defect::IgnoresKinds => coordinator,
            _ => coordinator.before(first, then),
        }
    }
}

/// A bus on which the words of the control plane are changed.
pub(super) struct ControlRig {
    inner: Box<dyn Rig>,
    bus: Arc<dyn EventBus>,
}

impl ControlRig {
    pub(super) fn new(inner: Box<dyn Rig>, defect: Defect) -> Self {
        let bus = layered(Meddling {
            inner: inner.bus(),
            defect,
            shared: Arc::default(),
        });
        Self { inner, bus }
    }
}

impl Around for ControlRig {
    fn inner(&self) -> &dyn Rig {
        &*self.inner
    }

    fn shown(&self) -> Arc<dyn EventBus> {
        Arc::clone(&self.bus)
    }
}

/// What the handles of one bus know.
#[derive(Default)]
struct Heard {
    /// The newest version of a configuration.
    version: AtomicU64,
    /// Where the first order went.
    first: Mutex<Option<Topic>>,
}

struct Meddling {
    inner: Arc<dyn EventBus>,
    defect: Defect,
    shared: Arc<Heard>,
}

#[async_trait]
impl Layered for Meddling {
    fn inner(&self) -> &Arc<dyn EventBus> {
        &self.inner
    }

    fn beside(&self, handle: Arc<dyn EventBus>) -> Arc<dyn EventBus> {
        layered(Self {
            inner: handle,
            defect: self.defect,
            shared: Arc::clone(&self.shared),
        })
    }

    fn altered(&self, event: Event) -> Option<Event> {
        let family = event.topic().segments().next().map(str::to_owned);
        match family.as_deref() {
            Some("health") => self.heartbeat(event),
            Some("tasks") => Some(self.order(event)),
            Some("results") => self.report(event),
            _ => Some(event),
        }
    }

    async fn call(&self, call: Call) -> Result<Reply, CallError> {
        match (&*call.method, self.defect) {
            ("update_config", _) => self.update(call).await,
            ("shutdown", Defect::CutsShort) => {
                let call = saying(call, |request| request["deadline_ms"] = json!(1));
                self.inner.call(call).await
            }
            ("shutdown", Defect::ClaimsGrace) => {
                let reply = self.inner.call(call).await?;
                Ok(answering(reply, |reply| reply["ended"] = json!("graceful")))
            }
            _ => self.inner.call(call).await,
        }
    }
}

impl Meddling {
    fn heartbeat(&self, event: Event) -> Option<Event> {
        let says = said(event.payload());
        match self.defect {
            Defect::ForgetsVersions => Some(with(event, |says| {
                says["identity"]["version"] = json!("");
            })),
            Defect::HidesLeaving if says["activity"] == "leaving" => None,
            Defect::ForgetsRecoveries if says["number"] == 2 && says["activity"] == "idle" => None,
            Defect::ClaimsEverything if says["identity"]["capabilities"] == json!(["other"]) => {
                Some(with(event, |says| {
                    says["identity"]["capabilities"] = json!(["other", "work"]);
                }))
            }
            _ => Some(event),
        }
    }

    fn order(&self, event: Event) -> Event {
        match self.defect {
            Defect::PilesUp => {
                let mut first = self.shared.first.lock();
                let topic = first.get_or_insert_with(|| event.topic().clone()).clone();
                drop(first);
                like(&event, topic, event.payload().clone())
            }
            Defect::TearsTraces => belonging(event, |correlation| correlation.trace_parent = None),
            _ => event,
        }
    }

    fn report(&self, event: Event) -> Option<Event> {
        let says = said(event.payload());
        match self.defect {
            Defect::LosesResults if says["report"] == "done" => None,
            Defect::MisquotesRefusals if says["report"] == "refused" => {
                Some(with(event, |says| says["reason"] = json!("full")))
            }
            Defect::StripsRoots => Some(belonging(event, |correlation| correlation.root = None)),
            Defect::HidesCancellations => Some(belonging(event, |correlation| {
                correlation.stage.take_if(|stage| stage == "cancelled");
            })),
            _ => Some(event),
        }
    }

    async fn update(&self, call: Call) -> Result<Reply, CallError> {
        let version = said(&call.payload)["version"].clone();
        let call = match self.defect {
            Defect::AppliesTrials => saying(call, |request| {
                request["validate_only"] = json!(false);
            }),
            Defect::AppliesHalves => saying(call, |request| {
                if let Some(config) = request["config"].as_object_mut() {
                    config.remove("a");
                }
            }),
            Defect::TakesOldVersions => {
                let asked = version.as_u64().unwrap_or_default();
                let newest = self.shared.version.fetch_max(asked, Ordering::SeqCst);
                let taken = match asked > newest {
                    true => asked,
                    false => self.shared.version.fetch_add(1, Ordering::SeqCst) + 1,
                };
                saying(call, |request| request["version"] = json!(taken))
            }
            _ => call,
        };
        let reply = self.inner.call(call).await?;
        match self.defect {
            Defect::TakesOldVersions => Ok(answering(reply, |reply| reply["version"] = version)),
            _ => Ok(reply),
        }
    }
}

/// What a payload says; nothing, if it is no JSON.
fn said(payload: &Payload) -> Value {
    let bytes = payload.bytes().unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

fn altered(payload: &Payload, alter: impl FnOnce(&mut Value)) -> Payload {
    let mut says = said(payload);
    alter(&mut says);
    Payload::new(says.to_string().into_bytes(), ContentType::Json)
}

/// An event that says something else.
fn with(event: Event, alter: impl FnOnce(&mut Value)) -> Event {
    let payload = altered(event.payload(), alter);
    like(&event, event.topic().clone(), payload)
}

/// An event that belongs to something else, if it belongs to anything.
fn belonging(event: Event, alter: impl FnOnce(&mut Correlation)) -> Event {
    let Some(mut correlation) = event.get_correlation().cloned() else {
        return event;
    };
    alter(&mut correlation);
    event.correlation(correlation)
}

fn like(event: &Event, topic: Topic, payload: Payload) -> Event {
    let like = Event::on(topic, payload).delivery(event.get_delivery());
    match event.get_correlation() {
        Some(correlation) => like.correlation(correlation.clone()),
        None => like,
    }
}

fn saying(mut call: Call, alter: impl FnOnce(&mut Value)) -> Call {
    call.payload = altered(&call.payload, alter);
    call
}

fn answering(reply: Reply, alter: impl FnOnce(&mut Value)) -> Reply {
    Reply::new(altered(&reply.payload, alter))
}
