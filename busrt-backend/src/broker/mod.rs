//! The embedded broker: busrt's, on a runtime of its own, with a front door and a directory.
//!
//! busrt's broker goes on serving its clients after it was dropped, and nothing says when a
//! connection has ended. On a runtime of its own, ending the runtime ends everything: shutdown is
//! real. The listener is ours (see [`listener`]), and so is the directory, which knows the
//! sessions on the broker and tells them when one is gone (see [`directory`]).

mod directory;
mod listener;
mod socket;

pub(crate) use directory::DIRECTORY;
pub use socket::SocketError;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::Mutex;

/// Frames that the broker queues for one client. Credit keeps what is in flight far below it.
const QUEUE_FRAMES: usize = 65_536;

/// A broker inside this process.
pub(crate) struct EmbeddedBroker {
    broker: Arc<Mutex<busrt::broker::Broker>>,
    socket: Option<socket::OwnedSocket>,
    runtime: Option<Runtime>,
}

/// What a broker is told at its start.
#[derive(Debug, Clone)]
pub(crate) struct BrokerOptions {
    /// Where to listen, if anywhere.
    pub(crate) socket: Option<PathBuf>,
    /// A client that sends nothing for 1.25 times this long is dropped.
    pub(crate) keepalive: Duration,
    /// Most sessions.
    pub(crate) max_connections: usize,
}

/// Whether to be the broker.
pub(crate) enum Claim {
    /// This process holds the socket's lock: it is the broker.
    Ours(socket::SocketLock),
    /// Another process is.
    Theirs,
}

/// Finds out who is the broker at `path`.
pub(crate) fn claim(path: &Path) -> Result<Claim, SocketError> {
    socket::claim(path)
}

impl EmbeddedBroker {
    /// Starts a broker. `lock` goes with `options.socket`.
    pub(crate) async fn start(
        options: BrokerOptions,
        lock: Option<socket::SocketLock>,
    ) -> Result<Self, SocketError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("eventbus-broker")
            .enable_all()
            .build()
            .map_err(|e| SocketError::Runtime {
                reason: e.to_string(),
            })?;
        let mut broker = busrt::broker::Broker::new();
        broker.set_queue_size(QUEUE_FRAMES);
        let broker = Arc::new(Mutex::new(broker));
        let mut this = Self {
            broker,
            socket: None,
            runtime: Some(runtime),
        };
        this.serve(options, lock).await?;
        Ok(this)
    }

    async fn serve(
        &mut self,
        options: BrokerOptions,
        lock: Option<socket::SocketLock>,
    ) -> Result<(), SocketError> {
        let Some(runtime) = &self.runtime else {
            return Ok(());
        };
        let client = {
            let broker = self.broker.lock().await;
            broker.register_client(DIRECTORY).await
        }
        .map_err(|e| SocketError::Runtime {
            reason: e.to_string(),
        })?;
        runtime.spawn(directory::run(client, options.max_connections));
        if let (Some(path), Some(lock)) = (&options.socket, lock) {
            let (listener, socket) = {
                let _context = runtime.enter();
                socket::bind(path, lock)?
            };
            self.socket = Some(socket);
            let config = busrt::broker::ServerConfig::new()
                .timeout(options.keepalive)
                .buf_size(crate::transport::BUFFER_BYTES);
            runtime.spawn(listener::run(listener, Arc::clone(&self.broker), config));
        }
        Ok(())
    }

    /// A client inside this process.
    pub(crate) async fn register(&self, name: &str) -> Result<busrt::broker::Client, busrt::Error> {
        self.broker.lock().await.register_client(name).await
    }

    /// Ends the broker and waits until its threads have ended and its socket is gone.
    pub(crate) async fn stop(mut self) {
        self.socket.take();
        if let Some(runtime) = self.runtime.take() {
            crate::runtime::stop(runtime).await;
        }
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        self.socket.take();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for EmbeddedBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedBroker")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}
