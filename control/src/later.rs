//! Moments to come, however far away somebody says that they are.

use std::time::Duration;

use tokio::time::Instant;

/// Longer than anybody waits, and a clock can still tell it: ten years.
const FAR: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// So long after `now`, at most [`FAR`]: `Duration::MAX` is for ever, and no overflow.
pub(crate) fn after(now: Instant, time: Duration) -> Instant {
    now + time.min(FAR)
}
