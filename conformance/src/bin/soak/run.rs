//! The coordinator: lets publishers on, strikes the faults, waits for the end, and watches.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use conformance::fault::Rules;

use crate::args::Args;
use crate::report::{Faults, Tally};
use crate::scene::{Peer, Scene};
use crate::schedule::{Fault, Scheduled};
use crate::words::Order;

/// How often the coordinator looks.
const BEAT: Duration = Duration::from_millis(5);
/// How often it looks at the memory of its processes.
const MEASURE_EVERY: Duration = Duration::from_millis(200);

/// A run under way.
pub(crate) struct Run<'a> {
    args: &'a Args,
    pub(crate) scene: Scene,
    schedule: VecDeque<Scheduled>,
    stage: Stage,
    pub(crate) tally: Tally,
    measured: Instant,
    moved: (u64, Instant),
}

/// How the next fault stands.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// Publishers are on their way to its place.
    Ahead,
    /// They were let on, and it is to strike at this time.
    Due(Instant),
    /// It has struck, is to last until this time, and so much was held back before.
    Lasting(Instant, u64),
}

impl<'a> Run<'a> {
    pub(crate) fn new(args: &'a Args, scene: Scene, schedule: Vec<Scheduled>) -> Self {
        Self {
            args,
            scene,
            schedule: schedule.into(),
            stage: Stage::Ahead,
            tally: Tally::default(),
            measured: Instant::now(),
            moved: (0, Instant::now()),
        }
    }

    /// Everything, to the end of all processes.
    ///
    /// # Errors
    /// Why it cannot go on: what was found before is there all the same.
    pub(crate) async fn drive(&mut self, show: impl Fn(u64)) -> Result<(), String> {
        let mut beat = tokio::time::interval(BEAT);
        while !self.scene.peers().all(|peer| peer.ready) {
            beat.tick().await;
            self.look("to be connected")?;
        }
        self.measure();
        self.tally.began = Some(Instant::now());
        self.let_on(self.schedule.front().map_or(1.0, |next| next.at))?;
        while self.accepted() < self.args.events || !self.schedule.is_empty() {
            beat.tick().await;
            self.look("to be published")?;
            self.strike()?;
            show(self.accepted());
        }
        let all = self.args.events;
        while self
            .scene
            .subscribers
            .iter()
            .any(|peer| peer.progress.events < all)
        {
            beat.tick().await;
            self.look("to be received")?;
            show(self.accepted());
        }
        self.stop_the_clock();
        // A publisher ends once everybody has confirmed everything: after that nothing can come.
        end(&mut self.scene.publishers, &Order::End(Vec::new()))?;
        while self.scene.publishers.iter().any(|peer| peer.done.is_none()) {
            beat.tick().await;
            self.look("publishers to end")?;
        }
        self.end_subscribers().await
    }

    /// Has the subscribers judge by what was accepted, as far as that is known.
    pub(crate) async fn end_subscribers(&mut self) -> Result<(), String> {
        let mut accepted = Vec::new();
        for (number, peer) in (0..).zip(&self.scene.publishers) {
            let Some(done) = &peer.done else {
                return Err(format!("{} has not ended", peer.process.name()));
            };
            let topics = (0..).zip(&done.accepted);
            accepted.extend(topics.map(|(topic, events)| (number, topic, *events)));
        }
        end(&mut self.scene.subscribers, &Order::End(accepted))?;
        self.moved.1 = Instant::now();
        let mut beat = tokio::time::interval(BEAT);
        while self
            .scene
            .subscribers
            .iter()
            .any(|peer| peer.done.is_none())
        {
            beat.tick().await;
            self.look("subscribers to end")?;
        }
        Ok(())
    }

    /// Has everybody end who still can, to learn what they know.
    pub(crate) async fn salvage(&mut self) {
        // Nobody is to be found stopped or cut off.
        for peer in self.scene.peers() {
            peer.process.resume();
            peer.proxy.heal();
        }
        let _ = end(&mut self.scene.publishers, &Order::End(Vec::new()));
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut beat = tokio::time::interval(BEAT);
        while Instant::now() < deadline
            && self.scene.publishers.iter().any(|peer| peer.done.is_none())
        {
            beat.tick().await;
            if self.scene.listen().is_err() {
                return;
            }
        }
        let _ = tokio::time::timeout(Duration::from_secs(10), self.end_subscribers()).await;
    }

    /// Throughput is told of the time up to here.
    pub(crate) fn stop_the_clock(&mut self) {
        self.measure();
        if let Some(began) = self.tally.began.take() {
            self.tally.elapsed = began.elapsed();
        }
    }

    fn accepted(&self) -> u64 {
        let events = self
            .scene
            .publishers
            .iter()
            .map(|peer| peer.progress.events);
        events.sum()
    }

