//! What travels in a busrt payload: event frames and control messages, versioned.
//!
//! Reading treats every byte as hostile: lengths are checked before anything is allocated for
//! them, and what does not parse is an error, never a panic. `docs/wire-format.md` is the
//! specification for other implementations.

mod blocks;
pub mod call;
mod control;
mod events;
mod frame;
mod reader;
mod resend;

pub(crate) use control::MAX_COUNT;
pub(crate) use resend::begin_resend;

pub use control::{AckEntry, Control, Member, Refusal, StatusEntry, SubscriptionInfo};
pub use events::{Events, Stamp, WrittenEvents};
pub use frame::{EventFrame, FrameWriter, LinkEntry, MAGIC, is_frame};
pub use reader::WireError;
pub use resend::read_resend;
