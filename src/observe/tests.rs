//! The server as its users meet it, on real buses.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use conformance::fault::Reserved;
use eventbus_trait::rpc::{Call, Failure, Methods, Reply, Service};
use eventbus_trait::{Correlation, Event, EventBus, Subscribe};
use serde_json::{Value, json};
use shadow::sabotage::{Sabotage, SabotageBus};
use shadow::{FileReport, ShadowBus, ShadowOptions, WhenFull};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::{Brokered, Observed, Observer, Server, frozen, metrics};
use crate::config::{Config, MetricsAddress};
use crate::{OpenError, Phase};

/// What a browser would do, in the topic, the details and the names of hostile peers.
const HOSTILE: &str = "</script><img src=x onerror=alert(1)>\"'&\\\n\u{202e}";

async fn crossbeam() -> Arc<dyn EventBus> {
    let config = Config::default().phase(Phase::Crossbeam);
    crate::open(&config).await.unwrap()
}

/// A shadow of two buses whose candidate loses every event, after a few of them.
async fn sabotaged() -> (Arc<ShadowBus>, eventbus_trait::Subscription) {
    let candidate = SabotageBus::new(crossbeam().await, Sabotage::Drop, 0.5, 1);
    let options = ShadowOptions {
        when_full: WhenFull::Wait,
        grace: Duration::from_millis(50),
        ..ShadowOptions::default()
    };
    let shadow = ShadowBus::new(crossbeam().await, candidate, options);
    let subscribe = Subscribe::to("events.#").unwrap().named("reader");
    let mut events = shadow.subscribe(subscribe).await.unwrap();
    for _ in 0..200 {
        let event = Event::json("events.process.new", &1).unwrap();
        shadow.publish(event).await.unwrap();
        assert!(events.recv().await.is_some());
    }
    called(&shadow).await;
    shadow.settle(Duration::from_secs(60)).await;
    (shadow, events)
}

/// Calls that end in several ways; the service is gone then, but counted.
async fn called(bus: &Arc<ShadowBus>) {
    let methods = Methods::new()
        .on("echo", |call: Call| async { Ok(Reply::new(call.payload)) })
        .on("fail", |_: Call| async { Err(Failure::new(1, "no")) });
    let service = Service::new("callee", methods);
    let serving = bus.serve(service).await.unwrap();
    let call = |method: &str| Call::new("callee", method, "x");
    bus.call(call("echo")).await.unwrap();
    bus.call(call("echo").idempotent()).await.unwrap();
    bus.call(call("fail")).await.unwrap_err();
    assert!(bus.settle(Duration::from_secs(60)).await);
    // Until the process ends.
    std::mem::forget(serving);
}

/// A rollout that a gate has halted.
fn halted() -> crate::rollout::status::Status {
    let status = json!({
        "phase": "crossbeam", "stage": 1, "mode": "automatic", "activity": "halted",
        "stages": [
            {"name": "crossbeam", "phase": "crossbeam", "candidate": null},
            {"name": "shadow(crossbeam, unix)", "phase": "crossbeam", "candidate": "unix"},
            {"name": "unix", "phase": "unix", "candidate": null},
        ],
        "cutover": null,
        "gates": [
            {"name": "events", "wanted": "at least 100 events", "measured": "25 events", "progress": 0.25, "verdict": "inconclusive"},
            {"name": "divergences", "wanted": "none", "measured": "3", "progress": null, "verdict": "fail"},
        ],
        "successes": 0, "successes_wanted": 3, "failures": 1, "failures_allowed": 1,
        "stage_since_ms": 1_795_285_457_653_u64,
        "history": [{
            "at_ms": 1_795_285_457_653_u64, "what": "advanced", "from": "crossbeam",
            "to": "shadow(crossbeam, unix)", "reason": "asked to", "took_us": 1500, "publish_delay_us": 0,
        }],
        "last_error": "gate divergences failed: 3, wanted none",
        "longest_publish_delay_us": 1200, "cutovers": 2,
    });
    serde_json::from_value(status).unwrap()
}

