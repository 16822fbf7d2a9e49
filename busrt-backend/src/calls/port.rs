//! One connection's part in calls: what is to be sent, what is waited for, and what it serves.
//!
//! Whoever is at either end of a call may vanish without a word. So while calls are under way, their
//! clients are asked after: the broker says at once that a name is gone, and a callee that knows
//! nothing of a call says so. An error that is sent for a call that has just been answered comes behind
//! the answer, and is for nobody.
//!
//! Invariant: what is queued goes out in its order, requests behind their context; what was queued for
//! a connection that is gone is forgotten, but for requests that were never sent.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use busrt::{Error, ErrorKind};
use bytes::Bytes;
use eventbus_trait::rpc::{Call, CallError};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::contexts::{Contexts, LARGEST};
use super::pending::{Awaited, Cancelled, Pending, Request, Said, Stray};
use super::seat::{self, Seat};
use crate::client::Answer;
use crate::transport::Client;
use crate::wire::call::{self, CallFrame, Context};

/// How often clients with calls under way are asked after.
pub(crate) const ASK_EVERY: Duration = Duration::from_millis(250);
/// Calls asked after in one message.
const ASKED_AT_ONCE: usize = 4_096;
/// Bytes queued beyond which replies wait.
const ROOM: usize = 8 << 20;
/// Messages queued beyond which nothing is said that can go unsaid.
const MOST: usize = 16_384;

pub(crate) struct Port {
    /// This client's name on the broker.
    name: Arc<str>,
    out: Mutex<Out>,
    pending: Mutex<Pending>,
    seat: Mutex<Option<Arc<Seat>>>,
    questions: Mutex<Vec<Question>>,
    contexts: Mutex<Contexts>,
    stopping: AtomicBool,
    /// Told when there is something to send.
    pub(crate) wake: Notify,
    /// Told when there is room again.
    room: Notify,
}

#[derive(Default)]
struct Out {
    queue: VecDeque<Outgoing>,
    bytes: usize,
}

enum Outgoing {
    /// The request of a call, if that has not ended.
    Request(u32),
    Message(Arc<str>, Vec<u8>),
}

/// Whether a client is there: asked, and not answered yet.
struct Question {
    client: Arc<str>,
    /// Calls of ours that end if it is not.
    calls: Vec<u32>,
    answer: Answer,
}

impl Port {
    pub(crate) fn new(name: Arc<str>) -> Arc<Self> {
        Arc::new(Self {
            name,
            out: Mutex::default(),
            pending: Mutex::new(Pending::new()),
            seat: Mutex::default(),
            questions: Mutex::default(),
            contexts: Mutex::default(),
            stopping: AtomicBool::new(false),
            wake: Notify::new(),
            room: Notify::new(),
        })
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Serves here; whether nothing else is.
    pub(super) fn take_seat(&self, seat: &Arc<Seat>) -> bool {
        let mut place = self.seat.lock();
        if place.is_some() {
            return false;
        }
        *place = Some(Arc::clone(seat));
        true
    }

    /// Serves here no more.
    pub(super) fn leave_seat(&self, seat: &Arc<Seat>) {
        let mut place = self.seat.lock();
        if place.as_ref().is_some_and(|sits| Arc::ptr_eq(sits, seat)) {
            *place = None;
        }
    }

    fn seat(&self) -> Option<Arc<Seat>> {
        self.seat.lock().clone()
    }

    pub(super) fn begin(&self, target: Arc<str>, call: Call, bytes: Bytes) -> (u32, Awaited) {
        let (id, awaited) = self.pending.lock().begin(target, call, bytes);
        self.out.lock().queue.push_back(Outgoing::Request(id));
        self.wake.notify_one();
        (id, awaited)
    }

    /// The call's future was dropped, or has ended by itself.
    pub(super) fn cancel(&self, id: u32) {
        let told = self.pending.lock().cancel(id);
        match told {
            None => {}
            Some(Cancelled::Sent(target)) => self.say(target, call::cancel(id)),
            // It is not to stay there while nobody sends.
            Some(Cancelled::Queued) => {
                let mut out = self.out.lock();
                out.queue
                    .retain(|out| !matches!(out, Outgoing::Request(other) if *other == id));
            }
        }
    }

    /// Queues a message that can go unsaid when there are very many.
    pub(super) fn say(&self, to: Arc<str>, message: Vec<u8>) {
        {
            let mut out = self.out.lock();
            if out.queue.len() >= MOST {
                debug!(client = %self.name, %to, "left unsaid");
                return;
            }
            out.put(to, message);
        }
        self.wake.notify_one();
    }

    /// Queues a message once there is room.
    pub(super) async fn say_in_turn(&self, to: Arc<str>, message: Vec<u8>) {
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            {
                let mut out = self.out.lock();
                if out.bytes < ROOM {
                    out.put(to, message);
                    break;
                }
            }
            room.await;
        }
        self.wake.notify_one();
    }

