//! What only the owner of the connection can do.

use tokio::sync::oneshot;

/// An order to the connection's task.
#[derive(Debug)]
pub(crate) enum Command {
    /// Have the broker send us what a subscription needs.
    Subscribe {
        id: u64,
        patterns: Vec<String>,
        reply: Reply,
    },
    /// Send what is left, then end.
    Stop,
}

pub(crate) type Reply = oneshot::Sender<Result<(), NotSubscribed>>;

/// Why the broker does not send us what a subscription needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotSubscribed {
    /// It may not have it.
    Denied,
    /// Anything else.
    Failed(String),
}
