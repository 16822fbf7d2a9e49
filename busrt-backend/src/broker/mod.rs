//! The broker: busrt's, on a runtime of its own, with a front door and a directory.
//!
//! busrt's broker goes on serving its clients after it was dropped, and nothing says when a
//! connection has ended. On a runtime of its own, ending the runtime ends everything: shutdown is
//! real. The listeners are ours (see `listener`), and so is the directory, which knows the
//! sessions on the broker and tells them when one is gone (see `directory`).

mod acl;
mod asked;
mod backlog;
mod bucket;
mod directory;
mod door;
mod down;
mod end;
pub(crate) mod fuzzing;
mod handshake;
mod listener;
mod names;
mod operation;
mod options;
mod rights;
mod screen;
mod socket;
mod stats;
mod subscribed;
#[cfg(feature = "tcp")]
mod tcp;
mod up;

pub use acl::{Acl, AclRule};
pub(crate) use directory::DIRECTORY;
pub(crate) use handshake::ERR_NO_ROOM;
pub use options::{BrokerError, BrokerOptions, Listener, RateLimit};
pub use socket::{SocketError, examine};
pub use stats::{BrokerStats, Monitor};
#[cfg(feature = "tcp")]
pub use tcp::why_no_port;

use std::fmt;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::runtime::{Handle, Runtime};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval};

use crate::options::Address;
use door::Door;
use socket::{OwnedSocket, SocketLock};
use stats::Counters;

/// How often a broker that is stopping looks whether anything still moves.
const LOOK: Duration = Duration::from_millis(10);
/// How often in a row nothing may have moved before it is taken for quiet.
const QUIET_LOOKS: u32 = 3;
/// Descriptors that have to be there to start: busrt's timers take three, and others may be quicker.
const SPARE: usize = 8;

/// A broker inside this process. Dropping it ends it.
pub struct Broker {
    broker: Arc<Mutex<busrt::broker::Broker>>,
    counters: Arc<Counters>,
    addresses: Vec<Address>,
    accepting: Vec<JoinHandle<()>>,
    sockets: Vec<OwnedSocket>,
    grace: Duration,
    runtime: Option<Runtime>,
}

/// The right to listen somewhere.
enum Claim {
    Unix {
        path: PathBuf,
        lock: SocketLock,
    },
    #[cfg(feature = "tcp")]
    Tcp {
        listener: Box<tcp::Bound>,
        address: Address,
    },
}

fn claim(listener: &Listener) -> Result<Claim, BrokerError> {
    match listener {
        Listener::Unix(path) => Ok(Claim::Unix {
            path: path.clone(),
            lock: socket::claim(path)?,
        }),
        #[cfg(feature = "tcp")]
        Listener::Tcp { address, tls } => {
            let (listener, bound) = tcp::Bound::new(*address, tls)?;
            let address = Address::Tcp {
                host: bound.ip().to_string(),
                port: bound.port(),
                tls: tls.clone(),
            };
            Ok(Claim::Tcp {
                listener: Box::new(listener),
                address,
            })
        }
    }
}

impl Broker {
    /// Starts a broker on threads of its own; when it returns, all its listeners listen.
    ///
    /// # Errors
    /// [`BrokerError`]: a listener's address cannot be had, or the system gives no threads or no
    /// descriptors. No listener is left behind; the thread of busrt's timers, which the first broker
    /// of a process starts, stays for good.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// use busrt_backend::broker::{Broker, BrokerOptions, Listener};
    /// # let dir = tempfile::tempdir().unwrap();
    /// let mut options = BrokerOptions::new();
    /// options.listeners.push(Listener::Unix(dir.path().join("own/bus.sock")));
    /// let broker = Broker::start(options).await?;
    /// assert_eq!(broker.stats().connections, 0);
    /// broker.stop().await;
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub async fn start(options: BrokerOptions) -> Result<Self, BrokerError> {
        // Who is the broker is settled before anything is started.
        let claims = options
            .listeners
            .iter()
            .map(claim)
            .collect::<Result<Vec<_>, _>>()?;
        let failed = |reason: String| BrokerError::Runtime { reason };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("eventbus-broker")
            .enable_all()
            .build()
            .map_err(|e| failed(e.to_string()))?;
        if let Err(reason) = start_timers() {
            runtime.shutdown_background();
            return Err(failed(reason.to_string()));
        }
        let threads = runtime.handle().clone();
        let mut broker = busrt::broker::Broker::new();
        broker.set_queue_size(options.queue_frames);
        let client = broker.register_client(DIRECTORY).await;
        let counters = Arc::new(Counters::default());
        counters.went_round();
        let mut this = Self {
            broker: Arc::new(Mutex::new(broker)),
            counters: Arc::clone(&counters),
            addresses: Vec::new(),
            accepting: Vec::new(),
            sockets: Vec::new(),
            grace: options.grace,
            runtime: Some(runtime),
        };
        let client = client.map_err(|e| failed(e.to_string()))?;
        threads.spawn(directory::run(client, options.max_connections, counters));
        this.listen(&options, claims, &threads)?;
        Ok(this)
    }

