//! One comparison from opening to report.

use std::sync::Arc;
use std::time::Duration;

use eventbus::observe::Observer;
use eventbus::shadow::sabotage::SabotageBus;
use eventbus::shadow::{
    DivergenceFile, NoiseFloor, Report, Sample, ShadowBus, ShadowOptions, WhenFull,
};
use eventbus::{Config, Event, EventBus, Phase};
use tokio::time::Instant;
use tracing::{info, warn};

use super::endpoint::{Endpoint, Opened};
use super::feed::{Bounds, Feed};
use super::output::{Run, SabotageCount};
use super::progress::Progress;
use super::readers::Readers;
use super::recording::Recorder;
use super::source::Source;
use super::watch::Watch;
use crate::args::ShadowArgs;
use crate::failure::Failure;

/// How long both sides may take to deliver the rest once the source has ended.
const SETTLE: Duration = Duration::from_secs(60);
/// How much longer than that to wait for what is missing.
const AFTERTHOUGHT: Duration = Duration::from_secs(2);

/// What is compared, how, and on which events.
#[derive(Debug)]
pub(crate) struct Comparison<'a> {
    pub(crate) args: &'a ShadowArgs,
    pub(crate) config: &'a Config,
    pub(crate) source: &'a Source,
    pub(crate) observer: &'a Observer,
    pub(crate) primary: &'a Endpoint,
    pub(crate) candidate: &'a Endpoint,
    pub(crate) purpose: Purpose,
}

/// What a comparison is for.
#[derive(Debug)]
pub(crate) enum Purpose {
    /// Judging a candidate, by what two primaries differ by if that is known.
    Judge(Option<NoiseFloor>),
    /// Finding out what two primaries differ by, for so long.
    Calibrate(Duration),
}

impl Comparison<'_> {
    /// Runs the source through both ends and reports. Interrupting the program ends the source,
    /// and what was published until then is compared; nothing, if it was interrupted before.
    pub(crate) async fn run(&self, watch: &mut Watch) -> Result<Option<Run>, Failure> {
        watch.notice_pending().await?;
        if watch.is_interrupted() {
            return Ok(None);
        }
        if let (Endpoint::Phase(primary), Endpoint::Phase(candidate)) =
            (self.primary, self.candidate)
        {
            Phase::shadow(primary.clone(), candidate.clone())?;
        }
        let opening = Box::pin(async {
            let primary = self.primary.open(self.config).await?;
            Ok((primary, self.candidate.open(self.config).await?))
        });
        let opened = watch.beside(opening).await;
        if watch.is_interrupted() {
            if let Ok((primary, candidate)) = opened {
                close([primary, candidate]).await;
            }
            return Ok(None);
        }
        let (primary, candidate) = opened?;
        let sabotage = self.args.sabotage.filter(|_| self.calibrates().is_none());
        let saboteur = sabotage.map(|sabotage| {
            let inner = Arc::clone(&candidate.bus);
            SabotageBus::new(inner, sabotage.kind, sabotage.rate, self.args.seed)
        });
        let side: Arc<dyn EventBus> = match &saboteur {
            Some(saboteur) => Arc::clone(saboteur) as _,
            None => Arc::clone(&candidate.bus),
        };
        let shadow = ShadowBus::new(
            Arc::clone(&primary.bus),
            side,
            self.options(saboteur.as_ref()),
        );
        let run = self.drive(&shadow, saboteur.as_deref(), watch).await;
        close([primary, candidate]).await;
        run.map(Some)
    }

    async fn drive(
        &self,
        shadow: &Arc<ShadowBus>,
        saboteur: Option<&SabotageBus>,
        watch: &mut Watch,
    ) -> Result<Run, Failure> {
        let record = self.args.record.as_deref();
        let record = record.filter(|_| self.calibrates().is_none());
        let recorder = record.map(Recorder::create);
        let bounds = match self.calibrates() {
            None => self.source.bounds(self.args),
            time => Bounds {
                events: None,
                duration: time,
            },
        };
        let feed = Arc::new(Feed::new(bounds, recorder.transpose()?));
        tokio::select! {
            run = self.feed(shadow, saboteur, &feed) => run,
            failure = watch.over(&feed) => Err(failure),
        }
    }

    async fn feed(
        &self,
        shadow: &Arc<ShadowBus>,
        saboteur: Option<&SabotageBus>,
        feed: &Arc<Feed>,
    ) -> Result<Run, Failure> {
        let bus: Arc<dyn EventBus> = Arc::clone(shadow) as _;
        // A handle of their own, so that events really cross what lies between two handles.
        let reading = bus.connect(None).await?;
        self.observer.forget();
        if self.calibrates().is_none() {
            self.observer.watch_shadow(shadow);
        }
        self.observer.watch_bus(&bus);
        self.observer.watch_bus(&reading);
        let readers = Readers::subscribe(&reading, self.source, self.args.subscribers).await?;
        let what = match self.purpose {
            Purpose::Judge(_) => format!("{} and {}", self.primary, self.candidate),
            Purpose::Calibrate(_) => format!("calibration: two {}", self.primary),
        };
        let progress = Progress::follow(feed, what);
        info!(primary = %self.primary, candidate = %self.candidate, "source begins");
        self.source.run(&bus, feed).await?;
        feed.finish()?;
        let seconds = feed.elapsed().as_secs_f64();
        let mut report = settled_report(shadow).await;
        let observed = self.observer.note();
        drop(progress);
        for handle in [&reading, &bus] {
            // Closing ends the subscriptions once they have been read.
            if let Err(reason) = handle.shutdown().await {
                warn!(%reason, "shadow closed early");
            }
        }
        // With what was still on its way to the disk.
        report.divergence_file = shadow.report().divergence_file;
        let published = feed.published();
        Ok(Run {
            primary: self.primary.to_string(),
            candidate: self.candidate.to_string(),
            verdict: report.verdict,
            published,
            seconds,
            events_per_second: published as f64 / seconds.max(f64::MIN_POSITIVE),
            subscriptions: readers.join().await,
            sabotage: self
                .args
                .sabotage
                .zip(saboteur)
                .map(|(asked, bus)| SabotageCount::new(asked, self.args.seed, bus, &report)),
            report,
            observed,
        })
    }
}

