//! A peer that speaks busrt byte by byte, and a pair of sessions that must not notice it.
#![allow(dead_code, reason = "each test program uses its part")]

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use busrt_backend::{Address, BrokerMode, BusrtBus, Options, open};
use eventbus_trait::{Event, EventBus, Subscribe};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A watchdog, not a measure: it ends tests that would hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const PUBLISH: u8 = busrt::OP_PUBLISH;
pub(crate) const SUBSCRIBE: u8 = busrt::OP_SUBSCRIBE;
pub(crate) const MESSAGE: u8 = busrt::OP_MESSAGE;
/// QoS "processed": an answer is wanted.
pub(crate) const ANSWER: u8 = 0x40;
pub(crate) const OK: u8 = busrt::RESPONSE_OK;

/// A directory for sockets, and a path in it.
pub(crate) fn socket() -> (tempfile::TempDir, PathBuf) {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir()
        .unwrap();
    let path = dir.path().join("bus.sock");
    (dir, path)
}

/// A frame from a client.
pub(crate) fn frame(id: u32, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut out = id.to_le_bytes().to_vec();
    out.push(flags);
    out.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
    out.extend(body);
    out
}

/// Topic or target, NUL, payload.
pub(crate) fn addressed(to: &str, payload: &[u8]) -> Vec<u8> {
    [to.as_bytes(), &[0], payload].concat()
}

/// One end of a connection, driven by hand.
pub(crate) struct Peer {
    stream: UnixStream,
    id: u32,
}

/// A frame from the broker.
pub(crate) struct Received {
    pub(crate) kind: u8,
    pub(crate) realtime: bool,
    pub(crate) body: Vec<u8>,
}

impl Peer {
    /// Connects and says nothing.
    pub(crate) fn knock(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, id: 0 }
    }

    /// Goes through the handshake; the answer is the broker's code.
    pub(crate) fn try_enter(path: &Path, name: &[u8]) -> Result<Self, u8> {
        Self::knock(path).introduce(name)
    }

    /// The handshake of one who has knocked.
    pub(crate) fn introduce(self, name: &[u8]) -> Result<Self, u8> {
        let mut peer = self;
        let greeting = peer.bytes::<3>().expect("a greeting");
        assert_eq!(greeting, [0xEB, 1, 0]);
        peer.send(&greeting);
        let [code] = peer.bytes().expect("an answer to the greeting");
        if code != OK {
            return Err(code);
        }
        let length = u16::try_from(name.len()).unwrap().to_le_bytes();
        peer.send(&[&length, name].concat());
        match peer.bytes().expect("an answer to the name") {
            [OK] => Ok(peer),
            [code] => {
                assert!(peer.bytes::<1>().is_none(), "refused and not closed");
                Err(code)
            }
        }
    }

    pub(crate) fn enter(path: &Path, name: &str) -> Self {
        Self::try_enter(path, name.as_bytes())
            .unwrap_or_else(|code| panic!("`{name}` refused with {code:#x}"))
    }

    /// Sends, if somebody is still there.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends a frame and returns its id.
    pub(crate) fn frame(&mut self, flags: u8, body: &[u8]) -> u32 {
        self.id += 1;
        self.send(&frame(self.id, flags, body));
        self.id
    }

    /// Sends a frame that wants an answer, and returns that.
    pub(crate) fn ask(&mut self, op: u8, body: &[u8]) -> u8 {
        let id = self.frame(op | ANSWER, body);
        self.answer(id)
    }

    /// The answer to a frame; whatever comes before it is skipped.
    pub(crate) fn answer(&mut self, id: u32) -> u8 {
        loop {
            let received = self.receive().expect("an answer");
            if received.kind == busrt::OP_ACK && received.body[..4] == id.to_le_bytes() {
                return received.body[4];
            }
        }
    }

    /// The next frame that is no ping, `None` at the end.
    pub(crate) fn receive(&mut self) -> Option<Received> {
        loop {
            let [kind, tail @ ..] = self.bytes::<6>()?;
            if kind == busrt::OP_ACK {
                let body = tail.to_vec();
                let realtime = false;
                return Some(Received {
                    kind,
                    realtime,
                    body,
                });
            }
            let [length @ .., realtime] = tail;
            let realtime = realtime != 0;
            let mut body = vec![0; u32::from_le_bytes(length) as usize];
            self.stream.read_exact(&mut body).ok()?;
            if kind != busrt::OP_NOP {
                return Some(Received {
                    kind,
                    realtime,
                    body,
                });
            }
        }
    }

    /// The payload of the next publication.
    pub(crate) fn publication(&mut self) -> Vec<u8> {
        loop {
            let received = self.receive().expect("a publication");
            if received.kind == PUBLISH {
                let mut parts = received.body.splitn(3, |byte| *byte == 0);
                return parts.nth(2).unwrap().to_vec();
            }
        }
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut out = [0; N];
        match self.stream.read_exact(&mut out) {
            Ok(()) => Some(out),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("neither an answer nor an end within {PATIENCE:?}")
            }
            Err(_) => None,
        }
    }

    /// Waits for the broker to close the connection.
    pub(crate) fn until_closed(mut self) {
        while self.receive().is_some() {}
    }
}

