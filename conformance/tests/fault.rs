//! The proxy does to bytes what it is told, counts it, and does nothing else; children do what
//! they are told.
// Helpers of tests are outside of what clippy takes for tests.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use conformance::fault::{Place, Process, Proxy, Rules, Struck, Trickle, Way};
use tempfile::TempDir;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough for what is not to come to have come, if it came.
const MOMENT: Duration = Duration::from_millis(100);

/// Both ends of a connection, whatever it is made of.
trait Wire: Read + Write + Send {
    fn patience(&self, time: Duration);
}

impl Wire for UnixStream {
    fn patience(&self, time: Duration) {
        self.set_read_timeout(Some(time)).unwrap();
    }
}

impl Wire for TcpStream {
    fn patience(&self, time: Duration) {
        self.set_read_timeout(Some(time)).unwrap();
    }
}

fn echo(mut stream: impl Read + Write + Send + 'static) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
    });
}

/// An echo behind a proxy.
struct Scene {
    proxy: Proxy,
    _directory: TempDir,
}

impl Scene {
    fn unix() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let behind: PathBuf = directory.path().join("behind.sock");
        let listener = UnixListener::bind(&behind).unwrap();
        std::thread::spawn(move || listener.incoming().flatten().for_each(echo));
        let door = Place::Unix(directory.path().join("door.sock"));
        let proxy = Proxy::start(&door, Place::Unix(behind)).unwrap();
        Self {
            proxy,
            _directory: directory,
        }
    }

    fn tcp() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let behind = listener.local_addr().unwrap();
        std::thread::spawn(move || listener.incoming().flatten().for_each(echo));
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let proxy = Proxy::start(&Place::Tcp(any), Place::Tcp(behind)).unwrap();
        Self {
            proxy,
            _directory: tempfile::tempdir().unwrap(),
        }
    }

    fn connect(&self) -> Box<dyn Wire> {
        let wire: Box<dyn Wire> = match self.proxy.place() {
            Place::Unix(path) => Box::new(UnixStream::connect(path).unwrap()),
            Place::Tcp(address) => Box::new(TcpStream::connect(address).unwrap()),
        };
        wire.patience(PATIENCE);
        wire
    }

    fn until(&self, what: &str, condition: impl Fn(&Struck) -> bool) {
        let began = Instant::now();
        while !condition(&self.proxy.struck()) {
            assert!(began.elapsed() < PATIENCE, "{what}: {:?}", self.proxy);
            std::thread::yield_now();
        }
    }
}

fn round_trip(wire: &mut dyn Wire, text: &[u8]) {
    wire.write_all(text).unwrap();
    let mut back = vec![0; text.len()];
    wire.read_exact(&mut back).unwrap();
    assert_eq!(back, text);
}

/// What was passed is counted after it was.
fn passes(scene: &Scene, bytes: u64) {
    scene.until("passed", |_| scene.proxy.passed() == bytes);
}

fn both(test: impl Fn(Scene)) {
    test(Scene::unix());
    test(Scene::tcp());
}

/// Nothing comes for a moment.
fn is_silent(wire: &mut dyn Wire) {
    wire.patience(MOMENT);
    let mut byte = [0];
    let silence = wire.read(&mut byte).unwrap_err().kind();
    assert!(matches!(
        silence,
        ErrorKind::WouldBlock | ErrorKind::TimedOut
    ));
    wire.patience(PATIENCE);
}

#[test]
fn without_orders_it_passes_everything() {
    both(|scene| {
        let mut wire = scene.connect();
        let large: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
        for piece in large.chunks(50_000) {
            round_trip(&mut *wire, piece);
        }
        assert_eq!(scene.proxy.struck(), Struck::default());
        assert_eq!(scene.proxy.connections(), 1);
        passes(&scene, 600_000);
    });
}

#[test]
fn a_reset_ends_what_is_open_and_nothing_later() {
    both(|scene| {
        let (mut one, mut other) = (scene.connect(), scene.connect());
        round_trip(&mut *one, b"one");
        round_trip(&mut *other, b"other");
        assert_eq!(scene.proxy.reset(), 2);
        let mut rest = Vec::new();
        let ends = [one.read_to_end(&mut rest), other.read_to_end(&mut rest)];
        if matches!(scene.proxy.place(), Place::Tcp(_)) {
            for end in ends {
                assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
            }
        }
        assert!(rest.is_empty());
        scene.until("two resets", |struck| struck.resets == 2);
        round_trip(&mut *scene.connect(), b"again");
        assert_eq!(scene.proxy.struck().resets, 2);
    });
}

#[test]
fn a_partition_holds_everything_and_heals() {
    both(|scene| {
        let mut wire = scene.connect();
        round_trip(&mut *wire, b"before");
        scene.proxy.rule(Rules::partitioned());
        assert_eq!(scene.proxy.struck().held, 0, "nothing was there to hold");
        wire.write_all(b"meanwhile").unwrap();
        is_silent(&mut *wire);
        let mut newcomer = scene.connect();
        newcomer.write_all(b"new").unwrap();
        is_silent(&mut *newcomer);
        scene.until("held", |struck| struck.held >= 1);
        scene.proxy.heal();
        let mut back = [0; 9];
        wire.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"meanwhile");
        newcomer.read_exact(&mut back[..3]).unwrap();
        assert_eq!(&back[..3], b"new");
    });
}

