//! What `eventbus validate` is asked.

use std::path::PathBuf;

use clap::Args;
use eventbus::{Limits, Phase};

use super::payload::LEAST_PAYLOAD;
use super::plan::{Plan, Transport};
use crate::args::{Sabotaging, writable};
use crate::failure::Failure;
use crate::place::{Flags, Place};

/// Most events of one measurement: what is remembered of each is a bit.
const MOST_MESSAGES: u64 = 100_000_000;

#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// The transport to measure: `crossbeam`, `in-process`, `unix` or `tcp`; may be given several
    /// times [default: all four]
    #[arg(long, value_name = "NAME", conflicts_with = "against")]
    pub(crate) transport: Vec<Transport>,

    /// Measure the broker that runs at `unix:///path` or `tcp://host:port`; it is not stopped, so
    /// recovery is not measured, and what others do there goes on unseen
    #[arg(long, value_name = "URL")]
    pub(crate) against: Option<Phase>,

    /// For `tls.*` read this file, and neither `eventbus.toml` nor the file that `EVENTBUS_CONFIG`
    /// names
    #[arg(long, value_name = "FILE", requires = "against")]
    pub(crate) config: Option<PathBuf>,

    /// Certificates of the authorities whose word is taken for the broker [default: `tls.ca`]
    #[arg(long, value_name = "FILE.pem", requires = "against")]
    pub(crate) ca: Option<PathBuf>,

    /// The certificate to show to the broker [default: `tls.cert`]
    #[arg(long, value_name = "FILE.pem", requires = "against")]
    pub(crate) cert: Option<PathBuf>,

    /// The key of that certificate [default: `tls.key`]
    #[arg(long, value_name = "FILE", requires = "against")]
    pub(crate) key: Option<PathBuf>,

    /// Events of a measurement, unless its three seconds are over before
    #[arg(long, value_name = "N", default_value_t = 5_000_000,
          value_parser = clap::value_parser!(u64).range(1..=MOST_MESSAGES))]
    pub(crate) messages: u64,

    /// Bytes in each payload, at least 8
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    pub(crate) payload: usize,

    /// Events per second while latency is measured
    #[arg(long, value_name = "N", default_value_t = 10_000,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate: u32,

    /// Print one JSON document instead of the table; docs/validate.schema.json describes it
    #[arg(long)]
    pub(crate) json: bool,

    /// Write a page with plots to a file that ends in `.html`
    #[arg(long, value_name = "FILE.html")]
    pub(crate) report: Option<PathBuf>,

    /// Make the subscriber's handle misbehave: `drop`, `duplicate`, `reorder`, `corrupt`, `phantom` or
    /// `delay`, for this share of the events (`drop=0.001`, `drop=0.1%`) [default share: 0.1%]
    #[arg(long, value_name = "KIND[=RATE]", hide_short_help = true)]
    pub(crate) sabotage: Option<Sabotaging>,
}

impl ValidateArgs {
    /// What each process is to measure, in order.
    pub(crate) fn plans(&self) -> Result<Vec<Plan>, Failure> {
        let limit = Limits::default().max_event_size;
        if !(LEAST_PAYLOAD..=limit).contains(&self.payload) {
            return Err(Failure::Flags(format!(
                "--payload {} is not within {LEAST_PAYLOAD} to {limit} bytes",
                self.payload
            )));
        }
        self.check_report()?;
        if let Some(phase) = &self.against {
            let flags = Flags {
                config: self.config.as_ref(),
                ca: self.ca.as_ref(),
                cert: self.cert.as_ref(),
                key: self.key.as_ref(),
            };
            let place = Place::of(phase, flags)?;
            let transport = match &place {
                Place::Unix(_) => Transport::Unix,
                Place::Tcp { .. } => Transport::Tcp,
            };
            return Ok(vec![self.plan(transport, Some((phase.to_string(), place)))]);
        }
        let mut chosen = Vec::new();
        for transport in &self.transport {
            if !chosen.contains(transport) {
                chosen.push(*transport);
            }
        }
        if chosen.is_empty() {
            chosen.extend(Transport::ALL);
        }
        let plans = chosen.into_iter();
        Ok(plans.map(|transport| self.plan(transport, None)).collect())
    }

    fn plan(&self, transport: Transport, against: Option<(String, Place)>) -> Plan {
        Plan {
            transport,
            against,
            messages: self.messages,
            payload: self.payload,
            rate: self.rate,
            sabotage: self
                .sabotage
                .map(|asked| (asked.kind.to_string(), asked.rate)),
        }
    }

    /// A run of a minute is not to end at a file that cannot be written.
    fn check_report(&self) -> Result<(), Failure> {
        let Some(file) = &self.report else {
            return Ok(());
        };
        if file.extension().is_none_or(|ending| ending != "html") {
            return Err(Failure::Flags(format!(
                "--report `{}` does not end in `.html`",
                file.display()
            )));
        }
        writable(file)
    }
}