/// Everything that there can be to see, from real buses, with hostile words in it.
async fn everything() -> (Observed, impl Sized) {
    let (shadow, events) = sabotaged().await;
    let observer = Observer::new(HOSTILE);
    let bus: Arc<dyn EventBus> = Arc::clone(&shadow) as _;
    observer.watch_bus(&bus);
    observer.watch_shadow(&shadow);
    observer.watch_rollout(|| Some(halted()));
    observer.watch_broker(|| {
        Some(Brokered {
            refused: [("protocol".to_owned(), 2)].into(),
            ..Brokered::default()
        })
    });
    let mut seen = observer.note();
    let found = seen.shadow.as_mut().unwrap();
    assert!(!found.glance.newest.is_empty(), "{found:?}");
    HOSTILE.clone_into(&mut found.glance.newest[0].topic);
    HOSTILE.clone_into(&mut found.glance.newest[0].detail);
    HOSTILE.clone_into(&mut found.glance.by_topic[0].topic);
    HOSTILE.clone_into(&mut found.report.primary);
    let errors = &mut found.report.candidate_errors;
    errors.insert(HOSTILE.to_owned(), 1);
    HOSTILE.clone_into(&mut seen.stats.as_mut().unwrap().subscriptions[0].name);
    (seen, (shadow, events))
}

struct Served {
    address: String,
    serving: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(observer: &Observer) -> Served {
    let server = Server::bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
    Served {
        address: server.address().to_string(),
        serving: tokio::spawn(server.serve(observer.clone())),
    }
}

/// The status, the head and the body of an answer.
async fn ask(address: &str, request: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), body.to_owned())
}

async fn get(address: &str, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let (status, _, body) = ask(address, &request).await;
    (status, body)
}

#[tokio::test]
async fn every_metric_parses_and_has_its_kind_its_unit_and_its_help() {
    let (seen, _alive) = everything().await;
    let text = metrics::text(&seen);
    let lines = text.lines().map(|line| Ok(line.to_owned()));
    let scrape = prometheus_parse::Scrape::parse(lines).unwrap();
    let mut families = 0;
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
        assert_eq!(
            text.matches(&format!("# TYPE {name} ")).count(),
            1,
            "{name}"
        );
        for unit in ["_ms", "_us", "_millis", "_kb"] {
            assert!(!name.contains(unit), "{name}");
        }
        families += 1;
    }
    assert!(families > 40, "{families} in {text}");
    let call_of = |name: &str, outcome: &str| {
        let found = scrape
            .samples
            .iter()
            .find(|sample| sample.metric == name && sample.labels.get("outcome") == Some(outcome));
        match found.map(|sample| &sample.value) {
            Some(prometheus_parse::Value::Counter(n)) => *n as u64,
            other => panic!("{name} {outcome}: {other:?}"),
        }
    };
    for (name, outcome, n) in [
        ("eventbus_calls_total", "replied", 2),
        ("eventbus_calls_total", "failed", 1),
        ("eventbus_service_calls_total", "replied", 2),
        ("eventbus_service_calls_total", "failed", 1),
        ("eventbus_service_calls_total", "busy", 0),
        ("eventbus_shadow_calls_total", "unmirrored", 2),
        ("eventbus_shadow_calls_total", "same", 1),
    ] {
        assert_eq!(call_of(name, outcome), n, "{name} {outcome}");
    }
    let value = |name: &str, label: Option<(&str, &str)>| {
        let found = scrape.samples.iter().find(|sample| {
            sample.metric == name && label.is_none_or(|(l, v)| sample.labels.get(l) == Some(v))
        });
        let found = found.unwrap_or_else(|| panic!("no {name} {label:?} in {text}"));
        match &found.value {
            prometheus_parse::Value::Counter(n) | prometheus_parse::Value::Gauge(n) => *n,
            other => panic!("{name}: {other:?}"),
        }
    };
    assert_eq!(value("eventbus_published_events_total", None), 200.0);
    assert_eq!(value("eventbus_calls_in_flight", None), 0.0);
    assert_eq!(
        value("eventbus_shadow_verdict", Some(("verdict", "diverged"))),
        1.0
    );
    assert_eq!(
        value("eventbus_shadow_verdict", Some(("verdict", "match"))),
        0.0
    );
    let missing = seen.shadow.as_ref().unwrap().report.missing;
    assert!(missing > 0);
    assert_eq!(
        value("eventbus_shadow_missing_deliveries", None),
        missing as f64
    );
    assert_eq!(
        value("eventbus_rollout_activity", Some(("activity", "halted"))),
        1.0
    );
    assert_eq!(
        value("eventbus_rollout_longest_publish_delay_seconds", None),
        0.0012
    );
    let refused = "eventbus_broker_connections_refused_total";
    assert_eq!(value(refused, Some(("reason", "protocol"))), 2.0);
}

