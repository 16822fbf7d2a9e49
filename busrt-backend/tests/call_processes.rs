//! Calls between operating system processes, of which one is killed.
//!
//! The test program starts itself again as the callee; parent and child talk in lines over pipes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use busrt_backend::{Address, BrokerMode, BusrtBus, Options, open};
use conformance::fault::BrokerProcess;
use eventbus_trait::EventBus;
use eventbus_trait::rpc::{Call, CallError, Reply, Service};
use libtest_mimic::{Arguments, Trial};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::timeout;

const SOCKET: &str = "EVENTBUS_TEST_SOCKET";
const SERVICE: &str = "callee";
/// A call that is never answered, and how many of them are in their handlers.
const HOLD: &str = "hold";
const HELD: &str = "held";
const PATIENCE: Duration = Duration::from_secs(120);
/// Calls in all, those under way at once, and those answered when the callee is killed.
const CALLS: u64 = 10_000;
const OUTSTANDING: usize = 100;
const KILLED_AFTER: u64 = CALLS / 2;

fn main() -> ExitCode {
    if let Some(socket) = std::env::var_os(SOCKET) {
        Runtime::new().unwrap().block_on(callee(socket.into()));
        return ExitCode::SUCCESS;
    }
    let trial = |name: &str, stock: bool, comes_back: bool| {
        Trial::test(name, move || {
            let socket = socket();
            let busrtd = match stock {
                true => Some(BrokerProcess::busrtd(&socket.1, Duration::from_secs(30))?),
                false => None,
            };
            let runtime = Runtime::new().unwrap();
            let scene = ten_thousand(&socket.1, stock, comes_back);
            let within = async { timeout(PATIENCE, scene).await };
            runtime.block_on(within).expect("some call did not end");
            drop(busrtd);
            Ok(())
        })
    };
    let trials = vec![
        trial("ours::a_callee_is_killed", false, false),
        trial("ours::a_callee_is_killed_and_starts_again", false, true),
        trial("busrtd::a_callee_is_killed", true, false),
        trial("busrtd::a_callee_is_killed_and_starts_again", true, true),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn socket() -> (tempfile::TempDir, PathBuf) {
    let private = std::fs::Permissions::from_mode(0o700);
    let mut builder = tempfile::Builder::new();
    let directory = builder.permissions(private).tempdir().unwrap();
    let path = directory.path().join("bus.sock");
    (directory, path)
}

async fn bus(socket: &Path, broker: BrokerMode) -> Arc<BusrtBus> {
    let mut options = Options::new(Address::Unix(socket.to_owned()));
    options.broker = broker;
    open(options).await.unwrap()
}

/// Serves until it is killed, and answers each number with itself, and what it is to hold never.
async fn callee(socket: PathBuf) {
    let bus = bus(&socket, BrokerMode::External).await;
    static HOLDS: AtomicU8 = AtomicU8::new(0);
    let echo = |call: Call| async move {
        if call.method == HOLD {
            HOLDS.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
        if call.method == HELD {
            return Ok(Reply::new(vec![HOLDS.load(Ordering::SeqCst)]));
        }
        // Some calls are in handlers when it is killed, whenever that is.
        tokio::task::yield_now().await;
        Ok(Reply::new(call.payload))
    };
    let service = Service::new(SERVICE, echo).queue(1_000);
    let _serving = bus.serve(service).await.unwrap();
    println!("ready");
    std::future::pending::<()>().await;
}

/// A callee in a process of its own, killed when this is dropped.
struct Callee(Child);

impl Callee {
    fn start(socket: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(SOCKET, socket)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }
}

impl Drop for Callee {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// RPC-001 and RPC-008: the callee is killed in the middle of 10,000 calls, 100 of which are under way at
/// a time. Each ends once, with its own reply or an error, and nothing of any is left.
async fn ten_thousand(socket: &Path, stock: bool, comes_back: bool) {
    let broker = if stock {
        BrokerMode::External
    } else {
        BrokerMode::Embedded
    };
    let bus = bus(socket, broker).await;
    let started = || {
        let socket = socket.to_owned();
        tokio::task::spawn_blocking(move || Callee::start(&socket))
    };
    let mut callee = Some(started().await.unwrap());
    let replied = Arc::new(AtomicU64::new(0));
    let next = Arc::new(AtomicU64::new(0));
    let ends: Arc<parking_lot::Mutex<BTreeMap<String, u64>>> = Arc::default();
    let ended = Arc::new(parking_lot::Mutex::new(vec![0_u8; CALLS as usize]));
    let mut beat = tokio::time::interval(Duration::from_millis(1));
    let caller = Arc::clone(&bus);
    let held = Call::new(SERVICE, HOLD, "").deadline(PATIENCE);
    let held = tokio::spawn(async move { caller.call(held).await });
    loop {
        let reply = bus.call(Call::new(SERVICE, HELD, "")).await.unwrap();
        if reply.payload.bytes().unwrap()[0] == 1 {
            break;
        }
        beat.tick().await;
    }
    let asked = bus.stats().calls.made;
    let mut callers = JoinSet::new();
    for _ in 0..OUTSTANDING {
        let (bus, next, replied) = (Arc::clone(&bus), Arc::clone(&next), Arc::clone(&replied));
        let (ends, ended) = (Arc::clone(&ends), Arc::clone(&ended));
        callers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::SeqCst);
                if number >= CALLS {
                    return;
                }
                let call = Call::new(SERVICE, "echo", number.to_le_bytes().to_vec());
                let end = match bus.call(call.deadline(PATIENCE)).await {
                    Ok(reply) => {
                        let own = reply.payload.bytes().unwrap();
                        assert_eq!(own[..], number.to_le_bytes(), "another's reply");
                        replied.fetch_add(1, Ordering::SeqCst);
                        "reply"
                    }
                    Err(CallError::CalleeGone { .. }) => "gone",
                    Err(CallError::NoService { .. }) => "none",
                    Err(other) => panic!("call {number}: {other}"),
                };
                *ends.lock().entry(end.to_owned()).or_default() += 1;
                ended.lock()[usize::try_from(number).unwrap()] += 1;
            }
        });
    }
    while replied.load(Ordering::SeqCst) < KILLED_AFTER {
        beat.tick().await;
    }
    tokio::task::spawn_blocking(move || drop(callee.take()))
        .await
        .unwrap();
    let reborn = match comes_back {
        true => Some(started().await.unwrap()),
        false => None,
    };
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
    let held = held.await.unwrap();
    assert!(
        matches!(held, Err(CallError::CalleeGone { .. })),
        "{held:?}"
    );
    assert!(ended.lock().iter().all(|times| *times == 1));
    let ends = ends.lock().clone();
    let count = |end: &str| ends.get(end).copied().unwrap_or_default();
    println!("{ends:?}");
    assert_eq!(count("reply") + count("gone") + count("none"), CALLS);
    assert!(count("reply") >= KILLED_AFTER, "{ends:?}");
    let calls = bus.stats().calls;
    assert_eq!(
        (calls.made, calls.outstanding, calls.cancelled),
        (CALLS + asked, 0, 0)
    );
    if let Some(reborn) = reborn {
        let again = Call::new(SERVICE, "echo", "again").deadline(PATIENCE);
        assert!(bus.call(again).await.is_ok());
        drop(reborn);
    }
    bus.shutdown().await.unwrap();
}
