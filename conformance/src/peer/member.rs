//! A member in another process.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use control::collector::{Host, Options, TasksOnly, serve_collector};
use control::member::Identity;
use control::tasks::worker::{TaskFailure, TaskHandler, Work};
use eventbus_trait::{EventBus, Payload};

use super::CAPABILITY;

/// So that its end is noticed soon.
const INTERVAL: Duration = Duration::from_millis(50);

/// Is the member of this name while this is kept.
pub(super) async fn serve(bus: &Arc<dyn EventBus>, name: &str) -> Result<Host, String> {
    let identity = Identity::new(name, "peer")
        .capability(CAPABILITY)
        .max_tasks(1);
    let peer = TasksOnly(Arc::new(Peer(name.to_owned())));
    let options = Options {
        interval: INTERVAL,
        ..Options::default()
    };
    let host = serve_collector(Arc::clone(bus), identity, peer, options).await;
    host.map_err(|error| error.to_string())
}

struct Peer(String);

#[async_trait]
impl TaskHandler for Peer {
    async fn run(&self, work: Work) -> Result<Payload, TaskFailure> {
        if *work.decode_json::<String>()? == self.0 {
            std::future::pending::<()>().await;
        }
        Ok(Payload::raw(self.0.clone()))
    }
}
