//! All gatherings that are under way, and what each has.
//!
//! Invariant: `bytes` is what the parts of all gatherings take, and never more than the limit; each
//! gathering stands once under its root and once among the alarms.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use eventbus_trait::plain::Plain;
use eventbus_trait::{Correlation, Event, Payload};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::warn;

use super::wanted::{Absence, Ended, Gathered, Missing, Of, Part, Wanted};
use super::{GatherError, Options};
use crate::complaints::Complaints;
use crate::later::after;

/// What members say of tasks before there is a result.
const NO_RESULTS: [&str; 2] = ["accepted", "refused"];
/// What a member says of an attempt that it was told to give up: another one may still have a result.
const CANCELLED: &str = "cancelled";

/// What a gatherer has counted, and keeps now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GatherStats {
    /// Gatherings under way.
    pub gatherings: usize,
    /// Bytes that they keep.
    pub bytes: usize,
    /// Parts that were gathered.
    pub parts: u64,
    /// Parts that came again.
    pub repeated: u64,
    /// Parts that found no room.
    pub refused: u64,
    /// Events that nobody wants, or nobody any more.
    pub unwanted: u64,
    /// Events without correlation, or whose payload has no bytes.
    pub unreadable: u64,
}

#[derive(Debug)]
pub(super) struct Heap {
    options: Options,
    gatherings: HashMap<u64, One>,
    by_root: HashMap<String, Vec<u64>>,
    alarms: BTreeSet<(Instant, u64)>,
    bytes: usize,
    number: u64,
    closed: bool,
    counts: GatherStats,
    no_room: Complaints,
}

#[derive(Debug)]
struct One {
    wanted: Wanted,
    due: Instant,
    /// What has come, by what tells it from others: its place among the parts, if it found room.
    came: BTreeMap<String, Option<usize>>,
    /// What was named, and given up by somebody: why it is missing, unless it comes after all.
    cancelled: BTreeSet<String>,
    parts: Vec<Part>,
    bytes: usize,
    repeated: u64,
    refused: u64,
    waiter: oneshot::Sender<Gathered>,
}

impl Heap {
    pub(super) fn new(options: Options) -> Self {
        Self {
            options,
            gatherings: HashMap::new(),
            by_root: HashMap::new(),
            alarms: BTreeSet::new(),
            bytes: 0,
            number: 0,
            closed: false,
            counts: GatherStats::default(),
            no_room: Complaints::default(),
        }
    }

    pub(super) fn begin(
        &mut self,
        wanted: Wanted,
        now: Instant,
    ) -> Result<(u64, oneshot::Receiver<Gathered>), GatherError> {
        if self.closed {
            return Err(GatherError::Closed);
        }
        let limit = self.options.gatherings;
        if self.gatherings.len() >= limit {
            return Err(GatherError::Full { limit });
        }
        let limit = self.options.parts;
        let parts = wanted.named().or(wanted.enough).unwrap_or_default();
        if parts > limit {
            return Err(GatherError::TooManyParts { parts, limit });
        }
        self.number += 1;
        let (waiter, gathered) = oneshot::channel();
        let due = after(now, wanted.within);
        self.alarms.insert((due, self.number));
        self.by_root
            .entry(wanted.root.clone())
            .or_default()
            .push(self.number);
        let one = One {
            wanted,
            due,
            came: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            parts: Vec::new(),
            bytes: 0,
            repeated: 0,
            refused: 0,
            waiter,
        };
        let ended = one.ended();
        self.gatherings.insert(self.number, one);
        if let Some(ended) = ended {
            self.end(self.number, ended);
        }
        Ok((self.number, gathered))
    }

    pub(super) fn next_alarm(&self) -> Option<Instant> {
        self.alarms.first().map(|(at, _)| *at)
    }

    pub(super) fn event(&mut self, event: &Event) {
        let (Some(correlation), Ok(bytes)) = (event.get_correlation(), event.bytes()) else {
            self.counts.unreadable += 1;
            return;
        };
        let stage = correlation.stage.as_deref().unwrap_or_default();
        let root = correlation.root.as_ref().unwrap_or(&correlation.id);
        let Some(numbers) = self
            .by_root
            .get(root)
            .filter(|_| !NO_RESULTS.contains(&stage))
        else {
            self.counts.unwanted += 1;
            return;
        };
        for number in numbers.clone() {
            self.offer(number, event, correlation, &bytes);
        }
    }