    /// Whether there is anybody to ask after.
    pub(crate) fn is_busy(&self) -> bool {
        let seat = self.seat();
        !self.pending.lock().is_empty() || seat.is_some_and(|seat| seat.is_busy())
    }

    /// Nothing more is to be begun here: its connection ends once everything is said.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// There will be no connection any more.
    pub(crate) fn lose(&self, reason: &str) {
        self.offline(reason);
        self.pending.lock().lose(reason, true);
        self.out.lock().queue.clear();
    }

    pub(super) fn has_said_all(&self) -> bool {
        self.out.lock().queue.is_empty()
    }

    /// Sends everything that is queued.
    ///
    /// # Errors
    /// The connection has ended.
    pub(crate) async fn send_all(&self, client: &mut Client) -> Result<(), Error> {
        loop {
            let next = self.out.lock().take();
            match next {
                None => return Ok(()),
                Some(Outgoing::Message(to, message)) => {
                    send(client, &to, message, false).await?;
                    self.room.notify_waiters();
                }
                Some(Outgoing::Request(id)) => {
                    let request = self.pending.lock().request(id, Instant::now());
                    if let Some(request) = request {
                        self.send_request(client, id, request).await?;
                    }
                }
            }
        }
    }

    async fn send_request(
        &self,
        client: &mut Client,
        id: u32,
        request: Request,
    ) -> Result<(), Error> {
        let target = request.target;
        let sent = match send(client, &target, request.context, false).await? {
            Sent::Gone => Sent::Gone,
            Sent::To(_) => send(client, &target, request.request, true).await?,
        };
        match sent {
            // The caller may have gone.
            Sent::To(answer) => drop(request.sent.send(answer)),
            Sent::Gone => self.no_service(id),
        }
        Ok(())
    }

    fn no_service(&self, id: u32) {
        let error = |service| CallError::NoService { service };
        self.pending.lock().fail(id, error);
    }

    /// The broker did not pass a request on.
    pub(super) fn refused(&self, id: u32, reason: &Error) {
        self.pending.lock().fail(id, |service| match reason.kind() {
            ErrorKind::NotRegistered => CallError::NoService { service },
            ErrorKind::Access => CallError::Denied { service },
            // A stock broker says so of a client that it is just letting go of. The connection stands.
            ErrorKind::Other | ErrorKind::NotDelivered => CallError::CalleeGone { service },
            _ => CallError::Disconnected {
                reason: reason.to_string(),
            },
        });
    }

