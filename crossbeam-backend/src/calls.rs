//! Calls from handle to handle of one bus.
//!
//! Who calls asks for a ticket at the service's own desk and starts a task of the service's runtime,
//! which attends to it; a channel for one reply is all that is between them, and each end notices by
//! it that the other one is gone.
//!
//! Invariant: a call's task holds its ticket and its place in the post, so both are given back however
//! the task ends.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use eventbus_trait::Stats;
use eventbus_trait::rpc::{
    Call, CallError, GiveUp, NotIn, Reply, ServeError, Served, Service, Serving, Tally,
};
use futures_timer::Delay;
use parking_lot::Mutex;
use tokio::runtime;
use tokio::sync::oneshot;
use tracing::debug;

use super::handle::Handle;
use super::hub::Hub;

/// Longest name of a service, as on a broker.
const LONGEST_NAME: usize = 64;

/// The services of a bus, by name.
#[derive(Debug, Default)]
pub(crate) struct Exchange(Mutex<HashMap<String, Arc<Post>>>);

/// A service that is served.
#[derive(Debug)]
struct Post {
    service: Service,
    runtime: runtime::Handle,
    /// Its calls, from whoever they are.
    tally: Arc<Tally>,
    /// Where its name was taken, if that was not its handle's own.
    claimed: Option<Weak<Hub>>,
    exchange: Arc<Exchange>,
}

/// One handle's calls and services.
#[derive(Debug)]
pub(crate) struct Calls {
    exchange: Arc<Exchange>,
    tally: Arc<Tally>,
    posts: Mutex<Vec<Weak<Post>>>,
}

impl Calls {
    pub(crate) fn new(exchange: Arc<Exchange>, most: usize) -> Self {
        Self {
            exchange,
            tally: Tally::new(most),
            posts: Mutex::default(),
        }
    }

    /// Those of another handle of the same bus.
    pub(crate) fn another(&self, most: usize) -> Self {
        Self::new(Arc::clone(&self.exchange), most)
    }

    pub(crate) fn serve(&self, handle: &Handle, service: Service) -> Result<Serving, ServeError> {
        if self.tally.is_closed() {
            return Err(ServeError::Closed);
        }
        service.check(LONGEST_NAME)?;
        let runtime = runtime::Handle::try_current().map_err(|_| ServeError::NoRuntime)?;
        let name = service.name().to_owned();
        let in_use = || ServeError::InUse {
            service: name.clone(),
        };
        let own = handle.name.as_ref() == Some(&name);
        let mut posts = self.exchange.0.lock();
        if posts.contains_key(&name) {
            return Err(in_use());
        }
        let claimed = if own {
            None
        } else {
            handle.hub.claim(&name).map_err(|_| in_use())?;
            Some(Arc::downgrade(&handle.hub))
        };
        let post = Arc::new(Post {
            service,
            runtime,
            tally: Tally::new(usize::MAX),
            claimed,
            exchange: Arc::clone(&self.exchange),
        });
        posts.insert(name.clone(), Arc::clone(&post));
        drop(posts);
        let mut own_posts = self.posts.lock();
        own_posts.retain(|post| post.strong_count() > 0);
        own_posts.push(Arc::downgrade(&post));
        drop(own_posts);
        if self.tally.is_closed() {
            // It was shut down meanwhile, and may have looked already.
            post.end();
            return Err(ServeError::Closed);
        }
        Ok(Serving::new(name, OnPost(post)))
    }

    pub(crate) async fn call(&self, call: Call, limit: usize) -> Result<Reply, CallError> {
        let inside = self.tally.enter().map_err(|reason| match reason {
            NotIn::Full { limit } => CallError::TooManyCalls { limit },
            NotIn::Closed => CallError::Closed,
        })?;
        let made = first(self.make(call, limit), self.tally.over());
        let result = made.await.unwrap_or(Err(CallError::Closed));
        inside.done(result.is_ok());
        result
    }