    /// Hears everybody, measures, and sees whether anything moves.
    fn look(&mut self, what: &str) -> Result<(), String> {
        self.scene.listen()?;
        if self.measured.elapsed() > MEASURE_EVERY {
            self.measured = Instant::now();
            self.measure();
        }
        let ready = self.scene.peers().filter(|peer| peer.ready).count() as u64;
        let done = self
            .scene
            .peers()
            .filter(|peer| peer.done.is_some())
            .count() as u64;
        let events: u64 = self.scene.peers().map(|peer| peer.progress.events).sum();
        let now = events + ready + done;
        if now != self.moved.0
            || matches!(self.stage, Stage::Lasting(until, _) if until > Instant::now())
        {
            self.moved = (now, Instant::now());
        }
        let idle = self.moved.1.elapsed();
        if idle > self.args.patience() {
            return Err(format!(
                "nothing has moved for {idle:.0?}, waiting for events {what}"
            ));
        }
        Ok(())
    }

    fn measure(&mut self) {
        let processes = self.scene.peers().map(|peer| &peer.process);
        for process in processes.chain(self.scene.broker.process()) {
            let bytes = process.peak_memory().unwrap_or_default();
            let most = self
                .tally
                .memory
                .entry(process.name().to_owned())
                .or_default();
            *most = bytes.max(*most);
        }
    }

    fn let_on(&mut self, fraction: f64) -> Result<(), String> {
        let limits = self.limits(fraction);
        for (peer, limit) in self.scene.publishers.iter_mut().zip(limits) {
            peer.tell(&Order::Publish(limit))?;
        }
        Ok(())
    }

    /// How many events each publisher may have published at a fraction of the run.
    fn limits(&self, fraction: f64) -> Vec<u64> {
        let (publishers, events) = (u64::from(self.args.publishers), self.args.events);
        let quotas =
            (0..publishers).map(|n| events / publishers + u64::from(n < events % publishers));
        let part = |quota: u64| ((quota as f64 * fraction) as u64).min(quota);
        quotas
            .map(|quota| if fraction >= 1.0 { quota } else { part(quota) })
            .collect()
    }

    /// The next step of the next fault, if it is time for it.
    fn strike(&mut self) -> Result<(), String> {
        let Some(next) = self.schedule.front().copied() else {
            return Ok(());
        };
        let now = Instant::now();
        match self.stage {
            Stage::Ahead if self.accepted() == self.limits(next.at).iter().sum::<u64>() => {
                self.let_on(next.until)?;
                self.stage = Stage::Due(now + next.after);
            }
            Stage::Due(at) if now >= at => {
                let held = self.held(next.fault);
                if let Some(lasts) = self.begin(next.fault) {
                    self.stage = Stage::Lasting(now + lasts, held);
                }
            }
            Stage::Lasting(until, held) if now >= until => {
                // A partition that has held nothing back was none yet.
                if matches!(next.fault, Fault::Partition { .. }) && self.held(next.fault) == held {
                    return Ok(());
                }
                self.finish(next.fault)?;
                self.schedule.pop_front();
                self.stage = Stage::Ahead;
                self.let_on(self.schedule.front().map_or(1.0, |next| next.at))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn held(&self, fault: Fault) -> u64 {
        match fault {
            Fault::Partition { peer, .. } => self.scene.peer(peer).proxy.struck().held,
            _ => 0,
        }
    }

    /// Strikes, and returns how long it lasts; `None` if there was nothing to strike yet.
    fn begin(&mut self, fault: Fault) -> Option<Duration> {
        match fault {
            Fault::Kill { down } => {
                self.scene.broker.kill();
                Some(down)
            }
            Fault::Reset { peer } => {
                let proxy = &self.scene.peer(peer).proxy;
                (proxy.reset() > 0).then_some(Duration::ZERO)
            }
            Fault::Partition { peer, way, lasts } => {
                let proxy = &self.scene.peer(peer).proxy;
                if proxy.connections() == 0 {
                    return None;
                }
                proxy.rule(way.map_or_else(Rules::partitioned, Rules::half_partitioned));
                Some(lasts)
            }
            Fault::Stall { subscriber, lasts } => {
                self.scene.subscribers[subscriber].process.stop();
                Some(lasts)
            }
        }
    }

    fn finish(&mut self, fault: Fault) -> Result<(), String> {
        let struck = &mut self.tally.struck;
        match fault {
            Fault::Kill { .. } => {
                struck.kills += 1;
                let started = self.scene.broker.start();
                started.map_err(|error| error.to_string())?;
            }
            Fault::Reset { .. } => struck.resets += 1,
            Fault::Partition { peer, .. } => {
                struck.partitions += 1;
                self.scene.peer(peer).proxy.heal();
            }
            Fault::Stall { subscriber, .. } => {
                struck.stalls += 1;
                self.scene.subscribers[subscriber].process.resume();
            }
        }
        Ok(())
    }

    /// The faults that were asked for.
    pub(crate) fn asked(args: &Args) -> Faults {
        Faults {
            kills: args.kills,
            resets: args.resets,
            partitions: args.partitions,
            stalls: args.stalls,
        }
    }
}

fn end(peers: &mut [Peer], order: &Order) -> Result<(), String> {
    peers.iter_mut().try_for_each(|peer| peer.tell(order))
}
