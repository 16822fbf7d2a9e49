//! Ours, through `Arc<dyn EventBus>`.

use std::sync::Arc;
use std::time::Duration;

use busrt_backend::{Address, BrokerMode, Options};
use crossbeam_backend::CrossbeamBus;
use eventbus_trait::{
    Delivery, Event, EventBus, Limits, Payload, Publisher, Subscribe, Subscription, Topic,
};
use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::child::{Clock, Done};
use crate::load::{Ahead, Load, MARK, Sink};
use crate::scenario::{Contender, Scenario, Style};

/// Largest event: the largest payload and what goes with it.
const MAX_EVENT: usize = (1 << 20) + 1024;
/// How long a busy machine may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);
/// Subscriptions of several topics share what the one of one topic has.
const LEAST_CAPACITY: usize = 64;

/// One publisher: its handle, and a publisher for each connection and topic, in turn.
struct Source {
    bus: Arc<dyn EventBus>,
    turns: Vec<Publisher>,
    delivery: Delivery,
    batch: usize,
}

/// Whoever reads some of the subscriptions, in turn.
struct Reader {
    subscriptions: Vec<Subscription>,
    style: Style,
    /// Marks that end a subscription.
    marks: usize,
    /// Whether each event's number is known before it arrives.
    numbered: bool,
}

/// Runs one of the phases.
pub(crate) fn run(scenario: &Scenario) -> Done {
    let one_by_one = scenario.readers == scenario.subscribers;
    assert!(
        scenario.at_least_once || one_by_one,
        "a reader would wait for what was dropped"
    );
    let runtime = workers();
    let (bus, _directory) = runtime.block_on(open(scenario));
    let handles = runtime.block_on(connect(&bus, scenario));
    let sources = sources(&handles, scenario);
    let mut readers = runtime.block_on(subscribe(&bus, scenario));
    let _idle = runtime.block_on(subscribe_idle(&bus, scenario));
    runtime.block_on(warm_up(&sources, &mut readers));
    let mut done = match scenario.style {
        Style::Threads => on_threads(scenario, sources, readers),
        Style::Tasks => runtime.block_on(as_tasks(scenario, sources, readers)),
    };
    done.dropped = handles.iter().map(|handle| handle.stats().dropped).sum();
    runtime.block_on(async {
        join_all(handles.iter().map(|handle| handle.shutdown())).await;
        bus.shutdown().await.unwrap();
    });
    done
}

async fn open(scenario: &Scenario) -> (Arc<dyn EventBus>, Option<TempDir>) {
    let limits = Limits {
        max_event_size: MAX_EVENT,
        publish_deadline: PATIENCE,
        ..Limits::default()
    };
    let (address, directory) = match scenario.contender {
        Contender::InProcess => (Address::InProcess, None),
        Contender::Unix => {
            let directory = tempfile::tempdir().unwrap();
            (
                Address::Unix(directory.path().join("bus/bus.sock")),
                Some(directory),
            )
        }
        Contender::Tcp => {
            let (tls, directory) = conformance::phases::for_broker_and_client().unwrap();
            let host = "127.0.0.1".to_owned();
            (Address::Tcp { host, port: 0, tls }, Some(directory))
        }
        _ => return (CrossbeamBus::new(limits), None),
    };
    let mut options = Options::new(address);
    options.limits = limits;
    options.broker = BrokerMode::Embedded;
    options.connect_timeout = PATIENCE;
    options.max_connections = 2 * (scenario.connections + scenario.publishers + 8);
    (busrt_backend::open(options).await.unwrap(), directory)
}

/// A handle for each connection of each publisher.
async fn connect(bus: &Arc<dyn EventBus>, scenario: &Scenario) -> Vec<Arc<dyn EventBus>> {
    let mut handles = Vec::new();
    for _ in 0..scenario.publishers * scenario.connections {
        handles.push(bus.connect(None).await.unwrap());
    }
    handles
}

fn sources(handles: &[Arc<dyn EventBus>], scenario: &Scenario) -> Vec<Source> {
    let delivery = match scenario.at_least_once {
        true => Delivery::AtLeastOnce,
        false => Delivery::AtMostOnce,
    };
    let of_one = |handles: &[Arc<dyn EventBus>]| Source {
        bus: Arc::clone(&handles[0]),
        turns: handles
            .iter()
            .flat_map(|handle| (0..scenario.topics).map(|n| handle.publisher(topic(n))))
            .collect(),
        delivery,
        batch: scenario.batch,
    };
    handles.chunks(scenario.connections).map(of_one).collect()
}

/// Subscriptions, dealt to the readers.
async fn subscribe(bus: &Arc<dyn EventBus>, scenario: &Scenario) -> Vec<Reader> {
    let several = scenario.topics > 1;
    let wanted = (0..if several {
        scenario.topics
    } else {
        scenario.subscribers
    })
        .map(|n| {
            if several {
                let capacity = (8192 / scenario.topics).max(LEAST_CAPACITY);
                Subscribe::to(topic(n).as_str()).unwrap().capacity(capacity)
            } else {
                Subscribe::to("bench.#").unwrap()
            }
        });
    let mut readers: Vec<_> = (0..scenario.readers)
        .map(|_| Reader {
            subscriptions: Vec::new(),
            style: scenario.style,
            marks: scenario.publishers * scenario.connections,
            numbered: scenario.at_least_once
                && !several
                && scenario.publishers * scenario.connections == 1,
        })
        .collect();
    let made = join_all(wanted.map(|wanted| bus.subscribe(wanted))).await;
    for (n, subscription) in made.into_iter().enumerate() {
        let reader = n % scenario.readers;
        readers[reader].subscriptions.push(subscription.unwrap());
    }
    readers
}