#[test]
fn a_trace_parent_that_is_none_is_counted() {
    let counted = || {
        let text = metrics::text(&Observer::new("process").look());
        let name = "eventbus_refused_trace_parents_total ";
        let lines: Vec<u64> = text
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.parse().ok())
            .collect();
        assert_eq!(lines.len(), 1, "{text}");
        lines[0]
    };
    let before = counted();
    let work = Correlation {
        trace_parent: Some("none".to_owned()),
        ..Correlation::new("scan")
    };
    assert_eq!(work.trace(), None);
    // Other tests may add to it: it is the process's.
    assert!(counted() > before);
}

#[tokio::test]
async fn a_histogram_is_cumulative_and_ends_with_all() {
    let (seen, _alive) = everything().await;
    let text = metrics::text(&seen);
    for side in ["primary", "candidate"] {
        let of_side = format!("eventbus_shadow_latency_seconds_bucket{{side=\"{side}\",le=\"");
        let buckets: Vec<(String, f64)> = text
            .lines()
            .filter_map(|line| line.strip_prefix(&of_side))
            .map(|rest| {
                let (le, n) = rest.split_once("\"} ").unwrap();
                (le.to_owned(), n.parse().unwrap())
            })
            .collect();
        assert_eq!(buckets.len(), 23);
        assert_eq!((&*buckets[0].0, &*buckets[21].0), ("0.000001", "10"));
        assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1));
        let count = format!("eventbus_shadow_latency_seconds_count{{side=\"{side}\"}} ");
        let count: f64 = text
            .lines()
            .find_map(|l| l.strip_prefix(&count))
            .unwrap()
            .parse()
            .unwrap();
        assert!(count > 0.0 && buckets[22] == ("+Inf".to_owned(), count));
    }
}

/// The table in `docs/observing.md` is the one that the code has.
#[test]
fn the_metrics_are_documented_as_they_are() {
    let documented = include_str!("../../docs/observing.md");
    let table = metrics::documentation();
    assert!(
        documented.contains(&table),
        "docs/observing.md should have\n{table}"
    );
}

#[tokio::test]
async fn a_label_cannot_end_its_line() {
    let (seen, _alive) = everything().await;
    let text = metrics::text(&seen);
    let escaped = HOSTILE
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    assert!(
        text.contains(&format!("{{subscription=\"{escaped}\"}} ")),
        "{text}"
    );
    let sound = |line: &str| {
        line.starts_with("# ") || line.starts_with("eventbus_") || line.starts_with("process_")
    };
    assert!(text.lines().all(sound), "{text}");
}

#[tokio::test]
async fn what_was_seen_never_becomes_markup() {
    let (seen, _alive) = everything().await;
    let page = frozen(HOSTILE, &[&seen]);
    assert!(!page.contains("<img"), "{page}");
    assert_eq!(page.matches("</script>").count(), 2, "the page's own two");
    let data = page.split("id=\"data\">").nth(1).unwrap();
    let data: Value = serde_json::from_str(data.split("</script>").next().unwrap()).unwrap();
    let topic = &data["runs"][0]["shadow"]["glance"]["newest"][0]["topic"];
    assert_eq!(topic, HOSTILE, "and it is all there");
}

