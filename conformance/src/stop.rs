//! Ending a run before its time.

use tokio::sync::watch;

/// Asks whatever has a clone of it to end before its time.
#[derive(Debug, Clone, Default)]
pub struct Stop(watch::Sender<bool>);

impl Stop {
    /// Asks. There is no way back.
    pub fn ask(&self) {
        self.0.send_replace(true);
    }

    /// Whether it was asked.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is asked. Cancel-safe.
    pub async fn asked(&self) {
        // It ends otherwise only without senders, and this is one.
        let _ = self.0.subscribe().wait_for(|asked| *asked).await;
    }
}
