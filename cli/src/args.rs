//! The command line.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use eventbus::config::MetricsAddress;
use eventbus::shadow::sabotage::Sabotage;
use rustix::fs::{Access, access};

use crate::broker::args::BrokerArgs;
use crate::call::args::CallArgs;
use crate::certs::args::CertsArgs;
use crate::config::args::ConfigArgs;
use crate::conformance::args::ConformanceArgs;
use crate::failure::Failure;
use crate::help::{self, CompletionsArgs};
use crate::rollout::args::RolloutArgs;
use crate::shadow::endpoint::Endpoint;
use crate::tail::args::TailArgs;
use crate::top::args::TopArgs;
use crate::validate::args::ValidateArgs;

/// One event bus over crossbeam channels or a busrt broker.
#[derive(Debug, Parser)]
#[command(name = "eventbus", version, after_help = help::FIRST)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Mirror a stream of events to two buses, compare what they deliver, and print the verdict.
    ///
    /// Without flags it compares crossbeam with a broker in process, and then with a broker behind
    /// a UNIX socket, on this machine's process events, for 10 s each.
    ///
    /// Exit code: 0 if both sides matched, 1 if they diverged, 2 if nothing could be compared.
    #[command(after_help = help::SHADOW)]
    Shadow(Box<ShadowArgs>),

    /// Run a broker by itself, for programs that share a bus over a UNIX socket or TCP.
    ///
    /// It prints one line that begins with `ready` once it listens, and serves until SIGTERM or
    /// SIGINT; then it lets go out what is on its way. A second signal ends it at once. Flags go
    /// above `EVENTBUS_*` variables, and those above the configuration file.
    ///
    /// Exit code: 0 when it was told to end, 2 if it cannot start.
    #[command(after_help = help::BROKER)]
    Broker(Box<BrokerArgs>),

    /// Watch a running program in the terminal: its phase, comparison, latencies and queues.
    ///
    /// It reads the JSON of any program that serves it: one with `observe.listen` in its
    /// configuration, `eventbus shadow --observe`, `eventbus broker --metrics`. Keys: q quits, p
    /// pauses, arrows and page keys scroll. In a pipe it prints once what it sees.
    ///
    /// Exit code: 0, or 2 if it gets no answer at first.
    #[command(after_help = help::TOP)]
    Top(TopArgs),

    /// Call a service on a bus that runs, and print its reply.
    ///
    /// The request is JSON; so is most of what comes back. A reply that is no text is shown in
    /// hexadecimal digits, and nothing in it can control the terminal.
    ///
    /// Exit code: 0 with a reply, 1 if the service was asked and said no, 2 if there is no such
    /// service, no answer in time, or no bus.
    #[command(after_help = help::CALL)]
    Call(Box<CallArgs>),

    /// Show what goes over a bus that runs, as it goes.
    ///
    /// It looks on: publishers never wait for it. What it cannot show in time is dropped, oldest
    /// first, and told by a line that begins with `#` at its place.
    ///
    /// Exit code: 0, also when it is told to end or nobody reads on; 1 if `--duration` was over before
    /// `--count` events came; 2 if there is no bus.
    #[command(after_help = help::TAIL)]
    Tail(Box<TailArgs>),

    /// Make certificates for TCP: an authority for development, and what it signs.
    #[command(after_help = help::CERTS)]
    Certs(CertsArgs),

    /// Show a configuration, value by value with where it comes from, or check what would fail.
    #[command(after_help = help::CONFIG)]
    Config(ConfigArgs),

    /// Move a running bus from one phase to the next, or back.
    ///
    /// The bus is in another process, which has a rollout configured; see docs/rollout.md.
    ///
    /// Exit code: 0 if it was done or answered, 1 if the rollout said no, 2 if nobody answered.
    #[command(after_help = help::ROLLOUT)]
    Rollout(Box<RolloutArgs>),

    /// Run the contract, clause by clause, and end with a table of what each phase keeps.
    ///
    /// Without flags it tests every phase that needs nothing from outside, on buses of its own, with
    /// real processes and real faults. With `--at` it tests the broker that runs there.
    ///
    /// Exit code: 0 if no MUST was broken or left unexercised, 1 if one was, 2 if nothing could be
    /// run. Waived clauses are listed, and do not count.
    #[command(after_help = help::CONFORMANCE)]
    Conformance(Box<ConformanceArgs>),

    /// Measure each transport on this machine, and recommend one for each use, with its reasons.
    ///
    /// Without flags it measures crossbeam, in-process, UNIX and TCP with certificates of its own,
    /// each in a process of its own, within a minute: set-up, throughput and latency with every
    /// event counted, memory, and how a bus comes back after its broker was killed.
    ///
    /// Exit code: 0 if every transport delivered each event that it had accepted, once, unaltered
    /// and in order; 1 if one did not; 2 if one could not be measured.
    #[command(after_help = help::VALIDATE)]
    Validate(Box<ValidateArgs>),

    /// Print what a shell needs to complete these commands and their flags.
    #[command(after_help = help::COMPLETIONS)]
    Completions(CompletionsArgs),
}