    async fn make(&self, call: Call, limit: usize) -> Result<Reply, CallError> {
        call.check(limit)?;
        let (service, deadline) = (call.service.clone(), call.deadline);
        let no_service = || CallError::NoService {
            service: service.clone(),
        };
        let post = self.exchange.0.lock().get(&service).cloned();
        let post = post.ok_or_else(no_service)?;
        let place = post.tally.enter().map_err(|_| no_service())?;
        let ticket = post.service.desk().admit(&call.method)?;
        // However the call ends, the next one finds its place free.
        let _given_up = GivenUp(ticket.give_up());
        let (mut answer, answered) = oneshot::channel();
        let ended = Arc::clone(&post.tally);
        post.runtime.spawn(async move {
            // Until the handler and all that it had is gone.
            let _place = place;
            let attending = ticket.attend(call, Delay::new(deadline));
            let attended = first(attending, first(answer.closed(), ended.over())).await;
            if let Some(result) = attended {
                let result = result.and_then(|reply| reply.check(limit).map(|()| reply));
                if answer.send(result).is_err() {
                    debug!("reply to a call that has ended");
                }
            }
        });
        drop(post);
        match first(answered, Delay::new(deadline)).await {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(CallError::CalleeGone { service }),
            None => Err(CallError::Deadline { service, deadline }),
        }
    }

    pub(crate) fn add_to(&self, stats: &mut Stats) {
        stats.calls = self.tally.stats();
        let posts = self.own_posts();
        stats.services = posts
            .iter()
            .map(|post| post.service.desk().stats())
            .collect();
    }

    /// Begins nothing more, and lets what is under way end, at most for `deadline`.
    pub(crate) async fn finish(&self, deadline: Duration) {
        self.tally.close();
        let posts = self.own_posts();
        for post in &posts {
            post.tally.close();
        }
        let all = async {
            self.tally.empty().await;
            for post in &posts {
                post.tally.empty().await;
            }
        };
        let idle = |tally: &Tally| tally.inside() == 0;
        // A timer is a thread; mostly there is nothing to wait for.
        if !idle(&self.tally) || !posts.iter().all(|post| idle(&post.tally)) {
            first(all, Delay::new(deadline)).await;
        }
        self.end();
    }

    /// Ends everything at once.
    pub(crate) fn end(&self) {
        self.tally.end();
        for post in self.own_posts() {
            post.end();
        }
    }

    fn own_posts(&self) -> Vec<Arc<Post>> {
        self.posts.lock().iter().filter_map(Weak::upgrade).collect()
    }
}

/// Gives a call up when its caller does not wait any more.
struct GivenUp(GiveUp);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.now();
    }
}

/// The result of the first, if it is there before the second is.
async fn first<T>(wanted: impl Future<Output = T>, end: impl Future) -> Option<T> {
    let mut wanted = pin!(wanted);
    let mut end = pin!(end);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(done) = wanted.as_mut().poll(cx) {
            return Poll::Ready(Some(done));
        }
        end.as_mut().poll(cx).map(|_| None)
    })
    .await
}

impl Post {
    /// Takes it off the bus and drops its handlers. Idempotent.
    fn end(&self) {
        self.tally.end();
        let removed = {
            let mut posts = self.exchange.0.lock();
            let name = self.service.name();
            let ours = posts
                .get(name)
                .is_some_and(|post| std::ptr::eq(&**post, self));
            ours.then(|| posts.remove(name)).flatten()
        };
        if removed.is_some()
            && let Some(hub) = self.claimed.as_ref().and_then(Weak::upgrade)
        {
            hub.unclaim(self.service.name());
        }
    }
}

/// The application's hold on a post.
#[derive(Debug)]
struct OnPost(Arc<Post>);

#[async_trait]
impl Served for OnPost {
    async fn stop(&self, deadline: Duration) -> bool {
        self.0.tally.close();
        first(self.0.tally.empty(), Delay::new(deadline))
            .await
            .is_some()
    }
}

impl Drop for OnPost {
    fn drop(&mut self) {
        self.0.end();
    }
}