    /// Takes a message that is part of a call; whether it was.
    pub(crate) fn on_message(self: &Arc<Self>, sender: &str, payload: &Bytes) -> bool {
        let frame = match CallFrame::read(payload) {
            Ok(None) => return false,
            Ok(Some(frame)) => frame,
            Err(reason) => {
                warn!(client = %self.name, sender, %reason, "unreadable call");
                return true;
            }
        };
        match frame {
            CallFrame::Notification => {}
            CallFrame::Reply {
                id,
                content_type,
                payload,
            } => self.on_answer(sender, id, Said::Reply(content_type, payload)),
            CallFrame::Error { id, code, payload } => {
                self.on_answer(sender, id, Said::Error(code, payload));
            }
            CallFrame::Context(context) => self.on_context(sender, context, payload.len()),
            CallFrame::Cancel { id } => {
                if let Some(seat) = self.seat() {
                    seat.cancel(sender, id);
                }
            }
            CallFrame::Ask { ids } => match self.seat() {
                Some(seat) => seat.on_ask(self, sender, &ids),
                None => self.knows_none(sender, &ids),
            },
            CallFrame::Request {
                id,
                method,
                payload,
            } => {
                let context = self.contexts.lock().take(sender);
                let request = seat::Request {
                    sender,
                    id,
                    method,
                    payload,
                    context: context.filter(|context| context.id == id),
                };
                match self.seat() {
                    Some(seat) => seat.on_request(self, request),
                    None => self.serves_nothing(&request),
                }
            }
        }
        true
    }

    fn on_context(&self, sender: &str, context: Context, size: usize) {
        let kept = self.contexts.lock().put(sender, context, size);
        if let Err(so_far) = kept {
            let limit = LARGEST;
            warn!(client = %self.name, sender, size, limit, so_far, "call without its correlation");
        }
    }

    fn on_answer(&self, sender: &str, id: u32, said: Said) {
        match self.pending.lock().answer(id, sender, said) {
            Ok(()) => {}
            Err(Stray::Late) => debug!(client = %self.name, sender, id, "late reply"),
            Err(Stray::Forged) => {
                warn!(client = %self.name, sender, id, "reply of somebody who was not asked");
            }
        }
    }

    fn serves_nothing(&self, request: &seat::Request<'_>) {
        let error = CallError::NoService {
            service: self.name.to_string(),
        };
        if request.id != 0 {
            let enveloped = request.context.is_some();
            let error = call::error(request.id, &error, enveloped);
            self.say(request.sender.into(), error);
        }
    }

    fn knows_none(&self, sender: &str, ids: &[u32]) {
        let gone = CallError::CalleeGone {
            service: self.name.to_string(),
        };
        for id in ids {
            self.say(sender.into(), call::error(*id, &gone, true));
        }
    }

    /// Asks after everybody with whom calls are under way, and ends those whose client is gone.
    ///
    /// # Errors
    /// The connection has ended.
    pub(crate) async fn ask(&self, client: &mut Client, now: Instant) -> Result<(), Error> {
        self.hear_answers();
        let old = now.checked_sub(ASK_EVERY);
        let mut calls: HashMap<Arc<str>, Vec<u32>> = HashMap::new();
        if let Some(old) = old {
            for (id, target) in self.pending.lock().sent_before(old) {
                calls.entry(target).or_default().push(id);
            }
        }
        let callers = self.seat().map(|seat| seat.callers()).unwrap_or_default();
        let asked: HashSet<Arc<str>> = {
            let questions = self.questions.lock();
            questions.iter().map(|q| Arc::clone(&q.client)).collect()
        };
        let callers = callers.into_iter().map(|caller| (caller, Vec::new()));
        for (to, ids) in calls.into_iter().chain(callers) {
            if asked.contains(&to) {
                continue;
            }
            let mut chunks: Vec<&[u32]> = ids.chunks(ASKED_AT_ONCE).collect();
            if chunks.is_empty() {
                chunks.push(&[]);
            }
            for ids in chunks {
                match send(client, &to, call::ask(ids), true).await? {
                    Sent::Gone => self.is_gone(&to, ids),
                    Sent::To(None) => {}
                    Sent::To(Some(answer)) => self.questions.lock().push(Question {
                        client: Arc::clone(&to),
                        calls: ids.to_vec(),
                        answer,
                    }),
                }
            }
        }
        Ok(())
    }

