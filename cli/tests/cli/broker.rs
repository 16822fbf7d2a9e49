//! `eventbus broker`: a service that others' programs meet at, and that its manager can manage.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use eventbus::{
    BrokerMode, Config, Event, EventBus, OpenError, Phase, PublishError, Subscribe, SubscribeError,
    Subscription, Tls,
};
use serde_json::Value;

use crate::program::{Place, Running, until};

/// Reaching it is a hang.
const PATIENCE: Duration = Duration::from_secs(60);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().unwrap()
}

fn socket(place: &Place) -> PathBuf {
    place.path().canonicalize().unwrap().join("run/bus.sock")
}

fn at_socket(place: &Place) -> Config {
    Config::default()
        .phase(Phase::Unix(socket(place)))
        .broker_mode(BrokerMode::External)
}

/// Starts a broker and waits until it says where it is.
fn started(place: &Place, words: &str, variables: &[(&str, &str)]) -> (Running, Value) {
    let running = place.start(&format!("broker --json {words}"), variables);
    let ready: Value = serde_json::from_str(&running.first_line()).unwrap();
    assert_eq!(ready["ready"], true);
    (running, ready)
}

fn ended_well(running: Running) {
    running.signal("TERM");
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stderr, "");
}

/// What `GET path` answers: the status, and the body.
fn get(ready: &Value, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: broker\r\n\r\n");
    let address = ready["metrics"].as_str().unwrap();
    let mut answer = String::new();
    let read = |stream: &mut dyn ReadWrite, answer: &mut String| {
        stream.write_all(request.as_bytes()).unwrap();
        stream.read_to_string(answer).unwrap();
    };
    match address.strip_prefix("unix:") {
        Some(path) => read(&mut UnixStream::connect(path).unwrap(), &mut answer),
        None => read(&mut TcpStream::connect(address).unwrap(), &mut answer),
    }
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

trait ReadWrite: std::io::Read + std::io::Write {}
impl<T: std::io::Read + std::io::Write> ReadWrite for T {}

/// The value of a metric; `name` with its labels.
fn metric(page: &str, name: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    let value = line.unwrap_or_else(|| panic!("no {name} in {page}"));
    value.trim().parse().unwrap()
}

/// A thousand events each way between two programs.
struct Exchange {
    handles: [Arc<dyn EventBus>; 2],
    subscriptions: [Subscription; 2],
    next: u32,
}

impl Exchange {
    async fn new(first: &Config, second: &Config) -> Self {
        let open = async |config| eventbus::open(config).await.unwrap();
        let handles = [open(first).await, open(second).await];
        let subscribe = async |handle: &Arc<dyn EventBus>| {
            let others = Subscribe::to("events.#").unwrap().exclude_own();
            handle.subscribe(others).await.unwrap()
        };
        let subscriptions = [subscribe(&handles[0]).await, subscribe(&handles[1]).await];
        Self {
            handles,
            subscriptions,
            next: 0,
        }
    }

    async fn go_on(&mut self) {
        let numbers = self.next..self.next + 1_000;
        for handle in &self.handles {
            for n in numbers.clone() {
                let event = Event::json("events.process.new", &n).unwrap();
                handle.publish(event).await.unwrap();
            }
        }
        for subscription in &mut self.subscriptions {
            for n in numbers.clone() {
                let event = tokio::time::timeout(PATIENCE, subscription.recv()).await;
                assert_eq!(*event.unwrap().unwrap().decode_json::<u32>().unwrap(), n);
            }
        }
        self.next += 1_000;
    }

    async fn end(self) {
        for handle in self.handles {
            handle.shutdown().await.unwrap();
        }
    }
}

#[test]
fn two_programs_meet_at_it_and_it_leaves_nothing_behind() {
    let place = Place::new();
    let words = "broker --unix run/bus.sock --metrics unix:run/metrics.sock";
    let running = place.start(words, &[]);
    let path = socket(&place);
    let metrics = path.with_file_name("metrics.sock");
    assert_eq!(
        running.first_line(),
        format!(
            "ready unix={} metrics=unix:{}\n",
            path.display(),
            metrics.display()
        )
    );
    runtime().block_on(async {
        let config = at_socket(&place);
        let mut exchange = Exchange::new(&config, &config).await;
        exchange.go_on().await;
        exchange.end().await;
    });
    ended_well(running);
    let left: Vec<_> = std::fs::read_dir(place.path().join("run"))
        .unwrap()
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn health_and_metrics_say_how_it_is() {
    let place = Place::new();
    for metrics in ["127.0.0.1:0", "unix:run/metrics.sock"] {
        let words = format!("--unix run/bus.sock --max-connections 7 --metrics {metrics}");
        let (running, ready) = started(&place, &words, &[]);
        let health = || {
            let (status, body) = get(&ready, "/healthz");
            assert_eq!(status, 200, "{body}");
            serde_json::from_str::<Value>(&body).unwrap()
        };
        assert_eq!(health()["status"], "ok");
        assert_eq!(health()["sessions"], 0);
        assert!(health()["uptime_seconds"].is_u64());
        let (_, before) = get(&ready, "/metrics");
        assert_eq!(metric(&before, "eventbus_broker_frames_total"), 0.0);
        runtime().block_on(async {
            let config = at_socket(&place);
            let mut exchange = Exchange::new(&config, &config).await;
            exchange.go_on().await;
            until("two sessions", || health()["sessions"] == 2);
            for (name, least) in [
                ("eventbus_broker_connections", 2.0),
                ("eventbus_broker_sessions", 2.0),
                ("eventbus_broker_max_connections", 7.0),
                ("eventbus_broker_connections_accepted_total", 2.0),
                ("eventbus_broker_frames_total", 10.0),
                ("eventbus_broker_bytes_total{direction=\"in\"}", 2_000.0),
                ("eventbus_broker_bytes_total{direction=\"out\"}", 2_000.0),
                ("process_open_fds", 3.0),
            ] {
                // Labels keep a name from being the beginning of another.
                let name = format!("{name} ");
                // What was seen a moment ago, in the middle of it, is not looked at again.
                until(&name, || {
                    let (status, page) = get(&ready, "/metrics");
                    assert_eq!(status, 200, "{page}");
                    metric(&page, &name) >= least
                });
            }
            exchange.end().await;
        });
        until("no session", || health()["sessions"] == 0);
        assert_eq!(get(&ready, "/").0, 200);
        assert_eq!(get(&ready, "/nothing").0, 404);
        ended_well(running);
    }
}

/// Every family has a help and a type before its samples, once, and every name its unit.
#[test]
fn the_metrics_are_well_formed_and_documented() {
    let place = Place::new();
    let (running, ready) = started(&place, "--unix run/bus.sock --metrics 127.0.0.1:0", &[]);
    let (_, page) = get(&ready, "/metrics");
    let documented = include_str!("../../../docs/observing.md");
    let mut families = Vec::new();
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let name = help.split(' ').next().unwrap();
            assert!(!families.contains(&name), "{name} twice");
            assert!(documented.contains(&format!("`{name}`")), "{name} untold");
            families.push(name);
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(Some(&name), families.last());
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        } else {
            let name = line.split([' ', '{']).next().unwrap();
            assert_eq!(Some(&name), families.last(), "{line}");
        }
    }
    assert!(families.len() > 10, "{page}");
    ended_well(running);
}