    fn listen(
        &mut self,
        options: &BrokerOptions,
        claims: Vec<Claim>,
        threads: &Handle,
    ) -> Result<(), BrokerError> {
        let door = Arc::new(Door::new(
            Arc::clone(&self.broker),
            options,
            Arc::clone(&self.counters),
            threads.clone(),
        ));
        // Listeners belong to the broker's threads.
        let _context = threads.enter();
        for claim in claims {
            let door = Arc::clone(&door);
            self.accepting.push(match claim {
                Claim::Unix { path, lock } => {
                    let (listener, socket) = socket::bind(&path, lock)?;
                    self.sockets.push(socket);
                    self.addresses.push(Address::Unix(path));
                    threads.spawn(listener::run(listener, door))
                }
                #[cfg(feature = "tcp")]
                Claim::Tcp { listener, address } => {
                    self.addresses.push(address);
                    threads.spawn(listener::run(
                        listener.start(options.handshake_timeout)?,
                        door,
                    ))
                }
            });
        }
        Ok(())
    }

    /// Where it listens, in the order of its options.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> BrokerStats {
        self.counters.snapshot()
    }

    /// A look at it for whoever outlives it.
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        Monitor(Arc::clone(&self.counters))
    }

    /// A client inside this process.
    pub(crate) async fn register(&self, name: &str) -> Result<busrt::broker::Client, busrt::Error> {
        self.broker.lock().await.register_client(name).await
    }

    /// Ends the broker: accepts nobody any more, lets what is on its way go out for at most the
    /// grace of its options, and waits until its threads have ended and its sockets are gone.
    pub async fn stop(mut self) {
        for accepting in &self.accepting {
            accepting.abort();
        }
        self.sockets.clear();
        self.until_quiet().await;
        if let Some(runtime) = self.runtime.take() {
            crate::runtime::stop(runtime).await;
        }
    }

    /// Waits until no connection is left, or nothing moves on them, or the grace is over.
    async fn until_quiet(&self) {
        let moved = || {
            let counters = &self.counters;
            counters.bytes_in.load(Relaxed) + counters.bytes_out.load(Relaxed)
        };
        let deadline = Instant::now() + self.grace;
        let mut looks = interval(LOOK);
        let (mut before, mut quiet) = (moved(), 0);
        while quiet < QUIET_LOOKS
            && self.counters.connections.load(Relaxed) > 0
            && Instant::now() < deadline
        {
            looks.tick().await;
            let now = moved();
            let unsent = self.counters.unsent.load(Relaxed) > 0;
            quiet = if now == before && !unsent {
                quiet + 1
            } else {
                0
            };
            before = now;
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.sockets.clear();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

/// Sets a timer of the kind that busrt flushes by, and gives it up. The first one needs
/// descriptors; were there none left by then, it would panic, and the thread behind all timers would
/// be gone for good. So first of all they are proved to be there.
fn start_timers() -> io::Result<()> {
    let spare = (0..SPARE).map(|_| UnixDatagram::unbound());
    drop(spare.collect::<io::Result<Vec<_>>>()?);
    let mut timer = async_io::Timer::after(Duration::from_secs(60));
    let polled = Pin::new(&mut timer).poll(&mut Context::from_waker(Waker::noop()));
    debug_assert!(polled.is_pending());
    Ok(())
}
