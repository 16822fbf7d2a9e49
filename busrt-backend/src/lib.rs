//! The event bus over a busrt broker: in process or over a UNIX socket.

pub mod topics;
pub mod wire;
