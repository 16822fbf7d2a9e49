//! Where to look, and what was seen a moment ago.
//!
//! Sources are functions that look without waiting. They hold nothing alive: a bus that was dropped
//! is gone, whoever watched it.
//!
//! Invariant: looking never fails and never panics; a source that does is a reason not to be healthy.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use eventbus_trait::{BusState, EventBus, Stats};
use parking_lot::Mutex;
use shadow::ShadowBus;
use tokio::time::{MissedTickBehavior, interval};

use super::history::{Keeper, TICK_MS};
use super::observed::{self, Brokered, Health, Observed, SCHEMA, Shadowed};
use super::rows::{LeftOut, Rows};
use crate::rollout::status::Status;

/// What was seen so short a time ago is not looked at again: many who ask cost as much as one.
const FRESH: Duration = Duration::from_millis(200);
/// The directory of a broker goes round several times a second; one that has not for so long has not
/// just been slow.
const STUCK: Duration = Duration::from_secs(10);

/// Looks; none once there is nothing there any more.
type Look<T> = Arc<dyn Fn() -> Option<T> + Send + Sync>;
/// Says what is wrong, if something is.
type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Knows where to look. Cloning shares it.
#[derive(Clone)]
pub struct Observer(Arc<Inner>);

struct Inner {
    title: String,
    since: Instant,
    sources: Mutex<Sources>,
    seen: Mutex<Seen>,
    /// Held while somebody looks on behalf of all who ask.
    looking: Mutex<()>,
}

#[derive(Default, Clone)]
struct Sources {
    buses: Vec<Look<(Stats, BusState)>>,
    /// What is looked at may have no shadow for a while.
    shadow: Option<Look<Option<Shadowed>>>,
    rollout: Option<Look<Status>>,
    broker: Option<Look<Brokered>>,
    checks: Vec<(String, Check)>,
    draining: bool,
}

#[derive(Default)]
struct Seen {
    keeper: Keeper,
    rows: Rows,
    last: Option<(Instant, Arc<Observed>)>,
    /// How often where to look has changed.
    changes: u64,
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Observer").field(&self.0.title).finish()
    }
}

