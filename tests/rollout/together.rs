//! Several tasks that publish one topic through one handle.

use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use eventbus::rollout::{self, PhasedBus};
use eventbus::{Delivery, Event, EventBus, Subscribe, Topic};

use super::scene::{Scene, run};

const TASKS: u32 = 4;
const EVENTS: u32 = 500;
/// Far longer than it takes to be woken.
const HANGS: Duration = Duration::from_secs(10);

/// The stamps say the order in which a subscription has the events, also of those that had to wait.
#[test]
fn who_waits_for_room_is_not_overtaken_by_a_later_stamp() {
    run(async {
        for phase in ["crossbeam", "in-process"] {
            let scene = Scene::new();
            let rollout = scene.rollout(&[phase]);
            let bus = rollout::open(&scene.config(rollout)).await.unwrap();
            let subscribe = Subscribe::to("a").unwrap().capacity(2);
            let mut subscription = bus.subscribe(subscribe).await.unwrap();
            let all: Arc<dyn EventBus> = bus.clone();
            for task in 0..TASKS {
                let all = Arc::clone(&all);
                tokio::spawn(async move {
                    let publisher = all.publisher(Topic::new("a").unwrap());
                    for n in 0..EVENTS {
                        let event = Event::new("a", "x").unwrap();
                        let event = event.delivery(Delivery::AtLeastOnce);
                        match (task + n) % 3 {
                            0 => drop(all.publish(event).await.unwrap()),
                            1 => drop(publisher.publish(event).await.unwrap()),
                            _ => {
                                let batch = vec![event.clone(), event];
                                drop(all.publish_batch(batch).await.unwrap());
                            }
                        }
                    }
                });
            }
            let in_batches = (0..TASKS * EVENTS).filter(|n| (n / EVENTS + n % EVENTS) % 3 == 2);
            let wanted = u64::from(TASKS * EVENTS) + in_batches.count() as u64;
            let mut last = None;
            for _ in 0..wanted {
                let event = subscription.recv().await.unwrap();
                let sequence = event.origin().map(|origin| origin.sequence);
                assert!(last < sequence, "{phase}: {sequence:?} after {last:?}");
                last = sequence;
            }
            bus.shutdown().await.unwrap();
        }
    });
}

/// Publishes itself, on the topic that wakes it and on another, where it is woken.
struct Publishes {
    bus: Arc<PhasedBus>,
    said: SyncSender<[bool; 2]>,
}

impl Wake for Publishes {
    fn wake(self: Arc<Self>) {
        let publish = |topic| {
            let tried = self.bus.try_publish(Event::new(topic, "y").unwrap());
            tried.is_ok()
        };
        // Only the first time is looked at.
        let _ = self.said.try_send([publish("a"), publish("b")]);
    }
}

/// Who is woken runs in the publisher's thread, and may do there what it likes.
#[test]
fn flw_003_who_is_woken_may_publish() {
    run(async {
        for phase in ["crossbeam", "in-process"] {
            let scene = Scene::new();
            let bus = rollout::open(&scene.config(scene.rollout(&[phase]))).await;
            let bus = bus.unwrap();
            let mut events = bus.subscribe(Subscribe::to("a").unwrap()).await.unwrap();
            let mut others = bus.subscribe(Subscribe::to("b").unwrap()).await.unwrap();
            let (said, heard) = sync_channel(4);
            let waker = Waker::from(Arc::new(Publishes {
                bus: Arc::clone(&bus),
                said,
            }));
            {
                let mut next = pin!(events.recv());
                let polled = next.as_mut().poll(&mut Context::from_waker(&waker));
                assert!(polled.is_pending());
            }
            let publisher = Arc::clone(&bus);
            // In a thread that nobody waits for: it may hang.
            std::thread::spawn(move || publisher.try_publish(Event::new("a", "x").unwrap()));
            let said = tokio::task::spawn_blocking(move || heard.recv_timeout(HANGS));
            let [same, other] = said.await.unwrap().expect("who is woken hangs");
            assert!(other, "{phase}: refused though nobody waits on that topic");
            others.recv().await.unwrap();
            for _ in 0..1 + u32::from(same) {
                events.recv().await.unwrap();
            }
            bus.shutdown().await.unwrap();
        }
    });
}
