//! Events between operating system processes.
//!
//! The test program starts itself again in the role that `EVENTBUS_TEST_ROLE` names; parent and
//! children talk in lines over pipes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use busrt_backend::broker::BrokerError;
use busrt_backend::{Address, BrokerMode, BusrtBus, OpenError, Options, open};
use eventbus_trait::{Event, EventBus, Subscribe};
use libtest_mimic::{Arguments, Trial};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

const ROLE: &str = "EVENTBUS_TEST_ROLE";
const SOCKET: &str = "EVENTBUS_TEST_SOCKET";
/// Who is stopped on purpose is not to be taken for dead, however long a test takes on a busy machine.
const KEEPALIVE: Duration = Duration::from_secs(600);
/// Who is killed here does not come back.
const GONE_AFTER: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    if let Ok(role) = std::env::var(ROLE) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            match role.as_str() {
                "host" => host().await,
                "publisher" => publisher().await,
                "stalled" => stalled().await,
                "counting" => counting().await,
                "reborn" => reborn().await,
                "starved" => starved().await,
                other => panic!("no role `{other}`"),
            }
        });
        return ExitCode::SUCCESS;
    }
    let test = |name: &str, run: fn()| {
        Trial::test(name, move || {
            run();
            Ok(())
        })
    };
    let tests = vec![
        test(
            "two_processes_exchange_events",
            two_processes_exchange_events,
        ),
        test(
            "del_001_confirmed_events_survive_their_publisher",
            confirmed_events_survive,
        ),
        test(
            "a_killed_subscriber_releases_the_publisher",
            a_killed_subscriber_releases,
        ),
        test(
            "sub_008_a_stopped_subscriber_holds_up_nobody_else",
            a_stopped_subscriber_holds_up_nobody_else,
        ),
        test(
            "without_descriptors_there_is_an_error_and_a_broker_later",
            without_descriptors,
        ),
        test(
            "a_killed_brokers_socket_is_taken_over",
            a_killed_brokers_socket_is_taken_over,
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

// The roles.

async fn bus(broker: BrokerMode) -> Arc<BusrtBus> {
    named_bus(broker, None).await
}

async fn named_bus(broker: BrokerMode, name: Option<&str>) -> Arc<BusrtBus> {
    let mut options = Options::new(Address::Unix(std::env::var(SOCKET).unwrap().into()));
    options.broker = broker;
    options.name = name.map(str::to_owned);
    options.limits.publish_deadline = PATIENCE;
    options.link_timeout = GONE_AFTER;
    options.keepalive = KEEPALIVE;
    open(options).await.unwrap()
}

fn number(event: &Event) -> u64 {
    u64::from_le_bytes(event.bytes().unwrap()[..].try_into().unwrap())
}

fn event(topic: &str, n: u64) -> Event {
    Event::new(topic, n.to_le_bytes().to_vec()).unwrap()
}

/// Runs the broker, reads numbers, says each thousandth, answers the last one of a series.
async fn host() {
    let bus = bus(BrokerMode::Embedded).await;
    let mut numbers = bus
        .subscribe(Subscribe::to("numbers").unwrap())
        .await
        .unwrap();
    let mut ends = bus.subscribe(Subscribe::to("ends").unwrap()).await.unwrap();
    println!("ready");
    let mut next = 0;
    loop {
        tokio::select! {
            event = numbers.recv() => {
                let event = event.unwrap();
                assert_eq!(number(&event), next, "lost, doubled or out of order");
                next += 1;
                if next % 1_000 == 0 {
                    println!("received {next}");
                    bus.publish(self::event("answers", next)).await.unwrap();
                }
            }
            _ = ends.recv() => break,
        }
    }
    bus.shutdown().await.unwrap();
    println!("ended");
}

/// Publishes numbers without end, says how many are confirmed, reads the answers.
async fn publisher() {
    let bus = bus(BrokerMode::External).await;
    let mut answers = bus
        .subscribe(Subscribe::to("answers").unwrap())
        .await
        .unwrap();
    println!("ready");
    for series in 0.. {
        let mut last = None;
        for n in series * 1_000..(series + 1) * 1_000 {
            last = Some(bus.publish(event("numbers", n)).await.unwrap());
        }
        last.unwrap().confirmed(PATIENCE).await.unwrap();
        println!("confirmed {}", (series + 1) * 1_000);
        assert_eq!(number(&answers.recv().await.unwrap()), (series + 1) * 1_000);
        println!("answered {}", (series + 1) * 1_000);
    }
}

/// Subscribes and reads nothing.
async fn stalled() {
    let bus = named_bus(BrokerMode::External, Some("stalled")).await;
    let subscribe = Subscribe::to("numbers")
        .unwrap()
        .named("stalled")
        .capacity(10);
    let _subscription = bus.subscribe(subscribe).await.unwrap();
    println!("ready");
    std::future::pending::<()>().await;
}

/// Reads numbers and says each thousandth.
async fn counting() {
    let bus = bus(BrokerMode::External).await;
    let mut numbers = bus
        .subscribe(Subscribe::to("numbers").unwrap())
        .await
        .unwrap();
    println!("ready");
    for next in 0.. {
        assert_eq!(number(&numbers.recv().await.unwrap()), next);
        if (next + 1) % 1_000 == 0 {
            println!("received {}", next + 1);
        }
    }
}

/// The stalled one's second life, which subscribes to nothing.
async fn reborn() {
    let _bus = named_bus(BrokerMode::External, Some("stalled")).await;
    println!("ready");
    std::future::pending::<()>().await;
}

// The tests.

/// A child process, killed when it is dropped.
struct Role {
    child: Child,
    lines: Receiver<String>,
    _stdin: ChildStdin,
}

impl Role {
    fn start(role: &str, socket: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(ROLE, role)
            .env(SOCKET, socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = sync_channel(1 << 16);
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let stdin = child.stdin.take().unwrap();
        let role = Self {
            child,
            lines,
            _stdin: stdin,
        };
        role.wait_for("ready");
        role
    }

    fn line(&self) -> String {
        self.lines
            .recv_timeout(PATIENCE)
            .expect("the child says nothing")
    }

    fn wait_for(&self, line: &str) {
        while self.line() != line {}
    }

    /// Everything that it still says until it ends.
    fn rest(&self) -> Vec<String> {
        std::iter::from_fn(|| match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => None,
            Err(timeout) => panic!("the child does not end: {timeout}"),
        })
        .collect()
    }

    fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::io::stdout().flush();
    }
}

fn socket() -> (tempfile::TempDir, std::path::PathBuf) {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir()
        .unwrap();
    let path = dir.path().join("bus.sock");
    (dir, path)
}

fn largest(lines: &[String], word: &str) -> u64 {
    let numbers = lines
        .iter()
        .filter_map(|line| line.strip_prefix(word)?.trim().parse().ok());
    numbers.max().unwrap_or(0)
}

/// Runs `work` as a client of the bus at `socket`.
fn as_client(socket: &Path, work: impl AsyncFnOnce(Arc<BusrtBus>)) {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut options = Options::new(Address::Unix(socket.to_owned()));
        options.broker = BrokerMode::External;
        options.limits.publish_deadline = PATIENCE;
        options.link_timeout = GONE_AFTER;
        options.keepalive = KEEPALIVE;
        let bus = open(options).await.unwrap();
        work(Arc::clone(&bus)).await;
        bus.shutdown().await.unwrap();
    });
}

