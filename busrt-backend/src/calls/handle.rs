//! One handle's calls and services.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use eventbus_trait::rpc::{ServiceStats, Tally};
use futures_timer::Delay;
use parking_lot::Mutex;

use super::port::Port;
use super::serve::Post;

pub(crate) struct Calls {
    /// The handle's own connection.
    pub(crate) port: Arc<Port>,
    pub(crate) tally: Arc<Tally>,
    posts: Mutex<Vec<Weak<Post>>>,
}

impl Calls {
    pub(crate) fn new(name: Arc<str>, most: usize) -> Self {
        Self {
            port: Port::new(name),
            tally: Tally::new(most),
            posts: Mutex::default(),
        }
    }

    pub(super) fn add(&self, post: &Arc<Post>) {
        let mut posts = self.posts.lock();
        posts.retain(|post| post.strong_count() > 0);
        posts.push(Arc::downgrade(post));
    }

    fn posts(&self) -> Vec<Arc<Post>> {
        self.posts.lock().iter().filter_map(Weak::upgrade).collect()
    }

    pub(crate) fn service_stats(&self) -> Vec<ServiceStats> {
        self.posts().iter().map(|post| post.stats()).collect()
    }

    /// Begins nothing more, lets what is under way end, at most for `deadline`, and ends the services'
    /// connections.
    pub(crate) async fn finish(&self, deadline: Duration) {
        let started = Instant::now();
        let left = || deadline.saturating_sub(started.elapsed());
        self.tally.close();
        let posts = self.posts();
        for post in &posts {
            post.close();
        }
        let all = async {
            self.tally.empty().await;
            for post in &posts {
                post.empty().await;
            }
        };
        first(all, Delay::new(deadline)).await;
        self.tally.end();
        for post in posts {
            post.end();
            post.ended(left()).await;
        }
    }
}

/// The result of the first, if it is there before the second is.
pub(super) async fn first<T>(wanted: impl Future<Output = T>, end: impl Future) -> Option<T> {
    let mut wanted = std::pin::pin!(wanted);
    let mut end = std::pin::pin!(end);
    std::future::poll_fn(|cx| {
        if let std::task::Poll::Ready(done) = wanted.as_mut().poll(cx) {
            return std::task::Poll::Ready(Some(done));
        }
        end.as_mut().poll(cx).map(|_| None)
    })
    .await
}
