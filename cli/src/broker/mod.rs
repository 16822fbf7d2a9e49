//! `eventbus broker`: a broker as a service of its own.
//!
//! It starts, says in one line that it is ready, serves until it is told to end, and then lets go
//! out what is on its way. Whoever started it, a shell or a service manager, can neither hold it
//! up nor make it fail.

pub(crate) mod args;
mod descriptors;
mod health;
mod notify;

use std::io::Write as _;
use std::time::Duration;

use eventbus::Config;
use eventbus::broker::{Address, Broker};
use eventbus::observe::Server;
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::failure::Failure;
use crate::signals::Signals;
use args::BrokerArgs;
use health::Health;
use notify::Manager;

/// Where the broker can be reached.
#[derive(Debug, Default, Serialize)]
struct Ready {
    ready: bool,
    unix: Vec<String>,
    tcp: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<String>,
}

/// Runs a broker until a signal ends it; returns the exit code.
pub(crate) async fn run(args: &BrokerArgs) -> Result<u8, Failure> {
    let config = args.configuration()?;
    // Before anything listens, so that no signal finds the program half started.
    let mut signals = Signals::new()?;
    let manager = Manager::from_environment();
    descriptors::provide(config.broker.max_connections);
    let metrics = match &config.broker.metrics {
        Some(address) => {
            let bound = Server::bind(address).await;
            Some(bound.map_err(|reason| Failure::listen(address, &reason))?)
        }
        None => None,
    };
    let broker = start(&config).await?;
    let health = Health::new(broker.monitor(), config.broker.max_connections);
    let ready = Ready::new(&broker, metrics.as_ref());
    let serving = metrics.map(|metrics| tokio::spawn(metrics.serve(health.observer().clone())));
    ready.tell(args.json);
    manager.ready(&ready.line());

    let beating = manager
        .heartbeat()
        .map(|every| beat(&manager, &health, every));
    tokio::select! {
        _ = signals.next() => {}
        () = forever(beating) => {}
    }
    manager.stopping();
    health.drain();
    info!(connections = health.connections(), "draining");
    if drained(broker.stop(), signals.next()).await {
        info!("ended");
    } else {
        warn!("ended before everything was sent");
    }
    if let Some(serving) = serving {
        // Its socket goes with it.
        serving.abort();
        let _ = serving.await;
    }
    Ok(0)
}

async fn start(config: &Config) -> Result<Broker, Failure> {
    use eventbus::StartError;
    match eventbus::start_broker(config).await {
        Ok(broker) => Ok(broker),
        Err(StartError::NoListener) => Err(Failure::Flags(
            "nothing to listen at; give --unix PATH or --tcp ADDR:PORT, or set `broker.unix` or \
             `broker.tcp`"
                .to_owned(),
        )),
        Err(reason) => Err(reason.into()),
    }
}

/// Waits for one or the other; dropped, `stop` ends at once.
async fn drained<T>(stop: impl Future<Output = ()>, again: impl Future<Output = T>) -> bool {
    tokio::select! {
        () = stop => true,
        _ = again => false,
    }
}

/// Gives the service manager a sign of life as long as there is life to give a sign of.
async fn beat(manager: &Manager, health: &Health, every: Duration) {
    let mut beats = interval(every);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        if health.is_alive() {
            manager.alive();
        } else {
            warn!(silent = ?health.silent(), "no sign of life: the broker is stuck");
        }
    }
}

async fn forever(beating: Option<impl Future<Output = ()>>) {
    match beating {
        Some(beating) => beating.await,
        None => std::future::pending().await,
    }
}

impl Ready {
    fn new(broker: &Broker, metrics: Option<&Server>) -> Self {
        let mut ready = Self {
            ready: true,
            metrics: metrics.map(|bound| bound.address().to_string()),
            ..Self::default()
        };
        for address in broker.addresses() {
            match address {
                Address::Unix(path) => ready.unix.push(path.display().to_string()),
                Address::Tcp { host, port, .. } if host.contains(':') => {
                    ready.tcp.push(format!("[{host}]:{port}"));
                }
                Address::Tcp { host, port, .. } => ready.tcp.push(format!("{host}:{port}")),
                _ => {}
            }
        }
        ready
    }

    /// `ready unix=/path tcp=127.0.0.1:7777 metrics=127.0.0.1:9100`
    fn line(&self) -> String {
        let mut words = vec!["ready".to_owned()];
        words.extend(self.unix.iter().map(|path| format!("unix={path}")));
        words.extend(self.tcp.iter().map(|port| format!("tcp={port}")));
        words.extend(self.metrics.iter().map(|at| format!("metrics={at}")));
        words.join(" ")
    }

    /// A closed standard output is no reason to fail: the broker serves others.
    fn tell(&self, json: bool) {
        let line = if json {
            serde_json::to_string(self).unwrap_or_default()
        } else {
            self.line()
        };
        let mut stdout = std::io::stdout().lock();
        if let Err(reason) = writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
            warn!(%reason, "readiness not told on standard output");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    #[tokio::test]
    async fn a_second_signal_ends_what_does_not_drain() {
        assert!(drained(ready(()), pending::<()>()).await);
        assert!(!drained(pending(), ready(())).await);
    }
}
