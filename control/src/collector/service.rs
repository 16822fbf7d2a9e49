//! The six operations as methods of a service.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Asked;
use super::books::{Change, value};
use super::keeper::{Answer, Order, Stop, draining};
use super::problem::Problem;
use super::status::Shared;
use super::wire::{
    Capabilities, Empty, GET_CAPABILITIES, HEALTH_CHECK, OPERATIONS, SHUTDOWN, START_COLLECTION,
    STOP_COLLECTION, Shutdown, ShutdownReply, StartCollection, UPDATE_CONFIG, request,
};
use eventbus_trait::rpc::{Call, Failure, Handler, Reply};

/// Answers calls.
#[derive(Clone)]
pub(super) struct Operations {
    pub(super) shared: Arc<Shared>,
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) stops: mpsc::Sender<Stop>,
}

#[async_trait]
impl Handler for Operations {
    async fn handle(&self, call: Call) -> Result<Reply, Failure> {
        let limit = self.shared.options.max_request;
        let reply = match &*call.method {
            HEALTH_CHECK => {
                request::<Empty>(&call, limit)?;
                value(&self.shared.report().await)
            }
            GET_CAPABILITIES => {
                request::<Empty>(&call, limit)?;
                value(&self.capabilities().await)
            }
            START_COLLECTION => {
                let start: StartCollection = request(&call, limit)?;
                self.order(&call, Change::Start(start.options)).await?
            }
            STOP_COLLECTION => {
                request::<Empty>(&call, limit)?;
                self.order(&call, Change::Stop).await?
            }
            UPDATE_CONFIG => {
                let change = Change::Configure(request(&call, limit)?);
                self.order(&call, change).await?
            }
            SHUTDOWN => {
                let asked: Shutdown = request(&call, limit)?;
                value(&self.shutdown(&call, &asked).await?)
            }
            _ => return Err(Failure::NoMethod),
        };
        Ok(Reply::json(&reply)?)
    }

    fn has(&self, method: &str) -> bool {
        OPERATIONS.contains(&method)
    }
}

impl Operations {
    async fn capabilities(&self) -> Capabilities {
        Capabilities {
            identity: self.shared.identity.clone(),
            operations: OPERATIONS.map(str::to_owned).to_vec(),
            details: self.shared.collector.get_capabilities().await,
        }
    }

    async fn order(&self, call: &Call, change: Change) -> Result<Value, Failure> {
        if self.shared.is_draining() {
            return Err(draining());
        }
        let (answer, answered) = oneshot::channel();
        let order = Order {
            change,
            asked: Asked::by(call),
            answer,
        };
        self.orders.try_send(order).map_err(|full| match full {
            mpsc::error::TrySendError::Full(_) => {
                let waiting = self.orders.max_capacity();
                Problem::Busy.failure(format!("{waiting} operations wait; try again later"))
            }
            mpsc::error::TrySendError::Closed(_) => draining(),
        })?;
        match answered.await {
            Ok(Answer::Reply(reply)) => Ok(reply),
            Ok(Answer::Failure(failure)) => Err(failure),
            // The service tells its caller so, as of any handler that panics.
            Ok(Answer::Panicked) => std::panic::resume_unwind(Box::new("the collector panicked")),
            Err(_) => Err(draining()),
        }
    }

    async fn shutdown(&self, call: &Call, asked: &Shutdown) -> Result<ShutdownReply, Failure> {
        let instance = &self.shared.identity.instance;
        if asked
            .instance
            .as_ref()
            .is_some_and(|meant| meant != instance)
        {
            let text = format!("this is instance {instance}, and another one is meant");
            return Err(Problem::Conflict.failure(text));
        }
        let longest = self.shared.options.shutdown_limit;
        let deadline = match asked.deadline_ms {
            Some(millis) => Duration::from_millis(millis),
            // So that the caller still gets the answer.
            None => longest.min(call.deadline / 10 * 9),
        };
        self.stop(deadline).await.ok_or_else(draining)
    }

    /// Shuts the member down, by `deadline` or the member's own limit; `None` if it is gone.
    pub(super) async fn stop(&self, deadline: Duration) -> Option<ShutdownReply> {
        let (answer, answered) = oneshot::channel();
        let by = Instant::now() + deadline.min(self.shared.options.shutdown_limit);
        self.stops.send(Stop { by, answer }).await.ok()?;
        answered.await.ok()
    }
}
