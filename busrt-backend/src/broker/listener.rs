//! The UNIX front door: who may come in.
//!
//! busrt's own server removes whatever is at its path and asks nobody who they are; this one
//! accepts, looks at the peer's user, and hands the connection over.

use std::sync::Arc;
use std::time::Duration;

use busrt::broker::{Broker, ServerConfig};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::{debug, error, warn};

/// How long to wait after an accept that failed, so that running out of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn run(listener: UnixListener, broker: Arc<Mutex<Broker>>, config: ServerConfig) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => admit(stream, &broker, &config).await,
            Err(reason) => {
                error!(%reason, "accept failed");
                // A deadline on nothing: the pause.
                let _ = timeout(ACCEPT_PAUSE, std::future::pending::<()>()).await;
            }
        }
    }
}

async fn admit(stream: UnixStream, broker: &Mutex<Broker>, config: &ServerConfig) {
    let own = rustix::process::geteuid().as_raw();
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == own => {
            debug!(pid = ?peer.pid(), "connection accepted");
            let mut broker = broker.lock().await;
            if let Err(reason) = broker.spawn_server_connection(stream, config.clone()) {
                error!(%reason, "connection not served");
            }
        }
        Ok(peer) => warn!(uid = peer.uid(), pid = ?peer.pid(), "peer of another user refused"),
        Err(reason) => warn!(%reason, "peer without credentials refused"),
    }
}