    fn offer(&mut self, number: u64, event: &Event, correlation: &Correlation, bytes: &Bytes) {
        let Some(one) = self.gatherings.get_mut(&number) else {
            return;
        };
        let Some(name) = one.name(event, correlation) else {
            self.counts.unwanted += 1;
            return;
        };
        if correlation.stage.as_deref() == Some(CANCELLED) {
            self.counts.unwanted += 1;
            if one.wanted.named().is_some() {
                one.cancelled.insert(name);
            }
            return;
        }
        if let Some(Some(_)) = one.came.get(&name) {
            one.repeated += 1;
            self.counts.repeated += 1;
            return;
        }
        let size = bytes.len() + event.meta_size() + event.topic().as_str().len();
        let full = one.parts.len() >= self.options.parts;
        if full || self.bytes + size > self.options.bytes {
            one.refused += 1;
            self.counts.refused += 1;
            if let Some(more) = self.no_room.turn(Instant::now()) {
                let (root, part) = (Plain::field(&one.wanted.root), Plain::field(&name));
                warn!(%root, %part, size, more, "no room for a result");
            }
            if one.wanted.named().is_some() {
                one.came.insert(name, None);
            }
        } else {
            one.came.insert(name, Some(one.parts.len()));
            one.bytes += size;
            self.bytes += size;
            self.counts.parts += 1;
            one.parts.push(Part {
                topic: event.topic().clone(),
                correlation: correlation.clone(),
                // A copy: a few bytes of a large buffer would keep the whole of it.
                payload: Payload::new(
                    Bytes::copy_from_slice(bytes),
                    event.payload().content_type().clone(),
                ),
            });
        }
        if let Some(ended) = one.ended() {
            self.end(number, ended);
        }
    }

    pub(super) fn tick(&mut self, now: Instant) {
        while let Some((at, number)) = self.alarms.first().copied() {
            if at > now {
                return;
            }
            self.end(number, Ended::Deadline);
        }
    }

    pub(super) fn give_up(&mut self, number: u64) {
        let _nobody_wants_it = self.take(number);
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
        for number in self.gatherings.keys().copied().collect::<Vec<_>>() {
            self.end(number, Ended::Closed);
        }
    }

    pub(super) fn stats(&self) -> GatherStats {
        GatherStats {
            gatherings: self.gatherings.len(),
            bytes: self.bytes,
            ..self.counts
        }
    }

    fn end(&mut self, number: u64, ended: Ended) {
        if let Some(one) = self.take(number) {
            let (gathered, waiter) = one.gathered(ended);
            // Whoever wanted it may be gone.
            let _unheard = waiter.send(gathered);
        }
    }

    fn take(&mut self, number: u64) -> Option<One> {
        let one = self.gatherings.remove(&number)?;
        self.alarms.remove(&(one.due, number));
        self.bytes -= one.bytes;
        if let Some(numbers) = self.by_root.get_mut(&one.wanted.root) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.by_root.remove(&one.wanted.root);
            }
        }
        Some(one)
    }
}

impl One {
    /// What tells this event from others, if it is wanted.
    fn name(&self, event: &Event, correlation: &Correlation) -> Option<String> {
        let topic = event.topic().as_str();
        match &self.wanted.of {
            Of::Ids(ids) => ids.get(&correlation.id).cloned(),
            Of::Topics(topics) => topics.get(topic).cloned(),
            Of::Any => Some(format!(
                "{topic} {} {}",
                correlation.sequence, correlation.id
            )),
        }
    }

    /// Why there is nothing more to wait for.
    fn ended(&self) -> Option<Ended> {
        let enough = self.wanted.enough?;
        if self.parts.len() >= enough {
            return Some(Ended::Enough);
        }
        let all = self.wanted.named()?;
        (self.came.len() >= all).then_some(Ended::NoRoom)
    }

    fn gathered(self, ended: Ended) -> (Gathered, oneshot::Sender<Gathered>) {
        let missing = match &self.wanted.of {
            Of::Ids(names) | Of::Topics(names) => names
                .iter()
                .filter_map(|name| {
                    let why = match self.came.get(name) {
                        Some(Some(_)) => return None,
                        Some(None) => Absence::NoRoom,
                        None if self.cancelled.contains(name) => Absence::Cancelled,
                        None => Absence::Silent,
                    };
                    let name = name.clone();
                    Some(Missing { name, why })
                })
                .collect(),
            Of::Any => Vec::new(),
        };
        let enough = self
            .wanted
            .enough
            .or(self.wanted.named())
            .unwrap_or_default();
        let gathered = Gathered {
            short: enough.saturating_sub(self.parts.len()),
            missing,
            parts: self.parts,
            repeated: self.repeated,
            refused: self.refused,
            ended,
        };
        (gathered, self.waiter)
    }
}