fn two_processes_exchange_events() {
    let (_dir, path) = socket();
    let host = Role::start("host", &path);
    let publisher = Role::start("publisher", &path);
    publisher.wait_for("answered 20000");
    host.wait_for("received 20000");
    drop(publisher);
    as_client(&path, async |bus| {
        bus.publish(event("ends", 0)).await.unwrap();
    });
    host.wait_for("ended");
    assert!(!path.exists(), "the socket is gone with its broker");
}

fn confirmed_events_survive() {
    let (_dir, path) = socket();
    let host = Role::start("host", &path);
    let mut publisher = Role::start("publisher", &path);
    publisher.wait_for("confirmed 5000");
    publisher.kill();
    let confirmed = largest(&publisher.rest(), "confirmed").max(5_000);
    as_client(&path, async |bus| {
        bus.publish(event("ends", 0)).await.unwrap();
    });
    let received = largest(&host.rest(), "received").max(5_000);
    assert!(
        received >= confirmed,
        "confirmed {confirmed}, received {received}"
    );
}

fn a_killed_subscriber_releases() {
    let (_dir, path) = socket();
    let host = Role::start("host", &path);
    let mut stalled = Role::start("stalled", &path);
    as_client(&path, async |bus| {
        let mut n = 0;
        let full = loop {
            match bus.try_publish(event("numbers", n)) {
                Ok(_) => n += 1,
                Err(refused) => break refused,
            }
        };
        assert!(full.reason().to_string().contains("stalled"), "{full}");
        stalled.kill();
        // Its second life comes before the broker's directory has missed the first.
        let _reborn = Role::start("reborn", &path);
        bus.publish(full.into_event()).await.unwrap();
        for n in n + 1..2_000 {
            bus.publish(event("numbers", n)).await.unwrap();
        }
        host.wait_for("received 2000");
    });
}

