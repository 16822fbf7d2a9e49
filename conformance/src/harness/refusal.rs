//! Why somebody was not let in: the bus's own error where it has one, so that clauses need not read
//! words.

use eventbus_trait::ConnectError;

/// Why there is no bus, or no session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// What the bus says.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Anything else, in words; none, if nobody said why.
    #[error("{0}")]
    Other(String),
}

impl From<String> for Refusal {
    fn from(words: String) -> Self {
        Self::Other(words)
    }
}