/// `docs/observed.schema.json` is true of everything that there can be to see.
#[tokio::test]
async fn the_json_is_as_documented() {
    let schema: Value =
        serde_json::from_str(include_str!("../../docs/observed.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let (mut seen, _alive) = everything().await;
    for history in [0, 1] {
        if history == 0 {
            seen.history = super::History::default();
        }
        let document = serde_json::to_value(&seen).unwrap();
        let errors: Vec<_> = validator
            .iter_errors(&document)
            .map(|e| format!("{e} at {}", e.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{errors:?}");
        let back: Observed = serde_json::from_value(document).unwrap();
        assert_eq!(back, seen);
        seen = everything().await.0;
    }
    let mut document = serde_json::to_value(&seen).unwrap();
    for pointer in [
        "",
        "/shadow",
        "/shadow/glance",
        "/history/points/0",
        "/health",
    ] {
        let Value::Object(object) = document.pointer_mut(pointer).unwrap() else {
            panic!("{pointer} is no object");
        };
        object.insert("untold".to_owned(), Value::Null);
        assert!(
            !validator.is_valid(&document),
            "{pointer}: what is new must be documented"
        );
        document
            .pointer_mut(pointer)
            .unwrap()
            .as_object_mut()
            .unwrap()
            .remove("untold");
    }
    assert!(validator.is_valid(&document));
}

#[tokio::test]
async fn health_says_what_stands_against_it() {
    let bus = crossbeam().await;
    let observer = Observer::new("t");
    observer.watch_bus(&bus);
    let served = serve(&observer).await;
    let health = async || {
        let (status, body) = get(&served.address, "/healthz").await;
        (status, serde_json::from_str::<Value>(&body).unwrap())
    };
    let (status, body) = health().await;
    assert_eq!((status, &body["status"]), (200, &json!("ok")));
    assert!(body["uptime_seconds"].is_u64() && body.get("reasons").is_none());
    drop(bus);
    // It may have been seen a moment ago.
    let unwell = async {
        loop {
            let (status, body) = health().await;
            if status == 503 {
                break body;
            }
        }
    };
    let body = tokio::time::timeout(Duration::from_secs(60), unwell).await;
    assert_eq!(body.unwrap()["reasons"], json!(["the bus is gone"]));
    observer.forget();
    assert_eq!(health().await.0, 200);
    observer.check("disk", || Err("no room".to_owned()));
    observer.check("bug", || panic!("on purpose"));
    observer.watch_rollout(|| panic!("on purpose"));
    let (status, body) = health().await;
    let reasons = json!([
        "looking at the rollout panicked",
        "disk: no room",
        "bug: the check panicked"
    ]);
    assert_eq!(
        (status, &body["status"], &body["reasons"]),
        (503, &json!("failing"), &reasons)
    );
    observer.drain();
    assert_eq!(health().await.1["status"], "draining");
    observer.forget();
    observer.watch_broker(|| {
        Some(Brokered {
            silent_us: 11_000_000,
            sessions: 3,
            ..Brokered::default()
        })
    });
    let (status, body) = health().await;
    assert_eq!(
        (status, &body["status"], &body["sessions"]),
        (503, &json!("stuck"), &json!(3))
    );
}

#[tokio::test]
async fn each_path_has_its_answer_and_nothing_can_be_changed() {
    let bus = crossbeam().await;
    let observer = Observer::new("t");
    observer.watch_bus(&bus);
    let served = serve(&observer).await;
    let address = &*served.address;
    let asked = async |method: &str, path: &str, host: &str| {
        ask(
            address,
            &format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        )
        .await
    };
    let (status, head, body) = asked("GET", "/", "localhost").await;
    assert_eq!(status, 200);
    assert!(body.contains("\"live\":true"), "{body}");
    for said in [
        "content-type: text/html; charset=utf-8",
        "default-src 'none'; script-src 'nonce-",
        "frame-ancestors 'none'",
        "x-content-type-options: nosniff",
        "cache-control: no-store",
    ] {
        assert!(head.contains(said), "{said} in {head}");
    }
    let nonce = |head: &str| head.split("nonce-").nth(1).unwrap()[..32].to_owned();
    assert!(body.contains(&format!("nonce=\"{}\"", nonce(&head))));
    assert_ne!(nonce(&head), nonce(&asked("GET", "/", "localhost").await.1));
    let (status, head, _) = asked("GET", "/observed.json", "127.0.0.1").await;
    assert!(status == 200 && head.contains("content-type: application/json"));
    let (status, head, _) = asked("GET", "/metrics", "127.0.0.1").await;
    assert!(
        status == 200 && head.contains("text/plain; version=0.0.4"),
        "{head}"
    );
    assert_eq!(asked("HEAD", "/healthz", "[::1]").await.0, 200);
    let (status, head, _) = asked("POST", "/observed.json", "localhost").await;
    assert!(status == 405 && head.contains("allow: get"), "{head}");
    assert_eq!(asked("GET", "/admin", "localhost").await.0, 404);
    // The name of a page elsewhere that was made to resolve to this address.
    for path in ["/", "/observed.json", "/metrics", "/healthz"] {
        assert_eq!(asked("GET", path, "evil.example").await.0, 421, "{path}");
    }
}

/// A listener at all addresses is at the loopback address, too.
#[tokio::test]
async fn a_foreign_name_is_refused_wherever_it_listens() {
    let server = Server::bind(&"0.0.0.0:0".parse().unwrap()).await.unwrap();
    let address = server.address().to_string().replace("0.0.0.0", "127.0.0.1");
    let serving = tokio::spawn(server.serve(Observer::new("t")));
    let asked = async |host: &str| {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n");
        ask(&address, &request).await.0
    };
    assert_eq!(
        (asked("evil.example").await, asked(&address).await),
        (421, 200)
    );
    serving.abort();
}

#[tokio::test]
async fn many_who_ask_cost_as_much_as_one() {
    let observer = Observer::new("t");
    let looks = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&looks);
    observer.check("count", move || {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(())
    });
    let served = serve(&observer).await;
    let began = Instant::now();
    for _ in 0..50 {
        for path in ["/", "/metrics", "/healthz", "/observed.json"] {
            assert_eq!(get(&served.address, path).await.0, 200, "{path}");
        }
    }
    // Five a second for those who ask, and one for the history.
    let due = 2 + began.elapsed().as_millis() * 6 / 1_000;
    let looked = u128::from(looks.load(Ordering::Relaxed));
    assert!(looked <= due, "{looked} looks, {due} due");
}

#[tokio::test]
async fn what_keeps_a_comparison_from_being_whole_is_said_everywhere() {
    let (mut seen, _alive) = everything().await;
    assert!(metrics::text(&seen).contains("\neventbus_shadow_disabled 0\n"));
    let report = &mut seen.shadow.as_mut().unwrap().report;
    report.disabled = Some("it panicked".to_owned());
    report.hook_errors = [("ignore".to_owned(), 3)].into();
    let mut file = FileReport::default();
    (file.path, file.dropped) = ("found.jsonl".to_owned(), 7);
    file.error = Some("No space left".to_owned());
    report.divergence_file = Some(file);
    assert!(metrics::text(&seen).contains("\neventbus_shadow_disabled 1\n"));
    let text = super::plain(&seen);
    for said in [
        "shadow disabled: it panicked",
        "hook ignore failed: 3",
        "divergences not written to found.jsonl: 7, No space left",
    ] {
        assert!(text.contains(&format!("\n  {said}\n")), "{said} in {text}");
    }
}

#[tokio::test]
async fn a_configured_address_is_served_as_long_as_the_bus_is_there() {
    let reserved = Reserved::new().unwrap();
    let address = reserved.address();
    let listening = std::net::TcpListener::bind(address).unwrap();
    let mut config = Config::default().phase(Phase::Crossbeam).name("collector");
    config.observe.listen = Some(MetricsAddress::Tcp(address));
    let taken = crate::open(&config).await;
    assert!(matches!(taken, Err(OpenError::Observe { .. })), "{taken:?}");
    drop(listening);
    for phase in [
        Phase::Crossbeam,
        Phase::shadow(Phase::Crossbeam, Phase::Crossbeam).unwrap(),
    ] {
        let shadowed = matches!(phase, Phase::Shadow { .. });
        let config = config.clone().phase(phase);
        let bus = crate::open(&config).await.unwrap();
        bus.publish(Event::json("events.a", &1).unwrap())
            .await
            .unwrap();
        let seen = async {
            loop {
                let (status, body) = get(&address.to_string(), "/observed.json").await;
                let seen: Observed = serde_json::from_str(&body).unwrap();
                assert_eq!((status, &*seen.title), (200, "collector"));
                assert_eq!(seen.shadow.is_some(), shadowed);
                // It may have been seen a moment ago.
                if seen.stats.is_some_and(|stats| stats.published == 1) {
                    break;
                }
            }
        };
        let seen = tokio::time::timeout(Duration::from_secs(60), seen).await;
        seen.expect("what is published is never seen");
        bus.shutdown().await.unwrap();
        drop(bus);
        let ended = async {
            while TcpStream::connect(address).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), ended)
            .await
            .expect("it goes on for nothing");
    }
}

/// Only a bus with a connection tells how it stands.
#[cfg(feature = "busrt")]
#[tokio::test]
async fn a_bus_that_is_closed_is_not_healthy() {
    let plain = Config::default().phase(Phase::InProcess);
    let shadow = Phase::shadow(Phase::InProcess, Phase::Crossbeam).unwrap();
    for config in [plain, Config::default().phase(shadow)] {
        let bus = crate::open(&config).await.unwrap();
        let observer = Observer::new("t");
        observer.watch_bus(&bus);
        assert!(observer.look().health.is_ok());
        bus.shutdown().await.unwrap();
        let health = observer.look().health;
        assert_eq!(health.reasons, ["the bus is closed"], "{}", config.phase);
    }
}

/// A rollout is seen where it is, with the comparison of its stage, and without one in between.
#[cfg(feature = "rollout")]
#[tokio::test]
async fn a_rollout_is_seen_with_the_comparison_of_its_stage() {
    let directory = tempfile::tempdir().unwrap();
    let phases = vec![Phase::Crossbeam, Phase::InProcess];
    let rollout = crate::rollout::Rollout::new(phases, directory.path().join("journal"));
    let mut config = Config::default().rollout(rollout);
    let reserved = Reserved::new().unwrap();
    let address = reserved.address();
    config.observe.listen = Some(MetricsAddress::Tcp(address));
    let bus = crate::rollout::open(&config).await.unwrap();
    let subscribe = Subscribe::to("events.#").unwrap().named("reader");
    let mut events = bus.subscribe(subscribe).await.unwrap();
    let until = async |what: &str, wanted: fn(&Observed) -> bool| {
        let seen = async {
            loop {
                let (_, body) = get(&address.to_string(), "/observed.json").await;
                let seen: Observed = serde_json::from_str(&body).unwrap();
                assert!(seen.health.is_ok(), "{:?}", seen.health);
                if wanted(&seen) {
                    return;
                }
            }
        };
        let seen = tokio::time::timeout(Duration::from_secs(60), seen).await;
        seen.unwrap_or_else(|_| panic!("never: {what}"));
    };
    until("the first stage", |seen| {
        seen.rollout.as_ref().is_some_and(|r| r.stage == 0) && seen.shadow.is_none()
    })
    .await;
    bus.controller().advance(true).await.unwrap();
    for _ in 0..10 {
        bus.publish(Event::json("events.a", &1).unwrap())
            .await
            .unwrap();
        assert!(events.recv().await.is_some());
    }
    until("ten deliveries that match, in the shadow's stage", |seen| {
        seen.rollout.as_ref().is_some_and(|r| r.stage == 1)
            && seen.shadow.as_ref().is_some_and(|s| s.report.matched == 10)
    })
    .await;
    bus.controller().advance(true).await.unwrap();
    until("the last stage, without a shadow", |seen| {
        seen.rollout.as_ref().is_some_and(|r| r.stage == 2) && seen.shadow.is_none()
    })
    .await;
}
