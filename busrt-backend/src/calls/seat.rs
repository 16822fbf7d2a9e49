//! A service at one connection: the calls that came by it, and the tasks that handle them.
//!
//! Invariant: a call is in the table from when its task begins until its answer is queued, so whoever
//! asks after a call that is not in the table will get no other answer.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eventbus_trait::rpc::{
    Call, CallError, Failure, GiveUp, Inside, Reply, Service, Tally, Ticket,
};
use eventbus_trait::{ContentType, Payload};
use futures_timer::Delay;
use parking_lot::Mutex;
use tokio::runtime;
use tokio::task::AbortHandle;
use tracing::debug;

use super::port::Port;
use crate::wire::call::{self, Context};

/// Replies that may wait for room, beside the calls that run and wait.
const REPLYING: usize = 64;
/// busrt's code for what is wrong inside.
const INTERNAL: i16 = -32603;

pub(super) struct Seat {
    pub(super) service: Service,
    runtime: runtime::Handle,
    /// Largest reply, in bytes.
    limit: usize,
    pub(super) tally: Arc<Tally>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: HashMap<Key, Running>,
    /// Numbers for calls that nobody waits for, which have none of their own, and for tasks.
    next: u64,
}

/// A request as it has come.
pub(super) struct Request<'a> {
    pub(super) sender: &'a str,
    pub(super) id: u32,
    pub(super) method: String,
    pub(super) payload: Bytes,
    pub(super) context: Option<Context>,
}

/// Whom to answer, and how.
struct Caller {
    name: Arc<str>,
    id: u32,
    enveloped: bool,
}

/// Who calls, and its number for the call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    caller: Arc<str>,
    id: u64,
}

struct Running {
    task: u64,
    /// Not there until the task is.
    abort: Option<AbortHandle>,
    give_up: GiveUp,
    enveloped: bool,
}

impl Running {
    /// Ends its task. The next call finds its place free, however long that takes.
    fn end(&self) {
        self.give_up.now();
        if let Some(abort) = &self.abort {
            abort.abort();
        }
    }
}

/// A call's place in the table, until it was answered or this is dropped.
struct Under {
    seat: Arc<Seat>,
    port: Arc<Port>,
    key: Key,
    task: u64,
    enveloped: bool,
    answered: bool,
    _inside: Inside,
}

impl Seat {
    pub(super) fn new(service: Service, runtime: runtime::Handle, limit: usize) -> Arc<Self> {
        let most = service.desk().capacity() + REPLYING;
        Arc::new(Self {
            service,
            runtime,
            limit,
            tally: Tally::new(most),
            state: Mutex::default(),
        })
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.state.lock().running.is_empty()
    }

    /// Whose calls are under way.
    pub(super) fn callers(&self) -> HashSet<Arc<str>> {
        let state = self.state.lock();
        state
            .running
            .keys()
            .map(|key| Arc::clone(&key.caller))
            .collect()
    }

    pub(super) fn cancel(&self, sender: &str, id: u32) {
        let key = Key {
            caller: sender.into(),
            id: id.into(),
        };
        let running = self.state.lock().running.remove(&key);
        if let Some(running) = running {
            running.end();
        }
    }

    pub(super) fn on_ask(&self, port: &Port, sender: &str, ids: &[u32]) {
        let caller: Arc<str> = sender.into();
        let unknown: Vec<u32> = {
            let state = self.state.lock();
            let known = |id: u32| {
                let caller = Arc::clone(&caller);
                let id = id.into();
                state.running.contains_key(&Key { caller, id })
            };
            ids.iter().copied().filter(|id| !known(*id)).collect()
        };
        let gone = self.gone();
        for id in unknown {
            port.say(Arc::clone(&caller), call::error(id, &gone, true));
        }
    }

    fn gone(&self) -> CallError {
        CallError::CalleeGone {
            service: self.service.name().to_owned(),
        }
    }

    pub(super) fn on_request(self: &Arc<Self>, port: &Arc<Port>, asked: Request) {
        let Request {
            sender,
            id,
            method,
            payload,
            context,
        } = asked;
        let enveloped = context.is_some();
        match self.admit(&method) {
            Ok((inside, ticket)) => {
                let call = self.call(method, payload, context);
                let caller = Caller {
                    name: sender.into(),
                    id,
                    enveloped,
                };
                self.begin(port, caller, call, inside, ticket);
            }
            Err(refusal) if id != 0 => {
                port.say(sender.into(), call::error(id, &refusal, enveloped));
            }
            Err(refusal) => debug!(sender, %refusal, "call that nobody waits for"),
        }
    }

    fn admit(&self, method: &str) -> Result<(Inside, Ticket), CallError> {
        use eventbus_trait::rpc::NotIn;
        let service = || self.service.name().to_owned();
        let inside = self.tally.enter().map_err(|reason| match reason {
            NotIn::Closed => CallError::NoService { service: service() },
            NotIn::Full { .. } => CallError::Busy {
                service: service(),
                limit: self.service.desk().capacity(),
            },
        })?;
        Ok((inside, self.service.desk().admit(method)?))
    }

