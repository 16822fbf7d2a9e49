//! What all handles of one shadow share, with or without a candidate: who publishes, who
//! subscribes, and the comparison that goes on, if one does.
//!
//! A candidate is attached to what is there: each handle gets a counterpart on the candidate, each
//! subscription is opened in a new comparison, and only then are the handles told to double what
//! they publish. So the first event that is doubled finds everything in place, and whatever was
//! published before is nothing that the comparison has ever heard of.
//!
//! Invariant: membership, attaching and detaching are one after the other, under one lock, which
//! is taken before any other and never by a publish or a receive.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use eventbus_trait::rpc::Service;
use eventbus_trait::{EventBus, PublisherId, Subscribe};
use parking_lot::Mutex;
use tracing::{info, warn};

use crate::attached::Attached;
use crate::candidate;
use crate::class::{Reason, Side};
use crate::comparator::Comparator;
use crate::glance::Glance;
use crate::link::Link;
use crate::mirror::{Hosted, Work};
use crate::options::ShadowOptions;
use crate::queue::Command;
use crate::report::Report;
use crate::seat::{Seat, View};
use crate::sender::Sender;
use crate::settle::{Until, settle};
use crate::shedding::Shedding;
use crate::unwatched::{Strays, Unwatched};

/// Why no candidate was attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// There is one, or one is just being detached.
    #[error("a candidate is attached; `detach` it first")]
    Attached,
    /// The handle was shut down.
    #[error("bus is closed")]
    Closed,
}

#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) options: ShadowOptions,
    pub(crate) unwatched: Arc<Unwatched>,
    pub(crate) shedding: Arc<Shedding>,
    primary: String,
    members: Mutex<Members>,
}

#[derive(Debug, Default)]
struct Members {
    senders: Vec<Weak<Sender>>,
    seats: Vec<Arc<Seat>>,
    services: Vec<Arc<Hosted>>,
    comparison: Comparison,
    /// The divergence files of the comparisons that there were.
    files: BTreeSet<PathBuf>,
}

/// Where the comparison is in its life.
#[derive(Debug, Default)]
enum Comparison {
    #[default]
    None,
    On(Arc<Comparator>),
    /// Nothing is doubled any more; what was doubled is still being compared.
    Leaving(Arc<Comparator>),
    Over(Box<Said>),
}

/// The last word of a comparison.
#[derive(Debug)]
struct Said {
    /// Which one it was.
    comparison: u64,
    report: Report,
    glance: Glance,
}

impl Said {
    fn by(comparator: &Comparator) -> Box<Self> {
        Box::new(Self {
            comparison: comparator.id,
            report: comparator.report(),
            glance: comparator.glance(),
        })
    }
}

impl Comparison {
    fn on(&self) -> Option<&Arc<Comparator>> {
        match self {
            Self::On(comparator) => Some(comparator),
            _ => None,
        }
    }
}

impl Members {
    fn senders(&self) -> impl Iterator<Item = Arc<Sender>> {
        self.senders.iter().filter_map(Weak::upgrade)
    }

    /// Notes where divergences are written; whether those of an earlier comparison were, too.
    fn writes(&mut self, options: &ShadowOptions) -> bool {
        let file = options.divergence_file.as_ref();
        file.is_some_and(|file| !self.files.insert(file.path.clone()))
    }

    fn seats_of(&self, owner: PublisherId) -> impl Iterator<Item = &Arc<Seat>> {
        self.seats.iter().filter(move |seat| seat.owner == owner)
    }
}

impl Family {
    pub(crate) fn new(primary: &dyn EventBus, options: ShadowOptions) -> Arc<Self> {
        Arc::new(Self {
            options,
            unwatched: Arc::default(),
            shedding: Arc::default(),
            primary: primary.backend().to_owned(),
            members: Mutex::default(),
        })
    }

