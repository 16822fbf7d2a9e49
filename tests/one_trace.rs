//! One workflow across three processes is one trace: an agent calls a collector, which publishes what it
//! found, which an archive stores.
//!
//! The processes are this test binary again. Each has an exporter in memory and at its end prints the
//! spans that it finished; the parent puts the trace together from what they print. In one process the
//! same workflow runs on every other phase.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests are outside of what clippy takes for tests"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use eventbus::rpc::{Call, Methods, Reply, Service};
use eventbus::{BrokerMode, Config, Correlation, Event, EventBus, Phase, Subscribe, Subscription};
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
use serde::{Deserialize, Serialize};
use tracing::{Instrument, info_span};
use tracing_subscriber::layer::SubscriberExt;

/// What a child is told: who it is, and the bus, as a configuration file.
const CHILD: &str = "EVENTBUS_TEST_TRACE_CHILD";
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A finished span.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Span {
    process: String,
    name: String,
    trace: String,
    id: String,
    parent: String,
}

type Spans = InMemorySpanExporter;

fn tracing_to_memory() -> (Spans, impl tracing::Subscriber + Send + Sync) {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(exporter.clone())
        .build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("eventbus"));
    // What dependencies do among themselves is not what this is about.
    let ours = tracing_subscriber::filter::Targets::new()
        .with_target(eventbus::trace::TARGET, tracing::Level::INFO)
        .with_target("one_trace", tracing::Level::INFO);
    (
        exporter,
        tracing_subscriber::registry().with(ours).with(layer),
    )
}

/// As long as there is but one dispatcher, tracing asks the thread that comes to a call site first
/// whether anybody wants it, for good, and tests of other threads come to the same ones: with a second,
/// it asks them all.
fn heard_here(
    subscriber: impl tracing::Subscriber + Send + Sync,
) -> (tracing::Dispatch, tracing::subscriber::DefaultGuard) {
    let another = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
    (another, tracing::subscriber::set_default(subscriber))
}

fn finished(exporter: &Spans, process: &str) -> Vec<Span> {
    let spans = exporter.get_finished_spans().unwrap();
    let of = |span: opentelemetry_sdk::trace::SpanData| Span {
        process: process.to_owned(),
        name: span.name.to_string(),
        trace: span.span_context.trace_id().to_string(),
        id: span.span_context.span_id().to_string(),
        parent: span.parent_span_id.to_string(),
    };
    spans.into_iter().map(of).collect()
}

/// The agent: begins the work, and asks the collector for its part.
async fn scan(bus: &dyn EventBus) {
    let work = Correlation::new("scan-7").stage("scan").tag("host", "a");
    let call = Call::json("procmond", "hash", &4711).unwrap();
    let call = call.correlation(work.child("pid-4711")).deadline(PATIENCE);
    bus.call(call).instrument(info_span!("scan")).await.unwrap();
}

/// The collector: what it finds is an event.
fn procmond(bus: &Arc<dyn EventBus>) -> Service {
    let bus = Arc::clone(bus);
    let methods = Methods::new().on("hash", move |call: Call| {
        let bus = Arc::clone(&bus);
        async move {
            let part = call
                .correlation
                .clone()
                .unwrap()
                .child("hash-1")
                .stage("hash");
            let found = Event::json("results.hash", "00ff")
                .unwrap()
                .correlation(part);
            let publisher = bus.publisher(found.topic().clone());
            publisher.publish(found).await.unwrap();
            Ok(Reply::empty())
        }
        .instrument(info_span!("hash"))
    });
    Service::new("procmond", methods)
}

/// The archive: stores what anybody finds.
async fn store(found: &mut Subscription) -> Correlation {
    let event = found.recv().await.unwrap();
    let storing = async {
        async {}.instrument(info_span!("store")).await;
        event.get_correlation().cloned().unwrap()
    };
    storing.instrument(event.span()).await
}

