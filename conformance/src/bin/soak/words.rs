//! What the coordinator and its processes say to each other: one JSON value in a line.

use std::io::BufRead;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use conformance::check::stream::{StreamId, Tally};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::args::Sabotage;

/// The environment variable that makes this program one of the processes of a run.
pub(crate) const PART: &str = "EVENTBUS_SOAK_PART";
/// Orders that wait to be followed.
const ORDERS: usize = 16;

/// Which process of a run this is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Part {
    Broker(Door),
    Publisher(Publisher),
    Subscriber(Subscriber),
}

/// Where to listen or connect.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Door {
    pub(crate) at: At,
    pub(crate) keepalive: Duration,
    pub(crate) patience: Duration,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum At {
    Unix(PathBuf),
    Tcp {
        address: SocketAddr,
        ca: PathBuf,
        cert: PathBuf,
        key: PathBuf,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Publisher {
    pub(crate) door: Door,
    pub(crate) number: u32,
    pub(crate) topics: u32,
    pub(crate) payload: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Subscriber {
    pub(crate) door: Door,
    pub(crate) number: u32,
    pub(crate) sabotage: Option<Sabotage>,
}

/// What a process is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Order {
    /// To a publisher: publish, until so many events have been accepted in all.
    Publish(u64),
    /// To a publisher: shut down. To a subscriber: read what is left, shut down, and judge by what
    /// each publisher had accepted on each of its topics.
    End(Vec<(u32, u32, u64)>),
}

/// What a process says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Word {
    /// It is connected, and has subscribed if it is a subscriber.
    Ready,
    Progress(Progress),
    Done(Box<Done>),
    Failed(String),
}

/// How far a process is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Events accepted, or received.
    pub(crate) events: u64,
    /// What it does.
    pub(crate) doing: String,
}

/// What became of a process.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Done {
    /// By topic, events accepted.
    pub(crate) accepted: Vec<u64>,
    pub(crate) refused: u64,
    pub(crate) longest_wait: Duration,
    pub(crate) reconnects: u64,
    pub(crate) resends: u64,
    pub(crate) given_up: u64,
    pub(crate) malformed: u64,
    /// Events that the subscription was told it lost.
    pub(crate) lagged: u64,
    pub(crate) found: Found,
    /// What shutdown said, unless all was well.
    pub(crate) shutdown: Option<String>,
}

/// What a subscriber found wrong.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) received: u64,
    pub(crate) lost: u64,
    pub(crate) unseen: u64,
    pub(crate) duplicates: u64,
    pub(crate) nonmonotonic: u64,
    pub(crate) phantoms: u64,
    pub(crate) corrupted: u64,
    pub(crate) across_topics: u64,
    pub(crate) examples: Vec<String>,
}

impl Found {
    pub(crate) fn anomalies(&self) -> u64 {
        let missing = self.lost + self.unseen;
        missing + self.duplicates + self.nonmonotonic + self.phantoms + self.corrupted
    }
}

impl From<Tally> for Found {
    fn from(tally: Tally) -> Self {
        Self {
            received: tally.received,
            lost: tally.lost,
            unseen: tally.unseen,
            duplicates: tally.duplicates,
            nonmonotonic: tally.nonmonotonic,
            phantoms: tally.phantoms,
            corrupted: tally.corrupted,
            across_topics: tally.across,
            examples: tally.examples,
        }
    }
}

/// Says something to the coordinator.
pub(crate) fn say(word: &Word) {
    if let Ok(line) = serde_json::to_string(word) {
        println!("{line}");
    }
}

/// The orders of the coordinator, until it is gone.
pub(crate) fn orders() -> mpsc::Receiver<Order> {
    let (sender, receiver) = mpsc::channel(ORDERS);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let Ok(order) = serde_json::from_str(&line) else {
                continue;
            };
            if sender.blocking_send(order).is_err() {
                break;
            }
        }
    });
    receiver
}

/// The payload of an event: its stream, its numbers, and what can be checked.
pub(crate) fn payload(id: StreamId, number: u64, overall: u64, bytes: usize) -> Vec<u8> {
    let mut payload = Vec::with_capacity(bytes);
    payload.extend(id.publisher.to_le_bytes());
    payload.extend(id.topic.to_le_bytes());
    payload.extend(number.to_le_bytes());
    payload.extend(overall.to_le_bytes());
    let head = payload.len();
    payload.extend((head..bytes).map(|at| (number as usize).wrapping_add(at) as u8));
    payload
}

/// What is in a payload, and whether it is whole; `None` if it is none of ours.
pub(crate) fn read_payload(payload: &[u8]) -> Option<(StreamId, u64, u64, bool)> {
    let (publisher, rest) = payload.split_first_chunk::<4>()?;
    let (topic, rest) = rest.split_first_chunk::<4>()?;
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let (overall, filler) = rest.split_first_chunk::<8>()?;
    let id = StreamId {
        publisher: u32::from_le_bytes(*publisher),
        topic: u32::from_le_bytes(*topic),
    };
    let number = u64::from_le_bytes(*number);
    let head = payload.len() - filler.len();
    let whole = filler
        .iter()
        .enumerate()
        .all(|(at, byte)| *byte == (number as usize).wrapping_add(head + at) as u8);
    Some((id, number, u64::from_le_bytes(*overall), whole))
}

/// The topic of a stream.
pub(crate) fn topic(id: StreamId) -> String {
    format!("soak.p{}.t{}", id.publisher, id.topic)
}
