//! A service: a name, what answers, and how much of it at once.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::call::{Call, Reply};
use super::desk::Desk;
use super::error::{Failure, ServeError};

/// Calls that run at once, if a service says nothing else.
pub const DEFAULT_CONCURRENCY: usize = 16;
/// Calls that wait, if a service says nothing else.
pub const DEFAULT_QUEUE: usize = 256;
/// How long a call may run that brings no deadline, if a service says nothing else.
pub const DEFAULT_LONGEST: Duration = Duration::from_secs(30);
/// Most calls that a service may run, and most that may wait.
pub const MAX_CALLS: usize = 65_536;

/// Answers calls.
///
/// Any `Fn(Call)` that returns a future of `Result<Reply, Failure>` is one; [`Methods`](super::Methods)
/// puts one together from several.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Answers one call. It is dropped when the call is cancelled or its deadline comes; what has to
    /// go on regardless belongs into a task of its own.
    ///
    /// # Errors
    /// What the caller gets instead of a reply.
    async fn handle(&self, call: Call) -> Result<Reply, Failure>;

    /// Whether there is such a method. It is asked before a call waits for its turn; whoever says yes
    /// here may still say [`Failure::NoMethod`].
    fn has(&self, method: &str) -> bool {
        let _ = method;
        true
    }
}

#[async_trait]
impl<F, Answer> Handler for F
where
    F: Fn(Call) -> Answer + Send + Sync,
    Answer: Future<Output = Result<Reply, Failure>> + Send,
{
    async fn handle(&self, call: Call) -> Result<Reply, Failure> {
        self(call).await
    }
}

/// A service to serve. Clones are the same service, with one bound on what runs.
#[derive(Clone)]
pub struct Service {
    desk: Arc<Desk>,
}

impl Service {
    /// A service with the default bounds. The name is one that a client of a broker may have; see
    /// [`check_client_name`](crate::check_client_name).
    pub fn new(name: impl Into<String>, handler: impl Handler + 'static) -> Self {
        let limits = Limits {
            concurrency: DEFAULT_CONCURRENCY,
            queue: DEFAULT_QUEUE,
            longest: DEFAULT_LONGEST,
        };
        let name: String = name.into();
        let desk = Arc::new(Desk::new(name.into(), Arc::new(handler), limits));
        Self { desk }
    }

    /// Sets how many calls run at once: 1 to 65,536.
    #[must_use]
    pub fn concurrency(self, concurrency: usize) -> Self {
        self.with(|limits| limits.concurrency = concurrency)
    }

    /// Sets how many calls may wait for their turn: up to 65,536, none if 0.
    #[must_use]
    pub fn queue(self, queue: usize) -> Self {
        self.with(|limits| limits.queue = queue)
    }

    /// Sets how long a call may run that brings no deadline of its own, as those of clients in other
    /// languages.
    #[must_use]
    pub fn longest(self, longest: Duration) -> Self {
        self.with(|limits| limits.longest = longest)
    }

    fn with(self, change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = self.desk.limits;
        change(&mut limits);
        Self {
            desk: Arc::new(self.desk.with(limits)),
        }
    }

    /// The name that callers use.
    #[must_use]
    pub fn name(&self) -> &str {
        self.desk.name()
    }

    /// What admits its calls: for backends.
    #[must_use]
    pub fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }

    /// Checks name and bounds, for backends. `longest` is the longest name on the bus, in bytes.
    ///
    /// # Errors
    /// [`ServeError::BadName`] or [`ServeError::Capacity`].
    pub fn check(&self, longest: usize) -> Result<(), ServeError> {
        let name = self.name();
        if name.len() > longest || crate::check_client_name(name).is_err() {
            return Err(ServeError::BadName {
                service: name.to_owned(),
                limit: longest,
            });
        }
        let Limits {
            concurrency, queue, ..
        } = self.desk.limits;
        let capacity = |what, value| ServeError::Capacity {
            service: name.to_owned(),
            what,
            value,
            limit: MAX_CALLS,
        };
        if !(1..=MAX_CALLS).contains(&concurrency) {
            return Err(capacity("concurrency", concurrency));
        }
        if queue > MAX_CALLS {
            return Err(capacity("queue", queue));
        }
        Ok(())
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("name", &self.name())
            .field("limits", &self.desk.limits)
            .finish_non_exhaustive()
    }
}

/// What bounds a service's calls.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) concurrency: usize,
    pub(super) queue: usize,
    pub(super) longest: Duration,
}
