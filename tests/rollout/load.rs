//! Publishers and subscribers at work, and what they find.
//!
//! Each publisher counts for each of its topics, and each subscriber holds what it reads against
//! that: the next number of that publisher and topic, or the test fails there and then.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use eventbus::{Event, EventBus, PublisherId, Subscribe, Subscription, Topic};
use tokio::task::JoinHandle;

const TOPICS: [&str; 2] = ["load.one", "load.two"];
/// The last event of each publisher.
const END: &str = "load.end";

/// What a publisher has sent.
pub(crate) struct Sent {
    pub(crate) events: u64,
    /// Longest publish.
    pub(crate) longest: Duration,
}

pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    published: Arc<AtomicU64>,
    publishers: Vec<JoinHandle<Sent>>,
    subscribers: Vec<JoinHandle<u64>>,
}

impl Load {
    /// Publishers and subscribers, each with a handle of its own.
    pub(crate) async fn start(bus: &Arc<dyn EventBus>, publishers: u32, subscribers: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let published = Arc::new(AtomicU64::new(0));
        let mut reading = Vec::new();
        for number in 0..subscribers {
            let handle = bus.connect(None).await.unwrap();
            // Small ones, so that publishers wait for room as well.
            let subscribe = Subscribe::to("load.#").unwrap().capacity(64 << number);
            let subscription = handle.subscribe(subscribe).await.unwrap();
            reading.push(tokio::spawn(read(handle, subscription, publishers)));
        }
        let mut writing = Vec::new();
        for number in 0..publishers {
            let handle = bus.connect(None).await.unwrap();
            let (stop, published) = (Arc::clone(&stop), Arc::clone(&published));
            writing.push(tokio::spawn(write(handle, number, stop, published)));
        }
        Self {
            stop,
            published,
            publishers: writing,
            subscribers: reading,
        }
    }

    /// Waits until so many more events have been published.
    pub(crate) async fn flows(&self, events: u64) {
        let until = self.published.load(Ordering::Relaxed) + events;
        while self.published.load(Ordering::Relaxed) < until {
            assert!(self.publishers.iter().all(|task| !task.is_finished()));
            assert!(self.subscribers.iter().all(|task| !task.is_finished()));
            tokio::task::yield_now().await;
        }
    }

    /// Ends the load; every subscriber has read everything when this returns. Events published, and
    /// the longest publish.
    pub(crate) async fn end(self) -> (u64, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut events, mut longest) = (0, Duration::ZERO);
        for publisher in self.publishers {
            let sent = publisher.await.unwrap();
            events += sent.events;
            longest = longest.max(sent.longest);
        }
        for subscriber in self.subscribers {
            assert_eq!(subscriber.await.unwrap(), events);
        }
        (events, longest)
    }
}

async fn write(
    bus: Arc<dyn EventBus>,
    number: u32,
    stop: Arc<AtomicBool>,
    published: Arc<AtomicU64>,
) -> Sent {
    let topic = |name: &str| Topic::new(name).unwrap();
    let publishers = TOPICS.map(|name| bus.publisher(topic(name)));
    let mut sent = Sent {
        events: 0,
        longest: Duration::ZERO,
    };
    let payload = |n: u64| format!("{number} {n}").into_bytes();
    while !stop.load(Ordering::Relaxed) {
        let n = sent.events / 2;
        let begun = Instant::now();
        // Every way in.
        if sent.events % 64 == 10 {
            let batch =
                (n..n + 3).flat_map(|n| TOPICS.map(|name| Event::new(name, payload(n)).unwrap()));
            bus.publish_batch(batch.collect()).await.unwrap();
            sent.events += 6;
        } else if sent.events % 64 == 20 {
            for name in TOPICS {
                bus.publish(Event::new(name, payload(n)).unwrap())
                    .await
                    .unwrap();
            }
            sent.events += 2;
        } else {
            for publisher in &publishers {
                publisher
                    .publish(publisher.event(payload(n)))
                    .await
                    .unwrap();
            }
            sent.events += 2;
        }
        sent.longest = sent.longest.max(begun.elapsed());
        published.fetch_add(2, Ordering::Relaxed);
        if sent.events.is_multiple_of(32) {
            tokio::task::yield_now().await;
        }
    }
    let last = payload(sent.events);
    bus.publish(Event::new(END, last).unwrap()).await.unwrap();
    bus.shutdown().await.unwrap();
    sent
}

/// Reads until every publisher has ended; how many events came.
async fn read(bus: Arc<dyn EventBus>, mut subscription: Subscription, publishers: u32) -> u64 {
    let mut next: HashMap<(String, String), u64> = HashMap::new();
    let mut stamps: HashMap<String, (PublisherId, u64)> = HashMap::new();
    let (mut events, mut ended) = (0, 0);
    while ended < publishers {
        let event = subscription.recv().await.expect("the stream has ended");
        let text = String::from_utf8(event.bytes().unwrap().to_vec()).unwrap();
        let (publisher, number) = text.split_once(' ').unwrap();
        let number: u64 = number.parse().unwrap();
        let origin = event.origin().unwrap();
        // One identity over all phases, and no stamp left out: this one sees all of it.
        let (id, sequence) = stamps
            .entry(publisher.to_owned())
            .or_insert((origin.publisher, 0));
        assert_eq!(
            (*id, *sequence),
            (origin.publisher, origin.sequence),
            "{text}"
        );
        *sequence += 1;
        if event.topic().as_str() == END {
            let sent: u64 = TOPICS
                .iter()
                .map(|topic| {
                    next.get(&(publisher.to_owned(), (*topic).to_owned()))
                        .unwrap()
                })
                .sum();
            assert_eq!(sent, number, "publisher {publisher} sent more");
            ended += 1;
            continue;
        }
        let topic = event.topic().as_str().to_owned();
        let expected = next.entry((publisher.to_owned(), topic)).or_insert(0);
        assert_eq!(
            number,
            *expected,
            "of publisher {publisher} on {}",
            event.topic()
        );
        *expected += 1;
        events += 1;
    }
    let stats = subscription.stats();
    assert!(stats.is_conserved(), "{stats:?}");
    assert_eq!(
        (stats.delivered, stats.dropped),
        (events + u64::from(publishers), 0)
    );
    subscription.unsubscribe().await;
    bus.shutdown().await.unwrap();
    events
}
