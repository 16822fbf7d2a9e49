//! What all handles of a bus share: its subscriptions, found by topic, and the list of handles.
//!
//! Publishers keep what they found and look here only when the generation has moved, so that an
//! event costs the same however many subscriptions do not match it.
//!
//! Invariant: the generation changes under the table's write lock alone. Locks are taken in the
//! order handle, table; nobody takes a handle's lock while holding the table or the list.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::AtomicU64 as Counter;
use std::sync::{Arc, Weak};

use crossbeam_channel::Receiver;
use eventbus_trait::{ConnectError, Limits, Subscribe, SubscribeError, Topic};

use super::handle::Handle;
use super::queue::{Entry, Queue};
use super::sync::{AtomicU64, Mutex, Ordering, RwLock};
use super::trie::Trie;

/// What all handles of a bus share.
#[derive(Debug)]
pub(crate) struct Hub {
    generation: Generation,
    pub(crate) limits: Limits,
    table: RwLock<Table>,
    handles: Mutex<BTreeMap<u64, Weak<Handle>>>,
    ids: Counter,
}

/// Read for every event, written for every subscription: on a cache line of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Generation(AtomicU64);

#[derive(Debug, Default)]
struct Table {
    by_filter: Trie<Queue>,
    by_id: BTreeMap<u64, Arc<Queue>>,
    names: HashSet<Arc<str>>,
    clients: HashSet<String>,
}

/// The subscriptions of a topic, as of one generation.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) generation: u64,
    /// Those that publishers wait for.
    pub(crate) waiting: Vec<Arc<Queue>>,
    /// Those that lose events instead.
    pub(crate) lossy: Vec<Arc<Queue>>,
}

impl Hub {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            generation: Generation(AtomicU64::new(1)),
            limits,
            table: RwLock::default(),
            handles: Mutex::default(),
            ids: Counter::new(1),
        })
    }

    /// A number that nothing else on this bus has.
    pub(crate) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Changes whenever a subscription comes or goes.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.0.load(Ordering::Acquire)
    }

    /// The subscriptions that take `topic` from the handle `publisher`.
    pub(crate) fn find(&self, topic: &Topic, publisher: u64) -> Found {
        let table = self.table.read();
        let mut found = table.by_filter.matching(topic);
        found.retain(|queue| !(queue.exclude_own && queue.owner == publisher));
        let (waiting, lossy) = found.into_iter().partition(|queue| queue.waits());
        Found {
            generation: self.generation(),
            waiting,
            lossy,
        }
    }

    /// Adds a handle.
    pub(crate) fn join(&self, handle: &Arc<Handle>) {
        self.handles
            .lock()
            .insert(handle.id, Arc::downgrade(handle));
    }

    /// Takes a client name.
    pub(crate) fn claim(&self, name: &str) -> Result<(), ConnectError> {
        if self.table.write().clients.insert(name.to_owned()) {
            Ok(())
        } else {
            Err(ConnectError::NameInUse {
                name: name.to_owned(),
            })
        }
    }

    /// Gives a client name back.
    pub(crate) fn unclaim(&self, name: &str) {
        self.table.write().clients.remove(name);
    }

    /// Forgets a handle that nobody has any more. With the last one gone nothing can be
    /// published, so all subscriptions end.
    pub(crate) fn leave(&self, handle: u64) {
        let last = {
            let mut handles = self.handles.lock();
            handles.remove(&handle);
            handles.is_empty()
        };
        if last {
            for queue in self.queues() {
                self.detach(&queue);
            }
        }
    }

    /// Makes a subscription of `handle`, which whatever is published from now on finds.
    pub(crate) fn attach(
        &self,
        handle: &Handle,
        subscribe: &Subscribe,
    ) -> Result<(Arc<Queue>, Receiver<Entry>), SubscribeError> {
        if handle.is_closed() {
            return Err(SubscribeError::Closed);
        }
        subscribe.check()?;
        let mut table = self.table.write();
        let mut own = handle.subscriptions.lock();
        // Once more, now that nobody can close it meanwhile.
        if handle.is_closed() {
            return Err(SubscribeError::Closed);
        }
        let limit = self.limits.max_subscriptions;
        if own.len() >= limit {
            return Err(SubscribeError::TooManySubscriptions { limit });
        }
        let name = table.name_for(subscribe, || self.next_id())?;
        let (queue, receiver) = Queue::new(self.next_id(), name, handle.id, subscribe);
        own.insert(queue.id, Arc::clone(&queue));
        table.insert(&queue);
        self.generation.0.fetch_add(1, Ordering::Release);
        Ok((queue, receiver))
    }

    /// Ends a subscription: nothing enters its queue once this has returned. Idempotent.
    pub(crate) fn detach(&self, queue: &Arc<Queue>) {
        if queue.has_ended() {
            return;
        }
        {
            let mut table = self.table.write();
            if table.remove(queue) {
                self.generation.0.fetch_add(1, Ordering::Release);
            }
        }
        queue.room.close().wake();
        // A publisher in the middle of an event holds its handle's lock: passing through every
        // lock once leaves nobody who could still enter, or keep, the queue.
        for handle in self.all_handles() {
            handle.forget_routes();
        }
        queue.end();
    }

    /// Wakes every publisher that waits for room, so that it looks again.
    pub(crate) fn wake_publishers(&self) {
        for queue in self.queues() {
            queue.room.waiting_publishers().wake();
        }
    }

    fn queues(&self) -> Vec<Arc<Queue>> {
        self.table.read().by_id.values().cloned().collect()
    }

    fn all_handles(&self) -> Vec<Arc<Handle>> {
        let handles = self.handles.lock();
        handles.values().filter_map(Weak::upgrade).collect()
    }
}

impl Table {
    fn name_for(
        &self,
        subscribe: &Subscribe,
        mut number: impl FnMut() -> u64,
    ) -> Result<Arc<str>, SubscribeError> {
        match subscribe.name() {
            Some(name) if self.names.contains(name) => Err(SubscribeError::AlreadySubscribed {
                name: name.to_owned(),
            }),
            Some(name) => Ok(name.into()),
            None => loop {
                let name = format!("sub-{}", number());
                if !self.names.contains(name.as_str()) {
                    return Ok(name.into());
                }
            },
        }
    }

    fn insert(&mut self, queue: &Arc<Queue>) {
        for filter in &queue.filters {
            self.by_filter.insert(filter, queue.id, queue);
        }
        self.by_id.insert(queue.id, Arc::clone(queue));
        self.names.insert(Arc::clone(&queue.name));
    }

    fn remove(&mut self, queue: &Arc<Queue>) -> bool {
        if self.by_id.remove(&queue.id).is_none() {
            return false;
        }
        for filter in &queue.filters {
            self.by_filter.remove(filter, queue.id);
        }
        self.names.remove(&queue.name);
        true
    }
}
