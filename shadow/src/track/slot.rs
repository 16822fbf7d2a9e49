//! What is kept of one expected delivery while it may still matter.

use std::cell::OnceCell;

use eventbus_trait::Event;

use super::Nanos;
use crate::class::{Class, Side};
use crate::digest::Digest;
use crate::hooks::{Failed, Hooks};

/// Payloads up to this size are digested as they come: that costs less than keeping them.
const SMALL: usize = 1024;

/// One expected delivery.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) sequence: u64,
    pub(crate) class: Class,
    /// Whether publish order decides where it belongs.
    pub(crate) ordered: bool,
    pub(crate) published_at: Nanos,
    /// When it was given to the candidate; 0 before that.
    pub(crate) offered_at: Nanos,
    pub(crate) ends: [End; 2],
    pub(crate) content: Content,
}

/// What one side has to do with an expected delivery.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct End {
    /// When this side delivered it; 0 before that.
    pub(crate) seen_at: Nanos,
    /// When this side first delivered a later event instead; 0 before that.
    pub(crate) overtaken_at: Nanos,
    /// How many ordered events this side had delivered before that one; once it has come after
    /// all, how many came in between.
    pub(crate) overtaken_by: u32,
    /// Its place in the order of everything that this side delivered to the subscription; 0: none.
    pub(crate) place: u32,
    /// Whether a marker was what first said so.
    pub(crate) by_marker: bool,
    /// Whether a marker says that this side is past it.
    pub(crate) passed: bool,
    /// Whether it was given up because this side was silent, and not because of a later event.
    pub(crate) silent: bool,
    /// Whether it came only after the grace time, or after it was given up.
    pub(crate) late: bool,
    /// Whether this side may drop it if it says so.
    pub(crate) may_drop: bool,
    /// Whether this side said so.
    pub(crate) dropped: bool,
    /// Whether this side was never given it.
    pub(crate) closed: bool,
}

impl End {
    pub(crate) fn seen(&self) -> bool {
        self.seen_at != 0
    }

    pub(crate) fn overtaken(&self) -> bool {
        self.overtaken_at != 0
    }

    /// Whether it was given up, or the grace time is over for something that was overtaken.
    pub(crate) fn overdue(&self, now: Nanos, grace: Nanos) -> bool {
        self.silent || self.overtaken() && now.saturating_sub(self.overtaken_at) >= grace
    }

    /// Whether this side does not have it and is not waited for any more.
    pub(crate) fn absent(&self, now: Nanos, grace: Nanos) -> bool {
        !self.seen() && (self.passed || self.overdue(now, grace))
    }
}

impl Slot {
    pub(crate) fn end(&self, side: Side) -> &End {
        &self.ends[side.at()]
    }

    pub(crate) fn end_mut(&mut self, side: Side) -> &mut End {
        &mut self.ends[side.at()]
    }

    /// Whether the candidate may still deliver it and change what is said of it.
    pub(crate) fn is_awaited(&self) -> bool {
        let candidate = self.end(Side::Candidate);
        matches!(self.class, Class::Open | Class::Missing(Side::Candidate))
            && !(candidate.seen() || candidate.passed || candidate.closed)
    }

    pub(crate) fn both_seen(&self) -> bool {
        self.ends.iter().all(End::seen)
    }

    /// Latency of the primary and of the candidate, each from the moment at which that side was given
    /// the event.
    pub(crate) fn latencies(&self) -> Option<[Nanos; 2]> {
        let [primary, candidate] = &self.ends;
        if !self.both_seen() || self.offered_at == 0 {
            return None;
        }
        Some([
            primary.seen_at.saturating_sub(self.published_at),
            candidate.seen_at.saturating_sub(self.offered_at),
        ])
    }

    /// Whether nothing can come of it any more: it is decided and no side may still deliver it.
    pub(crate) fn is_done(&self, now: Nanos, grace: Nanos) -> bool {
        self.class != Class::Open
            && [Side::Primary, Side::Candidate].into_iter().all(|side| {
                let end = self.end(side);
                end.seen()
                    || end.closed
                    || (self.class != Class::Missing(side) && end.overdue(now, grace))
            })
    }
}

/// A delivery, and its digest once somebody has asked for it.
#[derive(Debug)]
pub(crate) struct Delivered<'a> {
    event: &'a Event,
    digest: OnceCell<Option<Digest>>,
}

impl<'a> Delivered<'a> {
    pub(crate) fn new(event: &'a Event) -> Self {
        Self {
            event,
            digest: OnceCell::new(),
        }
    }

    /// The digest, `None` if the payload cannot be read.
    pub(crate) fn digest(&self) -> Option<Digest> {
        *self.digest.get_or_init(|| Digest::of(self.event))
    }

    pub(crate) fn event(&self) -> &'a Event {
        self.event
    }

    fn is_cheap(&self) -> bool {
        self.event
            .payload()
            .known_len()
            .is_some_and(|len| len <= SMALL)
            && self.event.get_headers().is_none()
            && self.event.get_correlation().is_none()
    }
}

/// What the first side delivered, for the second to be compared with.
#[derive(Debug)]
pub(crate) enum Content {
    None,
    /// It is not to be compared.
    Unsampled,
    Digest(Digest),
    /// What the primary delivered, kept as it is if reading it costs something, so that the
    /// candidate's thread pays for that and not the application's.
    Event(Box<Event>),
}

/// What a comparison of contents said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Compared {
    Same,
    Differs(String),
    Unreadable,
    /// Only a hook could call them alike, and it failed, or what it needs is gone.
    Unsaid,
}

impl Content {
    /// What to keep of the first delivery.
    pub(crate) fn keep(side: Side, delivered: &Delivered<'_>, hooks: &Hooks<'_>) -> Self {
        if hooks.need_events() {
            return Self::Event(Box::new(delivered.event.clone()));
        }
        if side == Side::Candidate || delivered.is_cheap() {
            return delivered.digest().map_or(Self::None, Self::Digest);
        }
        Self::Event(Box::new(delivered.event.clone()))
    }

    /// Keeps a digest in place of the event.
    pub(crate) fn shrink(&mut self) {
        if let Self::Event(event) = self {
            *self = Digest::of(event).map_or(Self::None, Self::Digest);
        }
    }

    /// What the first side delivered, if it is kept as it is.
    pub(crate) fn event(&self) -> Option<&Event> {
        match self {
            Self::Event(event) => Some(event),
            _ => None,
        }
    }

    /// Compares it with what `side`, the second, delivered.
    pub(crate) fn compare(
        &self,
        side: Side,
        delivered: &Delivered<'_>,
        hooks: &Hooks<'_>,
        failed: &mut Failed,
    ) -> Compared {
        let first = match self {
            Self::Unsampled => return Compared::Same,
            Self::None => None,
            Self::Digest(digest) => Some(*digest),
            Self::Event(event) => Digest::of(event),
        };
        let (Some(first), Some(second)) = (first, delivered.digest()) else {
            return Compared::Unreadable;
        };
        let (primary, candidate) = match side {
            Side::Primary => (&second, &first),
            Side::Candidate => (&first, &second),
        };
        let mut alike = false;
        if hooks.compare.is_some() && !primary.has_payload_of(candidate) {
            let events = self.event().map(|first| match side {
                Side::Primary => (delivered.event, first),
                Side::Candidate => (first, delivered.event),
            });
            match events.and_then(|(a, b)| hooks.alike(a, b, failed)) {
                Some(said) => alike = said,
                None => return Compared::Unsaid,
            }
        }
        let difference = Digest::difference(primary, candidate, alike);
        difference.map_or(Compared::Same, Compared::Differs)
    }
}
