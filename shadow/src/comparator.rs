//! What all handles of one shadow share: its subscriptions, the queue to the candidate, and the
//! account of what was found.
//!
//! Invariant: the generation moves after every change of a subscription that publishers must know
//! of, and a publisher looks at it under its own lock. So whoever changes something, moves the
//! generation and then passes through the publishers' locks has met, or will be seen by, every
//! publish. Locks are taken in the order publisher, subscriptions, streams, track, account.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use eventbus_trait::{Event, PublisherId, Subscribe};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tracing::{debug, error, warn};

use crate::account::{Account, located};
use crate::attached::Attached;
use crate::class::{Counts, Reason, Side};
use crate::glance::Glance;
use crate::latency::Latency;
use crate::mirror::Mirror;
use crate::options::ShadowOptions;
use crate::queue::{Command, Queue};
use crate::record::{FORMAT, Record, Recorder};
use crate::report::{Displaced, Divergence, Report, Verdict};
use crate::route::InFlight;
use crate::shedding::Shedding;
use crate::streams::Key;
use crate::sub::{Phase, Sub};
use crate::track::{AROUND, Context, Finding, Nanos, Rules, Trace};
use crate::unwatched::{Strays, Unwatched};

/// Most publishers that are told from strangers.
const MAX_PUBLISHERS: usize = 1 << 20;
/// Generations of one comparison; no two comparisons share one, so that a route of one is never
/// taken for a route of another.
const GENERATIONS: u64 = 1 << 40;
static COMPARISONS: AtomicU64 = AtomicU64::new(0);
/// Subscriptions are spread over this many histograms, so that threads seldom meet.
const SHARDS: usize = 4;

#[derive(Debug)]
pub(crate) struct Comparator {
    pub(crate) options: ShadowOptions,
    pub(crate) id: u64,
    pub(crate) queue: Queue,
    shedding: Arc<Shedding>,
    pub(crate) life: Life,
    names: [String; 2],
    started: Instant,
    generation: AtomicU64,
    subs: RwLock<Vec<Arc<Sub>>>,
    /// Ids are given out once, whatever becomes of the subscription.
    next_sub: AtomicU64,
    subs_made: AtomicU64,
    handles: Mutex<Vec<Weak<Attached>>>,
    publishers: RwLock<HashSet<PublisherId>>,
    pub(crate) published: Arc<AtomicU64>,
    foreign: AtomicU64,
    /// What the primary delivered that was published before.
    earlier: AtomicU64,
    pub(crate) strays: Strays,
    latency: [Mutex<Latency>; SHARDS],
    account: Mutex<Account>,
    displaced: Mutex<Displaced>,
    pub(crate) recorder: Option<Recorder>,
    settled: AtomicU8,
    pub(crate) mark_queued: AtomicBool,
    pub(crate) mirror: Mirror,
}

/// How the candidate's thread and the handles end.
#[derive(Debug, Default)]
pub(crate) struct Life {
    /// Handles that have not been shut down or dropped.
    pub(crate) handles: AtomicUsize,
    /// Told when the last handle is gone.
    pub(crate) finishing: Notify,
    /// Set when the thread is about to end.
    pub(crate) ended: AtomicBool,
    pub(crate) thread: Mutex<Option<JoinHandle<()>>>,
}

impl Life {
    /// A handle is gone; the last one ends the thread.
    pub(crate) fn leave(&self, queue: &Queue) {
        if self.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.finish(queue);
        }
    }

    /// Ends the thread, once it has done what is queued and at the latest when it is out of time.
    pub(crate) fn finish(&self, queue: &Queue) {
        queue.control(Command::Finish);
        self.finishing.notify_one();
    }
}

impl Comparator {
    /// `goes_on` is whether the divergence file is that of an earlier comparison.
    pub(crate) fn new(
        options: ShadowOptions,
        names: [String; 2],
        strays: Strays,
        shedding: &Arc<Shedding>,
        goes_on: bool,
    ) -> Arc<Self> {
        let first = COMPARISONS.fetch_add(1, Ordering::Relaxed) * GENERATIONS;
        let file = options.divergence_file.as_ref();
        let recorder = file.map(|file| Recorder::start(file, goes_on));
        Arc::new(Self {
            queue: options.queue(),
            mirror: Mirror::new(options.mirrored_calls),
            shedding: Arc::clone(shedding),
            options,
            // Never 0, which is nobody.
            id: rand::random::<u64>() | 1,
            life: Life::default(),
            names,
            started: Instant::now(),
            generation: AtomicU64::new(first),
            subs: RwLock::default(),
            next_sub: AtomicU64::new(0),
            subs_made: AtomicU64::new(0),
            handles: Mutex::default(),
            publishers: RwLock::default(),
            published: Arc::default(),
            foreign: AtomicU64::new(0),
            earlier: AtomicU64::new(0),
            strays,
            latency: std::array::from_fn(|_| Mutex::new(Latency::new())),
            account: Mutex::default(),
            displaced: Mutex::default(),
            recorder,
            settled: AtomicU8::new(0),
            mark_queued: AtomicBool::new(false),
        })
    }

