//! Who can be given a task: members, what they can do, and how much of ours each has.
//!
//! Invariant: `free` has, for each capability, exactly the members that are available and have room, by
//! what they have and then by name. A seat is taken once and given back at most once; one of a member that
//! has gone counts for nobody.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::member::Identity;

/// A place at a member, for one task.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    pub(super) member: Arc<Identity>,
    /// Which entry of the roster it was: a member that went and came again is another.
    entry: u64,
}

#[derive(Debug)]
struct Entry {
    identity: Arc<Identity>,
    number: u64,
    available: bool,
    taken: usize,
    most: usize,
}

impl Entry {
    fn is_free(&self) -> bool {
        self.available && self.taken < self.most
    }
}

#[derive(Debug, Default)]
pub(super) struct Roster {
    ahead: usize,
    entries: BTreeMap<String, Entry>,
    free: HashMap<String, BTreeSet<(usize, String)>>,
    capable: HashMap<String, usize>,
    number: u64,
}

impl Roster {
    /// A roster that gives each member so many tasks more than it does at once.
    pub(super) fn new(ahead: usize) -> Self {
        Self {
            ahead,
            ..Self::default()
        }
    }

    /// Takes note of a member as it is now. It has to be the same instance, if it is there.
    pub(super) fn put(&mut self, identity: &Arc<Identity>, available: bool) {
        if !self.entries.contains_key(&identity.name) {
            self.number += 1;
            let most = match usize::try_from(identity.max_tasks).unwrap_or(usize::MAX) {
                0 => 0,
                most => most.saturating_add(self.ahead),
            };
            if most > 0 {
                for capability in &identity.capabilities {
                    *self.capable.entry(capability.clone()).or_default() += 1;
                }
            }
            let entry = Entry {
                identity: Arc::clone(identity),
                number: self.number,
                available: false,
                taken: 0,
                most,
            };
            self.entries.insert(identity.name.clone(), entry);
        }
        self.change(&identity.name, |entry| entry.available = available);
    }

    /// The instance that has this name now.
    pub(super) fn instance(&self, name: &str) -> Option<&str> {
        let entry = self.entries.get(name)?;
        Some(&entry.identity.instance)
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.change(name, |entry| entry.available = false);
        let Some(entry) = self.entries.remove(name) else {
            return;
        };
        if entry.most == 0 {
            return;
        }
        for capability in &entry.identity.capabilities {
            if let Some(count) = self.capable.get_mut(capability) {
                *count -= 1;
                if *count == 0 {
                    self.capable.remove(capability);
                }
            }
        }
    }

    /// Whether any member has the capability, whether it has room or not.
    pub(super) fn is_capable(&self, capability: &str) -> bool {
        self.capable.contains_key(capability)
    }

    pub(super) fn has_room(&self, capability: &str) -> bool {
        self.free.contains_key(capability)
    }

    /// Takes a seat at the member that has the least of ours, of those that `may` be asked.
    pub(super) fn take(&mut self, capability: &str, may: impl Fn(&str) -> bool) -> Option<Seat> {
        let mut free = self.free.get(capability)?.iter();
        let name = free.find(|(_, name)| may(name))?.1.clone();
        self.change(&name, |entry| entry.taken += 1);
        let entry = self.entries.get(&name)?;
        Some(Seat {
            member: Arc::clone(&entry.identity),
            entry: entry.number,
        })
    }

    /// Gives a seat back. Whether the member is still the one that it was at.
    pub(super) fn give(&mut self, seat: &Seat) -> bool {
        if !self.is_at(seat) {
            return false;
        }
        self.change(&seat.member.name, |entry| entry.taken -= 1);
        true
    }

    fn is_at(&self, seat: &Seat) -> bool {
        let entry = self.entries.get(&seat.member.name);
        entry.is_some_and(|entry| entry.number == seat.entry)
    }

    /// All seats that are taken at members that are there.
    pub(super) fn taken(&self) -> usize {
        self.entries.values().map(|entry| entry.taken).sum()
    }

    pub(super) fn members(&self) -> usize {
        self.entries.len()
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut Entry)) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        let before = entry.is_free().then_some(entry.taken);
        change(entry);
        let after = entry.is_free().then_some(entry.taken);
        if before == after {
            return;
        }
        for capability in &entry.identity.capabilities {
            let free = self.free.entry(capability.clone()).or_default();
            if let Some(taken) = before {
                free.remove(&(taken, name.to_owned()));
            }
            if let Some(taken) = after {
                free.insert((taken, name.to_owned()));
            }
            if free.is_empty() {
                self.free.remove(capability);
            }
        }
    }
}