    fn hear_answers(&self) {
        let mut gone = Vec::new();
        self.questions.lock().retain_mut(|question| {
            match question.answer.try_recv() {
                Err(tokio::sync::oneshot::error::TryRecvError::Empty) => return true,
                Ok(Err(reason)) if reason.kind() == ErrorKind::NotRegistered => {
                    let calls = std::mem::take(&mut question.calls);
                    gone.push((Arc::clone(&question.client), calls));
                }
                // It is there, or we may not ask, or the connection has ended.
                _ => {}
            }
            false
        });
        for (client, calls) in gone {
            self.is_gone(&client, &calls);
        }
    }

    fn is_gone(&self, client: &Arc<str>, calls: &[u32]) {
        debug!(client = %self.name, peer = %client, calls = calls.len(), "gone in the middle of calls");
        {
            let mut pending = self.pending.lock();
            for id in calls {
                pending.fail(*id, |service| CallError::CalleeGone { service });
            }
        }
        if let Some(seat) = self.seat() {
            seat.caller_gone(client);
        }
    }

    /// The connection is gone, and another one may come.
    pub(crate) fn offline(&self, reason: &str) {
        self.pending.lock().lose(reason, false);
        {
            let mut out = self.out.lock();
            out.queue.retain(|out| matches!(out, Outgoing::Request(_)));
            out.bytes = 0;
        }
        self.questions.lock().clear();
        self.contexts.lock().clear();
        self.room.notify_waiters();
        if let Some(seat) = self.seat() {
            seat.disconnected();
        }
    }
}

impl Out {
    fn put(&mut self, to: Arc<str>, message: Vec<u8>) {
        self.bytes += message.len();
        self.queue.push_back(Outgoing::Message(to, message));
    }

    fn take(&mut self) -> Option<Outgoing> {
        let next = self.queue.pop_front();
        if let Some(Outgoing::Message(_, message)) = &next {
            self.bytes -= message.len();
        }
        next
    }
}

/// What came of a message.
enum Sent {
    To(Option<Answer>),
    Gone,
}

async fn send(
    client: &mut Client,
    to: &str,
    message: Vec<u8>,
    want_answer: bool,
) -> Result<Sent, Error> {
    match client.send(to, message, want_answer).await {
        Ok(answer) => Ok(Sent::To(answer)),
        Err(e) if client.is_in_process() && is_gone(e.kind()) => Ok(Sent::Gone),
        Err(e) => Err(e),
    }
}

/// In process, a client that is about to go has closed its end already.
fn is_gone(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotRegistered | ErrorKind::Eof)
}

#[cfg(test)]
mod tests {
    use eventbus_trait::{ContentType, Correlation};

    use super::*;

    #[test]
    fn what_a_caller_says_ahead_of_its_request_is_bounded() {
        let port = Port::new("c".into());
        let said = |sender: &str, root: String| {
            let context = Context {
                id: 1,
                left: ASK_EVERY,
                idempotent: false,
                content_type: ContentType::Json,
                correlation: Some(Correlation::new(root)),
            };
            assert!(port.on_message(sender, &Bytes::from(context.write())));
        };
        said("first", "a".to_owned());
        for sender in 0..4_096 {
            said(&sender.to_string(), "a".to_owned());
        }
        said("large", "a".repeat(100 << 10));
        let kept = |sender| port.contexts.lock().take(sender);
        assert!(kept("large").is_some_and(|context| context.correlation.is_none()));
        assert!(kept("4095").is_some_and(|context| context.correlation.is_some()));
        assert_eq!((kept("first"), kept("0")), (None, None));
    }

    #[test]
    fn what_the_broker_answers_is_no_lost_connection() {
        let service = || "s".to_owned();
        for (kind, error) in [
            (
                ErrorKind::NotRegistered,
                CallError::NoService { service: service() },
            ),
            (ErrorKind::Access, CallError::Denied { service: service() }),
            (
                ErrorKind::Other,
                CallError::CalleeGone { service: service() },
            ),
        ] {
            let port = Port::new("c".into());
            let call = Call::new("s", "m", "");
            let (id, mut awaited) = port.begin("s".into(), call, Bytes::new());
            port.refused(id, &Error::new(kind, None::<&str>));
            assert_eq!(awaited.reply.try_recv(), Ok(Err(error)));
        }
    }
}
