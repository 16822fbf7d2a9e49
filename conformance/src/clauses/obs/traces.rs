//! OBS-003 and OBS-004: what belongs together says so wherever it comes.
//!
//! No exporter is needed for it: a trace is a text in the correlation, which a bus passes on whether or not
//! anybody in its process makes spans.

use std::sync::Arc;

use bytes::Bytes;
use eventbus_trait::rpc::{Call, Methods, Reply, Service};
use eventbus_trait::{
    Correlation, Delivery, Event, EventBus, Payload, Subscribe, Subscription, Topic,
};
use parking_lot::Mutex;

use crate::clauses::ctl::{AGENT, AT_ONCE, Hands, Scene, task};
use crate::stage::{Context, Stage};
use crate::verdict::{Checked, Unmet, ensure, ensure_eq};

/// A span that is recorded, one that is not, and what is no trace parent at all.
const TRACES: [&str; 3] = [
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
    "not a trace parent",
];

/// A correlation with all that one can have, of this trace.
fn whole(id: &str, trace: &str) -> Correlation {
    let step = Correlation::new("the whole").tag("host", "a").child(id);
    Correlation {
        trace_parent: Some(trace.to_owned()),
        ..step.stage("step").sequence(7)
    }
}

/// A call's payload, and what it belonged to.
type Heard = (Bytes, Option<Correlation>);

/// OBS-003: an event and a call bring their correlation along, trace parent included, as it was given,
/// whichever way they are sent; and one that has none has none.
pub(crate) async fn obs_003_correlation_goes_along(context: Context) -> Checked {
    let scene = Scene::new(&context).await?;
    let (stage, near, far) = (&scene.stage, scene.stage.bus(), scene.handle().await?);
    let events = far.subscribe(Subscribe::to("trace.#")?);
    let mut events = stage.wait("a subscription", events).await??;
    let heard: Arc<Mutex<Vec<Heard>>> = Arc::default();
    let hears = Arc::clone(&heard);
    let methods = Methods::new().on("hear", move |call: Call| {
        let hears = Arc::clone(&hears);
        async move {
            let number = call.payload.bytes()?;
            hears.lock().push((number, call.correlation));
            Ok(Reply::empty())
        }
    });
    let name = scene.name("hears");
    let serving = far.serve(Service::new(&*name, methods));
    let _serving = stage.wait("a service", serving).await??;
    let mut calls = 0;
    let some = TRACES.map(|trace| Some(whole("a step", trace)));
    for correlation in some.into_iter().chain([None]) {
        let event = || -> Checked<Event> {
            let event = Event::new("trace.step", Payload::raw("step"))?;
            Ok(match &correlation {
                Some(correlation) => event.correlation(correlation.clone()),
                None => event,
            })
        };
        every_way(&near, event).await?;
        for way in [
            "publish",
            "try",
            "batch",
            "batch",
            "publisher",
            "publisher, at most once",
        ] {
            let came = next(stage, &mut events).await?;
            ensure_eq!(came.get_correlation(), correlation.as_ref(), "{way}");
        }
        for idempotent in [false, true] {
            let number = Bytes::from(calls.to_string());
            calls += 1;
            let mut call = Call::new(&*name, "hear", number.clone()).deadline(stage.patience());
            call.correlation.clone_from(&correlation);
            call.idempotent = idempotent;
            stage.wait("a reply", near.call(call)).await??;
            // Of a call that is made twice, each.
            let heard = heard.lock().clone();
            let mut own = heard.iter().filter(|(of, _)| *of == number).peekable();
            ensure!(own.peek().is_some(), "a call was answered and not heard");
            for (_, came) in own {
                ensure_eq!(*came, correlation, "what call {calls} belongs to");
            }
        }
    }
    Ok(())
}

/// Publishes such events in each way that there is.
async fn every_way(bus: &Arc<dyn EventBus>, event: impl Fn() -> Checked<Event> + Send) -> Checked {
    bus.publish(event()?).await?;
    bus.try_publish(event()?)?;
    bus.publish_batch(vec![event()?, event()?]).await?;
    let publisher = bus.publisher(Topic::new("trace.step")?);
    publisher.publish(event()?).await?;
    publisher.try_publish(event()?.delivery(Delivery::AtMostOnce))?;
    Ok(())
}

