//! What the publishing and the subscribing processes have in common.

use std::sync::Arc;
use std::time::Duration;

use busrt_backend::tls::TlsOptions;
use busrt_backend::{Address, Backoff, BrokerMode, Options, open};
use eventbus_trait::{BusState, EventBus};
use parking_lot::Mutex;

use crate::words::{At, Done, Door, Progress, Word, say};

/// How often a process says how far it is.
const SAY_EVERY: Duration = Duration::from_millis(20);

pub(crate) fn options(door: &Door, name: &str) -> Options {
    let address = match &door.at {
        At::Unix(path) => Address::Unix(path.clone()),
        At::Tcp {
            address,
            ca,
            cert,
            key,
        } => Address::Tcp {
            host: address.ip().to_string(),
            port: address.port(),
            tls: TlsOptions::new(ca, cert, key),
        },
    };
    let mut options = Options::new(address);
    options.broker = BrokerMode::External;
    options.name = Some(name.to_owned());
    options.keepalive = door.keepalive;
    // No fault of a run is to last as long as nobody's patience does.
    options.link_timeout = door.patience.max(Duration::from_secs(60)) * 2;
    options.backoff = Backoff {
        first: Duration::from_millis(50),
        most: Duration::from_secs(1),
    };
    options
}

pub(crate) async fn connect(door: &Door, name: &str) -> Result<Arc<dyn EventBus>, String> {
    let bus = open(options(door, name)).await;
    Ok(bus.map_err(|error| error.to_string())?)
}

/// Says how far the process is, until it is dropped.
pub(crate) struct Speaker {
    task: tokio::task::JoinHandle<()>,
    progress: Arc<Mutex<Progress>>,
}

impl Speaker {
    pub(crate) fn start(bus: &Arc<dyn EventBus>) -> Self {
        let progress = Arc::new(Mutex::new(Progress::default()));
        let (shared, state) = (Arc::clone(&progress), bus.state());
        let task = tokio::spawn(async move {
            let mut beat = tokio::time::interval(SAY_EVERY);
            loop {
                beat.tick().await;
                let mut now = shared.lock().clone();
                if let BusState::Connecting { attempts, reason } = &*state.borrow() {
                    let more = format!("; {attempts} attempts to connect: {reason}");
                    now.doing.push_str(&more);
                }
                say(&Word::Progress(now));
            }
        });
        Self { task, progress }
    }

    pub(crate) fn events(&self, events: u64) {
        self.progress.lock().events = events;
    }

    pub(crate) fn doing(&self, doing: impl Into<String>) {
        self.progress.lock().doing = doing.into();
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Fills in what the bus itself counted.
pub(crate) fn count(done: &mut Done, bus: &Arc<dyn EventBus>) {
    let stats = bus.stats();
    done.reconnects = stats.reconnects;
    done.resends = stats.resends;
    done.given_up = stats.given_up;
    done.malformed = stats.malformed;
}
