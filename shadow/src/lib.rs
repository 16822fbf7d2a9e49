//! Doubles live traffic to a second bus and compares delivery and ordering.
//!
//! A [`ShadowBus`] is an [`EventBus`](eventbus_trait::EventBus) made of two: the application sees
//! the *primary* alone, the *candidate* gets the same traffic on the side, and each delivery of
//! one is held against the same delivery of the other: is it there, once, in order, unaltered?
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use eventbus_trait::{Event, EventBus, Subscribe};
//! use shadow::{ShadowBus, ShadowOptions, Verdict};
//!
//! # async fn example(
//! #     old: Arc<dyn EventBus>,
//! #     new: Arc<dyn EventBus>,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! let bus = ShadowBus::new(old, new, ShadowOptions::default());
//! let mut events = bus.subscribe(Subscribe::to("events.#")?).await?;
//! bus.publish(Event::json("events.process.new", &7)?).await?;
//! events.recv().await;
//! bus.settle(Duration::from_secs(10)).await;
//! assert_eq!(bus.report().verdict, Verdict::Match);
//! # Ok(())
//! # }
//! ```
//!
//! # What is compared
//!
//! Each event, as it is accepted by the primary, is one *expected delivery* for each subscription
//! of this shadow that takes it. It ends in exactly one class, which the [`Report`] counts:
//! matched, ignored, missing, late, reordered, differs, or unverified for a [`Reason`]. What a
//! side delivers beyond that is a duplicate or a phantom. Order is compared within a stream: the
//! events of one publisher and topic, for one subscription. How streams interleave is nobody's
//! promise: how often publishers come in another order is counted, as [`Inversions`].
//!
//! An event is *reordered* if it comes after a later one of its stream had come: one event held
//! back is one divergence. It is *missing* once a later one has come instead and the grace time is
//! over, or at once when a marker has come through; if it still comes it is *late*. A candidate that
//! delivers nothing at all for a while is slow; it has lost what it owes once it has been silent for
//! [`ShadowOptions::silence`].
//!
//! The report is plain data: it is written to and read from JSON under the names of its fields,
//! and [`Report::table`] shows it to people.
//!
//! # Calls
//!
//! Calls go to the primary. One that is marked [idempotent](eventbus_trait::rpc::Call::idempotent) is
//! made once more on the candidate, after the primary has answered it and with nobody waiting, and the
//! two answers are compared: [`Calls`] says what came of it. A service is served on both sides; its copy
//! on the candidate is `NAME--mirror`, carries out idempotent calls alone, and gives its slot to a call of
//! the service itself at once. So a reply that says when it was made, or who made it, differs.
//!
//! # What it costs
//!
//! The application's threads stamp and count each event and look at each delivery; the rest is
//! done on the candidate's thread. Memory is bounded by [`ShadowOptions`]. While the comparison
//! runs, the candidate's other subscribers see its markers: empty events with the header
//! `eventbus-shadow-marker`, on topics that events went to before.
//!
//! # What it does not do
//!
//! Events that others publish, past this shadow, are not compared: on the primary they are counted as
//! foreign, on the candidate they are phantoms.

mod account;
mod alone;
mod attached;
mod bus;
mod calls;
mod candidate;
mod class;
mod comparator;
mod digest;
mod drain;
mod family;
mod glance;
mod hooks;
mod interleaving;
mod lane;
mod lanes;
mod latency;
mod latest;
mod link;
mod marker;
mod mirror;
mod noise;
mod options;
mod queue;
#[cfg(test)]
mod queue_tests;
mod record;
mod replay;
mod report;
mod route;
pub mod sabotage;
mod seat;
mod sender;
mod settle;
mod shed;
mod shedding;
mod source;
mod streams;
mod sub;
mod sync;
mod table;
mod ticket;
mod track;
mod untracked;
mod unwatched;

pub use bus::ShadowBus;
pub use calls::{CallDifference, Calls, NotCompared};
pub use class::{Reason, Side};
pub use family::AttachError;
pub use glance::{Glance, LATENCY_BOUNDS_US, SideLatency, TopicCount};
pub use hooks::{Compare, Ignore, Redact, Sample};
pub use interleaving::Inversions;
pub use latency::{LatencyDifference, Lateness, Quantiles, Ratio};
pub use noise::{CalibrationError, Noise, NoiseFloor};
pub use options::{ShadowOptions, WhenFull};
pub use record::{DivergenceFile, FileReport};
pub use replay::{Otherwise, Replay, ReplayError, replay};
pub use report::{Displaced, Divergence, DivergenceClass, Report, Shown, Verdict};
