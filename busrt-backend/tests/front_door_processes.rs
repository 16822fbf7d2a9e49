//! What hostile peers do to a process: busrt's own server dies of it, ours does not grow or spin.
//!
//! The test program starts itself again in the role that `EVENTBUS_TEST_ROLE` names. Linux only:
//! it reads `/proc`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "front_door/peer.rs"]
mod peer;

use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use busrt_backend::broker::{Broker, BrokerOptions, Listener};
use busrt_backend::{Address, BrokerMode, OpenError, Options, open};
use eventbus_trait::ConnectError;
use libtest_mimic::{Arguments, Trial};
use peer::{Bystanders, OK, PATIENCE, PUBLISH, Peer, SUBSCRIBE, addressed, frame, socket};
use rustix::process::{Gid, Resource, Rlimit, Uid, setrlimit};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

const ROLE: &str = "EVENTBUS_TEST_ROLE";
const SOCKET: &str = "EVENTBUS_TEST_SOCKET";
/// A user who is not this one.
const SOMEBODY: u32 = 65_534;
/// Descriptors of the starved broker.
const DESCRIPTORS: u64 = 64;

fn main() -> ExitCode {
    if let Ok(role) = std::env::var(ROLE) {
        let path = PathBuf::from(std::env::var(SOCKET).unwrap());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            match role.as_str() {
                "raw" => raw(&path).await,
                "ours" => ours(&path, None).await,
                "starved" => ours(&path, Some(DESCRIPTORS)).await,
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
    // Only root can become somebody else; without it these are reported as ignored.
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("not root: what the door does with other users is not tested");
    }
    let tests = vec![
        test(
            "sec_001_a_peer_of_another_user_is_refused",
            a_peer_of_another_user_is_refused,
        )
        .with_ignored_flag(!is_root),
        test(
            "sec_001_a_broker_of_another_user_is_refused",
            a_broker_of_another_user_is_refused,
        )
        .with_ignored_flag(!is_root),
        test(
            "sec_005_a_deep_topic_kills_busrt_and_not_us",
            a_deep_topic_kills_busrt_and_not_us,
        ),
        test(
            "sec_005_announcements_and_names_cost_no_memory",
            announcements_and_names_cost_no_memory,
        ),
        test(
            "sec_007_running_out_of_descriptors_does_not_spin",
            running_out_of_descriptors_does_not_spin,
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

// The roles.

/// busrt's broker behind its own listener.
async fn raw(path: &Path) {
    let mut broker = busrt::broker::Broker::new();
    let config = busrt::broker::ServerConfig::new();
    let path = path.display().to_string();
    broker.spawn_unix_server(&path, config).await.unwrap();
    println!("ready");
    std::future::pending::<()>().await;
}

/// Ours, which says each time that accepting has failed.
async fn ours(path: &Path, descriptors: Option<u64>) {
    let mut options = BrokerOptions::new();
    options.listeners.push(Listener::Unix(path.to_owned()));
    options.max_connections = 200;
    // busrt reserves the queue of each client: a mebibyte with the default.
    options.queue_frames = 1_000;
    let broker = Broker::start(options).await.unwrap();
    if let Some(most) = descriptors {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(Resource::Nofile, limit).unwrap();
    }
    println!("ready");
    let mut look = tokio::time::interval(Duration::from_millis(20));
    let mut told = 0;
    loop {
        look.tick().await;
        let failed = broker.stats().accept_errors;
        if failed > told {
            told = failed;
            println!("failed {failed}");
        }
    }
}

// The tests.

/// A child process with a broker, killed when it is dropped.
struct Role {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Role {
    fn start(role: &str) -> Self {
        let (dir, path) = socket();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(ROLE, role)
            .env(SOCKET, &path)
            .stdout(Stdio::piped())
            // What the one that dies says about it.
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = std::sync::mpsc::sync_channel(1 << 16);
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let role = Self {
            child,
            lines,
            path,
            _dir: dir,
        };
        assert_eq!(role.line(), "ready");
        role
    }

    fn line(&self) -> String {
        let line = self.lines.recv_timeout(PATIENCE);
        line.expect("the child says nothing")
    }

    /// A field of the child's `/proc/…/stat`, counted as `man proc` counts them.
    fn stat(&self, field: usize) -> u64 {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = std::fs::read_to_string(path).unwrap();
        let behind_name = stat.rsplit_once(')').unwrap().1;
        let field = behind_name.split_whitespace().nth(field - 3);
        field.unwrap().parse().unwrap()
    }

    /// Resident memory in MiB.
    fn resident(&self) -> u64 {
        const RESIDENT_PAGES: usize = 24;
        (self.stat(RESIDENT_PAGES) * rustix::param::page_size() as u64) >> 20
    }

    /// CPU time so far.
    fn cpu(&self) -> Duration {
        let ticks = self.stat(14) + self.stat(15);
        Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second())
    }

    fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn deep(segments: usize) -> Vec<u8> {
    format!("eb/{}", vec!["a"; segments].join("/")).into_bytes()
}

fn a_deep_topic_kills_busrt_and_not_us() {
    for op in [busrt::OP_SUBSCRIBE, busrt::OP_EXCLUDE] {
        let mut raw = Role::start("raw");
        let mut peer = Peer::enter(&raw.path, "stranger");
        peer.send(&frame(1, op, &deep(800)));
        peer.until_closed();
        let ended = raw.child.wait().unwrap();
        assert!(!ended.success(), "busrt has learned to count: {ended}");

        let mut ours = Role::start("ours");
        let bystanders = Bystanders::start(&ours.path, Duration::from_secs(30));
        let mut peer = Peer::enter(&ours.path, "stranger");
        if op == busrt::OP_EXCLUDE {
            assert_eq!(peer.ask(op, &deep(800)), busrt::ERR_NOT_SUPPORTED);
        } else {
            peer.send(&frame(1, op, &deep(800)));
            peer.until_closed();
        }
        bystanders.end();
        assert!(ours.is_alive());
    }
}

fn announcements_and_names_cost_no_memory() {
    let dots = vec!["a"; 16].join(".");
    let raw = Role::start("raw");
    let before = raw.resident();
    let peer = Peer::enter(&raw.path, &dots);
    let grown = raw.resident() - before;
    assert!(grown > 40, "16 segments in a name cost busrt {grown} MiB");
    drop(peer);

    let ours = Role::start("ours");
    let bystanders = Bystanders::start(&ours.path, Duration::from_secs(30));
    let before = ours.resident();
    let dots = vec!["a"; 20].join(".");
    let refused = Peer::try_enter(&ours.path, dots.as_bytes()).err();
    assert_eq!(refused, Some(busrt::ERR_DATA));
    let mut peers = Vec::new();
    for n in 0..100 {
        // Each announces as much as may be, and sends next to nothing of it.
        let mut peer = Peer::enter(&ours.path, &format!("half-{n}"));
        let op = if n % 2 == 0 { PUBLISH } else { SUBSCRIBE };
        let announced = (8_u32 << 20).to_le_bytes();
        peer.send(&[&[1, 0, 0, 0, op][..], &announced, b"eb/a\0x"].concat());
        peers.push(peer);
        let mut peer = Peer::enter(&ours.path, &format!("whole-{n}"));
        peer.send(&[&[1, 0, 0, 0, op][..], &u32::MAX.to_le_bytes()].concat());
        peer.until_closed();
        bystanders.go_on();
    }
    // Buffers of a hundred connections, and not eight MiB for each.
    let grown = ours.resident().saturating_sub(before);
    println!("100 half frames of 8 MiB: {grown} MiB");
    assert!(grown < 100, "{grown} MiB");
    drop(peers);
    bystanders.end();
}

/// Does something as another user. The kernel has users by thread.
fn as_another_user<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let work = move || {
        let (uid, gid) = (Uid::from_raw(SOMEBODY), Gid::from_raw(SOMEBODY));
        set_thread_groups(&[]).unwrap();
        set_thread_res_gid(gid, gid, gid).unwrap();
        set_thread_res_uid(uid, uid, uid).unwrap();
        work()
    };
    std::thread::spawn(work).join().unwrap()
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Even if file modes let it in.
fn a_peer_of_another_user_is_refused() {
    let (dir, path) = socket();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut options = BrokerOptions::new();
    options.listeners.push(Listener::Unix(path.clone()));
    let broker = runtime.block_on(Broker::start(options)).unwrap();
    let at = path.clone();
    let shut_out = as_another_user(move || UnixStream::connect(at).unwrap_err().kind());
    assert_eq!(shut_out, std::io::ErrorKind::PermissionDenied);
    set_mode(dir.path(), 0o711);
    set_mode(&path, 0o666);
    let at = path.clone();
    let mut peer = as_another_user(move || Peer::knock(&at));
    assert_eq!(peer.bytes::<1>(), None, "it was greeted");
    // It is counted once the connection is gone, or just before.
    let deadline = Instant::now() + PATIENCE;
    while broker.stats().refused.get("user") != Some(&1) {
        assert!(Instant::now() < deadline, "it is not counted");
        std::thread::yield_now();
    }
    drop(Peer::enter(&path, "own"));
    runtime.block_on(broker.stop());
}

fn a_broker_of_another_user_is_refused() {
    let (dir, path) = socket();
    set_mode(dir.path(), 0o777);
    let at = path.clone();
    let _listener = as_another_user(move || UnixListener::bind(at).unwrap());
    let mut options = Options::new(Address::Unix(path.clone()));
    options.broker = BrokerMode::External;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let opened = runtime.block_on(async { tokio::time::timeout(PATIENCE, open(options)).await });
    let refused = ConnectError::Refused {
        address: path.display().to_string(),
        reason: format!("it belongs to uid {SOMEBODY}, not to this user"),
    };
    match opened.unwrap() {
        Err(OpenError::Connect(reason)) => assert_eq!(reason, refused),
        other => panic!("{other:?}"),
    }
}

fn running_out_of_descriptors_does_not_spin() {
    let starved = Role::start("starved");
    let mut reader = Peer::enter(&starved.path, "reader");
    assert_eq!(reader.ask(SUBSCRIBE, b"eb/a"), OK);
    let mut writer = Peer::enter(&starved.path, "writer");
    let mut go_on = |payload: &[u8]| {
        assert_eq!(writer.ask(PUBLISH, &addressed("eb/a", payload)), OK);
        assert_eq!(reader.publication(), payload);
    };
    go_on(b"before");
    let mut crowd: Vec<_> = (0..DESCRIPTORS)
        .map(|_| Peer::knock(&starved.path))
        .collect();
    let failed = |line: &str| {
        line.strip_prefix("failed ")
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let first = failed(&starved.line());
    // Nobody does anything now: what the broker uses, it uses for accepting in vain.
    let (began, cpu) = (Instant::now(), starved.cpu());
    let mut last = first;
    while last < first + 20 {
        last = failed(&starved.line());
    }
    let (took, cpu) = (began.elapsed(), starved.cpu() - cpu);
    println!("20 failures in {took:?}, {cpu:?} of CPU time");
    assert!(took >= Duration::from_millis(1_900), "{took:?}");
    assert!(cpu < took / 4, "{cpu:?} of {took:?}");
    go_on(b"meanwhile");
    // One who has got in needs nothing more to be served.
    let stranger = crowd.remove(0).introduce(b"stranger");
    let mut stranger = stranger.unwrap_or_else(|code| panic!("refused with {code:#x}"));
    assert_eq!(stranger.ask(PUBLISH, &addressed("eb/b", b"x")), OK);
    drop(crowd);
    let mut late = Peer::enter(&starved.path, "late");
    assert_eq!(late.ask(PUBLISH, &addressed("eb/b", b"x")), OK);
    go_on(b"after");
}
