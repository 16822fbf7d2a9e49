//! What goes wrong with a mutant's calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use eventbus_trait::rpc::{Call, CallError, Reply, ServeError, Service, Serving};
use futures_util::FutureExt;
use parking_lot::Mutex;

use super::{Defect, EVERY, FIRST, MutantBus};

/// What a handle remembers of its calls.
#[derive(Debug, Default)]
pub(super) struct Called {
    replies: AtomicU64,
    /// The last reply.
    last: Mutex<Option<Reply>>,
    /// A call has timed out, and its reply is to come.
    late: AtomicBool,
    /// A handler has panicked.
    dead: AtomicBool,
}

impl MutantBus {
    pub(super) async fn serve_inside(&self, service: Service) -> Result<Serving, ServeError> {
        let service = match self.core.defect() {
            Defect::RunsEverything => service.concurrency(1_000).queue(1_000),
            _ => service,
        };
        self.inner.serve(service).await
    }

    pub(super) async fn call_inside(&self, call: Call) -> Result<Reply, CallError> {
        let called = &self.core.called;
        let gone = CallError::CalleeGone {
            service: call.service.clone(),
        };
        match self.core.defect() {
            Defect::LosesCallsInResets if self.strikes_a_call() => std::future::pending().await,
            Defect::RefusesAll => {
                let service = call.service;
                return Err(CallError::Denied { service });
            }
            Defect::Panics => std::panic::resume_unwind(Box::new("on purpose")),
            Defect::Hangs => std::future::pending().await,
            Defect::StripsCalls => {
                let mut call = call;
                call.correlation = None;
                return self.inner.call(call).await;
            }
            Defect::DiesOfPanics if called.dead.load(Ordering::SeqCst) => return Err(gone),
            Defect::KeepsCancelled => {
                let inner = Arc::clone(&self.inner);
                let kept = tokio::spawn(async move { inner.call(call).await });
                return kept.map(|kept| kept.unwrap_or(Err(gone))).await;
            }
            _ => {}
        }
        match self.inner.call(call.clone()).await {
            Ok(reply) => self.replied(reply).await,
            Err(error) => self.failed(&call, error).await,
        }
    }

    fn strikes_a_call(&self) -> bool {
        self.core.shared.calls_armed.swap(false, Ordering::SeqCst)
    }

    fn was_killed(&self) -> bool {
        self.core.shared.calls_armed.load(Ordering::SeqCst)
    }

    async fn replied(&self, reply: Reply) -> Result<Reply, CallError> {
        let called = &self.core.called;
        let number = called.replies.fetch_add(1, Ordering::SeqCst) + 1;
        let strikes = number % EVERY == FIRST;
        match self.core.defect() {
            Defect::LosesReplies if strikes => std::future::pending().await,
            Defect::SwapsReplies => {
                let last = called.last.lock().replace(reply.clone());
                Ok(last.filter(|_| strikes).unwrap_or(reply))
            }
            Defect::DeliversLate if called.late.swap(false, Ordering::SeqCst) => {
                Ok(Reply::new("late"))
            }
            _ => Ok(reply),
        }
    }

    async fn failed(&self, call: &Call, error: CallError) -> Result<Reply, CallError> {
        let called = &self.core.called;
        let service = call.service.clone();
        Err(match (self.core.defect(), error) {
            (Defect::DeliversLate, error @ CallError::Deadline { .. }) => {
                called.late.store(true, Ordering::SeqCst);
                error
            }
            (Defect::DeniesTimeouts, CallError::Deadline { .. }) => {
                CallError::Busy { service, limit: 0 }
            }
            (Defect::WaitsForNobody, CallError::NoService { .. }) => {
                tokio::time::timeout(call.deadline, std::future::pending::<()>())
                    .await
                    .unwrap_or_default();
                let deadline = call.deadline;
                CallError::Deadline { service, deadline }
            }
            (Defect::MixesUnknown, CallError::NoMethod { .. }) => CallError::NoService { service },
            (Defect::DiesOfPanics, error @ CallError::Panicked { .. }) => {
                called.dead.store(true, Ordering::SeqCst);
                error
            }
            (Defect::OutlivesTheKilled, CallError::CalleeGone { .. }) if self.was_killed() => {
                std::future::pending().await
            }
            (Defect::OutlivesCallees, CallError::CalleeGone { .. }) => std::future::pending().await,
            (_, error) => error,
        })
    }
}
