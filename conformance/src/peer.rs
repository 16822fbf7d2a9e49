//! What another process does on the bus until it is killed.
//!
//! A process that is killed cannot write the history. So it says what it would have written, line
//! by line, in the [text form](crate::history) of a history: what it has not said may have happened
//! all the same.

mod member;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use eventbus_trait::rpc::{Call, Methods, Reply, ServeError, Service, Serving};
use eventbus_trait::{
    Event, EventBus, FilterError, Payload, PublishError, Refused, Subscribe, SubscribeError,
    Subscription, TopicFilter,
};

use crate::history::{Mark, Op, Recorder, payload};

/// What it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Publishes events of this author on `a.b` for ever. It says `invoke` before it publishes
    /// one, and `ok` once that is confirmed: what is only accepted dies with it.
    Publisher {
        /// The author's number, which nobody on the stage has.
        author: u32,
    },
    /// Subscribes to `a.#` under the name, before it is ready, and says `deliver` of each event.
    Subscriber {
        /// The subscription's name.
        name: String,
    },
    /// Connects under this client name and does nothing.
    Idler {
        /// The client's name.
        name: String,
    },
    /// Serves the service of this name, before it is ready: `echo` says what it was sent, `hang` never
    /// ends, `count` says how many calls run and wait at it.
    Callee {
        /// The service's name.
        name: String,
    },
    /// Is a member of this name, which is known soon after it is ready, and does tasks of
    /// [`CAPABILITY`]: never, if the task says its name, and else at once.
    Member {
        /// The member's name.
        name: String,
    },
}

/// What members in other processes can do.
pub const CAPABILITY: &str = "anywhere";

impl Part {
    /// In one word, to be passed on to the process.
    #[must_use]
    pub fn to_word(&self) -> String {
        match self {
            Self::Publisher { author } => format!("publisher={author}"),
            Self::Subscriber { name } => format!("subscriber={name}"),
            Self::Idler { name } => format!("idler={name}"),
            Self::Callee { name } => format!("callee={name}"),
            Self::Member { name } => format!("member={name}"),
        }
    }

    /// As [`to_word`](Self::to_word) has it.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        let (part, of) = word.split_once('=')?;
        let name = of.to_owned();
        match part {
            "publisher" => of.parse().ok().map(|author| Self::Publisher { author }),
            "subscriber" => Some(Self::Subscriber { name }),
            "idler" => Some(Self::Idler { name }),
            "callee" => Some(Self::Callee { name }),
            "member" => Some(Self::Member { name }),
            _ => None,
        }
    }

    /// The subscription that it makes before it is ready.
    #[must_use]
    pub fn subscription(&self) -> Option<&str> {
        match self {
            Self::Subscriber { name } => Some(name),
            Self::Publisher { .. }
            | Self::Idler { .. }
            | Self::Callee { .. }
            | Self::Member { .. } => None,
        }
    }

    /// What that subscription takes.
    ///
    /// # Errors
    /// None: the filter is valid.
    pub fn filters(&self) -> Result<Vec<TopicFilter>, FilterError> {
        Ok(vec![TopicFilter::new(TAKEN)?])
    }

    /// The client name to connect under, if it matters.
    #[must_use]
    pub fn client_name(&self) -> Option<&str> {
        match self {
            Self::Idler { name } => Some(name),
            Self::Publisher { .. }
            | Self::Subscriber { .. }
            | Self::Callee { .. }
            | Self::Member { .. } => None,
        }
    }
}

/// What a subscriber takes.
const TAKEN: &str = "a.#";
/// Events that are published before their confirmation is waited for.
const SERIES: u64 = 20;
/// How soon a name that is in use is tried again.
const RETRY: Duration = Duration::from_millis(20);
/// How long a confirmation may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Plays a part on `bus`, saying what happens. The first line is `ready`.
///
/// # Errors
/// In words, what went wrong.
pub async fn play(
    bus: Arc<dyn EventBus>,
    part: Part,
    mut say: impl FnMut(String) + Send,
) -> Result<(), String> {
    match part {
        Part::Publisher { author } => {
            say("ready".to_owned());
            publish(&bus, author, say).await
        }
        Part::Subscriber { name } => {
            let mut events = subscribe(&bus, &name).await?;
            say("ready".to_owned());
            let subscription = Arc::from(events.name());
            while let Some(event) = events.recv().await {
                say(Recorder::arrival(&subscription, &event).to_string());
            }
            Ok(())
        }
        Part::Idler { .. } => {
            say("ready".to_owned());
            std::future::pending().await
        }
        Part::Callee { name } => {
            let _serving = serve(&bus, &name).await?;
            say("ready".to_owned());
            std::future::pending().await
        }
        Part::Member { name } => {
            let _member = member::serve(&bus, &name).await?;
            say("ready".to_owned());
            std::future::pending().await
        }
    }
}