    pub(crate) fn rules(&self) -> Rules {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Rules {
            grace: nanos(self.options.grace),
            // A marker has at least the grace time.
            silence: nanos(self.options.silence.max(self.options.grace)),
            window: self.options.window.max(1),
            context: self.recorder.as_ref().map_or(0, |_| 2 * AROUND),
        }
    }

    pub(crate) fn now(&self) -> Nanos {
        u64::try_from(self.started.elapsed().as_nanos()).map_or(u64::MAX, |n| n.saturating_add(1))
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    pub(crate) fn subs(&self) -> Vec<Arc<Sub>> {
        self.subs.read().clone()
    }

    pub(crate) fn knows(&self, publisher: PublisherId) -> bool {
        self.publishers.read().contains(&publisher)
    }

    /// Adds a handle.
    pub(crate) fn join(&self, handle: &Arc<Attached>) {
        self.life.handles.fetch_add(1, Ordering::AcqRel);
        self.publishers.write().insert(handle.id);
        let mut handles = self.handles.lock();
        handles.retain(|handle| handle.strong_count() > 0);
        handles.push(Arc::downgrade(handle));
    }

    /// Notes that events of a publisher come through here which is none of the handles.
    pub(crate) fn know(&self, publisher: PublisherId) {
        if !self.knows(publisher) {
            let mut publishers = self.publishers.write();
            if publishers.len() < MAX_PUBLISHERS {
                publishers.insert(publisher);
            }
        }
    }

    /// Forgets a handle that nobody has any more.
    pub(crate) fn leave(&self, sender: PublisherId) {
        self.publishers.write().remove(&sender);
    }

    /// What was compared here is nothing that a later comparison knows.
    pub(crate) fn pass_on(&self, unwatched: &Unwatched) {
        for sub in self.subs() {
            sub.pass_on(unwatched);
        }
    }

    /// Begins a subscription. Whatever is being published at this moment may come or not.
    pub(crate) fn open(&self, owner: PublisherId, subscribe: Subscribe) -> Arc<Sub> {
        let id = self.next_sub.fetch_add(1, Ordering::Relaxed);
        self.subs_made.fetch_add(1, Ordering::Relaxed);
        let sub = Sub::new(id, owner, subscribe);
        self.subs.write().push(Arc::clone(&sub));
        self.moved();
        self.for_each_in_flight(|sender, event| {
            let route = &event.route;
            if sub.takes(sender, &route.key.topic) && !route.includes(&sub) {
                sub.expect_uncertain(self, &event.origin, &route.key.topic, &route.link);
            }
        });
        sub
    }

    /// The subscription stands on the primary, and the candidate's is in the queue.
    pub(crate) fn live(&self, sub: &Sub) {
        sub.set_phase(Phase::Live);
        self.moved();
    }

    /// The subscription's handle is being shut down: what is being published may come or not.
    pub(crate) fn ending(&self, sub: &Sub) {
        sub.set_phase(Phase::Ending);
        self.moved();
        self.for_each_in_flight(|sender, event| {
            let topic = &event.route.key.topic;
            if sub.takes(sender, topic) {
                sub.give_up(self, &event.origin, topic, Reason::Changing);
            }
        });
    }

    /// Nothing that is published from now on is for the subscription.
    pub(crate) fn ended(&self, sub: &Sub) {
        sub.set_phase(Phase::Ended);
        self.moved();
    }

    /// The application has ended the subscription.
    pub(crate) fn unsubscribed(&self, sub: &Arc<Sub>) {
        sub.set_phase(Phase::Gone);
        self.moved();
        sub.close(self, Side::Primary, Reason::Unsubscribed);
        if !self.queue.control(Command::Unsubscribe(Arc::clone(sub))) {
            sub.closing.notify_one();
            self.retire(sub);
        }
    }

    /// Forgets a subscription that was never made.
    pub(crate) fn cancel(&self, sub: &Arc<Sub>) {
        self.ended(sub);
        self.subs.write().retain(|other| other.id != sub.id);
        self.subs_made.fetch_sub(1, Ordering::Relaxed);
        sub.retire(self);
    }

    /// Forgets a subscription that has ended and keeps its counts.
    pub(crate) fn retire(&self, sub: &Arc<Sub>) {
        self.enter_untracked();
        let mut subs = self.subs.write();
        let Some(at) = subs.iter().position(|other| other.id == sub.id) else {
            return;
        };
        subs.swap_remove(at);
        let counts = sub.retire(self);
        // Still under the lock, so that no report misses the counts or has them twice.
        self.account.lock().past.add(&counts);
    }

    /// The candidate will deliver nothing more to anybody.
    pub(crate) fn candidate_gone(&self, reason: Reason) {
        self.mirror.forget();
        for sub in self.subs() {
            sub.close(self, Side::Candidate, reason);
            sub.standing.notify_one();
            if sub.phase() == Phase::Gone {
                self.retire(&sub);
            }
        }
    }

    pub(crate) fn earlier(&self) {
        self.earlier.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn foreign(&self) {
        self.foreign.fetch_add(1, Ordering::Relaxed);
    }

    /// Says why nothing more is compared, now and in the report.
    pub(crate) fn disable(&self, why: String) {
        {
            let mut account = self.account.lock();
            if account.disabled.is_some() {
                return;
            }
            account.disabled = Some(why.clone());
        }
        // Not under the lock, which publishers and subscribers take: a log may hang.
        error!(why, "shadow disabled");
    }

    pub(crate) fn is_disabled(&self) -> bool {
        self.account.lock().disabled.is_some()
    }

    /// Counts an error of the candidate.
    pub(crate) fn error(&self, operation: &str, kind: &str, detail: &dyn std::fmt::Display) {
        let name = format!("{operation}/{kind}");
        let first = self.account.lock().count_error(name);
        if first {
            warn!(operation, kind, %detail, "candidate error, the first of its kind");
        } else {
            debug!(operation, kind, %detail, "candidate error");
        }
    }

    /// Whether the application wants an event left alone.
    pub(crate) fn ignores(&self, event: &Event) -> bool {
        let ignore = self.options.ignore.as_ref();
        ignore.is_some_and(|ignore| self.answer("ignore", ignore.takes(event), false))
    }

    /// Takes the answer of a hook, or `otherwise` if it panicked, which is counted.
    pub(crate) fn answer(&self, hook: &str, answer: Option<bool>, otherwise: bool) -> bool {
        answer.unwrap_or_else(|| {
            self.hook_failed(hook);
            otherwise
        })
    }

    /// Counts a panic or an error of a hook.
    pub(crate) fn hook_failed(&self, hook: &str) {
        let first = self.account.lock().count_hook(hook);
        // Not under the lock, as above.
        if first {
            warn!(hook, "a hook failed, for the first time");
        }
    }

    /// Writes a divergence to the file, if there is to be one.
    pub(crate) fn record(&self, sub: &Sub, key: &Key, finding: &mut Finding, at: Nanos) {
        if let Some(displaced) = finding.displaced {
            self.displaced.lock().note(displaced);
        }
        let Some(recorder) = &self.recorder else {
            return;
        };
        let Some(trace) = finding.trace.take() else {
            return recorder.drop_one();
        };
        let Rules { grace, silence, .. } = self.rules();
        let Trace {
            gone_on_at,
            gone_on,
            around,
        } = *trace;
        recorder.offer(Record {
            format: FORMAT.to_owned(),
            divergence: located(sub, key, finding),
            at,
            grace,
            silence,
            gone_on_at,
            gone_on,
            around,
        });
    }

    /// Enters into the account what was found; returns what is new in its list.
    pub(crate) fn tell(&self, sub: &Sub, key: &Key, cx: &mut Context<'_>) -> Vec<Divergence> {
        if cx.findings.is_empty() {
            return Vec::new();
        }
        let mut account = self.account.lock();
        let most = self.options.max_divergences;
        let findings = cx.findings.drain(..);
        findings
            .filter_map(|finding| account.enter(located(sub, key, &finding), &finding, most))
            .collect()
    }

    /// Records both latencies, if they were measured.
    pub(crate) fn measure(&self, sub: &Sub, cx: &Context<'_>) {
        if let Some(sides) = cx.latencies {
            let shard = &self.latency[sub.id as usize % SHARDS];
            shard.lock().record(sides);
        }
    }

    /// Decides everything that time alone decides.
    pub(crate) fn sweep(&self) {
        for sub in self.subs() {
            sub.sweep(self);
        }
    }

    /// All counts as of now.
    pub(crate) fn counts(&self) -> Counts {
        self.enter_untracked();
        let subs = self.subs.read();
        let mut sum = self.account.lock().past;
        for sub in subs.iter() {
            sum.add(&sub.counts());
        }
        sum
    }

    pub(crate) fn set_settled(&self, settled: bool) {
        self.settled.store(1 + u8::from(settled), Ordering::Relaxed);
    }

    pub(crate) fn report(&self) -> Report {
        self.report_with(usize::MAX)
    }

    /// The report with the first `most` divergences.
    pub(crate) fn report_with(&self, most: usize) -> Report {
        self.sweep();
        // Before the counts, so that an injection counted here is among those found.
        let injected = self.options.sabotage.as_ref().map(|bus| bus.injected());
        let counts = self.counts();
        let latency = self.latency();
        let [primary_latency, candidate_latency] = latency.quantiles();
        let account = self.account.lock();
        let [primary, candidate] = self.names.clone();
        let mut report = Report {
            verdict: Verdict::Inconclusive,
            primary,
            candidate,
            published: self.published.load(Ordering::Relaxed),
            subscribers: self.subs_made.load(Ordering::Relaxed),
            expected: counts.expected,
            matched: counts.matched,
            unsampled: counts.unsampled,
            ignored: counts.ignored,
            missing: counts.missing,
            late: counts.late,
            reordered: counts.reordered,
            differs: counts.differs,
            unverified: counts.unverified(),
            in_flight: counts.open,
            duplicates: counts.duplicates,
            phantoms: counts.phantoms,
            unverified_by_reason: counts.by_reason(),
            foreign: self.foreign.load(Ordering::Relaxed),
            earlier: self.earlier.load(Ordering::Relaxed),
            candidate_errors: account.errors.clone(),
            hook_errors: account.hook_errors.clone(),
            disabled: account.disabled.clone(),
            divergences: account.divergences.iter().take(most).cloned().collect(),
            displaced: *self.displaced.lock(),
            inversions: counts.inversions,
            divergence_file: self.recorder.as_ref().map(Recorder::said),
            latency: latency.summary(),
            primary_latency,
            candidate_latency,
            lateness: latency.lateness(),
            noise: None,
            queue_high_water: self.queue.high_water(),
            settled: match self.settled.load(Ordering::Relaxed) {
                0 => None,
                n => Some(n == 2),
            },
            injected,
            calls: self.mirror.counted.told(),
        };
        let floor = self.options.noise_floor.as_ref();
        report.noise = floor.map(|floor| floor.against(&report, &self.options));
        report.verdict = report.judge(self.options.unverified_limit);
        report
    }

    /// What the report leaves out.
    pub(crate) fn glance(&self) -> Glance {
        let [primary, candidate] = self.latency().sides();
        let streams = self.subs().iter().map(|sub| sub.streams_kept()).sum();
        let account = self.account.lock();
        Glance {
            by_topic: account.places.counts(),
            newest: account.places.newest(),
            queued: self.queue.waiting(),
            streams,
            primary,
            candidate,
        }
    }

    fn latency(&self) -> Latency {
        let mut latency = Latency::new();
        for shard in &self.latency {
            latency.add(&shard.lock());
        }
        latency
    }

    fn moved(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.shedding.clear();
    }

    /// Takes events for the candidate again.
    pub(crate) fn reopen_queue(&self) {
        self.queue.reopen();
        self.shedding.clear();
    }

    /// Takes nothing more for the candidate.
    pub(crate) fn close_queue(&self) {
        self.queue.close();
        self.shedding.clear();
    }

    /// Enters what handles have counted by themselves.
    fn enter_untracked(&self) {
        for handle in self.handles() {
            handle.lanes.enter_untracked();
        }
    }

    fn for_each_in_flight(&self, mut each: impl FnMut(PublisherId, &InFlight)) {
        for handle in self.handles() {
            handle.for_each_in_flight(|event| each(handle.id, event));
        }
    }

    fn handles(&self) -> Vec<Arc<Attached>> {
        let handles = self.handles.lock();
        handles.iter().filter_map(Weak::upgrade).collect()
    }
}
