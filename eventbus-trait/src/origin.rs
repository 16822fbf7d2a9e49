//! Where an event comes from: publisher, epoch, sequence.

use std::fmt;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// A publisher's random identity, 16 bytes, written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublisherId(pub [u8; 16]);

impl PublisherId {
    /// A new random identity.
    #[must_use]
    pub fn random() -> Self {
        Self(*uuid::Uuid::new_v4().as_bytes())
    }

    /// Reads 32 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 32 {
            return None;
        }
        u128::from_str_radix(text, 16)
            .ok()
            .map(|n| Self(n.to_be_bytes()))
    }
}

impl fmt::Display for PublisherId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for PublisherId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The stamp that a bus puts on an event when it accepts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// Who published it.
    pub publisher: PublisherId,
    /// Which life of that publisher: a new one at each start of its process.
    pub epoch: u64,
    /// Position among all events that this publisher published in this epoch, from 0, dense.
    pub sequence: u64,
}

/// This process's epoch: the microsecond of the clock at which it first asked.
///
/// A later process of the same publisher has a larger one unless the clock was set back; nothing
/// relies on more than that two are different.
#[inline]
#[must_use]
pub fn process_epoch() -> u64 {
    static EPOCH: OnceLock<u64> = OnceLock::new();
    *EPOCH.get_or_init(|| {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_reads_back_what_it_writes() {
        let id = PublisherId::random();
        assert_eq!(PublisherId::parse(&id.to_string()), Some(id));
        assert_eq!(PublisherId::parse("xyz"), None);
    }
}
