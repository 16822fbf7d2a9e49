//! Where the events of a comparison come from.

mod children;
mod pace;
mod proc;
mod replay;
mod synthetic;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use eventbus::{Config, EventBus};
use serde::Serialize;

use super::feed::{Bounds, Feed};
use crate::args::{ShadowArgs, SourceKind};
use crate::failure::Failure;

/// How long a source without an end of its own runs if nothing is said.
const DEFAULT_DURATION: Duration = Duration::from_secs(10);
/// Bytes in a synthetic payload if nothing is said.
const DEFAULT_PAYLOAD: usize = 100;

/// A source and all it needs to know.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Source {
    Proc,
    Synthetic(synthetic::Shape),
    #[serde(rename = "recording")]
    Replay {
        file: PathBuf,
        rate: Option<u64>,
    },
}

impl Source {
    /// Refuses payloads that no bus would take before any memory is asked for.
    pub(crate) fn new(args: &ShadowArgs, config: &Config) -> Result<Self, Failure> {
        let (payload, limit) = (
            args.payload.unwrap_or(DEFAULT_PAYLOAD),
            config.limits.max_event_size,
        );
        if payload > limit {
            return Err(Failure::Flags(format!(
                "--payload {payload} is over the limit of {limit} bytes per event"
            )));
        }
        Ok(match &args.source {
            SourceKind::Proc => {
                proc::tell_what_is_hidden()?;
                Self::Proc
            }
            SourceKind::Synthetic => Self::Synthetic(synthetic::Shape {
                rate: args.rate,
                payload,
                topics: args.topics.unwrap_or(8),
                publishers: args.publishers.unwrap_or(2),
                restart_every: args.restart_every,
                seed: args.seed,
            }),
            SourceKind::File(file) => Self::Replay {
                file: file.clone(),
                rate: args.rate,
            },
        })
    }

    /// When this source ends: as asked for, or after 10 s if it would not end.
    pub(crate) fn bounds(&self, args: &ShadowArgs) -> Bounds {
        let endless = args.events.is_none() && !matches!(self, Self::Replay { .. });
        Bounds {
            events: args.events,
            duration: args
                .duration
                .or_else(|| endless.then_some(DEFAULT_DURATION)),
        }
    }

    /// The filter of subscription number `index`.
    pub(crate) fn filter(&self, index: u32) -> &'static str {
        match self {
            Self::Proc if index == 1 => "events.process.new",
            Self::Proc => "events.process.#",
            Self::Synthetic(_) => "synthetic.#",
            Self::Replay { .. } => "#",
        }
    }

    /// Publishes until the feed wants no more or the source has no more.
    pub(crate) async fn run(
        &self,
        bus: &Arc<dyn EventBus>,
        feed: &Arc<Feed>,
    ) -> Result<(), Failure> {
        match self {
            Self::Proc => proc::run(bus, feed).await,
            Self::Synthetic(shape) => synthetic::run(shape, bus, feed).await,
            Self::Replay { file, rate } => replay::run(file, *rate, bus, feed).await,
        }
    }
}