/// Calls that run and wait at a callee in another process.
const CALLEE_HOLDS: usize = 1_000;

/// Serves, again and again while a former life may still have the name.
async fn serve(bus: &Arc<dyn EventBus>, name: &str) -> Result<Serving, String> {
    let own: Arc<OnceLock<Service>> = Arc::default();
    let count = Arc::clone(&own);
    let methods = Methods::new()
        .on("echo", |call: Call| async {
            // Some calls are in handlers when it is killed, whenever that is.
            tokio::task::yield_now().await;
            Ok(Reply::new(call.payload))
        })
        .on("hang", |_: Call| async { std::future::pending().await })
        .on("count", move |_: Call| {
            let stats = count.get().map(|service| service.desk().stats());
            let now = stats.map_or(0, |stats| stats.running + stats.waiting);
            async move { Ok(Reply::new(now.to_string().into_bytes())) }
        });
    let service = Service::new(name, methods).concurrency(CALLEE_HOLDS);
    let _ = own.set(service.clone());
    let mut beat = tokio::time::interval(RETRY);
    loop {
        beat.tick().await;
        match bus.serve(service.clone()).await {
            Err(ServeError::InUse { .. }) => {}
            other => return other.map_err(|error| error.to_string()),
        }
    }
}

/// Subscribes, again and again while a former life may still have the name.
async fn subscribe(bus: &Arc<dyn EventBus>, name: &str) -> Result<Subscription, String> {
    let mut beat = tokio::time::interval(RETRY);
    loop {
        beat.tick().await;
        let everything = Subscribe::to(TAKEN).map_err(|error| error.to_string())?;
        match bus.subscribe(everything.named(name)).await {
            Err(SubscribeError::AlreadySubscribed { .. }) => {}
            other => return other.map_err(|error| error.to_string()),
        }
    }
}

async fn publish(
    bus: &Arc<dyn EventBus>,
    author: u32,
    mut say: impl FnMut(String),
) -> Result<(), String> {
    let mut sequence = 0;
    loop {
        let mut last = None;
        let first = sequence;
        for _ in 0..SERIES {
            let mark = Mark { author, sequence };
            let event = Event::new("a.b", Payload::from(payload(mark, 8)));
            let mut event = event.map_err(|error| error.to_string())?;
            if let Some(invoke) = Recorder::publication(bus.publisher_id(), &event) {
                say(invoke.to_string());
            }
            last = loop {
                match bus.publish(event).await.map_err(Refused::into_parts) {
                    Ok(receipt) => break Some(receipt),
                    Err((back, PublishError::Backpressure { .. })) => event = back,
                    Err((_, reason)) => return Err(reason.to_string()),
                }
            };
            sequence += 1;
            // So that it can be killed where it is a task and a bus never lets it wait.
            tokio::task::yield_now().await;
        }
        if let Some(receipt) = last {
            let confirmed = receipt.confirmed(PATIENCE).await;
            confirmed.map_err(|error| error.to_string())?;
        }
        for sequence in first..sequence {
            say(Op::Accepted(Mark { author, sequence }).to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_a_part() {
        let name = || "collector".to_owned();
        for part in [
            Part::Publisher { author: 7 },
            Part::Subscriber { name: name() },
            Part::Idler { name: name() },
            Part::Callee { name: name() },
            Part::Member { name: name() },
        ] {
            assert_eq!(Part::from_word(&part.to_word()), Some(part));
        }
        assert_eq!(Part::from_word("publisher=x"), None);
    }
}
