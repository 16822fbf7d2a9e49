//! The command line.

use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};

/// Publishes events from several processes to several others while faults strike, and checks that
/// every subscriber has every accepted event once and in order.
///
/// Exit code 0: it was so, and every fault struck. 1: it was not, or a fault never struck. 2: the
/// run could not be made.
#[derive(Debug, Clone, Parser)]
#[command(name = "soak", version)]
pub(crate) struct Args {
    /// What carries the connections
    #[arg(long, value_enum, default_value_t = Transport::Unix)]
    pub(crate) transport: Transport,
    /// Whose broker: ours, or a stock busrtd 0.5.6
    #[arg(long, value_enum, default_value_t = BrokerKind::Eventbus)]
    pub(crate) broker: BrokerKind,
    /// Processes that publish
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) publishers: u32,
    /// Processes that subscribe to everything
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) subscribers: u32,
    /// Events, over all publishers
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) events: u64,
    /// Topics of each publisher
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) topics: u32,
    /// Bytes of payload, at least 24
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(24..=1_000_000))]
    pub(crate) payload: u32,
    /// Times that the broker is killed with SIGKILL, and started again after 0.1 to 1.5 s
    #[arg(long, default_value_t = 0)]
    pub(crate) kills: u32,
    /// Times that a connection is reset
    #[arg(long, default_value_t = 0)]
    pub(crate) resets: u32,
    /// Times that a process is cut off, in one direction or both, for longer than the keepalive
    #[arg(long, default_value_t = 0)]
    pub(crate) partitions: u32,
    /// Times that a subscriber is stopped with SIGSTOP
    #[arg(long, default_value_t = 0)]
    pub(crate) stalls: u32,
    /// Seconds that a stall lasts
    #[arg(long, default_value_t = 15.0, value_parser = seconds)]
    pub(crate) stall_seconds: f64,
    /// Seconds of the keepalive
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    pub(crate) keepalive_seconds: f64,
    /// Seconds without any progress after which the run has failed
    #[arg(long, default_value_t = 60.0, value_parser = seconds)]
    pub(crate) patience_seconds: f64,
    /// What and whom the faults strike, when, and for how long; a random one if not given
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Falsifies what subscriber 0 sees, to show that the verdict can fail
    #[arg(long, value_enum, hide = true)]
    pub(crate) sabotage: Option<Sabotage>,
    /// Report as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What carries the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// UNIX sockets
    Unix,
    /// TCP with TLS and client certificates
    Tcp,
}

/// Whose broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BrokerKind {
    /// Ours
    Eventbus,
    /// A stock one
    Busrtd,
}

/// What is done to one event of subscriber 0 before it is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Sabotage {
    Lose,
    Repeat,
    Alter,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(seconds),
        Ok(_) => Err("not within 0.1 to 3600".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

impl Args {
    /// What the flags say that no single flag can.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.transport == Transport::Tcp && self.broker == BrokerKind::Busrtd {
            return Err(
                "busrtd has no TLS, and over TCP nothing else is spoken: use --transport unix"
                    .to_owned(),
            );
        }
        let faults = u64::from(self.kills)
            + u64::from(self.resets)
            + u64::from(self.partitions)
            + u64::from(self.stalls);
        let least = (faults + 1) * u64::from(self.publishers) * 20;
        if self.events < least {
            return Err(format!(
                "{} events are too few for {faults} faults to strike while events are published: \
                 use --events {least} or more",
                self.events
            ));
        }
        Ok(())
    }

    pub(crate) fn keepalive(&self) -> Duration {
        Duration::from_secs_f64(self.keepalive_seconds)
    }

    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs_f64(self.patience_seconds)
    }

    pub(crate) fn stall(&self) -> Duration {
        Duration::from_secs_f64(self.stall_seconds)
    }
}
