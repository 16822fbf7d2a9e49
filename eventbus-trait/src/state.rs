//! How a bus handle's connection stands.

/// How a bus handle's connection stands; [`EventBus::state`](crate::EventBus::state) watches it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BusState {
    /// Connected, and in step with every other session on the broker.
    Connected,
    /// The connection is being made, or made again. Publishing goes on as long as there is room.
    Connecting {
        /// Attempts that have failed since the connection was lost.
        attempts: u32,
        /// Why there is none.
        reason: String,
    },
    /// The handle was shut down.
    Closed,
}