#[test]
fn one_connection_too_many_is_refused_and_counted() {
    let place = Place::new();
    let words = "--unix run/bus.sock --max-connections 1 --metrics 127.0.0.1:0";
    let (running, ready) = started(&place, words, &[("EVENTBUS_LOG", "error")]);
    let (_, page) = get(&ready, "/metrics");
    for reason in eventbus::broker::BrokerStats::reasons() {
        let name = format!("eventbus_broker_connections_refused_total{{reason=\"{reason}\"}}");
        assert_eq!(metric(&page, &name), 0.0);
    }
    assert!(page.contains("reason=\"deaf\"") && page.contains("reason=\"revoked\""));
    let refused = || {
        let (_, page) = get(&ready, "/metrics");
        let name = "eventbus_broker_connections_refused_total{reason=\"too_many\"}";
        metric(&page, name)
    };
    assert_eq!(refused(), 0.0);
    runtime().block_on(async {
        let config = at_socket(&place);
        let first = eventbus::open(&config).await.unwrap();
        let second = eventbus::open(&config).await;
        assert!(matches!(second, Err(OpenError::Busrt { .. })), "{second:?}");
        until("a refusal", || refused() >= 1.0);
        first.shutdown().await.unwrap();
        let third = eventbus::open(&config).await.unwrap();
        third.shutdown().await.unwrap();
    });
    ended_well(running);
}

