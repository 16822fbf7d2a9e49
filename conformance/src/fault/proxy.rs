//! A proxy that hurts the connections that pass it.
//!
//! It stands between one client and a broker, over UNIX or TCP, and has threads of its own, so
//! that it strikes whatever the bus under test is doing. Partitions are made by not reading:
//! what is sent meanwhile fills the sockets and comes through when they heal, in order, as the
//! network's own retransmission has it.
//!
//! Invariant: what is counted was done to bytes or connections that were there.

use std::fmt;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::{interval, timeout};

use super::rules::{Counts, Rules, Struck, Trickle, count};
use super::stream::{Listener, Place, Stream};
use crate::harness::Way;

/// Bytes that are passed on in one piece.
const PIECE_BYTES: usize = 32 * 1024;
/// How soon it is tried again to accept, after that has failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A proxy in front of a broker. Dropping it resets everything that passes it.
pub struct Proxy {
    shared: Arc<Shared>,
    place: Place,
    runtime: Option<Runtime>,
}

struct Shared {
    upstream: Place,
    orders: watch::Sender<Orders>,
    open: AtomicUsize,
    passed: AtomicU64,
    pieces: [AtomicU64; 2],
    tear: [AtomicBool; 2],
    corrupt: [AtomicBool; 2],
    counts: Counts,
}

#[derive(Debug, Clone, Copy, Default)]
struct Orders {
    rules: Rules,
    /// Connections made under an earlier number are to be reset.
    generation: u64,
}

impl Proxy {
    /// Listens at `at` and passes every connection on to `upstream`.
    ///
    /// # Errors
    /// As the system refuses to listen there.
    pub fn start(at: &Place, upstream: Place) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("proxy")
            .enable_all()
            .build()?;
        let listener = {
            let _context = runtime.enter();
            Listener::bind(at)?
        };
        let place = listener.place()?;
        let shared = Arc::new(Shared {
            upstream,
            orders: watch::Sender::new(Orders::default()),
            open: AtomicUsize::new(0),
            passed: AtomicU64::new(0),
            pieces: Default::default(),
            tear: Default::default(),
            corrupt: Default::default(),
            counts: Counts::default(),
        });
        runtime.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            shared,
            place,
            runtime: Some(runtime),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What is done from now on, to old and new connections.
    pub fn rule(&self, rules: Rules) {
        self.shared
            .orders
            .send_modify(|orders| orders.rules = rules);
    }

    /// Does nothing any more.
    pub fn heal(&self) {
        self.rule(Rules::default());
    }

    /// Resets every connection that is open, and returns how many those are.
    pub fn reset(&self) -> usize {
        let open = self.connections();
        self.shared
            .orders
            .send_modify(|orders| orders.generation += 1);
        open
    }

    /// Of the next piece that goes `way`, passes a part on and resets the connection.
    pub fn tear(&self, way: Way) {
        self.shared.tear[way as usize].store(true, Ordering::SeqCst);
    }

    /// Changes a byte in the middle of the next piece that goes `way`.
    pub fn corrupt(&self, way: Way) {
        self.shared.corrupt[way as usize].store(true, Ordering::SeqCst);
    }

    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Bytes passed on so far, in both directions.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::SeqCst)
    }

    /// Writes in which bytes were passed on so far, this way: under a trickle, the small ones.
    #[must_use]
    pub fn pieces(&self, way: Way) -> u64 {
        self.shared.pieces[way as usize].load(Ordering::SeqCst)
    }

    /// What it has done so far.
    #[must_use]
    pub fn struck(&self) -> Struck {
        self.shared.counts.read()
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("place", &self.place)
            .field("upstream", &self.shared.upstream)
            .field("struck", &self.struck())
            .finish_non_exhaustive()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: Listener, shared: Arc<Shared>) {
    let mut orders = shared.orders.subscribe();
    loop {
        let open = |orders: &Orders| !(orders.rules.hold_up && orders.rules.hold_down);
        if orders.wait_for(open).await.is_err() {
            return;
        }
        match listener.accept().await {
            Ok(client) => {
                let generation = orders.borrow().generation;
                tokio::spawn(serve(client, generation, Arc::clone(&shared)));
            }
            Err(_) => pause(ACCEPT_PAUSE).await,
        }
    }
}