/// Two sessions that send each other events, one after the other, all the time.
pub(crate) struct Bystanders {
    runtime: Runtime,
    rounds: watch::Receiver<u64>,
    stop: watch::Sender<bool>,
    work: JoinHandle<u64>,
    /// One of them, by its client name.
    pub(crate) victim: &'static str,
}

async fn session(path: &Path, keepalive: Duration, name: &str) -> std::sync::Arc<BusrtBus> {
    let mut options = Options::new(Address::Unix(path.to_owned()));
    options.broker = BrokerMode::External;
    options.keepalive = keepalive;
    options.name = Some(name.to_owned());
    open(options).await.unwrap()
}

impl Bystanders {
    pub(crate) fn start(path: &Path, keepalive: Duration) -> Self {
        let runtime = Runtime::new().unwrap();
        let (sender, receiver, mut subscription) = runtime.block_on(async {
            let sender = session(path, keepalive, "bystander-a").await;
            let receiver = session(path, keepalive, "bystander-b").await;
            let subscribe = Subscribe::to("bystanders.#").unwrap();
            let subscription = receiver.subscribe(subscribe).await.unwrap();
            (sender, receiver, subscription)
        });
        let (round, rounds) = watch::channel(0);
        let (stop, stopped) = watch::channel(false);
        let work = runtime.spawn(async move {
            let mut n = 0_u64;
            while !*stopped.borrow() {
                let payload = n.to_le_bytes().to_vec();
                let event = Event::new("bystanders.round", payload).unwrap();
                sender.publish(event).await.unwrap();
                let received = subscription.recv().await.expect("a bystander was cut off");
                assert_eq!(received.bytes().unwrap()[..], n.to_le_bytes());
                n += 1;
                round.send_replace(n);
            }
            sender.shutdown().await.unwrap();
            receiver.shutdown().await.unwrap();
            n
        });
        let this = Self {
            runtime,
            rounds,
            stop,
            work,
            victim: "bystander-b",
        };
        this.go_on();
        this
    }

    /// Waits until they have made some rounds from here on.
    pub(crate) fn go_on(&self) {
        let mut rounds = self.rounds.clone();
        self.runtime.block_on(async {
            let target = *rounds.borrow() + 3;
            let going_on = rounds.wait_for(|rounds| *rounds >= target);
            let gone_on = tokio::time::timeout(PATIENCE, going_on).await;
            gone_on
                .expect("bystanders held up")
                .expect("bystanders hurt");
        });
    }

    pub(crate) fn end(self) {
        self.go_on();
        self.stop.send_replace(true);
        let ended = self.runtime.block_on(self.work);
        assert!(ended.unwrap() > 0);
    }
}