    /// The comparison that goes on, also while it is being detached.
    pub(crate) fn comparator(&self) -> Option<Arc<Comparator>> {
        match &self.members.lock().comparison {
            Comparison::On(comparator) | Comparison::Leaving(comparator) => {
                Some(Arc::clone(comparator))
            }
            Comparison::None | Comparison::Over(_) => None,
        }
    }

    pub(crate) fn report(&self, most: usize) -> Report {
        // Not under the lock: it counts every stream.
        if let Some(comparator) = self.comparator() {
            return comparator.report_with(most);
        }
        match &self.members.lock().comparison {
            Comparison::Over(said) => said.report.clone().with_first(most),
            _ => Report::nothing(&self.primary),
        }
    }

    pub(crate) fn glance(&self) -> Glance {
        if let Some(comparator) = self.comparator() {
            return comparator.glance();
        }
        match &self.members.lock().comparison {
            Comparison::Over(said) => said.glance.clone(),
            _ => Glance::default(),
        }
    }

    /// Adds a handle; `from` is the one that it was made by.
    pub(crate) fn join(&self, sender: &Arc<Sender>, from: Option<&Sender>) {
        let mut members = self.members.lock();
        members.senders.retain(|sender| sender.strong_count() > 0);
        members.senders.push(Arc::downgrade(sender));
        let Some(comparator) = members.comparison.on() else {
            return;
        };
        let link = Arc::<Link>::default();
        if let Some(from) = from.and_then(|from| from.attached()) {
            // Without room in the queue the link stays empty, and its events are unverified.
            comparator.queue.control(Command::Connect {
                from: Arc::clone(&from.link),
                to: Arc::clone(&link),
                name: sender.name.clone(),
            });
        }
        sender.attach(Attached::new(sender, comparator, link));
    }

    /// Begins a subscription, before it is made on the primary.
    pub(crate) fn open(&self, sender: &Sender, subscribe: Subscribe) -> Arc<Seat> {
        let mut members = self.members.lock();
        let seat = Seat::new(sender.id, subscribe);
        members.seats.push(Arc::clone(&seat));
        if let Some(comparator) = members.comparison.on() {
            open_in(comparator, &seat);
        }
        seat
    }

    /// The subscription stands on the primary: puts the candidate's into the queue, behind what was
    /// published before. Returns it if the candidate will be told.
    pub(crate) fn standing(&self, sender: &Sender, seat: &Seat, name: Arc<str>) -> Option<View> {
        let _members = self.members.lock();
        seat.set_name(name);
        let view = seat.view()?;
        let link = sender.attached().map(|attached| Arc::clone(&attached.link));
        stand_in(&view, seat, link).then_some(view)
    }

    /// Forgets a subscription that was never made.
    pub(crate) fn cancel(&self, seat: &Arc<Seat>) {
        let mut members = self.members.lock();
        members.seats.retain(|other| !Arc::ptr_eq(other, seat));
        if let Some(view) = seat.view() {
            view.comparator.cancel(&view.sub);
        }
    }

    /// The application has ended the subscription.
    pub(crate) fn unsubscribed(&self, seat: &Arc<Seat>) {
        let mut members = self.members.lock();
        members.seats.retain(|other| !Arc::ptr_eq(other, seat));
        if let Some(view) = seat.view() {
            view.comparator.unsubscribed(&view.sub);
        }
    }

    /// A service stands on the primary: has it copied on the candidate.
    pub(crate) fn host(&self, sender: &Sender, service: &Service) -> Option<Arc<Hosted>> {
        let hosted = Hosted::new(sender.id, service)?;
        let mut members = self.members.lock();
        members.services.push(Arc::clone(&hosted));
        if let Some(attached) = sender.attached() {
            let link = Arc::clone(&attached.link);
            let copied = attached
                .comparator
                .order(Work::Serve(Arc::clone(&hosted), link));
            not_copied(copied);
        }
        Some(hosted)
    }

