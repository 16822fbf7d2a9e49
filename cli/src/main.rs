//! The `eventbus` program.
//!
//! Its exit code is its answer: 0 for yes, 1 for no, 2 for "could not be found out". So everything
//! that goes wrong, a mistyped flag as well as a broken disk, is one sentence on standard error
//! and a 2; standard output has results only.

mod args;
mod broker;
mod call;
mod certs;
mod config;
mod conformance;
mod failure;
mod help;
mod payload;
mod place;
mod plain;
mod remote;
mod rollout;
mod shadow;
mod signals;
mod tail;
mod top;
mod validate;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;
use eventbus::plain::Plain;
use tokio::runtime::Runtime;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::args::{Cli, Command};
use crate::failure::Failure;

const FAILED: u8 = 2;

/// What is told without being asked for.
fn default_log(command: &Command) -> &'static str {
    match command {
        // Clauses do what is warned of, on purpose; their verdicts say what went wrong.
        Command::Conformance(_) => "off",
        // Its brokers are killed on purpose; what was lost by that is counted.
        Command::Validate(_) => "off",
        // Divergences are in the report, each with its place; in the log they would be there twice.
        _ => "warn,shadow=error",
    }
}

fn main() -> ExitCode {
    // Brokers and peers that clauses kill are this program again.
    if let Some(ended) = ::conformance::phases::life_as_a_child() {
        return ended;
    }
    // So are brokers and measured buses of a validation.
    if let Some(ended) = validate::life_as_a_child() {
        return ended;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(usage(&error)),
    };
    let reads = matches!(cli.command, Command::Conformance(_));
    log_to_stderr(default_log(&cli.command), reads);
    match run(cli.command) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            complain(&failure.to_string());
            ExitCode::from(FAILED)
        }
    }
}

fn run(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Shadow(args) => runtime()?.block_on(shadow::run(*args)),
        Command::Top(args) => runtime()?.block_on(top::run(&args)),
        Command::Broker(args) => runtime()?.block_on(broker::run(&args)),
        Command::Call(args) => runtime()?.block_on(call::run(&args)),
        Command::Tail(args) => runtime()?.block_on(tail::run(&args)),
        Command::Certs(args) => certs::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Rollout(args) => rollout::run(&args),
        // Each clause has a runtime of its own, and some measure what the process has.
        Command::Conformance(args) => conformance::run(*args),
        // Each transport is measured in a process of its own.
        Command::Validate(args) => signals::in_directory(move |_, stop| validate::run(&args, stop)),
        Command::Completions(args) => help::completions(&args),
    }
}

pub(crate) fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|reason| Failure::io("start the runtime", reason))
}

/// Help and version are answers; anything else is one sentence.
fn usage(error: &clap::Error) -> u8 {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        return match error.print() {
            Err(reason) if reason.kind() != std::io::ErrorKind::BrokenPipe => {
                complain(&format!("cannot write to standard output: {reason}"));
                FAILED
            }
            _ => 0,
        };
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        complain(&no_command(&error.to_string()));
        return FAILED;
    }
    complain(&sentence(&error.to_string()));
    FAILED
}

/// Where to find those there are, by the usage in clap's help.
fn no_command(help: &str) -> String {
    let usage = help.lines().find_map(|line| line.strip_prefix("Usage: "));
    let asked = usage.and_then(|usage| usage.split(" <").next());
    match asked {
        Some(asked) if asked != "eventbus" => format!("no command given; try `{asked} --help`"),
        _ => "no command given; try `eventbus shadow`, or `eventbus --help`".to_owned(),
    }
}

/// clap's complaint and its tip, without the pages that follow.
fn sentence(text: &str) -> String {
    let paragraphs: Vec<_> = text
        .split("\n\n")
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
        .enumerate()
        .filter(|(at, paragraph)| *at == 0 || paragraph.starts_with("tip: "))
        .map(|(_, paragraph)| paragraph)
        .collect();
    let told = paragraphs.join("; ");
    told.strip_prefix("error: ").unwrap_or(&told).to_owned()
}

pub(crate) fn complain(sentence: &str) {
    // A closed standard error leaves the exit code to tell it.
    // Others may have had a say in it.
    let line = format!("eventbus: {}\n", Plain::line(sentence));
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Something that was asked for, beside the results.
pub(crate) fn tell(sentence: &str) {
    // A closed standard error leaves nobody to tell.
    let line = format!("{}\n", Plain::line(sentence));
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// At a terminal a bar may stand in the line, and `^C` behind it.
pub(crate) fn begin_a_line() {
    if std::io::stderr().is_terminal() {
        let _ = writeln!(std::io::stderr());
    }
}

/// `EVENTBUS_LOG`, else `RUST_LOG`, else what is told without being asked for. What busrt says through
/// `log` comes along. With `clauses`, they can look for what is told there, too.
pub(crate) fn log_to_stderr(unasked: &str, clauses: bool) {
    let filter = ["EVENTBUS_LOG", "RUST_LOG"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok())
        .unwrap_or_else(|| unasked.to_owned());
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .with_filter(EnvFilter::new(filter));
    let read = clauses.then(::conformance::logs::layer);
    tracing_subscriber::registry().with(read).with(lines).init();
}
