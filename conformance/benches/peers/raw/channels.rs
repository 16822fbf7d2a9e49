//! Bounded channels: one for each subscriber, who gets a clone of an `Arc`.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::sync::mpsc;

use super::{deal, workers};
use crate::child::{Clock, Done, Stopped};
use crate::load::{Ahead, Load, Sink};
use crate::scenario::Scenario;

/// What a subscription of ours holds, too.
const CAPACITY: usize = 8192;

type Payload = Arc<Vec<u8>>;

/// crossbeam's, between threads.
pub(crate) fn crossbeam(scenario: &Scenario) -> Done {
    let ends = (0..scenario.subscribers).map(|_| crossbeam_channel::bounded(CAPACITY));
    let (senders, receivers): (Vec<_>, Vec<_>) = ends.unzip();
    let wait = scenario.at_least_once;
    let ahead = Ahead::of(scenario);
    let clock = Clock::start();
    let publishing: Vec<_> = (0..scenario.publishers)
        .map(|_| {
            let load = Load::of(scenario, clock.zero, ahead.as_ref());
            let senders = senders.clone();
            std::thread::spawn(move || {
                // Nothing in it waits but for the time, which threads pass without a runtime.
                let published = send(&senders, load, wait).now_or_never();
                published.expect("no await")
            })
        })
        .collect();
    drop(senders);
    let reading: Vec<_> = deal(receivers, scenario.readers)
        .into_iter()
        .enumerate()
        .map(|(n, receivers)| {
            let sink = Sink::of(scenario, clock.zero, ahead.as_ref(), n);
            std::thread::spawn(move || receive(&receivers, sink))
        })
        .collect();
    let sinks = reading.into_iter().map(|thread| thread.join().unwrap());
    let sinks = sinks.collect();
    let stopped = clock.stop();
    let counts = publishing.into_iter().map(|thread| thread.join().unwrap());
    done(counts, sinks, stopped)
}

/// Publishes until the load ends; returns how many events that were, and how many copies found no
/// room.
async fn send(senders: &[Sender<Payload>], mut load: Load, wait: bool) -> (u64, u64) {
    let (mut published, mut dropped) = (0, 0);
    while load.more(published).await {
        let payload = load.arc(published);
        for sender in senders {
            let payload = Arc::clone(&payload);
            if wait {
                sender.send(payload).unwrap();
            } else {
                dropped += u64::from(sender.try_send(payload).is_err());
            }
        }
        published += 1;
    }
    (published, dropped)
}

/// Takes from each in turn until the publishers are gone. All carry the same, so that they end
/// together.
fn receive(receivers: &[Receiver<Payload>], mut sink: Sink) -> Sink {
    'open: loop {
        for receiver in receivers {
            let Ok(payload) = receiver.recv() else {
                break 'open;
            };
            sink.take(&payload);
        }
    }
    assert!(receivers.iter().all(Receiver::is_empty));
    sink
}

/// tokio's, between tasks.
pub(crate) fn tokio(scenario: &Scenario) -> Done {
    workers().block_on(async {
        let ends = (0..scenario.subscribers).map(|_| mpsc::channel(CAPACITY));
        let (senders, receivers): (Vec<_>, Vec<_>) = ends.unzip();
        let wait = scenario.at_least_once;
        let ahead = Ahead::of(scenario);
        let clock = Clock::start();
        let publishing: Vec<_> = (0..scenario.publishers)
            .map(|_| {
                let load = Load::of(scenario, clock.zero, ahead.as_ref());
                let senders = senders.clone();
                tokio::spawn(async move { send_async(&senders, load, wait).await })
            })
            .collect();
        drop(senders);
        let reading = deal(receivers, scenario.readers)
            .into_iter()
            .enumerate()
            .map(|(n, receivers)| {
                let sink = Sink::of(scenario, clock.zero, ahead.as_ref(), n);
                tokio::spawn(receive_async(receivers, sink))
            });
        let sinks = join_all(reading).await;
        let sinks = sinks.into_iter().map(Result::unwrap).collect();
        let stopped = clock.stop();
        let counts = join_all(publishing).await;
        done(counts.into_iter().map(Result::unwrap), sinks, stopped)
    })
}

async fn send_async(senders: &[mpsc::Sender<Payload>], mut load: Load, wait: bool) -> (u64, u64) {
    let (mut published, mut dropped) = (0, 0);
    while load.more(published).await {
        let payload = load.arc(published);
        for sender in senders {
            let payload = Arc::clone(&payload);
            if wait {
                sender.send(payload).await.unwrap();
            } else {
                dropped += u64::from(sender.try_send(payload).is_err());
            }
        }
        published += 1;
    }
    (published, dropped)
}

async fn receive_async(mut receivers: Vec<mpsc::Receiver<Payload>>, mut sink: Sink) -> Sink {
    'open: loop {
        for receiver in &mut receivers {
            let Some(payload) = receiver.recv().await else {
                break 'open;
            };
            sink.take(&payload);
        }
    }
    assert!(receivers.iter().all(mpsc::Receiver::is_empty));
    sink
}

fn done(counts: impl Iterator<Item = (u64, u64)>, sinks: Vec<Sink>, clock: Stopped) -> Done {
    let (accepted, dropped) = counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    Done {
        accepted,
        dropped,
        sinks,
        clock,
    }
}
