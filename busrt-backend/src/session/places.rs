//! An event's places: its sequence on each of its links.
//!
//! Invariant: of an event with several links, the places are those of its route's links, in their
//! order; so links are counted once for the event and not once for each.

use std::sync::Arc;

use smallvec::SmallVec;

use super::link::Link;
use super::routes::Route;

/// Where an event is on its links.
pub(crate) enum Places {
    /// It has none.
    Nowhere,
    One(Arc<Link>, u64),
    Several(Box<Several>),
}

/// The places of an event that has more than one.
pub(crate) struct Several {
    route: Arc<Route>,
    sequences: SmallVec<[u64; 12]>,
}

impl Several {
    pub(crate) fn new(route: &Arc<Route>, sequences: impl Iterator<Item = u64>) -> Self {
        Self {
            route: Arc::clone(route),
            sequences: sequences.collect(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<Link>, u64)> {
        let links = self.route.links.iter().map(|(_, link)| link);
        links.zip(self.sequences.iter().copied())
    }
}

#[cfg(test)]
impl Places {
    pub(crate) fn all(&self) -> Vec<(Arc<Link>, u64)> {
        match self {
            Self::Nowhere => Vec::new(),
            Self::One(link, sequence) => vec![(Arc::clone(link), *sequence)],
            Self::Several(several) => several.iter().map(|(l, s)| (Arc::clone(l), s)).collect(),
        }
    }
}
