//! This machine's processes as events, read from `/proc`.
//!
//! The kernel tells nobody without privileges about starts and exits, so this looks often and
//! compares: a process is its id together with its start time, new if it was not there a pass
//! ago, gone if it no longer is. What lives shorter than a pass is not seen; a comparison of buses
//! needs many real events, not all of them.
//!
//! Invariant: per process, `new` or the first `metadata` comes before any other event, and nothing
//! comes after `exit`.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use eventbus::codec::Json;
use eventbus::{Event, EventBus, Payload, Topic};
use procfs::process::{Process, Stat, all_processes};
use serde::{Deserialize, Serialize};
use tokio::time::MissedTickBehavior;

use super::children::Children;
use crate::failure::Failure;
use crate::shadow::feed::Feed;
use crate::tell;

/// Time between two passes.
const INTERVAL: Duration = Duration::from_millis(25);
/// Processes told of again in each pass though nothing about them has changed, in turn.
const REFRESHED: usize = 16;

/// What is told of a process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProcessEvent {
    /// Why it is told: `started`, `exited`, `present` at the first pass, `changed`, `refreshed`.
    reason: String,
    /// Microseconds since 1970.
    observed_us: u64,
    pid: i32,
    ppid: i32,
    /// Start time in clock ticks since boot; with `pid` it identifies the process.
    start_ticks: u64,
    uid: Option<u32>,
    comm: String,
    /// Path of the program, if we may know it.
    exe: Option<String>,
    cmdline: Vec<String>,
    /// One letter, as `ps` shows it.
    state: String,
    threads: i64,
    rss_bytes: u64,
    utime_ms: u64,
    stime_ms: u64,
}

/// A process for its whole life: a process id alone is used again.
type Identity = (i32, u64);

/// Looks at `/proc` and remembers what it saw.
#[derive(Debug)]
struct Observer {
    new: Topic,
    exit: Topic,
    metadata: Topic,
    known: BTreeMap<Identity, Known>,
    pass: u64,
    /// The process that was refreshed last.
    turn: Identity,
    ms_per_tick: u64,
    page_bytes: u64,
    children: Children,
}

#[derive(Debug)]
struct Known {
    process: ProcessEvent,
    /// Pass in which it was last there.
    seen: u64,
    /// Pass in which it was last told of.
    told: u64,
}

/// Says so when the processes of others cannot be seen, so that few events are no riddle.
///
/// # Errors
/// If none can be seen.
pub(super) fn tell_what_is_hidden() -> Result<(), Failure> {
    if let Err(reason) = std::fs::read("/proc/self/stat") {
        let why = format!("{reason}; is it mounted? `--source synthetic` needs none");
        return Err(Failure::io("look at /proc", why));
    }
    if std::fs::read("/proc/1/stat").is_err() {
        tell(
            "/proc shows only processes of this user (hidepid), so only those are compared; \
             `--source synthetic` needs none",
        );
    }
    Ok(())
}

/// Publishes what happens to processes until the feed wants no more.
pub(crate) async fn run(bus: &Arc<dyn EventBus>, feed: &Arc<Feed>) -> Result<(), Failure> {
    let mut observer = Observer::new()?;
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let look = move || {
            let events = observer.look();
            (observer, events)
        };
        let (back, events) = tokio::task::spawn_blocking(look)
            .await
            .map_err(|reason| Failure::io("look at /proc", reason))?;
        observer = back;
        let mut events = events?;
        if events.is_empty() {
            // Nothing to claim, but the end must be noticed all the same.
            if feed.is_over() {
                return Ok(());
            }
            continue;
        }
        let claimed = feed.claim(events.len());
        if claimed == 0 {
            return Ok(());
        }
        events.truncate(claimed);
        feed.publish(bus, 0, events).await?;
    }
}

impl Observer {
    fn new() -> Result<Self, Failure> {
        let topic = |name: &str| {
            Topic::new(format!("events.process.{name}"))
                .map_err(|reason| Failure::io("name a topic", reason))
        };
        Ok(Self {
            new: topic("new")?,
            exit: topic("exit")?,
            metadata: topic("metadata")?,
            known: BTreeMap::new(),
            pass: 0,
            turn: (0, 0),
            ms_per_tick: 1_000 / procfs::ticks_per_second().clamp(1, 1_000),
            page_bytes: procfs::page_size(),
            children: Children::default(),
        })
    }

