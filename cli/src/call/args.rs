//! What `eventbus call` is asked.

use std::time::Duration;

use clap::Args;
use eventbus::codec::ContentType;

use crate::args::duration;
use crate::payload::PayloadArgs;
use crate::remote::RemoteArgs;

#[derive(Debug, Args)]
pub(crate) struct CallArgs {
    /// The service
    #[arg(value_name = "SERVICE")]
    pub(crate) service: String,

    /// The method
    #[arg(value_name = "METHOD")]
    pub(crate) method: String,

    /// The request: JSON, or `-` to read it from standard input [default: an empty one]
    #[arg(value_name = "JSON", allow_hyphen_values = true)]
    pub(crate) request: Option<String>,

    #[command(flatten)]
    pub(crate) remote: RemoteArgs,

    /// How long to wait for the answer [default: what `[operations]` of the configuration says, or 5s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) deadline: Option<Duration>,

    /// Say that it may be carried out twice
    #[arg(long)]
    pub(crate) idempotent: bool,

    /// Send the request as it is, as this media type, whether it is JSON or not
    #[arg(long, value_name = "TYPE", value_parser = media_type)]
    pub(crate) content_type: Option<ContentType>,

    /// Print one JSON document: the reply, or why there is none
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) payload: PayloadArgs,
}

fn media_type(text: &str) -> Result<ContentType, String> {
    let sound = |c: char| c.is_ascii_graphic() || c == ' ';
    if text.contains('/') && text.len() <= 255 && text.chars().all(sound) {
        return Ok(ContentType::parse(text));
    }
    Err("expected a media type such as `application/x-protobuf`".to_owned())
}