/// Sessions that were there before the broker ended go on with the one that was started next.
#[test]
fn programs_come_back_to_a_broker_that_is_started_again() {
    let place = Place::new();
    let words = "--unix run/bus.sock --metrics unix:run/metrics.sock";
    let (first, _) = started(&place, words, &[]);
    let runtime = runtime();
    let config = at_socket(&place);
    let mut exchange = runtime.block_on(Exchange::new(&config, &config));
    runtime.block_on(exchange.go_on());
    first.signal("KILL");
    assert_eq!(first.end().code, None);
    let (second, _) = started(&place, words, &[]);
    runtime.block_on(exchange.go_on());
    ended_well(second);
    let (third, _) = started(&place, words, &[]);
    runtime.block_on(exchange.go_on());
    runtime.block_on(exchange.end());
    ended_well(third);
}

/// Whoever speaks nonsense or nothing to the metrics' address is let go, and nobody notices.
#[test]
fn strangers_at_the_metrics_address_do_no_harm() {
    let place = Place::new();
    let (running, ready) = started(&place, "--unix run/bus.sock --metrics 127.0.0.1:0", &[]);
    let address = ready["metrics"].as_str().unwrap();
    let large = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 20));
    for nonsense in [
        &b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"[..],
        b"GET\r\n\r\n",
        b"POST /metrics HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
        large.as_bytes(),
    ] {
        let mut stream = TcpStream::connect(address).unwrap();
        // It may be refused while it is still being sent.
        let _ = stream.write_all(nonsense);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{nonsense:?}");
    }
    // More of them than are served at a time, who say nothing.
    let silent: Vec<_> = (0..20)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    assert_eq!(get(&ready, "/healthz").0, 200);
    drop(silent);
    ended_well(running);
}

#[test]
fn a_second_broker_leaves_the_first_alone() {
    let place = Place::new();
    let words = "--unix run/bus.sock --metrics unix:run/metrics.sock";
    let (running, ready) = started(&place, words, &[]);
    let second = place.run("broker --unix run/bus.sock");
    assert_eq!(second.code, Some(2));
    assert_eq!(second.stdout, "");
    let path = socket(&place);
    let sentence = format!("eventbus: another broker listens at `{}`\n", path.display());
    assert_eq!(second.stderr, sentence);
    let second = place.run("broker --unix run/other.sock --metrics unix:run/metrics.sock");
    assert_eq!(second.code, Some(2));
    let metrics = path.with_file_name("metrics.sock");
    let sentence = format!(
        "eventbus: cannot listen at `unix:{}`: another process listens there\n",
        metrics.display()
    );
    assert_eq!(second.stderr, sentence);
    assert_eq!(get(&ready, "/healthz").0, 200);
    ended_well(running);
}

#[test]
fn what_a_killed_broker_left_is_taken_over() {
    let place = Place::new();
    let words = "--unix run/bus.sock --metrics unix:run/metrics.sock";
    let (killed, _) = started(&place, words, &[]);
    killed.signal("KILL");
    assert_eq!(killed.end().code, None);
    assert!(socket(&place).exists(), "killed, it could not remove it");
    let (running, ready) = started(&place, words, &[]);
    assert_eq!(get(&ready, "/healthz").0, 200);
    runtime().block_on(async {
        let config = at_socket(&place);
        let mut exchange = Exchange::new(&config, &config).await;
        exchange.go_on().await;
        exchange.end().await;
    });
    ended_well(running);
}

