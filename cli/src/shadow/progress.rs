//! A bar on a terminal, nothing in a pipe.

use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

use super::feed::Feed;

/// Time between two updates of the bar.
const INTERVAL: Duration = Duration::from_millis(100);

/// A bar that follows a feed; it goes away when this is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    follower: JoinHandle<()>,
}

impl Progress {
    /// Shows a bar on standard error if that is a terminal.
    pub(crate) fn follow(feed: &Arc<Feed>, what: String) -> Self {
        let bounds = feed.bounds();
        // By events if they are counted, else by time.
        let bar = match (bounds.events, bounds.duration) {
            (Some(events), _) => ProgressBar::new(events),
            (None, Some(duration)) => ProgressBar::new(millis(duration)),
            (None, None) => ProgressBar::no_length(),
        };
        let template = "{msg} {wide_bar} {prefix} {elapsed}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what);
        let follower = tokio::spawn(follow(bar.clone(), Arc::clone(feed)));
        Self { bar, follower }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.follower.abort();
        self.bar.finish_and_clear();
    }
}

async fn follow(bar: ProgressBar, feed: Arc<Feed>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        ticks.tick().await;
        let published = feed.published();
        bar.set_position(match feed.bounds().events {
            Some(_) => published,
            None => millis(feed.elapsed()),
        });
        bar.set_prefix(format!("{published} events"));
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
