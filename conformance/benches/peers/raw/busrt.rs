//! busrt's own clients. In process a full subscriber makes the publisher wait. Over sockets the
//! broker throws out a subscriber whose queue is full, and says nothing; so a publisher stays near
//! the slowest subscriber, and at-least-once means that the broker has confirmed each frame.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use busrt::broker::{Broker, ServerConfig};
use busrt::client::AsyncClient;
use busrt::{EventChannel, QoS, ipc};
use futures_util::future::join_all;
use tokio::task::JoinHandle;

use super::workers;
use crate::child::{Clock, Done};
use crate::load::{Ahead, Load, MARK, Sink};
use crate::scenario::{Scenario, Style};

const TOPIC: &str = "bench/topic";
/// How long a client waits for the broker.
const PATIENCE: Duration = Duration::from_secs(10);

/// Internal clients of a broker.
pub(crate) fn in_process(scenario: &Scenario) -> Done {
    workers().block_on(async {
        let broker = Broker::new();
        let client = async |name: String| broker.register_client(&name).await.unwrap();
        let mut publishers = Vec::new();
        for n in 0..scenario.publishers {
            publishers.push(client(format!("publisher-{n}")).await);
        }
        let mut frames = Vec::new();
        let mut subscribers = Vec::new();
        for n in 0..scenario.subscribers {
            let mut subscriber = client(format!("subscriber-{n}")).await;
            subscriber.subscribe(TOPIC, QoS::No).await.unwrap();
            frames.push(subscriber.take_event_channel().unwrap());
            subscribers.push(subscriber);
        }
        drive(scenario, publishers, frames, QoS::No).await
    })
}

/// Clients over a UNIX socket.
pub(crate) fn unix(scenario: &Scenario) -> Done {
    workers().block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("raw.sock");
        let mut broker = Broker::new();
        let config = ServerConfig::new().timeout(PATIENCE);
        broker
            .spawn_unix_server(text(&socket), config)
            .await
            .unwrap();
        over_sockets(text(&socket), scenario).await
    })
}

/// Clients over TCP, without TLS.
pub(crate) fn tcp(scenario: &Scenario) -> Done {
    workers().block_on(async {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let mut broker = Broker::new();
        let config = ServerConfig::new().timeout(PATIENCE);
        broker.spawn_tcp_server(&address, config).await.unwrap();
        over_sockets(&address, scenario).await
    })
}

async fn over_sockets(address: &str, scenario: &Scenario) -> Done {
    let mut publishers = Vec::new();
    for n in 0..scenario.publishers {
        publishers.push(connect(address, &format!("publisher-{n}")).await);
    }
    let (mut frames, mut pingers) = (Vec::new(), Vec::new());
    for n in 0..scenario.subscribers {
        let mut subscriber = connect(address, &format!("subscriber-{n}")).await;
        frames.push(subscriber.take_event_channel().unwrap());
        let active = subscriber.subscribe(TOPIC, QoS::Processed).await.unwrap();
        active.unwrap().await.unwrap().unwrap();
        pingers.push(ping(subscriber));
    }
    let qos = match scenario.at_least_once {
        true => QoS::Processed,
        false => QoS::No,
    };
    let done = drive(scenario, publishers, frames, qos).await;
    pingers.iter().for_each(JoinHandle::abort);
    done
}

async fn connect(address: &str, name: &str) -> ipc::Client {
    let config = ipc::Config::new(address, name).timeout(PATIENCE);
    ipc::Client::connect(&config).await.unwrap()
}

/// The broker drops a client that sends nothing, however much it receives.
fn ping(mut client: ipc::Client) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut often = tokio::time::interval(Duration::from_millis(300));
        loop {
            often.tick().await;
            client.ping().await.unwrap();
        }
    })
}

async fn drive<C: AsyncClient + 'static>(
    scenario: &Scenario,
    publishers: Vec<C>,
    frames: Vec<EventChannel>,
    qos: QoS,
) -> Done {
    let ahead = Ahead::of(scenario);
    let marks = scenario.publishers;
    let clock = Clock::start();
    let reading: Vec<_> = frames
        .into_iter()
        .enumerate()
        .map(|(n, frames)| {
            let sink = Sink::of(scenario, clock.zero, ahead.as_ref(), n);
            tokio::spawn(read(frames, sink, marks))
        })
        .collect();
    let publishing: Vec<_> = publishers
        .into_iter()
        .map(|client| {
            let publisher = Publisher {
                client,
                qos,
                window: VecDeque::new(),
                most: scenario.window,
                batch: scenario.batch,
            };
            let publishing = publisher.publish(Load::of(scenario, clock.zero, ahead.as_ref()));
            match scenario.style {
                Style::Tasks => tokio::spawn(publishing),
                // In a thread that may block, which it does.
                Style::Threads => {
                    let here = tokio::runtime::Handle::current();
                    tokio::task::spawn_blocking(move || here.block_on(publishing))
                }
            }
        })
        .collect();
    let sinks = join_all(reading).await;
    let stopped = clock.stop();
    let accepted = join_all(publishing).await;
    Done {
        accepted: accepted.into_iter().map(Result::unwrap).sum(),
        dropped: 0,
        sinks: sinks.into_iter().map(Result::unwrap).collect(),
        clock: stopped,
    }
}

struct Publisher<C> {
    client: C,
    qos: QoS,
    /// Confirmations that have not come, at `most` so many.
    window: VecDeque<tokio::sync::oneshot::Receiver<Result<(), busrt::Error>>>,
    most: usize,
    batch: usize,
}

impl<C: AsyncClient> Publisher<C> {
    /// Publishes until the load ends; returns how many events that were.
    async fn publish(mut self, mut load: Load) -> u64 {
        let mut published = 0;
        while load.more(published).await {
            if self.batch == 1 {
                self.send(&load.bytes(published)).await;
            } else {
                let mut frame = Vec::new();
                for _ in 0..self.batch {
                    let payload = load.bytes(published);
                    let len = u32::try_from(payload.len()).unwrap();
                    frame.extend_from_slice(&len.to_le_bytes());
                    frame.extend_from_slice(&payload);
                }
                self.send(&frame).await;
            }
            published += self.batch as u64;
        }
        self.send(MARK).await;
        for confirmation in self.window {
            confirmation.await.unwrap().unwrap();
        }
        published
    }

    async fn send(&mut self, frame: &[u8]) {
        if self.window.len() == self.most
            && let Some(oldest) = self.window.pop_front()
        {
            oldest.await.unwrap().unwrap();
        }
        let sent = self.client.publish(TOPIC, frame.into(), self.qos).await;
        self.window.extend(sent.unwrap());
    }
}

/// Reads until the marks of all publishers are there.
async fn read(frames: EventChannel, mut sink: Sink, marks: usize) -> Sink {
    let mut marked = 0;
    while marked < marks {
        let frame = frames.recv().await.expect("the subscriber is connected");
        marked += usize::from(!take(frame.payload(), &mut sink));
    }
    sink
}

/// Takes a frame: an event or, if it is longer, a batch; `false` if it was a mark.
fn take(frame: &[u8], sink: &mut Sink) -> bool {
    if frame.len() <= sink.payload {
        return sink.take(frame);
    }
    let mut rest = frame;
    while let Some((len, after)) = rest.split_first_chunk::<4>() {
        let len = u32::from_le_bytes(*len) as usize;
        let (payload, after) = after.split_at(len);
        sink.take(payload);
        rest = after;
    }
    true
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