#[test]
fn a_service_manager_is_told() {
    let place = Place::new();
    let path = place.path().join("notify.sock");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = || {
        let mut buffer = [0; 1024];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let variables = [
        ("NOTIFY_SOCKET", path.to_str().unwrap()),
        ("WATCHDOG_USEC", "100000"),
    ];
    let (running, _) = started(&place, "--unix run/bus.sock", &variables);
    let status = format!("READY=1\nSTATUS=ready unix={}\n", socket(&place).display());
    assert_eq!(hear(), status);
    assert_eq!(hear(), "WATCHDOG=1\n");
    assert_eq!(hear(), "WATCHDOG=1\n");
    running.signal("TERM");
    let last = std::iter::repeat_with(hear).find(|said| said != "WATCHDOG=1\n");
    assert_eq!(last.unwrap(), "STOPPING=1\nSTATUS=draining\n");
    assert_eq!(running.end().code, Some(0));
}

#[test]
fn a_service_manager_that_is_gone_is_a_warning() {
    let place = Place::new();
    let variables = [("NOTIFY_SOCKET", "/nonexistent/notify.sock")];
    let (running, _) = started(&place, "--unix run/bus.sock", &variables);
    running.await_log("service manager not told");
    running.signal("TERM");
    assert_eq!(running.end().code, Some(0));
}

#[test]
fn either_signal_ends_it_and_says_what_it_does() {
    for signal in ["TERM", "INT"] {
        let place = Place::new();
        let variables = [("EVENTBUS_LOG", "eventbus=info")];
        let (running, _) = started(&place, "--unix run/bus.sock", &variables);
        running.signal(signal);
        running.await_log("draining");
        running.await_log("ended");
        assert_eq!(running.end().code, Some(0));
        assert!(!socket(&place).exists());
    }
}

#[test]
fn flags_go_above_the_environment_above_the_file() {
    let place = Place::new();
    let directory = place.path().canonicalize().unwrap();
    let at = |name: &str| directory.join("run").join(name).display().to_string();
    let file = format!(
        "[broker]\nunix = ['{}']\nmax_connections = 5\nmetrics = '127.0.0.1:0'\ntimeout = '9s'\n",
        at("file.sock")
    );
    std::fs::write(directory.join("broker.toml"), file).unwrap();
    let environment = at("environment.sock");
    let of_environment = [
        ("EVENTBUS_BROKER__UNIX", environment.as_str()),
        ("EVENTBUS_BROKER__MAX_CONNECTIONS", "6"),
    ];
    let flags = "--config broker.toml --unix run/flag.sock --max-connections 7";
    let cases = [
        ("--config broker.toml", &[][..], at("file.sock"), 5.0),
        (
            "--config broker.toml",
            &of_environment,
            environment.clone(),
            6.0,
        ),
        (flags, &of_environment, at("flag.sock"), 7.0),
    ];
    for (words, variables, socket, connections) in cases {
        let (running, ready) = started(&place, words, variables);
        assert_eq!(ready["unix"], serde_json::json!([socket]));
        let (_, page) = get(&ready, "/metrics");
        assert_eq!(
            metric(&page, "eventbus_broker_max_connections "),
            connections
        );
        ended_well(running);
    }
}

#[test]
fn rules_of_access_hold_for_who_comes_through_a_socket() {
    let place = Place::new();
    let rules =
        "[acl.writer]\npublish = ['events.#']\n[acl.'reader-*']\nsubscribe = ['events.#']\n";
    std::fs::write(place.path().join("broker.toml"), rules).unwrap();
    let words = "--config broker.toml --unix run/bus.sock";
    let (running, _) = started(&place, words, &[("EVENTBUS_LOG", "error")]);
    runtime().block_on(async {
        let open = async |name: &str| eventbus::open(&at_socket(&place).name(name)).await.unwrap();
        let (writer, reader) = (open("writer").await, open("reader-1").await);
        let everything = || Subscribe::to("#").unwrap();
        let events = || Subscribe::to("events.process.*").unwrap();
        let event = |topic: &str| Event::json(topic, &1).unwrap();
        let denied = |error: SubscribeError| matches!(error, SubscribeError::Denied { .. });
        assert!(denied(reader.subscribe(everything()).await.unwrap_err()));
        assert!(denied(writer.subscribe(events()).await.unwrap_err()));
        for (handle, topic) in [(&reader, "events.process.new"), (&writer, "control.stop")] {
            let refused = handle.publish(event(topic)).await.unwrap_err();
            assert!(
                matches!(refused.reason(), PublishError::Denied { .. }),
                "{refused}"
            );
        }
        let mut subscription = reader.subscribe(events()).await.unwrap();
        writer.publish(event("events.process.new")).await.unwrap();
        let received = tokio::time::timeout(PATIENCE, subscription.recv()).await;
        assert_eq!(
            received.unwrap().unwrap().topic().as_str(),
            "events.process.new"
        );
        writer.shutdown().await.unwrap();
        reader.shutdown().await.unwrap();
    });
    ended_well(running);
}

#[test]
fn it_listens_at_several_places_tcp_among_them() {
    let place = Place::new();
    for words in ["init", "issue broker --server", "issue collector"] {
        assert_eq!(place.run(&format!("certs {words}")).code, Some(0));
    }
    let words = "--unix run/bus.sock --unix run/second.sock --tcp 127.0.0.1:0 \
                 --tls-ca certs/ca.pem --tls-cert certs/broker.pem --tls-key certs/broker.key \
                 --tls-crl certs/crl.pem";
    let (running, ready) = started(&place, words, &[]);
    assert_eq!(ready["unix"].as_array().unwrap().len(), 2);
    let port = ready["tcp"][0].as_str().unwrap();
    let certs = place.path().join("certs");
    runtime().block_on(async {
        let over_tcp = Config::default()
            .phase(format!("tcp://{port}").parse().unwrap())
            .tls(Tls::new(
                certs.join("ca.pem"),
                certs.join("collector.pem"),
                certs.join("collector.key"),
            ));
        let second = Phase::Unix(socket(&place).with_file_name("second.sock"));
        let over_unix = at_socket(&place).phase(second);
        let mut exchange = Exchange::new(&over_tcp, &over_unix).await;
        exchange.go_on().await;
        exchange.end().await;
    });
    ended_well(running);
}

#[test]
fn a_mistake_is_one_sentence_and_a_2() {
    let place = Place::new();
    std::fs::write(
        place.path().join("bad.toml"),
        "[broker]\nunix = ['bus.sock']\n",
    )
    .unwrap();
    let nothing = "nothing to listen at; give --unix PATH or --tcp ADDR:PORT, or set \
                   `broker.unix` or `broker.tcp`";
    for (words, sentence) in [
        ("", nothing),
        (
            "--unix run/bus.sock --tcp localhost",
            "invalid value 'localhost' for '--tcp <ADDR:PORT>': invalid socket address syntax",
        ),
        (
            "--tcp 127.0.0.1:0",
            "a broker's TCP port needs TLS, so `tls.ca`, `tls.cert` and `tls.key` must be set",
        ),
        (
            "--unix run/bus.sock --metrics nowhere",
            "invalid value 'nowhere' for '--metrics <ADDR:PORT|unix:PATH>': expected an address \
             and a port such as `127.0.0.1:9100`, or `unix:/path`",
        ),
        (
            "--unix run/bus.sock --max-connections 0",
            "invalid value '0' for '--max-connections <N>': 0 is not in 1..=4294967295",
        ),
        (
            "--unix run/bus.sock --timeout soon",
            "invalid value 'soon' for '--timeout <TIME>': expected a duration such as `10s` or \
             `500ms`",
        ),
        (
            "--config absent.toml",
            "cannot read configuration file `absent.toml`: No such file or directory (os error 2)",
        ),
        (
            "--config bad.toml",
            "bad value `bus.sock` for `broker.unix` in file `bad.toml`; expected an absolute path \
             of at most 107 bytes",
        ),
    ] {
        let ended = place.run(&format!("broker {words}"));
        assert_eq!(ended.code, Some(2), "{words}: {ended:?}");
        assert_eq!(ended.stdout, "", "{words}");
        assert_eq!(ended.stderr, format!("eventbus: {sentence}\n"), "{words}");
    }
}