/// What `eventbus shadow` can do besides comparing.
#[derive(Debug, Subcommand)]
pub(crate) enum ShadowCommand {
    /// Make the verdicts of a file that `--divergences` has written again, from the file alone.
    ///
    /// Exit code: 0 if every divergence came out as it was told, 1 if one did not, 2 if the file
    /// cannot be read.
    Replay {
        /// The file.
        #[arg(value_name = "FILE")]
        file: PathBuf,

        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ShadowArgs {
    #[command(subcommand)]
    pub(crate) command: Option<ShadowCommand>,

    /// The bus that the application would see: `crossbeam`, `in-process`, `unix:///path`,
    /// `tcp://host:port` with `tls` configured, or `unix` or `tcp` for a private socket or port with
    /// a broker of its own [default: crossbeam]
    #[arg(long, value_name = "PHASE")]
    pub(crate) primary: Option<Endpoint>,

    /// The bus that is compared with it; may be given several times [default: in-process, unix]
    #[arg(long, value_name = "PHASE")]
    pub(crate) candidate: Vec<Endpoint>,

    /// Where events come from: `proc`, `synthetic`, or a recording `FILE.jsonl`
    #[arg(long, value_name = "SOURCE", default_value = "proc")]
    pub(crate) source: SourceKind,

    /// End the source after this long [default: 10s, unless --events or a recording ends it]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) duration: Option<Duration>,

    /// End the source after this many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) events: Option<u64>,

    /// Events per second of a synthetic source or a recording [default: full speed]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rate: Option<u64>,

    /// Bytes in each synthetic payload [default: 100]
    #[arg(long, value_name = "BYTES")]
    pub(crate) payload: Option<usize>,

    /// Topics of a synthetic source [default: 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) topics: Option<u32>,

    /// Publishers of a synthetic source, each with a handle of its own [default: 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) publishers: Option<u32>,

    /// Restart each publisher after this many synthetic events, with a handle of its own again
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) restart_every: Option<u64>,

    /// Compare the contents of this share of the events, by event: `0.01` or `1%`; delivery and order
    /// are compared of all [default: all]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub(crate) sample: Option<f64>,

    /// First compare the primary with a second one of its kind for this long [default: 5s]: the verdict
    /// then judges latency, and order across publishers, by what those two differ by
    #[arg(long, value_name = "TIME", value_parser = duration, num_args = 0..=1,
          default_missing_value = "5s")]
    pub(crate) calibrate: Option<Duration>,

    /// With --calibrate: how many times slower than the second primary the candidate may be, by the
    /// median [default: 10]
    #[arg(long, value_name = "TIMES", requires = "calibrate", value_parser = times)]
    pub(crate) latency_limit: Option<f64>,

    /// With --calibrate: how much more of the pairs of publishers the candidate may invert than the
    /// second primary does: `0.05` or `5%` [default: 5%]
    #[arg(long, value_name = "SHARE", requires = "calibrate", value_parser = share)]
    pub(crate) inversion_limit: Option<f64>,

    /// Subscriptions that read the events
    #[arg(long, value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) subscribers: u32,

    /// Seed of what is random: synthetic events and sabotage
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,

    /// Write the events to a file that `--source` reads
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) record: Option<PathBuf>,

    /// Write every divergence to a file, with the events around it and without payloads; `eventbus
    /// shadow replay` reads it
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) divergences: Option<PathBuf>,

    /// Print one JSON document instead of tables
    #[arg(long)]
    pub(crate) json: bool,

    /// Write that JSON document to a file, too; if its name ends in `.html`, a page for people instead
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,

    /// Serve a page that shows the comparison while it runs, and `/metrics` and `/healthz` [default:
    /// `observe.listen` of the configuration, if it is set]
    #[arg(long, value_name = "ADDR:PORT|unix:PATH", value_parser = http_address)]
    pub(crate) observe: Option<MetricsAddress>,

    /// Make the candidate misbehave: `drop`, `duplicate`, `reorder`, `corrupt`, `phantom` or
    /// `delay`, for this share of the events (`drop=0.001`, `drop=0.1%`) [default share: 0.1%]
    #[arg(long, value_name = "KIND[=RATE]", hide_short_help = true)]
    pub(crate) sabotage: Option<Sabotaging>,
}