async fn subscribe_idle(bus: &Arc<dyn EventBus>, scenario: &Scenario) -> Vec<Subscription> {
    let wanted = (0..scenario.idle).map(|n| {
        let filter = format!("other.n{n}.#");
        bus.subscribe(Subscribe::to(filter).unwrap().capacity(LEAST_CAPACITY))
    });
    let made = join_all(wanted).await;
    made.into_iter().map(Result::unwrap).collect()
}

/// Publishes an event on every topic of every handle, and has everybody read it: where events go is
/// found out once, and is not what is measured.
async fn warm_up(sources: &[Source], readers: &mut [Reader]) {
    for publisher in sources.iter().flat_map(|source| &source.turns) {
        publisher
            .publish(publisher.event(Payload::raw(MARK)))
            .await
            .unwrap();
    }
    for reader in readers {
        for subscription in &mut reader.subscriptions {
            for _ in 0..reader.marks {
                subscription.recv().await.unwrap();
            }
        }
    }
}

fn topic(n: usize) -> Topic {
    Topic::new(format!("bench.t{n}")).unwrap()
}

fn on_threads(scenario: &Scenario, sources: Vec<Source>, readers: Vec<Reader>) -> Done {
    let ahead = Ahead::of(scenario);
    let clock = Clock::start();
    let publishing: Vec<_> = sources
        .into_iter()
        .map(|source| {
            let load = Load::of(scenario, clock.zero, ahead.as_ref());
            std::thread::spawn(move || thread().block_on(source.publish(load)))
        })
        .collect();
    let reading: Vec<_> = readers
        .into_iter()
        .enumerate()
        .map(|(n, reader)| {
            let sink = Sink::of(scenario, clock.zero, ahead.as_ref(), n);
            std::thread::spawn(move || thread().block_on(reader.read(sink)))
        })
        .collect();
    let sinks = reading
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect();
    let stopped = clock.stop();
    let accepted = publishing
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .sum();
    Done {
        accepted,
        dropped: 0,
        sinks,
        clock: stopped,
    }
}

async fn as_tasks(scenario: &Scenario, sources: Vec<Source>, readers: Vec<Reader>) -> Done {
    let ahead = Ahead::of(scenario);
    let clock = Clock::start();
    let publishing: Vec<_> = sources
        .into_iter()
        .map(|source| tokio::spawn(source.publish(Load::of(scenario, clock.zero, ahead.as_ref()))))
        .collect();
    let reading: Vec<_> = readers
        .into_iter()
        .enumerate()
        .map(|(n, reader)| {
            let sink = Sink::of(scenario, clock.zero, ahead.as_ref(), n);
            tokio::spawn(reader.read(sink))
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

impl Source {
    /// Publishes until the load ends; returns how many events that were.
    async fn publish(self, mut load: Load) -> u64 {
        let mut published = 0;
        if self.batch > 1 {
            while load.more(published).await {
                let event = |_| self.event(&self.turns[0], load.bytes(published));
                let events = (0..self.batch).map(event).collect();
                self.bus.publish_batch(events).await.unwrap();
                published += self.batch as u64;
            }
        } else if let [publisher] = self.turns.as_slice() {
            while load.more(published).await {
                let event = self.event(publisher, load.bytes(published));
                publisher.publish(event).await.unwrap();
                published += 1;
            }
        } else {
            let mut turns = self.turns.iter().cycle();
            while load.more(published).await
                && let Some(publisher) = turns.next()
            {
                let event = self.event(publisher, load.bytes(published));
                publisher.publish(event).await.unwrap();
                published += 1;
            }
        }
        for publisher in &self.turns {
            publisher
                .publish(publisher.event(Payload::raw(MARK)))
                .await
                .unwrap();
        }
        published
    }

    #[inline]
    fn event(&self, publisher: &Publisher, payload: bytes::Bytes) -> Event {
        publisher.event(payload).delivery(self.delivery)
    }
}

impl Reader {
    /// Reads until every subscription has the marks of all publishers.
    async fn read(mut self, mut sink: Sink) -> Sink {
        // The first event has been read to warm up.
        let mut open: Vec<_> = self.subscriptions.iter_mut().map(|s| (s, 0, 1)).collect();
        let mut ended = 0;
        while ended < open.len() {
            for (subscription, marks, next) in &mut open {
                if *marks == self.marks {
                    continue;
                }
                let event = match self.style {
                    Style::Threads => subscription.recv_blocking(),
                    Style::Tasks => subscription.recv().await,
                };
                let event = event.expect("the bus is open");
                let number = event.origin().map(|origin| origin.sequence);
                assert!(!self.numbered || number == Some(*next), "out of order");
                *next += 1;
                let payload = event.payload().encoded().expect("raw bytes");
                if !sink.take(payload) {
                    *marks += 1;
                    ended += usize::from(*marks == self.marks);
                }
            }
        }
        for subscription in &mut self.subscriptions {
            assert!(subscription.try_recv().is_err(), "nothing comes twice");
        }
        sink
    }
}

fn workers() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

fn thread() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}
