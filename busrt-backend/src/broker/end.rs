//! Why the door ends a connection.

use std::io;
use std::time::Duration;

use super::screen::Breach;
use super::stats::Reason;

/// What a connection ended for.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    /// The client sent what it may not.
    #[error(transparent)]
    Breach(#[from] Breach),
    /// A frame did not come to its end.
    #[error("a frame did not come to its end within {0:?}")]
    Stalled(Duration),
    /// The client sends nothing, not even pings.
    #[error("nothing came within {0:?}")]
    Silent(Duration),
    /// A receiver in the broker's own process does not take anything.
    #[error("a receiver had no room within {0:?}")]
    Stuck(Duration),
    /// The client does not read.
    #[error("nothing was read within {0:?}")]
    Deaf(Duration),
    /// The client leaves too much unread.
    #[error("more than {0} bytes were not read")]
    Behind(usize),
    /// The connection is gone.
    #[error("{0}")]
    Gone(#[from] io::Error),
}

impl End {
    /// The reason to be counted, if it was the client's doing.
    pub(super) fn reason(&self) -> Option<Reason> {
        match self {
            Self::Breach(breach) => Some(breach.reason()),
            Self::Stalled(_) => Some(Reason::Stalled),
            Self::Deaf(_) | Self::Behind(_) => Some(Reason::Deaf),
            Self::Silent(_) | Self::Stuck(_) | Self::Gone(_) => None,
        }
    }

    /// Whether the client may still be there to hear a farewell.
    pub(super) fn hears(&self) -> bool {
        matches!(self, Self::Breach(_) | Self::Stalled(_) | Self::Stuck(_))
    }
}