/// Which source, before it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SourceKind {
    Proc,
    Synthetic,
    File(PathBuf),
}

/// What `--sabotage` says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sabotaging {
    pub(crate) kind: Sabotage,
    pub(crate) rate: f64,
}

const DEFAULT_SABOTAGE_RATE: f64 = 0.001;

impl FromStr for SourceKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "proc" => Ok(Self::Proc),
            "synthetic" => Ok(Self::Synthetic),
            file if file.ends_with(".jsonl") => Ok(Self::File(file.into())),
            _ => Err("expected `proc`, `synthetic`, or a file that ends in `.jsonl`".to_owned()),
        }
    }
}

impl FromStr for Sabotaging {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, rate) = match text.split_once('=') {
            Some((kind, rate)) => (kind, share(rate)?),
            None => (text, DEFAULT_SABOTAGE_RATE),
        };
        let kind = kind.parse().map_err(|_| {
            "expected `drop`, `duplicate`, `reorder`, `corrupt`, `phantom` or `delay`".to_owned()
        })?;
        Ok(Self { kind, rate })
    }
}

fn share(text: &str) -> Result<f64, String> {
    let (number, scale) = match text.strip_suffix('%') {
        Some(percent) => (percent, 0.01),
        None => (text, 1.0),
    };
    match number.parse::<f64>() {
        Ok(n) if n > 0.0 && n * scale <= 1.0 => Ok(n * scale),
        _ => {
            Err("expected a share such as `0.001` or `0.1%`, more than 0 and at most 1".to_owned())
        }
    }
}

fn times(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(n) if n >= 1.0 && n.is_finite() => Ok(n),
        _ => Err("expected a number such as `10`, at least 1".to_owned()),
    }
}

/// Where something is served in plain HTTP. At a shell a path may be relative.
pub(crate) fn http_address(text: &str) -> Result<MetricsAddress, String> {
    let whole = match text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
        Some(path) => format!("unix:{}", absolute(Path::new(path))?.display()),
        None => text.to_owned(),
    };
    whole
        .parse()
        .map_err(|expected| format!("expected {expected}"))
}

pub(crate) fn absolute(path: &Path) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|reason| format!("`{}`: {reason}", path.display()))
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("expected a duration such as `10s` or `500ms`".to_owned()),
    }
}

impl ShadowArgs {
    /// Refuses flags that would have no effect on so many comparisons.
    pub(crate) fn check(&self, comparisons: usize) -> Result<(), Failure> {
        let synthetic = self.source == SourceKind::Synthetic;
        let only_synthetic = [
            ("--payload", self.payload.is_some()),
            ("--topics", self.topics.is_some()),
            ("--publishers", self.publishers.is_some()),
            ("--restart-every", self.restart_every.is_some()),
        ];
        for (flag, given) in only_synthetic {
            if given && !synthetic {
                return Err(Failure::Flags(format!(
                    "{flag} is for `--source synthetic`"
                )));
            }
        }
        if self.rate.is_some() && self.source == SourceKind::Proc {
            return Err(Failure::Flags(
                "--rate is for `--source synthetic` and recordings".to_owned(),
            ));
        }
        if self.record.is_some() && comparisons != 1 {
            return Err(Failure::Flags(
                "--record needs exactly one --candidate, since each comparison has its own events"
                    .to_owned(),
            ));
        }
        if self.divergences.is_some() && comparisons != 1 {
            return Err(Failure::Flags(
                "--divergences needs exactly one --candidate, since the file is of one comparison"
                    .to_owned(),
            ));
        }
        self.check_files()?;
        let files = [&self.record, &self.divergences, &self.report];
        files
            .into_iter()
            .flatten()
            .try_for_each(|file| writable(file))
    }

