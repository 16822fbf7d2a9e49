//! Serving: a seat at the handle's own connection, or at one of the service's own.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use eventbus_trait::ConnectError;
use eventbus_trait::rpc::{ServeError, Served, Service, ServiceStats, Serving};
use futures_timer::Delay;
use parking_lot::Mutex;
use tokio::runtime;

use super::handle::first;
use super::port::Port;
use super::seat::Seat;
use crate::home::Home;
use crate::namespace;
use crate::session::node::Node;
use crate::work::Task;

/// How long a connection that has nothing more to say may take to end.
const LEAVE_WITHIN: Duration = Duration::from_secs(3);

/// A service that is served.
pub(crate) struct Post {
    seat: Arc<Seat>,
    port: Arc<Port>,
    /// The connection, if it is the service's own.
    task: Mutex<Option<Task<()>>>,
    own: bool,
}

impl Node {
    pub(crate) async fn serve(&self, home: &Home, service: Service) -> Result<Serving, ServeError> {
        if self.calls.tally.is_closed() {
            return Err(ServeError::Closed);
        }
        let namespace = namespace::of(&self.name);
        service.check(namespace::room(namespace))?;
        let runtime = runtime::Handle::try_current().map_err(|_| ServeError::NoRuntime)?;
        let name = service.name().to_owned();
        let client = namespace::within(name.clone(), namespace);
        let client = client.map_err(|reason| not_served(&name, reason))?;
        let seat = Seat::new(service, runtime, self.limits.max_event_size);
        let post = if *client == *self.name {
            self.serve_here(seat)?
        } else {
            serve_there(home, &client, &name, seat).await?
        };
        self.calls.add(&post);
        let serving = Serving::new(name, OnPost(Arc::clone(&post)));
        if self.calls.tally.is_closed() {
            // It was shut down meanwhile, and may have looked already.
            return Err(ServeError::Closed);
        }
        Ok(serving)
    }

    /// The handle itself has the name that callers use.
    fn serve_here(&self, seat: Arc<Seat>) -> Result<Arc<Post>, ServeError> {
        let port = Arc::clone(&self.calls.port);
        if !port.take_seat(&seat) {
            let service = seat.service.name().to_owned();
            return Err(ServeError::InUse { service });
        }
        Ok(Arc::new(Post {
            seat,
            port,
            task: Mutex::default(),
            own: false,
        }))
    }
}

async fn serve_there(
    home: &Home,
    client: &str,
    service: &str,
    seat: Arc<Seat>,
) -> Result<Arc<Post>, ServeError> {
    if let Some(reason) = home.dialer().not_entitled(client) {
        let service = service.to_owned();
        return Err(ServeError::Denied { service, reason });
    }
    let port = Port::new(client.into());
    port.take_seat(&seat);
    let made = home.serve(client, Arc::clone(&port)).await;
    let task = made.map_err(|reason| not_served(service, reason))?;
    Ok(Arc::new(Post {
        seat,
        port,
        task: Mutex::new(Some(task)),
        own: true,
    }))
}

fn not_served(service: &str, reason: ConnectError) -> ServeError {
    let service = service.to_owned();
    match reason {
        ConnectError::NameInUse { .. } => ServeError::InUse { service },
        ConnectError::LongName { limit, .. } => ServeError::BadName { service, limit },
        ConnectError::Closed => ServeError::Closed,
        other => ServeError::Disconnected {
            service,
            reason: other.to_string(),
        },
    }
}

impl Post {
    pub(super) fn stats(&self) -> ServiceStats {
        self.seat.service.desk().stats()
    }

    /// Takes no more calls.
    pub(super) fn close(&self) {
        self.seat.tally.close();
    }

    /// Waits until no call is under way.
    pub(super) async fn empty(&self) {
        self.seat.tally.empty().await;
    }

    /// Ends it, and the calls under way. Idempotent.
    pub(super) fn end(&self) {
        self.seat.end(&self.port);
        if self.own {
            self.port.stop();
        } else {
            self.port.leave_seat(&self.seat);
        }
    }

    /// Waits until its connection has ended, or ends it.
    pub(super) async fn ended(&self, deadline: Duration) {
        let task = self.task.lock().take();
        let Some(mut task) = task else { return };
        let patience = deadline.max(LEAVE_WITHIN);
        if first(&mut task, Delay::new(patience)).await.is_none() {
            task.stop().await;
        }
    }
}

/// The application's hold on a post.
struct OnPost(Arc<Post>);

#[async_trait]
impl Served for OnPost {
    async fn stop(&self, deadline: Duration) -> bool {
        self.0.close();
        let emptied = first(self.0.empty(), Delay::new(deadline)).await;
        self.0.end();
        self.0.ended(LEAVE_WITHIN).await;
        emptied.is_some()
    }
}

impl Drop for OnPost {
    fn drop(&mut self) {
        self.0.end();
    }
}