/// OBS-004: a call, what its handler publishes, a task, what is said of it and its result are parts of the
/// whole that they were begun for, and of its trace.
pub(crate) async fn obs_004_a_workflow_is_one_trace(context: Context) -> Checked {
    let scene = Scene::new(&context).await?;
    let (stage, looks) = (&scene.stage, scene.handle().await?);
    let all = Subscribe::to("tasks.#")?.and("results.#")?;
    let mut all = stage.wait("a subscription", looks.subscribe(all)).await??;
    let hands = Hands::new();
    let agent = scene.agent(control::dispatch::Options::default()).await?;
    let identity = scene.identity("traced").capability("work").max_tasks(1);
    let member = scene.member(identity, &hands).await?;
    agent.knows(1).await?;
    let gather = scene.gather(control::results::Options::default()).await?;

    let begun = Correlation {
        trace_parent: Some(TRACES[0].to_owned()),
        ..Correlation::new("workflow").tag("host", "a")
    };
    let wanted = control::results::Wanted::ids("workflow", ["the step", "the task"]);
    let gathering = gather.begin(wanted.within(stage.patience() * 2))?;
    let _serving = publishing(&scene, &member.home).await?;
    let call = Call::new(scene.name("steps"), "step", "").deadline(stage.patience());
    let call = call.correlation(begun.child("the call"));
    stage.wait("a reply", stage.bus().call(call)).await??;
    let task = task("work", AT_ONCE)?.id("the task").correlation(&begun);
    let task = agent.dispatcher.submit(task)?;
    let done = stage.wait("a task to end", task.outcome()).await?;
    done.map_err(Unmet::broken)?;

    let gathered = stage.wait("results", gathering.gathered()).await?;
    ensure!(gathered.is_complete(), "gathered: {gathered:?}");
    for part in &gathered.parts {
        is_of(&begun, &part.correlation)?;
    }
    let worked = hands.begun();
    ensure_eq!(worked.len(), 1, "times that the task was begun");
    is_of(&begun, &worked[0].correlation)?;
    let parent = worked[0].correlation.parent.as_deref();
    ensure_eq!(parent, Some("workflow"), "what the task is a part of");
    let mut stages = Vec::new();
    while stages.last().map(String::as_str) != Some("done") {
        let event = next(stage, &mut all).await?;
        let of = event.get_correlation().cloned();
        let of =
            of.ok_or_else(|| Unmet::broken(format_args!("{} belongs to nothing", event.topic())))?;
        is_of(&begun, &of)?;
        stages.extend(of.stage.filter(|_| of.id == "the task"));
    }
    stages.sort();
    ensure_eq!(
        stages,
        ["accepted", "do", "done"],
        "what was said of the task"
    );
    Ok(())
}

/// A service that publishes a step of what it is called for, as a result.
async fn publishing(
    scene: &Scene,
    bus: &Arc<dyn EventBus>,
) -> Checked<eventbus_trait::rpc::Serving> {
    let results = bus.publisher(Topic::new(format!("results.{AGENT}-steps"))?);
    let methods = Methods::new().on("step", move |call: Call| {
        let results = results.clone();
        async move {
            let step = call.correlation.unwrap_or_default().child("the step");
            let found = results.event(Payload::raw("found")).correlation(step);
            let published = results.publish(found).await;
            published
                .map_err(|refused| eventbus_trait::rpc::Failure::new(1, refused.to_string()))?;
            Ok(Reply::empty())
        }
    });
    let serving = bus.serve(Service::new(scene.name("steps"), methods));
    Ok(scene.stage.wait("a service", serving).await??)
}

/// Whether something is a part of the workflow.
fn is_of(begun: &Correlation, part: &Correlation) -> Checked {
    let of = (&part.root, &part.tags, &part.trace_parent);
    let want = (&Some(begun.id.clone()), &begun.tags, &begun.trace_parent);
    ensure_eq!(of, want, "root, tags and trace of `{}`", part.id);
    Ok(())
}

async fn next(stage: &Stage, events: &mut Subscription) -> Checked<Event> {
    let next = stage.wait("an event", events.recv()).await?;
    next.ok_or_else(|| Unmet::broken("a stream of events has ended"))
}