    /// Refuses a file that would be overwritten while it is read, or by another flag.
    fn check_files(&self) -> Result<(), Failure> {
        let source = match &self.source {
            SourceKind::File(source) => Some(source),
            _ => None,
        };
        let files = [
            ("the recording that is read", source),
            ("the file of --record", self.record.as_ref()),
            ("the file of --divergences", self.divergences.as_ref()),
            ("the file of --report", self.report.as_ref()),
        ];
        let flags = ["", "--record", "--divergences", "--report"];
        for (at, (_, file)) in files.iter().enumerate() {
            for (what, before) in &files[..at] {
                if let (Some(file), Some(before)) = (file, before)
                    && same_file(file, before)
                {
                    let flag = flags[at];
                    return Err(Failure::Flags(format!("{flag} would overwrite {what}")));
                }
            }
        }
        Ok(())
    }
}

/// Refuses a file that could not be written, before the work whose result it is to have.
pub(crate) fn writable(file: &Path) -> Result<(), Failure> {
    if file.is_dir() {
        return Err(cannot_write(file, ErrorKind::IsADirectory.into()));
    }
    if file.exists() {
        permitted(file, file, Access::WRITE_OK)
    } else {
        permitted(file, parent(file), IN_DIRECTORY)
    }
}

/// Refuses a file that could not be put in its place, whether or not there is one: it is written beside it
/// first.
pub(crate) fn replaceable(file: &Path) -> Result<(), Failure> {
    let place = if file.is_dir() { file } else { parent(file) };
    permitted(file, place, IN_DIRECTORY)
}

/// What it takes to make a file in a directory.
const IN_DIRECTORY: Access = Access::WRITE_OK.union(Access::EXEC_OK);

/// Refuses `file` if what writing it needs of `path` is not granted.
fn permitted(file: &Path, path: &Path, wanted: Access) -> Result<(), Failure> {
    access(path, wanted).map_err(|reason| cannot_write(file, reason.into()))
}

fn cannot_write(file: &Path, reason: std::io::Error) -> Failure {
    Failure::io(format!("write `{}`", file.display()), reason)
}

fn parent(file: &Path) -> &Path {
    let place = file.parent().filter(|place| !place.as_os_str().is_empty());
    place.unwrap_or(Path::new("."))
}

/// Whether both are one file, which need not be there yet. What is no file, as `/dev/null`, may take
/// anything.
fn same_file(a: &Path, b: &Path) -> bool {
    let no_file = |path: &Path| path.metadata().is_ok_and(|meta| !meta.is_file());
    !no_file(a) && place(a) == place(b)
}

fn place(file: &Path) -> PathBuf {
    let in_directory = || Some(parent(file).canonicalize().ok()?.join(file.file_name()?));
    let whole = file.canonicalize().ok().or_else(in_directory);
    whole.unwrap_or_else(|| file.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sabotage_has_a_kind_and_a_share() {
        let drop: Sabotaging = "drop".parse().unwrap();
        assert_eq!((drop.kind, drop.rate), (Sabotage::Drop, 0.001));
        assert_eq!("delay=0.5".parse::<Sabotaging>().unwrap().rate, 0.5);
        assert_eq!("phantom=10%".parse::<Sabotaging>().unwrap().rate, 0.1);
        for text in [
            "",
            "steal",
            "drop=",
            "drop=0",
            "drop=2",
            "drop=NaN",
            "drop=-1%",
            "drop=200%",
        ] {
            assert!(text.parse::<Sabotaging>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
