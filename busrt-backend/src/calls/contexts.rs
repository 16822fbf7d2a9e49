//! What callers have said of the requests that they send next.
//!
//! A context comes right ahead of its request, so few are here at a time, unless somebody sends
//! contexts and no requests. Then the oldest make room: theirs was the longest wait for nothing.
//!
//! Invariant: at most `MOST` clients, of at most `BYTES` together.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::wire::call::Context;

/// Clients whose context is kept until their request comes.
const MOST: usize = 4_096;
/// Largest context that is kept whole, in bytes as it came.
pub(super) const LARGEST: usize = 64 << 10;
/// All that are kept, in bytes as they came.
const BYTES: usize = 16 << 20;

#[derive(Default)]
pub(super) struct Contexts {
    by_sender: HashMap<Arc<str>, Kept>,
    /// Senders by when they spoke.
    order: BTreeMap<u64, Arc<str>>,
    next: u64,
    bytes: usize,
    too_large: u64,
}

struct Kept {
    context: Context,
    bytes: usize,
    number: u64,
}

impl Contexts {
    /// Keeps a sender's latest, which was of so many bytes.
    ///
    /// # Errors
    /// It was too large: it is kept without its correlation. So many were until now.
    pub(super) fn put(
        &mut self,
        sender: &str,
        mut context: Context,
        mut bytes: usize,
    ) -> Result<(), u64> {
        let too_large = bytes > LARGEST;
        if too_large {
            self.too_large += 1;
            context.correlation = None;
            bytes = LARGEST;
        }
        self.take(sender);
        while self.order.len() >= MOST || self.bytes + bytes > BYTES {
            let Some((_, oldest)) = self.order.pop_first() else {
                break;
            };
            self.take(&oldest);
        }
        let (sender, number) = (Arc::<str>::from(sender), self.next);
        self.next += 1;
        self.bytes += bytes;
        self.order.insert(number, Arc::clone(&sender));
        let kept = Kept {
            context,
            bytes,
            number,
        };
        self.by_sender.insert(sender, kept);
        if too_large {
            return Err(self.too_large);
        }
        Ok(())
    }

    pub(super) fn take(&mut self, sender: &str) -> Option<Context> {
        let kept = self.by_sender.remove(sender)?;
        self.order.remove(&kept.number);
        self.bytes -= kept.bytes;
        Some(kept.context)
    }

    pub(super) fn clear(&mut self) {
        let too_large = self.too_large;
        *self = Self {
            too_large,
            ..Self::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use eventbus_trait::{ContentType, Correlation};

    use super::*;

    fn context(id: u32) -> Context {
        Context {
            id,
            left: Duration::from_secs(1),
            idempotent: true,
            content_type: ContentType::Json,
            correlation: Some(Correlation::new("c")),
        }
    }

    #[test]
    fn the_oldest_makes_room_and_nobody_else() {
        let mut contexts = Contexts::default();
        for sender in 0..MOST {
            assert_eq!(contexts.put(&sender.to_string(), context(0), 100), Ok(()));
        }
        // Who speaks again is no further one, and the latest.
        assert_eq!(contexts.put("0", context(1), 100), Ok(()));
        assert_eq!(contexts.put("further", context(2), 100), Ok(()));
        assert_eq!(contexts.take("1"), None);
        assert_eq!(contexts.take("0"), Some(context(1)));
        assert_eq!(contexts.take("further"), Some(context(2)));
        for sender in 2..MOST {
            assert_eq!(contexts.take(&sender.to_string()), Some(context(0)));
        }
        assert_eq!((contexts.order.len(), contexts.bytes), (0, 0));
    }

    #[test]
    fn what_is_kept_has_a_limit_in_bytes() {
        let mut contexts = Contexts::default();
        let fit = BYTES / LARGEST;
        for sender in 0..=fit {
            let put = contexts.put(&sender.to_string(), context(0), LARGEST);
            assert_eq!(put, Ok(()));
        }
        assert_eq!(contexts.bytes, BYTES);
        assert_eq!(contexts.take("0"), None);
        assert_eq!(contexts.take("1"), Some(context(0)));
    }

    #[test]
    fn a_large_one_goes_without_its_correlation() {
        let mut contexts = Contexts::default();
        assert_eq!(contexts.put("a", context(1), LARGEST + 1), Err(1));
        assert_eq!(contexts.put("b", context(1), LARGEST + 1), Err(2));
        let mut rest = context(1);
        rest.correlation = None;
        assert_eq!(contexts.take("a"), Some(rest));
        contexts.clear();
        assert_eq!((contexts.take("b"), contexts.bytes), (None, 0));
    }
}
