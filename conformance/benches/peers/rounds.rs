//! Children in turn, A B A B, and medians of what they say.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::report::results::{Percentiles, Row, Table};
use crate::scenario::{Contender, Pace, Sample, Scenario, Style};

/// How long one measurement may take.
const WATCHDOG: Duration = Duration::from_secs(120);
/// Windows of confirmations that are tried.
const WINDOWS: [usize; 3] = [64, 256, 1024];
/// Seconds that a trial publishes.
const TRIAL: f64 = 0.1;

/// A run in progress.
#[derive(Debug)]
pub(crate) struct Rounds {
    count: usize,
    bar: ProgressBar,
}

impl Rounds {
    pub(crate) fn new(count: usize) -> Self {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{elapsed} {bar:40} {pos}/{len} {msg}");
        bar.set_style(style.unwrap());
        Self { count, bar }
    }

    /// Samples of every scenario: so many rounds, in each of which each runs once.
    pub(crate) fn samples(&self, what: &str, scenarios: &[Scenario]) -> Vec<Vec<Sample>> {
        self.bar.inc_length((self.count * scenarios.len()) as u64);
        let mut samples = vec![Vec::new(); scenarios.len()];
        for _ in 0..self.count {
            for (scenario, samples) in scenarios.iter().zip(&mut samples) {
                self.bar
                    .set_message(format!("{what}: {}", scenario.contender.name()));
                samples.push(measure(scenario));
                self.bar.inc(1);
            }
        }
        samples
    }

    /// Contenders under one load, each of ours beside the raw part that it stands on.
    pub(crate) fn table(&self, name: &str, mut scenarios: Vec<Scenario>) -> Table {
        for scenario in &mut scenarios {
            choose(scenario);
        }
        let samples = self.samples(name, &scenarios);
        let of = |contender: Contender| {
            let at = scenarios.iter().position(|s| s.contender == contender)?;
            Some(samples[at].as_slice())
        };
        let rows = scenarios.iter().zip(&samples).map(|(scenario, samples)| {
            let raw = scenario.contender.raw();
            row(scenario, samples, raw.and_then(|raw| Some((raw, of(raw)?))))
        });
        Table {
            name: name.to_owned(),
            rows: rows.collect(),
        }
    }
}

/// Tries a raw client of a broker with each window, where publishers are on threads of their own and
/// where they are not. Once, before the rounds: the best of each round would be luck.
fn choose(scenario: &mut Scenario) {
    let has_window = scenario.contender.is_raw_socket() && scenario.at_least_once;
    let windows = if has_window { &WINDOWS[..] } else { &[1024] };
    let styles: &[_] = match scenario.pace {
        Pace::Saturated { .. } if scenario.contender.is_raw_socket() => {
            &[Style::Threads, Style::Tasks]
        }
        _ => &[scenario.style],
    };
    let trials: Vec<_> = styles
        .iter()
        .flat_map(|style| windows.iter().map(|window| (*style, *window)))
        .collect();
    if trials.len() == 1 {
        return;
    }
    let rate = |(style, window)| {
        let trial = Scenario {
            style,
            window,
            stamped: false,
            pace: Pace::Saturated { seconds: TRIAL },
            ..scenario.clone()
        };
        measure(&trial).rate()
    };
    let mut best = (0.0, (scenario.style, scenario.window));
    for trial in trials {
        let rate = rate(trial);
        if rate > best.0 {
            best = (rate, trial);
        }
    }
    (scenario.style, scenario.window) = best.1;
}

/// Runs one measurement in a child.
fn measure(scenario: &Scenario) -> Sample {
    let wanted = serde_json::to_string(scenario).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--child", &wanted])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = child.stdout.take().unwrap();
    let (said, saying) = crossbeam_channel::bounded(1);
    std::thread::spawn(move || {
        let mut text = String::new();
        let _ = output.read_to_string(&mut text);
        let _ = said.send(text);
    });
    let Ok(text) = saying.recv_timeout(WATCHDOG) else {
        child.kill().unwrap();
        panic!("it did not end: {wanted}");
    };
    assert!(child.wait().unwrap().success(), "it failed: {wanted}");
    serde_json::from_str(&text).unwrap()
}

fn row(scenario: &Scenario, samples: &[Sample], raw: Option<(Contender, &[Sample])>) -> Row {
    let of = |figure: &dyn Fn(&Sample) -> f64| median(samples.iter().map(figure));
    let ratio = |figure: &dyn Fn(&Sample) -> f64| {
        let (_, raw) = raw?;
        Some(median(
            samples
                .iter()
                .zip(raw)
                .map(|(ours, raw)| figure(ours) / figure(raw)),
        ))
    };
    let p50 = |sample: &Sample| sample.latency.map_or(0.0, |latency| latency.p50 as f64);
    Row {
        name: scenario.contender.name().to_owned(),
        beside: raw.map(|(raw, _)| raw.name().to_owned()),
        rate: of(&Sample::rate),
        rate_ratio: ratio(&Sample::rate),
        rates: samples.iter().map(Sample::rate).collect(),
        cost: of(&Sample::cost),
        cpu: of(&Sample::cpu),
        memory: of(&|sample| sample.memory as f64),
        dropped: of(&|sample| sample.dropped as f64 / (sample.dropped + sample.delivered) as f64),
        window: (scenario.contender.is_raw_socket() && scenario.at_least_once)
            .then_some(scenario.window),
        latency: percentiles(samples),
        p50_ratio: scenario.stamped.then(|| ratio(&p50)).flatten(),
    }
}

fn percentiles(samples: &[Sample]) -> Option<Percentiles> {
    let all: Vec<_> = samples.iter().filter_map(|sample| sample.latency).collect();
    Some(Percentiles {
        p50: median(all.iter().map(|one| one.p50 as f64)),
        p99: median(all.iter().map(|one| one.p99 as f64)),
        p999: median(all.iter().map(|one| one.p999 as f64)),
        max: all.iter().map(|one| one.max).max()? as f64,
    })
}

pub(crate) fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<_> = figures.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