#[test]
fn half_a_partition_holds_one_way() {
    both(|scene| {
        let mut wire = scene.connect();
        round_trip(&mut *wire, b"before");
        passes(&scene, 12);
        scene.proxy.rule(Rules::half_partitioned(Way::Down));
        wire.write_all(b"up").unwrap();
        scene.until("held", |struck| struck.held == 1);
        passes(&scene, 14);
        is_silent(&mut *wire);
        scene.proxy.heal();
        let mut back = [0; 2];
        wire.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"up");
    });
}

#[test]
fn a_torn_write_comes_in_part() {
    both(|scene| {
        let mut wire = scene.connect();
        round_trip(&mut *wire, b"whole");
        scene.proxy.tear(Way::Down);
        wire.write_all(b"abcdefgh").unwrap();
        let mut back = Vec::new();
        let _ = wire.read_to_end(&mut back);
        // A reset may overtake what was sent before it.
        assert!(back.len() < 8 && b"abcdefgh".starts_with(&back), "{back:?}");
        assert_eq!(scene.proxy.struck().torn, 1);
    });
}

#[test]
fn a_corrupted_byte_is_one_byte() {
    both(|scene| {
        let mut wire = scene.connect();
        scene.proxy.corrupt(Way::Up);
        wire.write_all(b"abc").unwrap();
        let mut back = [0; 3];
        wire.read_exact(&mut back).unwrap();
        let different = back.iter().zip(b"abc").filter(|(a, b)| a != b).count();
        assert_eq!(different, 1, "{back:?}");
        round_trip(&mut *wire, b"abc");
        assert_eq!(scene.proxy.struck().corrupted, 1);
    });
}

#[test]
fn delayed_and_trickled_bytes_come_whole() {
    both(|scene| {
        let mut wire = scene.connect();
        let text: Vec<u8> = (0..500_u32).map(|n| n as u8).collect();
        scene.proxy.rule(Rules {
            delay: Some(Duration::from_millis(2)),
            trickle: Some(Trickle {
                bytes: 7,
                every: Duration::from_micros(200),
            }),
            ..Rules::default()
        });
        round_trip(&mut *wire, &text);
        let struck = scene.proxy.struck();
        assert!(struck.delayed >= 2 && struck.trickled >= 1, "{struck:?}");
    });
}

#[test]
fn pieces_are_counted_each_way_and_a_trickle_ends_when_it_is_healed() {
    both(|scene| {
        let mut wire = scene.connect();
        let pieces = |way| scene.proxy.pieces(way);
        for text in ["one", "two", "three"] {
            round_trip(&mut *wire, text.as_bytes());
        }
        passes(&scene, 22);
        scene.until("counted", |_| pieces(Way::Down) == 3);
        assert_eq!(pieces(Way::Up), 3);
        scene.proxy.rule(Rules {
            trickle: Some(Trickle {
                bytes: 2,
                every: Duration::from_millis(5),
            }),
            ..Rules::default()
        });
        // Far more than would come through in small ones until the test is given up.
        let large = vec![7; 20_000];
        wire.write_all(&large).unwrap();
        scene.until("trickled", |_| {
            pieces(Way::Up) > 10 && pieces(Way::Down) > 10
        });
        scene.proxy.heal();
        let mut back = vec![0; large.len()];
        wire.read_exact(&mut back).unwrap();
        assert_eq!(back, large);
        assert!(pieces(Way::Up) < 5_000, "{} small ones", pieces(Way::Up));
    });
}

#[test]
fn nobody_behind_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| Place::Unix(directory.path().join(name));
    let proxy = Proxy::start(&place("door.sock"), place("nobody.sock")).unwrap();
    let Place::Unix(path) = proxy.place() else {
        unreachable!()
    };
    let mut wire = UnixStream::connect(path).unwrap();
    assert_eq!(wire.read(&mut [0]).unwrap_or(0), 0);
    assert_eq!(proxy.struck().unanswered, 1);
    assert_eq!(proxy.struck().total(), 0, "that is no fault of the proxy's");
}

#[test]
fn a_child_is_talked_to_stopped_and_killed() {
    let mut cat = Process::start("cat", Command::new("cat")).unwrap();
    cat.say("hello world").unwrap();
    assert_eq!(cat.wait_for("hello", PATIENCE).unwrap(), "world");
    assert!(cat.peak_memory().unwrap() > 0);
    cat.stop();
    cat.say("stopped").unwrap();
    assert!(cat.line(MOMENT).is_err(), "a stopped child says nothing");
    cat.resume();
    assert_eq!(cat.line(PATIENCE).unwrap(), "stopped");
    let id = cat.id();
    cat.stop();
    cat.kill();
    assert!(!PathBuf::from(format!("/proc/{id}")).exists());
    assert!(cat.line(PATIENCE).is_err());
}

#[test]
fn a_child_ends_when_its_input_does() {
    let mut cat = Process::start("cat", Command::new("cat")).unwrap();
    assert!(cat.end(PATIENCE));
    let mut sleeper = Command::new("tail");
    sleeper.args(["-f", "/dev/null"]);
    let mut sleeper = Process::start("tail", sleeper).unwrap();
    assert!(!sleeper.end(MOMENT), "it does not read its input");
    assert!(!sleeper.is_running());
}