    /// One pass: what ended, what began or changed, and a few that did neither.
    fn look(&mut self) -> Result<Vec<Event>, Failure> {
        self.children.tend();
        self.pass += 1;
        let observed_us = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |t| u64::try_from(t.as_micros()).unwrap_or(u64::MAX));
        let all = all_processes().map_err(|reason| Failure::io("list /proc", reason))?;
        let mut met = Vec::new();
        for process in all.filter_map(Result::ok) {
            // A process that ends while it is read is missed by the next pass; that is its exit.
            if let Ok(stat) = process.stat() {
                met.extend(self.meet(&process, &stat, observed_us));
            }
        }
        let mut told = self.part(observed_us);
        told.append(&mut met);
        told.append(&mut self.refresh(observed_us));
        Ok(told)
    }

    /// A process that is there: new, changed, or nothing to tell.
    fn meet(&mut self, process: &Process, stat: &Stat, observed_us: u64) -> Option<Event> {
        let (first, pass) = (self.pass == 1, self.pass);
        let current = self.read(stat);
        match self.known.get_mut(&(stat.pid, stat.starttime)) {
            Some(known) => {
                known.seen = pass;
                if !known.process.update(current, process) {
                    return None;
                }
                known.told = pass;
                Some(known.process.tell(&self.metadata, "changed", observed_us))
            }
            None => {
                let mut current = current;
                current.identify(process);
                let event = if first {
                    current.tell(&self.metadata, "present", observed_us)
                } else {
                    current.tell(&self.new, "started", observed_us)
                };
                let known = Known {
                    process: current,
                    seen: pass,
                    told: pass,
                };
                self.known.insert((stat.pid, stat.starttime), known);
                Some(event)
            }
        }
    }

    /// The processes that are gone.
    fn part(&mut self, observed_us: u64) -> Vec<Event> {
        let mut told = Vec::new();
        let (pass, exit) = (self.pass, &self.exit);
        self.known.retain(|_, known| {
            let there = known.seen == pass;
            if !there {
                told.push(known.process.tell(exit, "exited", observed_us));
            }
            there
        });
        told
    }

    /// The next few processes, in turn, that this pass has not told of.
    fn refresh(&mut self, observed_us: u64) -> Vec<Event> {
        let after = (Bound::Excluded(self.turn), Bound::Unbounded);
        let round = self
            .known
            .range(after)
            .chain(self.known.range(..=self.turn));
        let mut told = Vec::new();
        for (identity, known) in round.take(REFRESHED) {
            self.turn = *identity;
            if known.told != self.pass {
                let event = known.process.tell(&self.metadata, "refreshed", observed_us);
                told.push(event);
            }
        }
        told
    }

    fn read(&self, stat: &Stat) -> ProcessEvent {
        ProcessEvent {
            reason: String::new(),
            observed_us: 0,
            pid: stat.pid,
            ppid: stat.ppid,
            start_ticks: stat.starttime,
            uid: None,
            comm: stat.comm.clone(),
            exe: None,
            cmdline: Vec::new(),
            state: stat.state.to_string(),
            threads: stat.num_threads,
            rss_bytes: stat.rss.saturating_mul(self.page_bytes),
            utime_ms: stat.utime.saturating_mul(self.ms_per_tick),
            stime_ms: stat.stime.saturating_mul(self.ms_per_tick),
        }
    }
}

impl ProcessEvent {
    /// Reads what costs more than a glance, and is refused for the processes of others.
    fn identify(&mut self, process: &Process) {
        self.uid = process.uid().ok();
        self.exe = process.exe().ok().map(|exe| exe.display().to_string());
        self.cmdline = process.cmdline().unwrap_or_default();
    }

    /// Takes over what a later pass has read; says whether anything has changed.
    fn update(&mut self, mut current: Self, process: &Process) -> bool {
        // A process that has started another program has another name.
        if current.comm == self.comm {
            current.uid = self.uid;
            current.exe = self.exe.take();
            current.cmdline = std::mem::take(&mut self.cmdline);
        } else {
            current.identify(process);
        }
        let volatile = |p: &Self| (p.ppid, p.threads, p.rss_bytes, p.utime_ms, p.stime_ms);
        let changed = volatile(self) != volatile(&current)
            || self.state != current.state
            || self.comm != current.comm;
        *self = current;
        changed
    }

    fn tell(&self, topic: &Topic, reason: &str, observed_us: u64) -> Event {
        let told = Self {
            reason: reason.to_owned(),
            observed_us,
            ..self.clone()
        };
        Event::on(topic.clone(), Payload::typed::<Self, Json>(told))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(events: &[Event]) -> Vec<(String, ProcessEvent)> {
        events
            .iter()
            .map(|event| {
                let process = event.decode_json::<ProcessEvent>().unwrap();
                (event.topic().to_string(), (*process).clone())
            })
            .collect()
    }

    #[test]
    fn the_first_pass_tells_who_is_there() {
        let mut observer = Observer::new().unwrap();
        let events = told(&observer.look().unwrap());
        let own = i32::try_from(std::process::id()).unwrap();
        let (topic, me) = events.iter().find(|(_, p)| p.pid == own).unwrap();
        assert_eq!(topic, "events.process.metadata");
        assert_eq!(me.reason, "present");
        assert!(me.threads > 0 && me.rss_bytes > 0 && !me.comm.is_empty());
        assert!(!me.cmdline.is_empty() && me.exe.is_some() && me.uid.is_some());
    }

    #[test]
    fn a_life_is_told_from_start_to_exit_and_no_further() {
        let mut observer = Observer::new().unwrap();
        let mut lives: BTreeMap<(i32, u64), Vec<String>> = BTreeMap::new();
        // Own children start and end by themselves, one every other pass.
        let ended = |lives: &BTreeMap<_, Vec<String>>| {
            let own = |life: &&Vec<String>| life.first().is_some_and(|t| t.ends_with(".new"));
            let whole = |life: &&Vec<String>| life.last().is_some_and(|t| t.ends_with(".exit"));
            lives.values().filter(own).filter(whole).count()
        };
        while ended(&lives) < 3 {
            for (topic, process) in told(&observer.look().unwrap()) {
                let identity = (process.pid, process.start_ticks);
                lives.entry(identity).or_default().push(topic);
            }
        }
        for (identity, life) in &lives {
            for (at, topic) in life.iter().enumerate() {
                let last = at + 1 == life.len();
                assert!(
                    !topic.ends_with(".new") || at == 0,
                    "{identity:?}: {life:?}"
                );
                assert!(!topic.ends_with(".exit") || last, "{identity:?}: {life:?}");
            }
        }
    }

    #[test]
    fn processes_are_refreshed_in_turn() {
        let mut observer = Observer::new().unwrap();
        observer.look().unwrap();
        let first = observer.turn;
        observer.look().unwrap();
        let known = observer.known.len();
        assert!(observer.turn != first || known <= REFRESHED);
    }
}
