//! The members, and what each heartbeat and each moment of silence makes of them. No task, no bus.
//!
//! Invariant: no member is due before `next`, so a heartbeat costs one look-up and only the clock has to
//! go through all.

use std::collections::BTreeMap;
use std::fmt::Display;

use eventbus_trait::plain::Plain;
use tokio::time::Instant;

use super::entry::Entry;
use super::rules::{MAX_HEARTBEAT_BYTES, Refused, Rules};
use super::snapshot::{Change, Member, RegistryStats, Removal};
use crate::member::{Activity, Heartbeat};

pub(super) struct Table {
    rules: Rules,
    entries: BTreeMap<String, Entry>,
    /// Silence before this is held against nobody.
    floor: Instant,
    /// Whether nothing can be heard at all.
    deaf: bool,
    next: Option<Instant>,
    stats: RegistryStats,
}

impl Table {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            entries: BTreeMap::new(),
            floor: Instant::now(),
            deaf: false,
            next: None,
            stats: RegistryStats::default(),
        }
    }

    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// When somebody may have been silent for too long.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next.filter(|_| !self.deaf)
    }

    /// Takes note of a heartbeat.
    pub(super) fn hear(
        &mut self,
        topic: &str,
        bytes: &[u8],
        now: Instant,
        changed: &mut Vec<Change>,
    ) -> Result<(), Refused> {
        let heard = self.admit(topic, bytes, now).and_then(|heartbeat| {
            if self.entries.contains_key(&heartbeat.identity.name) {
                self.known(heartbeat, now, changed)
            } else {
                self.newcomer(heartbeat, now, changed)
            }
        });
        *match &heard {
            Ok(()) => &mut self.stats.heard,
            Err(Refused::Malformed { .. }) => &mut self.stats.malformed,
            Err(Refused::WrongTopic { .. }) => &mut self.stats.wrong_topic,
            Err(Refused::Interval { .. }) => &mut self.stats.interval,
            Err(Refused::Stale) => &mut self.stats.stale,
            Err(Refused::Changed) => &mut self.stats.changed,
            Err(Refused::OtherKind { .. }) => &mut self.stats.other_kind,
            Err(Refused::Flood) => &mut self.stats.flood,
            Err(Refused::Crowded { .. }) => &mut self.stats.crowded,
        } += 1;
        heard
    }

    /// Reads a heartbeat, and checks all that does not depend on what is known of its member. A flood
    /// is refused unread.
    fn admit(&mut self, topic: &str, bytes: &[u8], now: Instant) -> Result<Heartbeat, Refused> {
        let (whose, name) = topic.rsplit_once('.').unwrap_or_default();
        let kind = whose.strip_prefix("health.");
        // What comes elsewhere is not what this member sends.
        let entry = self.entries.get_mut(name);
        let entry = entry.filter(|entry| kind == Some(&entry.identity.kind));
        if entry.is_some_and(|entry| !entry.takes_turn(now)) {
            return Err(Refused::Flood);
        }
        let malformed = |reason: &dyn Display| Refused::Malformed {
            // It may quote what it was read from.
            reason: Plain::field(reason).to_string(),
        };
        let size = bytes.len();
        if size > MAX_HEARTBEAT_BYTES {
            let reason = format!("{size} bytes are over the limit of {MAX_HEARTBEAT_BYTES}");
            return Err(malformed(&reason));
        }
        let heartbeat: Heartbeat =
            serde_json::from_slice(bytes).map_err(|error| malformed(&error))?;
        heartbeat.check().map_err(|error| malformed(&error))?;
        if heartbeat.topic() != topic {
            return Err(Refused::WrongTopic {
                claims: heartbeat.topic(),
                topic: topic.to_owned(),
            });
        }
        let (interval, min, max) = (
            heartbeat.interval(),
            self.rules.min_interval,
            self.rules.max_interval,
        );
        if !(min..=max).contains(&interval) {
            return Err(Refused::Interval { interval, min, max });
        }
        Ok(heartbeat)
    }

    fn newcomer(
        &mut self,
        heartbeat: Heartbeat,
        now: Instant,
        changed: &mut Vec<Change>,
    ) -> Result<(), Refused> {
        if heartbeat.activity == Activity::Leaving {
            // Nobody knew it, and nobody has to.
            return Ok(());
        }
        let limit = self.rules.max_members;
        if self.entries.len() >= limit {
            return Err(Refused::Crowded { limit });
        }
        self.join(Entry::new(heartbeat, now), now, changed);
        Ok(())
    }

    fn join(&mut self, entry: Entry, now: Instant, changed: &mut Vec<Change>) {
        changed.push(Change::Joined(entry.member(self.floor, now)));
        self.expect(&entry);
        self.entries.insert(entry.identity.name.clone(), entry);
    }

    fn known(
        &mut self,
        heartbeat: Heartbeat,
        now: Instant,
        changed: &mut Vec<Change>,
    ) -> Result<(), Refused> {
        let Some(entry) = self.entries.get_mut(&heartbeat.identity.name) else {
            return Ok(());
        };
        if heartbeat.identity.kind != entry.identity.kind {
            return Err(Refused::OtherKind {
                kind: heartbeat.identity.kind,
                known: entry.identity.kind.clone(),
            });
        }
        if heartbeat.identity.instance != entry.identity.instance {
            let leaves = heartbeat.activity == Activity::Leaving;
            if leaves || entry.knows_former(&heartbeat.identity.instance) {
                return Err(Refused::Stale);
            }
            let next = entry.replaced_by(heartbeat, now);
            let member = entry.member(self.floor, now);
            let reason = Removal::Replaced;
            changed.push(Change::Removed { member, reason });
            self.join(next, now, changed);
            return Ok(());
        }
        if heartbeat.identity != *entry.identity {
            return Err(Refused::Changed);
        }
        if !entry.is_news(&heartbeat) {
            return Err(Refused::Stale);
        }
        let (activity, ailment) = (entry.activity, entry.ailment.clone());
        let (well, interval, overdue) = (entry.is_well(), entry.interval, entry.overdue);
        entry.hear(heartbeat, now);
        let member = entry.member(self.floor, now);
        // The clock was set for its removal, or for its longer interval.
        if overdue || entry.interval < interval {
            let due = entry.due(self.floor, self.rules.degrade_after);
            self.next = Some(self.next.map_or(due, |next| next.min(due)));
        }
        if entry.activity == Activity::Leaving {
            self.entries.remove(&member.identity.name);
            let reason = Removal::Left;
            changed.push(Change::Removed { member, reason });
        } else if well != entry.is_well() {
            changed.push(if well {
                Change::Degraded(member)
            } else {
                Change::Recovered(member)
            });
        } else if (activity, &ailment) != (entry.activity, &entry.ailment) {
            changed.push(Change::Changed(member));
        }
        Ok(())
    }

    /// Looks for this member at the right moment.
    fn expect(&mut self, entry: &Entry) {
        let due = entry.due(self.floor, self.rules.degrade_after);
        self.next = Some(self.next.map_or(due, |next| next.min(due)));
    }

    /// Degrades and removes who has been silent for too long.
    pub(super) fn sweep(&mut self, now: Instant, changed: &mut Vec<Change>) {
        if self.deaf {
            return;
        }
        let (floor, rules) = (self.floor, &self.rules);
        let mut next: Option<Instant> = None;
        let gone = self.entries.extract_if(.., |_, entry| {
            let removed = entry.due(floor, rules.remove_after);
            let degraded = entry.due(floor, rules.degrade_after);
            // Also of who is removed in the same moment: so nobody goes who was well.
            if degraded <= now && !entry.overdue {
                let well = entry.is_well();
                entry.overdue = true;
                let member = entry.member(floor, now);
                changed.push(if well {
                    Change::Degraded(member)
                } else {
                    Change::Changed(member)
                });
            }
            if removed <= now {
                return true;
            }
            let due = if entry.overdue { removed } else { degraded };
            next = Some(next.map_or(due, |next| next.min(due)));
            false
        });
        let gone: Vec<_> = gone.collect();
        self.stats.silent += gone.len() as u64;
        changed.extend(gone.into_iter().map(|(_, entry)| {
            let member = entry.member(floor, now);
            let reason = Removal::Silent;
            Change::Removed { member, reason }
        }));
        self.next = next;
    }

    /// So many heartbeats were lost for want of room: nobody knows whose.
    pub(super) fn lost(&mut self, heartbeats: u64, now: Instant) {
        self.stats.lost += heartbeats;
        self.forgive(now);
    }

    /// Holds no silence until now against anybody.
    pub(super) fn forgive(&mut self, now: Instant) {
        self.floor = now;
    }

    /// Whether anything can be heard from now on.
    pub(super) fn hears(&mut self, hears: bool, now: Instant) {
        if hears && self.deaf {
            self.forgive(now);
        }
        self.deaf = !hears;
    }

    pub(super) fn members(&self, now: Instant) -> Vec<Member> {
        let each = self.entries.values();
        each.map(|entry| entry.member(self.floor, now)).collect()
    }

    pub(super) fn member(&self, name: &str, now: Instant) -> Option<Member> {
        let entry = self.entries.get(name)?;
        Some(entry.member(self.floor, now))
    }

    pub(super) fn stats(&self) -> RegistryStats {
        RegistryStats {
            members: self.entries.len(),
            ..self.stats
        }
    }
}