    fn call(&self, method: String, payload: Bytes, context: Option<Context>) -> Call {
        let name = self.service.name();
        let call = |content_type| Call::new(name, method, Payload::new(payload, content_type));
        match context {
            None => call(ContentType::Raw).deadline(self.service.desk().longest()),
            Some(context) => {
                let mut call = call(context.content_type).deadline(context.left);
                call.correlation = context.correlation;
                call.idempotent = context.idempotent;
                call
            }
        }
    }

    fn begin(
        self: &Arc<Self>,
        port: &Arc<Port>,
        caller: Caller,
        call: Call,
        inside: Inside,
        ticket: Ticket,
    ) {
        let Caller {
            name,
            id,
            enveloped,
        } = caller;
        let mut state = self.state.lock();
        state.next += 1;
        let task = state.next;
        let key = Key {
            caller: name,
            id: if id == 0 {
                u64::from(u32::MAX) + task
            } else {
                id.into()
            },
        };
        let under = Under {
            seat: Arc::clone(self),
            port: Arc::clone(port),
            key: key.clone(),
            task,
            enveloped,
            answered: false,
            _inside: inside,
        };
        let running = Running {
            task,
            abort: None,
            give_up: ticket.give_up(),
            enveloped,
        };
        let before = state.running.insert(key.clone(), running);
        // A runtime that ends drops the task in `spawn`, and that takes it out of the table.
        drop(state);
        // An earlier life of the caller had the same number.
        if let Some(before) = before {
            before.end();
        }
        let spawned = self.runtime.spawn(attend(under, id, call, ticket));
        self.begun(&key, task, spawned.abort_handle());
    }

    /// A task is there. Whoever took its call out of the table meanwhile could not end it.
    fn begun(&self, key: &Key, task: u64, abort: AbortHandle) {
        let mut state = self.state.lock();
        match state.running.get_mut(key) {
            Some(running) if running.task == task => running.abort = Some(abort),
            _ => {
                drop(state);
                abort.abort();
            }
        }
    }

    /// The client has ended: nobody waits for its calls.
    pub(super) fn caller_gone(&self, client: &Arc<str>) {
        self.drop_running(|key| key.caller == *client);
    }

    /// The connection has ended: whoever waits will ask, and be told.
    pub(super) fn disconnected(&self) {
        self.drop_running(|_| true);
    }

    fn drop_running(&self, which: impl Fn(&Key) -> bool) {
        for (_, running) in self.take_running(which) {
            running.end();
        }
    }

    fn take_running(&self, which: impl Fn(&Key) -> bool) -> Vec<(Key, Running)> {
        let mut state = self.state.lock();
        state.running.extract_if(|key, _| which(key)).collect()
    }

    /// Drops all handlers, and tells their callers.
    pub(super) fn end(&self, port: &Port) {
        self.tally.end();
        let gone = self.gone();
        for (key, running) in self.take_running(|_| true) {
            running.end();
            if let Ok(id) = u32::try_from(key.id) {
                let error = call::error(id, &gone, running.enveloped);
                port.say(key.caller, error);
            }
        }
    }

    /// Takes a task's call out of the table; whether it was still there.
    fn forget(&self, key: &Key, task: u64) -> bool {
        let mut state = self.state.lock();
        let ours = state.running.get(key).is_some_and(|r| r.task == task);
        ours && state.running.remove(key).is_some()
    }
}

/// One call's task.
async fn attend(mut under: Under, id: u32, call: Call, ticket: Ticket) {
    let deadline: Duration = call.deadline;
    let result = ticket.attend(call, Delay::new(deadline)).await;
    if id != 0 {
        let answer = under.answer(id, result);
        let to = Arc::clone(&under.key.caller);
        under.port.say_in_turn(to, answer).await;
    }
    under.answered = true;
}

impl Under {
    fn answer(&self, id: u32, result: Result<Reply, CallError>) -> Vec<u8> {
        let written = result.and_then(|reply| {
            let bytes = reply.payload.bytes().map_err(|reason| {
                Failure::new(INTERNAL, reason.to_string()).of(self.seat.service.name(), "")
            })?;
            reply.check(self.seat.limit)?;
            let content_type = reply.payload.content_type();
            Ok(call::reply(id, content_type, &bytes, self.enveloped))
        });
        written.unwrap_or_else(|error| call::error(id, &error, self.enveloped))
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        let known = self.seat.forget(&self.key, self.task);
        // Neither cancelled nor answered: its runtime has ended.
        if known
            && !self.answered
            && let Ok(id) = u32::try_from(self.key.id)
        {
            let gone = call::error(id, &self.seat.gone(), self.enveloped);
            self.port.say(Arc::clone(&self.key.caller), gone);
        }
    }
}
