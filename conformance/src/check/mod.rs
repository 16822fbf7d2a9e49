//! Checkers: what is wrong with a history, by name.
//!
//! Each looks for one kind of anomaly and says how much it has looked at, so that a history in
//! which nothing of its subject happened is told apart from one that is in order. Who finds
//! something also makes the history as small as it can be while it still shows it.
//!
//! A checker believes the marks in the payloads and nothing that the bus says about an event, but
//! for [`stamps`], which judges what the bus says.

mod counted;
mod delivered;
mod order;
mod smallest;
pub mod stream;
#[cfg(test)]
mod tests;
mod view;

use std::fmt;
use std::sync::Arc;

use view::Stream;

pub use order::Within;

use crate::history::{History, Mark};
use crate::verdict::{Checked, Unmet};

/// What can be wrong with a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Accepted, and never delivered, though something later of its author and topic was.
    Lost,
    /// Accepted, and never delivered, and nothing later of its author and topic was.
    Unseen,
    /// Delivered more than once to one subscription.
    Duplicate,
    /// Delivered, and never published, or published on a topic that the subscription does not
    /// take.
    Phantom,
    /// Refused with an error, and delivered all the same.
    Refused,
    /// Owed, and not there yet when a later one of its author came.
    Skip,
    /// Delivered after an event that its author published later.
    Nonmonotonic,
    /// Delivered with another topic, payload, header, correlation, delivery or stamp.
    Corrupted,
    /// Not delivered, and not in the count of lost events at that place.
    Uncounted,
}

impl Kind {
    /// Its name, as messages and documents have it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Unseen => "unseen",
            Self::Duplicate => "duplicate",
            Self::Phantom => "phantom",
            Self::Refused => "refused but delivered",
            Self::Skip => "skip",
            Self::Nonmonotonic => "nonmonotonic",
            Self::Corrupted => "corrupted",
            Self::Uncounted => "uncounted",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Where in what an author published on a topic a missing event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Before everything that came.
    Prefix,
    /// Between events that came.
    Middle,
    /// After everything that came.
    Suffix,
    /// Nothing came.
    Whole,
}

impl Shape {
    /// Its name.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Prefix => "prefix",
            Self::Middle => "middle",
            Self::Suffix => "suffix",
            Self::Whole => "whole",
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anomaly {
    /// What.
    pub kind: Kind,
    /// In which subscription.
    pub subscription: Arc<str>,
    /// Which event.
    pub mark: Option<Mark>,
    /// Where, if it is an event that is missing.
    pub shape: Option<Shape>,
    /// More of it.
    pub detail: String,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in `{}`:", self.kind, self.subscription)?;
        if let Some(mark) = self.mark {
            write!(f, " event {mark}")?;
        }
        write!(f, " {}", self.detail)
    }
}

/// What a checker found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Findings {
    /// What is wrong.
    pub anomalies: Vec<Anomaly>,
    /// How many deliveries, or events, were looked at.
    pub examined: u64,
    /// Why the history cannot be judged, if it cannot.
    pub unjudgeable: Option<String>,
    /// A part of the history that shows the first anomaly, as small as could be found.
    pub smallest: Option<History>,
}

impl Findings {
    /// Broken if there is an anomaly, unexercised if nothing was looked at.
    ///
    /// # Errors
    /// [`Unmet`], with the first anomalies and the smallest history that shows the first.
    pub fn verdict(&self) -> Checked {
        if !self.anomalies.is_empty() {
            return Err(Unmet::Broken(self.text()));
        }
        match &self.unjudgeable {
            Some(reason) => Err(Unmet::unexercised(reason)),
            None if self.examined == 0 => Err(Unmet::unexercised("nothing was there to examine")),
            None => Ok(()),
        }
    }

    fn text(&self) -> String {
        const SHOWN: usize = 4;
        let first = self.anomalies.iter().take(SHOWN);
        let mut shown: Vec<String> = first.map(Anomaly::to_string).collect();
        if self.anomalies.len() > SHOWN {
            shown.push(format!("and {} more", self.anomalies.len() - SHOWN));
        }
        let (count, examined) = (self.anomalies.len(), self.examined);
        let mut text = format!(
            "{count} anomalies in {examined} examined: {}",
            shown.join("; ")
        );
        if let Some(smallest) = &self.smallest {
            let entries = smallest.entries.len();
            text.push_str(&format!(
                "\nsmallest history of the first, {entries} entries:"
            ));
            for line in format!("{smallest:#}").lines() {
                text.push_str("\n  ");
                text.push_str(line);
            }
        }
        text
    }

    fn add(&mut self, kind: Kind, stream: &Stream<'_>, mark: Option<Mark>, detail: String) {
        let subscription = Arc::clone(&stream.interest.subscription);
        self.anomalies.push(Anomaly {
            kind,
            subscription,
            mark,
            shape: None,
            detail,
        });
    }
}

/// Accepted `AtLeastOnce` events that a subscription never got, by subscriptions that may not lose
/// any (DEL-001): [`Kind::Lost`] and [`Kind::Unseen`].
#[must_use]
pub fn lost(history: &History) -> Findings {
    smallest::with(history, delivered::lost)
}

/// Events that one subscription got twice (DEL-003).
#[must_use]
pub fn duplicates(history: &History) -> Findings {
    smallest::with(history, delivered::duplicates)
}

/// Deliveries of what nobody published, or what the subscription does not take (DEL-002).
#[must_use]
pub fn phantoms(history: &History) -> Findings {
    smallest::with(history, delivered::phantoms)
}

/// Deliveries of events whose publish was refused (DEL-004). Looks at the refused events.
#[must_use]
pub fn refused(history: &History) -> Findings {
    smallest::with(history, delivered::refused)
}

/// Deliveries that differ from what was published (DEL-006).
#[must_use]
pub fn corrupted(history: &History) -> Findings {
    smallest::with(history, delivered::corrupted)
}

/// Subscriptions in which what was delivered and what was told as lost are not what was published
/// (DEL-009, FLW-002). Where all of it is one author's, each gap must be told in its place too.
#[must_use]
pub fn uncounted(history: &History) -> Findings {
    smallest::with(history, counted::uncounted)
}

/// Events that came after one that their author published later (ORD-001 to ORD-003). Duplicates
/// are not counted: a second copy is late by nature.
#[must_use]
pub fn nonmonotonic(history: &History, within: Within) -> Findings {
    smallest::with(history, |history| order::nonmonotonic(history, within))
}

/// Deliveries that jumped over events that were owed, whether those came later or never, also in
/// subscriptions that were not read to their end (ORD-001, DEL-001).
#[must_use]
pub fn skips(history: &History, within: Within) -> Findings {
    smallest::with(history, |history| order::skips(history, within))
}

/// Stamps that are not what the contract says (ORD-002): an event's origin is the handle that it
/// was published through, the same in each subscription, and its sequence rises: all else is
/// [`Kind::Corrupted`] or [`Kind::Nonmonotonic`].
#[must_use]
pub fn stamps(history: &History, within: Within) -> Findings {
    smallest::with(history, |history| order::stamps(history, within))
}
