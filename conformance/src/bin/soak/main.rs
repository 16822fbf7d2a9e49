//! `soak`: many events, several processes, faults, and a verdict on what arrived.
//!
//! One program in four roles. Started by a user it coordinates: it starts itself again as the
//! broker, the publishers and the subscribers, puts a proxy in front of each peer, strikes, and
//! judges. Whatever its parts say about themselves, the verdict rests on what subscribers saw.

mod args;
mod broker;
mod peer;
mod publisher;
mod report;
mod run;
mod scene;
mod schedule;
mod subscriber;
mod words;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use indicatif::{ProgressBar, ProgressStyle};

use args::Args;
use report::{Report, Verdict};
use words::{Part, Word, say};

/// The run could not be made.
const NO_RUN: u8 = 2;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return cannot(&error.to_string()),
    };
    if let Ok(part) = std::env::var(words::PART) {
        log();
        let played = runtime.block_on(play(&part));
        // A thread that reads orders may be waiting for one for ever.
        runtime.shutdown_background();
        return played;
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // To standard output if it was asked for, to standard error if not.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(NO_RUN));
        }
    };
    if let Err(error) = args.check() {
        return cannot(&error);
    }
    runtime.block_on(coordinate(&args))
}

/// What the buses log, if `RUST_LOG` asks for it.
fn log() {
    if std::env::var_os("RUST_LOG").is_none() {
        return;
    }
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
}

fn cannot(reason: &str) -> ExitCode {
    eprintln!("soak: {reason}");
    ExitCode::from(NO_RUN)
}

/// One of the processes of a run.
async fn play(part: &str) -> ExitCode {
    let played = match serde_json::from_str(part) {
        Ok(Part::Broker(door)) => broker::play(door).await,
        Ok(Part::Publisher(part)) => publisher::play(part).await,
        Ok(Part::Subscriber(part)) => subscriber::play(part).await,
        Err(error) => Err(error.to_string()),
    };
    match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            say(&Word::Failed(reason));
            ExitCode::FAILURE
        }
    }
}

async fn coordinate(args: &Args) -> ExitCode {
    let seed = args.seed.unwrap_or_else(rand::random);
    let scene = match scene::Scene::start(args) {
        Ok(scene) => scene,
        Err(error) => return cannot(&error),
    };
    let bar = progress_bar(args);
    let mut run = run::Run::new(args, scene, schedule::schedule(args, seed));
    let ended = run.drive(|accepted| bar.set_position(accepted)).await;
    bar.finish_and_clear();
    run.stop_the_clock();
    let mut waiting = Vec::new();
    if ended.is_err() {
        waiting = run.scene.dump();
        run.salvage().await;
    }
    let report = Report::of(args, seed, &run, ended, waiting);
    if args.json {
        match serde_json::to_string_pretty(&report) {
            Ok(json) => println!("{json}"),
            Err(error) => return cannot(&error.to_string()),
        }
    } else {
        print!("{report}");
    }
    match report.verdict {
        Verdict::Pass => ExitCode::SUCCESS,
        Verdict::Fail | Verdict::Inconclusive => ExitCode::FAILURE,
    }
}

fn progress_bar(args: &Args) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(args.events);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} events, {elapsed}") {
        bar.set_style(style);
    }
    bar
}
