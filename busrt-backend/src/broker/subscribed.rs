//! What one connection is subscribed to, and what that may cost the broker.
//!
//! busrt keeps patterns as a tree with a node for each segment, and a node with one node under it
//! takes 1.7 KB: it is a B-tree leaf with room for eleven. So segments are what is counted. With
//! all that a connection may have, in patterns that share nothing, the tree takes 112 MB; the
//! patterns' own texts, here and at busrt, are the smaller part of what comes to 150 MB at worst.
//!
//! A `+` makes busrt look at two branches for each segment of a publication, so patterns with one
//! have a limit of their own.

use std::collections::HashSet;

/// Most segments, `eb` not counted, of all patterns of one connection: 16,384 patterns of four.
const MAX_SEGMENTS: usize = 65_536;
/// Most patterns of one connection with a `+`.
const MAX_WILD: usize = 4_096;

/// The answer to what would be over a limit.
const TOO_MUCH: &str = "more topics than may be";

/// The patterns of one connection. All of them are valid.
#[derive(Debug, Default)]
pub(super) struct Subscribed {
    patterns: HashSet<Box<[u8]>>,
    cost: Cost,
}

#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    segments: usize,
    wild: usize,
}

impl Cost {
    fn of(pattern: &[u8]) -> Self {
        let segments = || pattern.split(|byte| *byte == b'/').skip(1);
        Self {
            segments: segments().count(),
            wild: usize::from(segments().any(|segment| segment == b"+")),
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            segments: self.segments + other.segments,
            wild: self.wild + other.wild,
        }
    }

    fn is_too_much(self) -> bool {
        self.segments > MAX_SEGMENTS || self.wild > MAX_WILD
    }
}

fn split(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == 0)
}

/// How many patterns a list has, unless that is more than may be looked at: busrt goes through them
/// under the lock that every publication takes, known ones too.
fn count(list: &[u8]) -> Result<u32, &'static str> {
    match u32::try_from(split(list).count()) {
        Ok(count) if count as usize <= MAX_SEGMENTS => Ok(count),
        _ => Err(TOO_MUCH),
    }
}

impl Subscribed {
    /// Adds a list of patterns, all or none, and says how many it has.
    pub(super) fn add(&mut self, list: &[u8]) -> Result<u32, &'static str> {
        let count = count(list)?;
        let new = split(list).filter(|pattern| !self.patterns.contains(*pattern));
        if new.map(Cost::of).fold(self.cost, Cost::and).is_too_much() {
            return Err(TOO_MUCH);
        }
        for pattern in split(list) {
            if self.patterns.insert(pattern.into()) {
                self.cost = self.cost.and(Cost::of(pattern));
            }
        }
        Ok(count)
    }

    /// Removes a list of patterns, and says how many it has.
    pub(super) fn remove(&mut self, list: &[u8]) -> Result<u32, &'static str> {
        let count = count(list)?;
        for pattern in split(list) {
            if self.patterns.remove(pattern) {
                let Cost { segments, wild } = Cost::of(pattern);
                self.cost.segments -= segments;
                self.cost.wild -= wild;
            }
        }
        Ok(count)
    }
}