impl Observer {
    /// An observer that has nothing to look at yet. The title is what the process calls itself.
    #[must_use]
    pub fn new(title: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            title: title.into(),
            since: Instant::now(),
            sources: Mutex::default(),
            seen: Mutex::default(),
            looking: Mutex::default(),
        }))
    }

    /// Looks at a bus handle, beside those that it looks at already; their counts are added up.
    pub fn watch_bus(&self, bus: &Arc<dyn EventBus>) {
        let bus = Arc::downgrade(bus);
        let look = move || bus.upgrade().map(|bus| (bus.stats(), state(&*bus)));
        self.change(|sources| sources.buses.push(Arc::new(look)));
    }

    /// Looks at a shadow and its comparison.
    pub fn watch_shadow(&self, shadow: &Arc<ShadowBus>) {
        let shadow: Weak<ShadowBus> = Arc::downgrade(shadow);
        self.watch_shadows(move || shadow.upgrade().map(|shadow| Some(Shadowed::of(&shadow))));
    }

    /// Looks at one shadow after the other, and at none in between.
    pub(super) fn watch_shadows(
        &self,
        look: impl Fn() -> Option<Option<Shadowed>> + Send + Sync + 'static,
    ) {
        self.change(|sources| sources.shadow = Some(Arc::new(look)));
    }

    /// Looks at a rollout; `look` must not wait.
    pub fn watch_rollout(&self, look: impl Fn() -> Option<Status> + Send + Sync + 'static) {
        self.change(|sources| sources.rollout = Some(Arc::new(look)));
    }

    /// Looks at a broker; `look` must not wait.
    pub fn watch_broker(&self, look: impl Fn() -> Option<Brokered> + Send + Sync + 'static) {
        self.change(|sources| sources.broker = Some(Arc::new(look)));
    }

    /// Asks the application whether all is well, too. What it says is wrong, in one sentence, makes
    /// `/healthz` answer 503; `check` must not wait.
    pub fn check(
        &self,
        name: impl Into<String>,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) {
        let check: Check = Arc::new(check);
        self.change(|sources| sources.checks.push((name.into(), check)));
    }

    /// From now on the process takes nothing new, and `/healthz` says so.
    pub fn drain(&self) {
        self.change(|sources| sources.draining = true);
    }

    /// Has nothing to look at any more, and no history.
    pub fn forget(&self) {
        self.change(|sources| *sources = Sources::default());
        let mut seen = self.0.seen.lock();
        (seen.keeper, seen.rows) = Default::default();
    }

    /// Changes where to look; what was seen before is not told any more.
    fn change(&self, change: impl FnOnce(&mut Sources)) {
        change(&mut self.0.sources.lock());
        let mut seen = self.0.seen.lock();
        seen.changes += 1;
        seen.last = None;
    }

    /// Looks now. What is far in the past comes with it, what was seen since the last second is not
    /// noted in it.
    #[must_use]
    pub fn look(&self) -> Observed {
        let mut seen = self.see();
        seen.history = self.0.seen.lock().keeper.told();
        seen
    }

    /// Looks now, and notes what it sees in the history.
    #[must_use]
    pub fn note(&self) -> Observed {
        let mut now = self.see();
        let mut seen = self.0.seen.lock();
        seen.keeper.note(&now);
        now.history = seen.keeper.told();
        seen.last = Some((Instant::now(), Arc::new(now.clone())));
        now
    }

    /// What was seen at most a moment ago. However many ask, one looks.
    pub(super) fn latest(&self) -> Arc<Observed> {
        if let Some(last) = self.fresh() {
            return last;
        }
        let _looking = self.0.looking.lock();
        if let Some(last) = self.fresh() {
            return last;
        }
        let changes = self.0.seen.lock().changes;
        let now = Arc::new(self.look());
        let mut seen = self.0.seen.lock();
        if seen.changes == changes {
            seen.last = Some((Instant::now(), Arc::clone(&now)));
        }
        now
    }

    fn fresh(&self) -> Option<Arc<Observed>> {
        let seen = self.0.seen.lock();
        let (at, last) = seen.last.as_ref()?;
        (at.elapsed() < FRESH).then(|| Arc::clone(last))
    }

    /// Notes what it sees once a second, until the future is dropped. [`Server::serve`](super::Server::serve)
    /// does so already.
    pub async fn keep_looking(&self) {
        let mut ticks = interval(Duration::from_millis(TICK_MS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let _ = self.note();
        }
    }

    fn see(&self) -> Observed {
        let sources = self.0.sources.lock().clone();
        let mut health = Health::default();
        if sources.draining {
            health.not("draining", "the process is ending".to_owned());
        }
        let mut stats = None;
        for bus in &sources.buses {
            if let Some((more, state)) = looked(bus, "the bus", &mut health) {
                observed::add(stats.get_or_insert_default(), more);
                judge(&state, &mut health);
            }
        }
        let left_out = match &mut stats {
            Some(stats) => self.0.seen.lock().rows.bound(stats),
            None => LeftOut::default(),
        };
        let shadow = sources
            .shadow
            .and_then(|look| looked(&look, "the shadow", &mut health).flatten());
        let rollout = sources
            .rollout
            .and_then(|look| looked(&look, "the rollout", &mut health));
        let broker = sources
            .broker
            .and_then(|look| looked(&look, "the broker", &mut health));
        let silent = broker.as_ref().map_or(0, |broker| broker.silent_us);
        let silent = Duration::from_micros(silent);
        if silent >= STUCK {
            let reason = format!("the broker has done nothing for {silent:.0?}");
            health.not("stuck", reason);
        }
        for (name, check) in &sources.checks {
            match catch_unwind(AssertUnwindSafe(|| check())) {
                Ok(Ok(())) => {}
                Ok(Err(reason)) => health.not("failing", format!("{name}: {reason}")),
                Err(_) => health.not("failing", format!("{name}: the check panicked")),
            }
        }
        Observed {
            schema: SCHEMA,
            title: self.0.title.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            at_ms: now_ms(),
            uptime_ms: millis(self.0.since.elapsed()),
            health,
            stats,
            left_out,
            refused_trace_parents: eventbus_trait::trace::refused(),
            shadow,
            rollout,
            broker,
            history: super::History::default(),
        }
    }
}

/// Under a watch, dropped is closed.
fn looked<T>(look: &Look<T>, what: &str, health: &mut Health) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(|| look())) {
        Ok(Some(seen)) => Some(seen),
        Ok(None) => {
            health.not("failing", format!("{what} is gone"));
            None
        }
        Err(_) => {
            health.not("failing", format!("looking at {what} panicked"));
            None
        }
    }
}

fn state(bus: &dyn EventBus) -> BusState {
    bus.state().borrow().clone()
}

fn judge(state: &BusState, health: &mut Health) {
    match state {
        BusState::Connecting { attempts, reason } => health.not(
            "failing",
            format!("the bus has no connection after {attempts} attempts: {reason}"),
        ),
        BusState::Closed => health.not("failing", "the bus is closed".to_owned()),
        _ => {}
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map(millis).unwrap_or_default()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
