//! A connection's calls that have not ended.
//!
//! Invariant: a call is in the table until it ends, and ends by being taken out: so it ends once.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use eventbus_trait::ContentType;
use eventbus_trait::rpc::{Call, CallError, Reply};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::client::Answer;
use crate::wire::call::{Asked, Context};

pub(super) type Outcome = Result<Reply, CallError>;

/// What the caller's future waits for.
pub(super) struct Awaited {
    pub(super) reply: oneshot::Receiver<Outcome>,
    /// The broker's answer to the request, once it was sent.
    pub(super) sent: oneshot::Receiver<Option<Answer>>,
}

/// A request that has not been sent.
pub(super) struct Unsent {
    call: Call,
    bytes: Bytes,
    begun: Instant,
    sent: oneshot::Sender<Option<Answer>>,
}

struct Entry {
    target: Arc<str>,
    asked: Asked,
    reply: oneshot::Sender<Outcome>,
    unsent: Option<Unsent>,
    /// When it was sent.
    at: Option<Instant>,
}

/// A request on its way to its client.
pub(super) struct Request {
    pub(super) target: Arc<str>,
    pub(super) context: Vec<u8>,
    pub(super) request: Vec<u8>,
    pub(super) sent: oneshot::Sender<Option<Answer>>,
}

#[derive(Default)]
pub(super) struct Pending {
    calls: HashMap<u32, Entry>,
    /// Numbers begin anywhere: a reply to an earlier life of this client is for none of this one.
    last: u32,
}

impl Pending {
    pub(super) fn new() -> Self {
        let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
        #[allow(clippy::cast_possible_truncation, reason = "any number will do")]
        let last = random as u32;
        Self {
            calls: HashMap::new(),
            last,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Begins a call of the client `target`.
    pub(super) fn begin(&mut self, target: Arc<str>, call: Call, bytes: Bytes) -> (u32, Awaited) {
        // 0 says that nobody waits for an answer.
        let free = |id: u32| id != 0 && !self.calls.contains_key(&id);
        let mut id = self.last.wrapping_add(1);
        while !free(id) {
            id = id.wrapping_add(1);
        }
        self.last = id;
        let (reply, replied) = oneshot::channel();
        let (sent, was_sent) = oneshot::channel();
        let asked = Asked {
            service: call.service.clone(),
            method: call.method.clone(),
            deadline: call.deadline,
        };
        let unsent = Unsent {
            call,
            bytes,
            begun: Instant::now(),
            sent,
        };
        let entry = Entry {
            target,
            asked,
            reply,
            unsent: Some(unsent),
            at: None,
        };
        self.calls.insert(id, entry);
        let awaited = Awaited {
            reply: replied,
            sent: was_sent,
        };
        (id, awaited)
    }

    /// The request of a call that has not ended meanwhile.
    pub(super) fn request(&mut self, id: u32, now: Instant) -> Option<Request> {
        let entry = self.calls.get_mut(&id)?;
        let Unsent {
            call,
            bytes,
            begun,
            sent,
        } = entry.unsent.take()?;
        entry.at = Some(now);
        let context = Context {
            id,
            left: call.deadline.saturating_sub(now.duration_since(begun)),
            idempotent: call.idempotent,
            content_type: call.payload.content_type().clone(),
            correlation: call.correlation,
        };
        Some(Request {
            target: Arc::clone(&entry.target),
            context: context.write(),
            request: crate::wire::call::request(id, &call.method, &bytes),
            sent,
        })
    }

    /// Ends a call that nobody waits for any more, if it has not ended.
    pub(super) fn cancel(&mut self, id: u32) -> Option<Cancelled> {
        let entry = self.calls.remove(&id)?;
        Some(match entry.at {
            Some(_) => Cancelled::Sent(entry.target),
            None => Cancelled::Queued,
        })
    }

    /// Ends a call with what its callee says; whether it was under way, with that client.
    pub(super) fn answer(&mut self, id: u32, sender: &str, outcome: Said) -> Result<(), Stray> {
        let entry = self.calls.get(&id).ok_or(Stray::Late)?;
        if *entry.target != *sender || entry.at.is_none() {
            return Err(Stray::Forged);
        }
        if let Some(entry) = self.calls.remove(&id) {
            let outcome = match outcome {
                Said::Reply(content_type, payload) => {
                    let payload = eventbus_trait::Payload::new(payload, content_type);
                    Ok(Reply::new(payload))
                }
                Said::Error(code, payload) => {
                    Err(crate::wire::call::error_of(code, &payload, entry.asked))
                }
            };
            // Whoever has called may be about to notice that it does not wait any more.
            let _ = entry.reply.send(outcome);
        }
        Ok(())
    }

    /// Ends a call with an error that is made of the service's name.
    pub(super) fn fail(&mut self, id: u32, error: impl FnOnce(String) -> CallError) {
        if let Some(entry) = self.calls.remove(&id) {
            let _ = entry.reply.send(Err(error(entry.asked.service)));
        }
    }

    /// Ends all calls that were sent, or `all`: their connection is gone.
    pub(super) fn lose(&mut self, reason: &str, all: bool) {
        let lost = self
            .calls
            .iter()
            .filter(|(_, entry)| all || entry.at.is_some());
        let lost: Vec<u32> = lost.map(|(id, _)| *id).collect();
        for id in lost {
            let reason = reason.to_owned();
            self.fail(id, |_| CallError::Disconnected { reason });
        }
    }

    /// Calls that were sent before a moment, with whom they are for.
    pub(super) fn sent_before(&self, moment: Instant) -> impl Iterator<Item = (u32, Arc<str>)> {
        let sent = move |entry: &Entry| entry.at.is_some_and(|at| at <= moment);
        let calls = self.calls.iter().filter(move |(_, entry)| sent(entry));
        calls.map(|(id, entry)| (*id, Arc::clone(&entry.target)))
    }
}

/// A call that was given up.
pub(super) enum Cancelled {
    /// This client has its request.
    Sent(Arc<str>),
    /// Its request is still to be sent.
    Queued,
}

/// What a callee says.
pub(super) enum Said {
    Reply(ContentType, Bytes),
    Error(i16, Bytes),
}

/// An answer that nobody takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stray {
    /// Its call has ended.
    Late,
    /// It is not from whom was asked.
    Forged,
}
