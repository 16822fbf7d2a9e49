//! What `eventbus broker` is asked, and how that goes above file and environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use eventbus::Config;
use eventbus::config::{Flag, MetricsAddress};

use crate::args::{absolute, duration, http_address};
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct BrokerArgs {
    /// Read this file, and neither `eventbus.toml` nor the file that `EVENTBUS_CONFIG` names
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Listen at a UNIX socket, for processes of this user; may be given several times
    #[arg(long, value_name = "PATH")]
    pub(crate) unix: Vec<PathBuf>,

    /// Listen at a TCP port, for clients with a certificate; may be given several times
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) tcp: Vec<SocketAddr>,

    /// Certificates of the authorities whose word is taken for a client
    #[arg(long, value_name = "FILE.pem")]
    pub(crate) tls_ca: Option<PathBuf>,

    /// The broker's certificate, followed by those between it and its authority
    #[arg(long, value_name = "FILE.pem")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The key of that certificate
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Lists of revoked certificates
    #[arg(long, value_name = "FILE.pem")]
    pub(crate) tls_crl: Option<PathBuf>,

    /// Most connections; further ones are refused [default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_connections: Option<u32>,

    /// Let go of a client that is silent for 1.25 times this long [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,

    /// When told to end, let go out what is on its way for at most this long [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) grace: Option<Duration>,

    /// Largest event that sessions may send, in bytes [default: 1048576]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_event_size: Option<u32>,

    /// Events per second that each client may send; one that sends more is read from more slowly
    /// [default: as many as it can]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,

    /// Serve `/healthz`, `/metrics` and a page in plain HTTP
    #[arg(long, value_name = "ADDR:PORT|unix:PATH", value_parser = http_address)]
    pub(crate) metrics: Option<MetricsAddress>,

    /// Say in JSON what it listens at
    #[arg(long)]
    pub(crate) json: bool,
}

impl BrokerArgs {
    /// Flags above the environment above the file above the defaults.
    pub(crate) fn configuration(&self) -> Result<Config, Failure> {
        let mut figment = match &self.config {
            Some(file) => Config::figment_from(file)?,
            None => Config::figment()?,
        };
        if !self.unix.is_empty() {
            let paths = self.unix.iter().map(|path| absolute(path));
            let paths = paths.collect::<Result<Vec<_>, _>>();
            let paths = paths.map_err(Failure::Flags)?;
            figment = figment.merge(Flag::new("--unix", "broker.unix", paths));
        }
        if !self.tcp.is_empty() {
            let ports: Vec<_> = self.tcp.iter().map(ToString::to_string).collect();
            figment = figment.merge(Flag::new("--tcp", "broker.tcp", ports));
        }
        for (flag, key, file) in [
            ("--tls-ca", "tls.ca", &self.tls_ca),
            ("--tls-cert", "tls.cert", &self.tls_cert),
            ("--tls-key", "tls.key", &self.tls_key),
            ("--tls-crl", "tls.crl", &self.tls_crl),
        ] {
            if let Some(file) = file {
                figment = figment.merge(Flag::new(flag, key, file));
            }
        }
        for (flag, key, number) in [
            (
                "--max-connections",
                "broker.max_connections",
                self.max_connections,
            ),
            ("--rate", "broker.rate", self.rate),
            (
                "--max-event-size",
                "limits.max_event_size",
                self.max_event_size,
            ),
        ] {
            if let Some(number) = number {
                figment = figment.merge(Flag::new(flag, key, number));
            }
        }
        for (flag, key, time) in [
            ("--timeout", "broker.timeout", self.timeout),
            ("--grace", "broker.grace", self.grace),
        ] {
            if let Some(time) = time {
                let time = humantime::format_duration(time).to_string();
                figment = figment.merge(Flag::new(flag, key, time));
            }
        }
        if let Some(metrics) = &self.metrics {
            figment = figment.merge(Flag::new(
                "--metrics",
                "broker.metrics",
                metrics.to_string(),
            ));
        }
        Ok(Config::from_figment(&figment)?)
    }
}
