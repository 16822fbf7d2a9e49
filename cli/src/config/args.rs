//! What `eventbus config` is asked.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use eventbus::config::{Figment, Flag};
use eventbus::{Config, ConfigError};

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print each value that holds, and where it comes from.
    ///
    /// Exit code: 0, or 2 if the configuration is none.
    Show(Layers),

    /// Say what would fail, before it runs: sockets, ports, certificates, brokers that are not there.
    ///
    /// It changes nothing. Brokers of others are asked whether they answer, unless `--offline` is given.
    ///
    /// Exit code: 0 if nothing would fail, 1 if something would, 2 if that could not be found out.
    Check(CheckArgs),
}

#[derive(Debug, Args)]
pub(crate) struct Layers {
    /// The file [default: the one that `EVENTBUS_CONFIG` names, else `eventbus.toml` if it is there]
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// Set a value above file and environment; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) set: Vec<(String, String)>,

    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) layers: Layers,

    /// Ask no broker
    #[arg(long)]
    pub(crate) offline: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected a key and a value such as `broker.mode=external`".to_owned()),
    }
}

impl Layers {
    /// File, environment, and flags.
    pub(crate) fn figment(&self) -> Result<Figment, ConfigError> {
        let figment = match &self.file {
            Some(file) => Config::figment_from(file)?,
            None => Config::figment()?,
        };
        let set = |figment: Figment, (key, value): &(String, String)| {
            figment.merge(Flag::text(format!("--set {key}"), key, value))
        };
        Ok(self.set.iter().fold(figment, set))
    }
}