    /// A service is served no more.
    pub(crate) fn unhost(&self, hosted: &Arc<Hosted>) {
        hosted.end();
        let mut members = self.members.lock();
        members.services.retain(|other| other.id() != hosted.id());
        if let Some(comparator) = members.comparison.on() {
            comparator.order(Work::Unserve(hosted.id()));
        }
    }

    /// A handle is being shut down: what is being published may come to its subscriptions or not.
    pub(crate) fn ending(&self, owner: PublisherId) {
        let members = self.members.lock();
        for view in members.seats_of(owner).filter_map(|seat| seat.view()) {
            view.comparator.ending(&view.sub);
        }
    }

    /// A handle is shut down: nothing that is published from now on is for its subscriptions.
    pub(crate) fn ended(&self, owner: PublisherId) {
        let members = self.members.lock();
        for seat in members.seats_of(owner) {
            seat.end();
            if let Some(view) = seat.view() {
                view.comparator.ended(&view.sub);
            }
        }
        let services = members.services.iter();
        services
            .filter(|service| service.owner == owner)
            .for_each(|service| service.end());
    }

    /// Puts `candidate` in the shadow; `by` gets it for its counterpart. Returns which comparison it
    /// is.
    pub(crate) fn attach(
        &self,
        by: &Arc<Sender>,
        candidate: Arc<dyn EventBus>,
        options: ShadowOptions,
    ) -> Result<u64, AttachError> {
        let mut members = self.members.lock();
        if by.is_closed() {
            return Err(AttachError::Closed);
        }
        if let Comparison::On(_) | Comparison::Leaving(_) = members.comparison {
            return Err(AttachError::Attached);
        }
        let name = catch_unwind(AssertUnwindSafe(|| candidate.backend().to_owned()));
        let name = name.unwrap_or_else(|_| "unknown".to_owned());
        info!(primary = self.primary, candidate = name, "shadow attached");
        let names = [self.primary.clone(), name];
        let earlier = !matches!(members.comparison, Comparison::None);
        self.unwatched.begin();
        let strays = Strays::new(&self.unwatched, earlier);
        let goes_on = members.writes(&options);
        let comparator = Comparator::new(options, names, strays, &self.shedding, goes_on);
        let first = Link::connected(candidate);
        let handles = counterparts(&members, &comparator, by, &first);
        for seat in members.seats.iter().filter(|seat| !seat.has_ended()) {
            let view = open_in(&comparator, seat);
            if seat.name().is_some() {
                let of_owner = handles.iter().find(|(sender, _)| sender.id == seat.owner);
                let link = of_owner.map(|(_, attached)| Arc::clone(&attached.link));
                stand_in(&view, seat, link);
            }
        }
        for service in &members.services {
            let of_owner = handles
                .iter()
                .find(|(sender, _)| sender.id == service.owner);
            if let Some((_, attached)) = of_owner {
                let link = Arc::clone(&attached.link);
                let copied = comparator.order(Work::Serve(Arc::clone(service), link));
                not_copied(copied);
            }
        }
        candidate::spawn(&comparator, &first);
        // Last, so that everything stands before anything is doubled.
        for (sender, attached) in handles {
            sender.attach(attached);
        }
        let comparison = comparator.id;
        members.comparison = Comparison::On(comparator);
        Ok(comparison)
    }

    /// Stops doubling, waits at most for `deadline` until what was doubled is decided, and lets go
    /// of the candidate. `only` says of which comparison, if it matters.
    pub(crate) async fn detach(&self, deadline: Duration, only: Option<u64>) -> Option<Report> {
        let leaving = self.leave(only)?;
        let settled = settle(&leaving.comparator, deadline, Until::AllDecided).await;
        let comparator = Arc::clone(&leaving.comparator);
        drop(leaving);
        let wait = 2 * comparator.options.shutdown_wait;
        candidate::ended(&comparator, wait).await;
        // Also if its thread is blocked and left behind.
        comparator.candidate_gone(Reason::Shutdown);
        let last = Said::by(&comparator);
        let report = last.report.clone();
        info!(settled, verdict = %report.verdict, expected = report.expected,
              matched = report.matched, diverged = report.diverged(), "shadow detached");
        let mut members = self.members.lock();
        // Another candidate may have come, and gone, while this one's thread was waited for.
        if let Comparison::Over(said) = &mut members.comparison
            && said.comparison == comparator.id
        {
            *said = last;
        }
        Some(report)
    }