fn a_stopped_subscriber_holds_up_nobody_else() {
    const EVENTS: u64 = 20_000;
    let (_dir, path) = socket();
    let _host = Role::start("host", &path);
    let counting = Role::start("counting", &path);
    as_client(&path, async |bus| {
        let mut others = bus
            .subscribe(Subscribe::to("others").unwrap())
            .await
            .unwrap();
        counting.signal(Signal::STOP);
        let mut n = 0;
        while let Ok(_receipt) = bus.try_publish(event("numbers", n)) {
            n += 1;
        }
        for other in 0..EVENTS {
            bus.publish(event("others", other)).await.unwrap();
            assert_eq!(number(&others.recv().await.unwrap()), other);
        }
        counting.signal(Signal::CONT);
        for n in n..EVENTS {
            bus.publish(event("numbers", n)).await.unwrap();
        }
        counting.wait_for(&format!("received {EVENTS}"));
        assert_eq!(bus.stats().given_up, 0);
    });
}

fn a_killed_brokers_socket_is_taken_over() {
    let (_dir, path) = socket();
    let mut first = Role::start("host", &path);
    first.kill();
    assert!(path.exists(), "killed, it could not remove its socket");
    let second = Role::start("host", &path);
    let publisher = Role::start("publisher", &path);
    publisher.wait_for("answered 1000");
    second.wait_for("received 1000");
}

/// Opens a bus with ever more descriptors to spare, then with all that it wants.
async fn starved() {
    println!("ready");
    let before = getrlimit(Resource::Nofile);
    let mut errors = 0;
    for spare in 0..16 {
        let open_now = std::fs::read_dir("/dev/fd").unwrap().count() as u64;
        let current = Some(open_now + spare);
        setrlimit(Resource::Nofile, Rlimit { current, ..before }).unwrap();
        match open(Options::new(Address::InProcess)).await {
            Ok(bus) => bus.shutdown().await.unwrap(),
            Err(OpenError::Broker(BrokerError::Runtime { .. }) | OpenError::Runtime { .. }) => {
                errors += 1;
            }
            Err(other) => panic!("{other}"),
        }
        setrlimit(Resource::Nofile, before).unwrap();
    }
    assert!(errors > 4, "{errors}");
    let bus = open(Options::new(Address::InProcess)).await.unwrap();
    let mut numbers = bus
        .subscribe(Subscribe::to("numbers").unwrap())
        .await
        .unwrap();
    bus.publish(event("numbers", 7)).await.unwrap();
    println!("{}", number(&numbers.recv().await.unwrap()));
}

fn without_descriptors() {
    let dir = tempfile::tempdir().unwrap();
    let starved = Role::start("starved", &dir.path().join("none"));
    assert_eq!(starved.line(), "7");
}
