//! The event bus contract as types.
//!
//! An application publishes and subscribes through [`EventBus`] and does not know which backend is
//! behind it: a channel in its own process, or a broker in another. What every backend promises is
//! written down, clause by clause, in `docs/contract.md`; the ids in this documentation (DEL-001
//! and so on) are its ids.
//!
//! The crate has no runtime and does no I/O: any executor polls its futures, and plain threads use
//! [`Subscription::recv_blocking`] and [`EventBus::try_publish`].

mod bus;
pub mod codec;
mod correlation;
mod error;
mod event;
pub mod fate;
pub mod filter;
mod intern;
mod origin;
mod payload;
pub mod plain;
mod rate;
mod receipt;
pub mod rpc;
pub mod signal;
pub mod slot;
mod state;
mod stats;
mod subscribe;
mod subscription;
mod sync;
mod topic;
pub mod trace;

pub use bus::{EventBus, Limits, PublishTopic, Publisher, check_client_name};
pub use codec::{Codec, CodecError, ContentType};
pub use correlation::{Correlation, CorrelationFilter};
pub use error::{
    BatchRefused, ConnectError, FlushError, PublishError, Refused, ShutdownError, SubscribeError,
    TlsProblem, TryPublishError, TryRecvError,
};
pub use event::{Delivery, Event, EventError, Headers};
pub use filter::{FilterError, TopicFilter};
pub use origin::{Origin, PublisherId, process_epoch};
pub use payload::Payload;
pub use rate::{Admission, Held, Rate, Throttle};
pub use receipt::{Confirm, ConfirmUpTo, Confirmation, Receipt, ReceiptError};
pub use signal::Signal;
pub use state::BusState;
pub use stats::{FamilyStats, Stats, SubscriptionCounters, SubscriptionStats, count};
pub use subscribe::{DEFAULT_CAPACITY, MAX_CAPACITY, MAX_NAME_BYTES, Overflow, Subscribe};
pub use subscription::{EventSource, Item, Subscription};
pub use topic::{MAX_SEGMENT_BYTES, MAX_SEGMENTS, MAX_TOPIC_BYTES, Topic, TopicError};
