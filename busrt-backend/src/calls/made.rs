//! A call from its caller's side: a future that touches no connection.
//!
//! Invariant: however it ends, also by being dropped, its place in the table of calls is given back,
//! and a callee that was asked is told.

use std::sync::Arc;

use bytes::Bytes;
use eventbus_trait::check_client_name;
use eventbus_trait::rpc::{Call, CallError, NotIn, Reply};
use futures_timer::Delay;
use tokio::sync::oneshot;

use super::handle::first;
use super::port::Port;
use crate::client::Answer;
use crate::namespace;
use crate::session::node::{Gone, Node};

/// A call that has begun, until it ends.
struct Begun<'a> {
    port: &'a Port,
    id: u32,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.port.cancel(self.id);
    }
}

impl Node {
    /// Calls a service, and waits for its reply.
    pub(crate) async fn call(&self, call: Call) -> Result<Reply, CallError> {
        let inside = self.calls.tally.enter().map_err(|reason| match reason {
            NotIn::Full { limit } => CallError::TooManyCalls { limit },
            NotIn::Closed => CallError::Closed,
        })?;
        let made = first(self.make(call), self.calls.tally.over());
        let result = made.await.unwrap_or(Err(CallError::Closed));
        inside.done(result.is_ok());
        result
    }

    async fn make(&self, call: Call) -> Result<Reply, CallError> {
        let bytes: Bytes = call.payload.bytes()?;
        call.check(self.limits.max_event_size)?;
        let (service, deadline) = (call.service.clone(), call.deadline);
        let Some(target) = self.client_of(&service) else {
            return Err(CallError::NoService { service });
        };
        if let Some(Gone::Lost { reason }) = self.gone() {
            return Err(CallError::Disconnected { reason });
        }
        let port = &*self.calls.port;
        let (begun, awaited) = {
            // It may run what this causes once nothing is locked any more.
            let _help = self.tasks.help();
            let (id, awaited) = port.begin(target, call, bytes);
            (Begun { port, id }, awaited)
        };
        let answered = async {
            let reply = awaited.reply;
            match first(reply, refused(awaited.sent, &begun)).await {
                Some(Ok(outcome)) => outcome,
                // Whatever has ended it has said why before.
                Some(Err(_)) | None => Err(CallError::CalleeGone {
                    service: service.clone(),
                }),
            }
        };
        match first(answered, Delay::new(deadline)).await {
            Some(result) => result,
            None => Err(CallError::Deadline { service, deadline }),
        }
    }

    /// The client that serves a name, if there can be one.
    fn client_of(&self, service: &str) -> Option<Arc<str>> {
        check_client_name(service).ok()?;
        let namespace = namespace::of(&self.name);
        let name = namespace::within(service.to_owned(), namespace).ok()?;
        Some(name.into())
    }
}

/// Ends the call if the broker does not pass its request on; otherwise it never ends.
async fn refused(sent: oneshot::Receiver<Option<Answer>>, begun: &Begun<'_>) {
    if let Ok(Some(answer)) = sent.await
        && let Ok(Err(reason)) = answer.await
    {
        begun.port.refused(begun.id, &reason);
    }
    // What it was ended with comes by the other way.
    std::future::pending::<()>().await;
}
