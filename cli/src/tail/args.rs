//! What `eventbus tail` is asked.

use std::time::Duration;

use clap::Args;
use eventbus::TopicFilter;

use crate::args::duration;
use crate::payload::PayloadArgs;
use crate::remote::RemoteArgs;

#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// What to show: topics, in which `*` is any one segment and a final `#` any number of them; in
    /// quotes, because both mean something to a shell
    #[arg(value_name = "FILTER", required = true, value_parser = filter)]
    pub(crate) filter: Vec<TopicFilter>,

    #[command(flatten)]
    pub(crate) remote: RemoteArgs,

    /// End after this many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    /// End after this long
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) duration: Option<Duration>,

    /// Show publisher, sequence, headers and correlation, too
    #[arg(long)]
    pub(crate) long: bool,

    /// Print one JSON document per line, with everything about the event
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) payload: PayloadArgs,

    /// How many events may wait to be shown; beyond that the oldest are dropped, which is told
    #[arg(long, value_name = "N", default_value_t = 8_192,
          value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub(crate) capacity: u32,

    /// Drop nothing: publishers then wait for whoever reads this
    #[arg(long)]
    pub(crate) lossless: bool,
}

fn filter(text: &str) -> Result<TopicFilter, String> {
    TopicFilter::new(text).map_err(|reason| reason.to_string())
}