impl Comparison<'_> {
    /// For how long, if it is no comparison of its own.
    fn calibrates(&self) -> Option<Duration> {
        match self.purpose {
            Purpose::Judge(_) => None,
            Purpose::Calibrate(time) => Some(time),
        }
    }

    /// Never faster than the candidate, so that everything is compared; and as many divergences by
    /// place as somebody could want to look at.
    fn options(&self, sabotage: Option<&Arc<SabotageBus>>) -> ShadowOptions {
        let args = self.args;
        let by_bytes = |event: &Event| event.bytes().ok();
        let whole = ShadowOptions {
            when_full: WhenFull::Wait,
            max_divergences: 10_000,
            sample: args.sample.map(|share| Sample::by(share, by_bytes)),
            ..ShadowOptions::default()
        };
        let Purpose::Judge(noise_floor) = &self.purpose else {
            return whole;
        };
        ShadowOptions {
            sabotage: sabotage.map(Arc::clone),
            divergence_file: args.divergences.as_ref().map(DivergenceFile::new),
            noise_floor: noise_floor.clone(),
            latency_limit: args.latency_limit.unwrap_or(whole.latency_limit),
            inversion_limit: args.inversion_limit.unwrap_or(whole.inversion_limit),
            ..whole
        }
    }
}

/// The report once everything is decided. What is still open at the deadline is told as in flight,
/// and the verdict says so.
async fn settled_report(shadow: &ShadowBus) -> Report {
    let _ = shadow.settle(SETTLE).await;
    let report = shadow.report();
    if report.missing == 0 {
        return report;
    }
    // What is missing may still come, which makes it late.
    tokio::time::sleep_until(Instant::now() + AFTERTHOUGHT).await;
    let _ = shadow.settle(SETTLE).await;
    shadow.report()
}

/// Closes both ends; the private directory goes with its end.
async fn close(ends: [Opened; 2]) {
    for end in &ends {
        if let Err(reason) = end.bus.shutdown().await {
            warn!(backend = end.bus.backend(), %reason, "closed early");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use clap::Parser as _;
    use eventbus::BrokerMode;
    use rustix::process::{Signal, getpid, kill_process};
    use tokio::signal::unix::{SignalKind, signal};

    use super::*;
    use crate::args::{Cli, Command};

    #[tokio::test]
    async fn after_an_interrupt_between_two_comparisons_nothing_is_opened() {
        let cli = Cli::try_parse_from(["eventbus", "shadow", "--source", "synthetic"]).unwrap();
        let Command::Shadow(args) = cli.command else {
            panic!("{cli:?}");
        };
        let directory = tempfile::tempdir().unwrap();
        let silent = directory.path().join("silent.sock");
        let broker = UnixListener::bind(&silent).unwrap();
        broker.set_nonblocking(true).unwrap();
        let config = Config::default().broker_mode(BrokerMode::External);
        let comparison = Comparison {
            args: &args,
            config: &config,
            source: &Source::new(&args, &config).unwrap(),
            observer: &Observer::new("test"),
            primary: &Endpoint::Phase(Phase::Crossbeam),
            candidate: &Endpoint::Phase(Phase::Unix(silent)),
            purpose: Purpose::Judge(None),
        };
        let mut watch = Watch::new().unwrap();
        let mut interrupts = signal(SignalKind::interrupt()).unwrap();
        kill_process(getpid(), Signal::INT).unwrap();
        interrupts.recv().await;
        assert!(comparison.run(&mut watch).await.unwrap().is_none());
        let nobody = broker.accept().unwrap_err();
        assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock);
    }
}