/// One connection, until either end or an order ends it.
async fn serve(client: Stream, generation: u64, shared: Arc<Shared>) {
    let Ok(broker) = Stream::connect(&shared.upstream).await else {
        count(&shared.counts.unanswered);
        client.reset_on_drop();
        return;
    };
    let _open = Open::new(&shared);
    let mut orders = shared.orders.subscribe();
    let pumping = async {
        let up = pump(&client, &broker, Way::Up, &shared);
        let down = pump(&broker, &client, Way::Down, &shared);
        let (up, down) = (pin!(up), pin!(down));
        // A direction that has ended in order leaves the other one to end in its own time.
        match select(up, down).await {
            Either::Left((Ok(()), other)) | Either::Right((Ok(()), other)) => other.await,
            Either::Left((torn, _)) | Either::Right((torn, _)) => torn,
        }
    };
    let ordered = orders.wait_for(|orders| orders.generation != generation);
    // Orders first: a busy pump leaves them nothing of the task's budget.
    let abrupt = match select(pin!(ordered), pin!(pumping)).await {
        Either::Left(_) => {
            count(&shared.counts.resets);
            true
        }
        Either::Right((ended, _)) => ended.is_err(),
    };
    if abrupt {
        client.reset_on_drop();
        broker.reset_on_drop();
    }
}

/// Passes bytes on until there are no more (Ok), or the connection breaks or is to be broken.
async fn pump(from: &Stream, to: &Stream, way: Way, shared: &Shared) -> io::Result<()> {
    let mut orders = shared.orders.subscribe();
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let read = from.read(&mut buffer).await?;
        if orders.borrow_and_update().rules.holds(way) {
            if read > 0 {
                count(&shared.counts.held);
            }
            let let_go = |orders: &Orders| !orders.rules.holds(way);
            if orders.wait_for(let_go).await.is_err() {
                return Ok(());
            }
        }
        if read == 0 {
            to.finish();
            return Ok(());
        }
        let piece = &mut buffer[..read];
        // A piece of one byte cannot be cut, so the order stands for the next one.
        if read > 1 && shared.tear[way as usize].swap(false, Ordering::SeqCst) {
            to.write_all(&piece[..read / 2]).await?;
            count(&shared.counts.torn);
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if shared.corrupt[way as usize].swap(false, Ordering::SeqCst) {
            piece[read / 2] ^= 0x5A;
            count(&shared.counts.corrupted);
        }
        let rules = orders.borrow_and_update().rules;
        if let Some(delay) = rules.delay {
            count(&shared.counts.delayed);
            pause(delay).await;
        }
        match rules.trickle {
            None => pass(piece, to, way, shared).await?,
            Some(trickle) => {
                if piece.len() > trickle.bytes {
                    count(&shared.counts.trickled);
                }
                let goes_on = || orders.borrow().rules.trickle == Some(trickle);
                pass_slowly(piece, to, way, shared, trickle, goes_on).await?;
            }
        }
    }
}

async fn pass(piece: &[u8], to: &Stream, way: Way, shared: &Shared) -> io::Result<()> {
    to.write_all(piece).await?;
    let bytes = piece.len() as u64;
    shared.passed.fetch_add(bytes, Ordering::SeqCst);
    count(&shared.pieces[way as usize]);
    Ok(())
}

/// Few bytes at a time, and the rest at once when that is over.
async fn pass_slowly(
    mut piece: &[u8],
    to: &Stream,
    way: Way,
    shared: &Shared,
    trickle: Trickle,
    goes_on: impl Fn() -> bool,
) -> io::Result<()> {
    let mut beat = interval(trickle.every);
    while !piece.is_empty() {
        beat.tick().await;
        let bytes = match goes_on() {
            true => trickle.bytes.max(1).min(piece.len()),
            false => piece.len(),
        };
        let (now, later) = piece.split_at(bytes);
        pass(now, to, way, shared).await?;
        piece = later;
    }
    Ok(())
}

async fn pause(time: Duration) {
    let _ = timeout(time, std::future::pending::<()>()).await;
}

/// Counts a connection as open while it lives.
struct Open<'a>(&'a Shared);

impl<'a> Open<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.open.fetch_add(1, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}