    /// Stops doubling, and lets go of the candidate, without waiting for anything.
    pub(crate) fn let_go(&self, only: u64) {
        drop(self.leave(Some(only)));
    }

    /// Stops doubling.
    fn leave(&self, only: Option<u64>) -> Option<Leaving<'_>> {
        let mut members = self.members.lock();
        let comparator = Arc::clone(members.comparison.on()?);
        if only.is_some_and(|only| only != comparator.id) {
            return None;
        }
        members.comparison = Comparison::Leaving(Arc::clone(&comparator));
        for sender in members.senders() {
            sender.detach();
        }
        self.shedding.clear();
        Some(Leaving {
            family: self,
            comparator,
        })
    }
}

/// A candidate that is being detached; dropped, also because the wait was cancelled, it is let go.
struct Leaving<'a> {
    family: &'a Family,
    comparator: Arc<Comparator>,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let comparator = &self.comparator;
        {
            let members = self.family.members.lock();
            comparator.pass_on(&self.family.unwatched);
            for seat in &members.seats {
                let of_this = |view: &View| Arc::ptr_eq(&view.comparator, comparator);
                if let Some(view) = seat.view().filter(of_this) {
                    // What the application has not read is its own doing.
                    view.sub.close(comparator, Side::Primary, Reason::Detached);
                    seat.show(None);
                }
            }
        }
        comparator.life.finish(&comparator.queue);
        // Until the candidate's thread has ended, which may change the last word of it. Not under the
        // lock, which whoever subscribes waits for: it counts every stream.
        let said = Said::by(comparator);
        self.family.members.lock().comparison = Comparison::Over(said);
    }
}

/// A counterpart on the candidate for each handle.
fn counterparts(
    members: &Members,
    comparator: &Arc<Comparator>,
    by: &Arc<Sender>,
    first: &Arc<Link>,
) -> Vec<(Arc<Sender>, Arc<Attached>)> {
    let open = members.senders().filter(|sender| !sender.is_closed());
    open.map(|sender| {
        let link = if Arc::ptr_eq(&sender, by) {
            Arc::clone(first)
        } else {
            let link = Arc::<Link>::default();
            comparator.queue.control(Command::Connect {
                from: Arc::clone(first),
                to: Arc::clone(&link),
                name: sender.name.clone(),
            });
            link
        };
        let attached = Attached::new(&sender, comparator, link);
        (sender, attached)
    })
    .collect()
}

fn open_in(comparator: &Arc<Comparator>, seat: &Seat) -> View {
    let view = View {
        comparator: Arc::clone(comparator),
        sub: comparator.open(seat.owner, seat.subscribe.clone()),
    };
    seat.show(Some(view.clone()));
    view
}

/// Calls of it are not compared then.
fn not_copied(copied: bool) {
    if !copied {
        warn!("no room to tell the candidate of a service");
    }
}

/// Whether the candidate will be told of a subscription that stands on the primary.
fn stand_in(view: &View, seat: &Seat, link: Option<Arc<Link>>) -> bool {
    let View { comparator, sub } = view;
    if let Some(name) = seat.name() {
        sub.set_name(Arc::clone(name));
    }
    let queued = link.is_some_and(|link| {
        let command = Command::Subscribe(Arc::clone(sub), link);
        comparator.queue.control(command)
    });
    if !queued {
        sub.close(comparator, Side::Candidate, Reason::Unavailable);
    }
    // What is published from now on comes behind it.
    comparator.live(sub);
    queued
}