/// What belongs to what, in words.
fn is_one_trace(spans: &[Span]) {
    let of = |process: &str, name: &str| {
        let found: Vec<_> = spans
            .iter()
            .filter(|span| span.process == process && span.name == name)
            .collect();
        assert_eq!(found.len(), 1, "{name} of {process} in {spans:#?}");
        found[0].clone()
    };
    let chain = [
        of("agent", "scan"),
        of("collector", "procmond/hash"),
        of("collector", "hash"),
        of("archive", "results.hash"),
        of("archive", "store"),
    ];
    assert_eq!(spans.len(), chain.len(), "{spans:#?}");
    assert_eq!(chain[0].parent, "0000000000000000");
    for pair in chain.windows(2) {
        assert_eq!(pair[1].trace, pair[0].trace, "{spans:#?}");
        assert_eq!(pair[1].parent, pair[0].id, "{spans:#?}");
    }
}

fn is_the_work(came: &Correlation, spans: &[Span]) {
    assert_eq!(came.id, "hash-1");
    assert_eq!(came.parent.as_deref(), Some("pid-4711"));
    assert_eq!(came.root.as_deref(), Some("scan-7"));
    assert_eq!(came.stage.as_deref(), Some("hash"));
    assert_eq!(
        came.tags,
        BTreeMap::from([("host".to_owned(), "a".to_owned())])
    );
    let hash = spans.iter().find(|span| span.name == "hash").unwrap();
    let told = format!("00-{}-{}-01", hash.trace, hash.id);
    assert_eq!(came.trace_parent, Some(told));
}

/// The life of a process of the workflow; no test of its own.
#[test]
fn child() {
    let Ok(told) = std::env::var(CHILD) else {
        return;
    };
    let (role, socket) = told.split_once(' ').unwrap();
    let (exporter, subscriber) = tracing_to_memory();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let mut config = Config::default().phase(Phase::Unix(socket.into()));
    if role != "agent" {
        config = config.broker_mode(BrokerMode::External);
    }
    run(async {
        let bus = eventbus::open(&config).await.unwrap();
        match role {
            "agent" => {
                await_word(true);
                scan(&*bus).await;
            }
            "collector" => {
                let serving = bus.serve(procmond(&bus)).await.unwrap();
                await_word(true);
                drop(serving);
            }
            _ => {
                let mut found = bus
                    .subscribe(Subscribe::to("results.#").unwrap())
                    .await
                    .unwrap();
                println!("ready");
                let came = store(&mut found).await;
                println!("came {}", serde_json::to_string(&came).unwrap());
            }
        }
        // The agent is the broker's process, so it stays until it is told.
        await_word(false);
        bus.shutdown().await.unwrap();
    });
    for span in finished(&exporter, role) {
        println!("span {}", serde_json::to_string(&span).unwrap());
    }
}

/// Says that it is ready, if it is, and waits for a line.
fn await_word(ready: bool) {
    let mut line = String::new();
    if ready {
        println!("ready");
    }
    tokio::task::block_in_place(|| std::io::stdin().read_line(&mut line).unwrap());
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await.unwrap() })
}

struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(role: &str, socket: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(CHILD, format!("{role} {}", socket.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut process = Self {
            child,
            input,
            output,
        };
        process.await_line("ready");
        process
    }

    /// Its next line that begins so, without its beginning. The child has a watchdog, and its end an end.
    fn await_line(&mut self, beginning: &str) -> String {
        let mut line = String::new();
        while self.output.read_line(&mut line).unwrap() > 0 {
            // The test harness says something on the same line first.
            if let Some((_, rest)) = line.trim_end().split_once(beginning) {
                return rest.to_owned();
            }
            line.clear();
        }
        panic!("the process ended before it said `{beginning}`");
    }

    fn say(&mut self) {
        writeln!(self.input.as_mut().unwrap()).unwrap();
    }

    fn end(mut self) -> Vec<Span> {
        drop(self.input.take());
        let lines = std::io::Read::by_ref(&mut self.output)
            .lines()
            .map(Result::unwrap);
        let spans = lines
            .filter_map(|line| Some(serde_json::from_str(line.strip_prefix("span ")?).unwrap()))
            .collect();
        assert!(self.child.wait().unwrap().success());
        spans
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_workflow_across_three_processes_is_one_trace() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("run/bus.sock");
    let mut agent = Process::start("agent", &socket);
    let mut archive = Process::start("archive", &socket);
    let collector = Process::start("collector", &socket);
    agent.say();
    let came = archive.await_line("came ");
    let came: Correlation = serde_json::from_str(&came).unwrap();
    let mut spans = archive.end();
    spans.extend(collector.end());
    spans.extend(agent.end());
    is_one_trace(&spans);
    is_the_work(&came, &spans);
}

/// The whole workflow in this process; spans cannot say which part they are of but by their names.
fn in_one_process(config: &Config) {
    let (exporter, subscriber) = tracing_to_memory();
    let _guard = heard_here(subscriber);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let workflow = async {
        let bus = eventbus::open(config).await.unwrap();
        let collector = bus.connect(None).await.unwrap();
        let archive = bus.connect(None).await.unwrap();
        let mut found = archive
            .subscribe(Subscribe::to("results.#").unwrap())
            .await
            .unwrap();
        let _serving = collector.serve(procmond(&collector)).await.unwrap();
        scan(&*bus).await;
        let came = store(&mut found).await;
        bus.shutdown().await.unwrap();
        came
    };
    let came = runtime.block_on(async { tokio::time::timeout(PATIENCE, workflow).await.unwrap() });
    let mut spans = finished(&exporter, "agent");
    for span in &mut spans {
        span.process = match span.name.as_str() {
            "scan" => "agent",
            "procmond/hash" | "hash" => "collector",
            _ => "archive",
        }
        .to_owned();
    }
    is_one_trace(&spans);
    is_the_work(&came, &spans);
}

#[test]
fn it_is_one_trace_in_process() {
    in_one_process(&Config::default().phase(Phase::InProcess));
}

#[cfg(feature = "crossbeam")]
#[test]
fn it_is_one_trace_on_crossbeam() {
    in_one_process(&Config::default().phase(Phase::Crossbeam));
}

#[cfg(feature = "crossbeam")]
#[test]
fn it_is_one_trace_under_a_shadow() {
    let config = Config::default();
    in_one_process(&config.shadow(Phase::Crossbeam, Phase::InProcess).unwrap());
}

#[cfg(all(feature = "crossbeam", feature = "rollout"))]
#[test]
fn it_is_one_trace_in_a_rollout() {
    let directory = tempfile::tempdir().unwrap();
    let phases = vec![Phase::Crossbeam, Phase::InProcess];
    let journal = directory.path().join("journal");
    in_one_process(&Config::default().rollout(eventbus::rollout::Rollout::new(phases, journal)));
}

/// Who is refused an event gets back the one that was given, and not one with a span in it.
#[test]
fn a_refused_event_comes_back_as_it_was() {
    let (_exporter, subscriber) = tracing_to_memory();
    let _guard = heard_here(subscriber);
    let refused = async {
        let bus = eventbus::open(&Config::default().phase(Phase::InProcess))
            .await
            .unwrap();
        let large = Event::new("a.b", vec![0; 2 << 20]).unwrap();
        let publisher = bus.publisher(large.topic().clone());
        let small = Event::new("a.b", "x").unwrap();
        let batch = vec![small, large.clone(), large.clone()];
        let batch = bus.publish_batch(batch).await.unwrap_err();
        assert_eq!(
            (batch.accepted, &batch.events),
            (1, &vec![large.clone(), large.clone()])
        );
        let events = [
            bus.publish(large.clone()).await.unwrap_err().into_parts().0,
            bus.try_publish(large.clone()).unwrap_err().into_parts().0,
            publisher
                .publish(large.clone())
                .await
                .unwrap_err()
                .into_parts()
                .0,
            publisher
                .try_publish(large.clone())
                .unwrap_err()
                .into_parts()
                .0,
        ];
        assert_eq!(events, [(); 4].map(|()| large.clone()));
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(refused.instrument(info_span!("work")));
}
