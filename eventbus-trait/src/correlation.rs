//! Correlation: which events belong to one piece of work.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What ties an event to the work that it is part of. It travels with the event, unaltered.
///
/// ```
/// use eventbus_trait::Correlation;
/// let work = Correlation::new("scan-7").stage("collect").tag("host", "a");
/// let step = work.child("scan-7/pid-1");
/// assert_eq!(step.parent.as_deref(), Some("scan-7"));
/// assert_eq!(step.root.as_deref(), Some("scan-7"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Correlation {
    /// Identifies this piece of work.
    pub id: String,
    /// The piece of work that this one is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The piece of work that it all began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// Position within the piece of work, as its author counts.
    #[serde(default)]
    pub sequence: u64,
    /// The stage of a workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Free labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// The W3C `traceparent` of the span that published the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_parent: Option<String>,
}

impl Correlation {
    /// A piece of work of its own.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            ..Self::default()
        }
    }

    /// A part of this piece of work, with the same root and tags.
    #[must_use]
    pub fn child(&self, id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            parent: Some(self.id.clone()),
            root: Some(self.root.clone().unwrap_or_else(|| self.id.clone())),
            tags: self.tags.clone(),
            trace_parent: self.trace_parent.clone(),
            ..Self::default()
        }
    }

    /// Sets the stage.
    #[must_use]
    pub fn stage(mut self, stage: impl Into<String>) -> Self {
        self.stage = Some(stage.into());
        self
    }

    /// Sets the position.
    #[must_use]
    pub fn sequence(mut self, sequence: u64) -> Self {
        self.sequence = sequence;
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn tag(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.insert(name.into(), value.into());
        self
    }

    /// Bytes that the correlation adds to an event's size.
    pub(crate) fn size(&self) -> usize {
        let optional = [&self.parent, &self.root, &self.stage, &self.trace_parent];
        self.id.len()
            + optional
                .into_iter()
                .flatten()
                .map(String::len)
                .sum::<usize>()
            + self
                .tags
                .iter()
                .map(|(k, v)| k.len() + v.len())
                .sum::<usize>()
            + size_of::<u64>()
    }
}

/// Takes the events whose correlation has everything that is set here; an event without a
/// correlation is not taken.
///
/// ```
/// use eventbus_trait::{Correlation, CorrelationFilter};
/// let filter = CorrelationFilter::default().root("scan-7");
/// assert!(filter.matches(Some(&Correlation::new("scan-7").child("pid-1"))));
/// assert!(!filter.matches(None));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CorrelationFilter {
    id: Option<String>,
    parent: Option<String>,
    root: Option<String>,
    stage: Option<String>,
    tags: BTreeMap<String, String>,
}

impl CorrelationFilter {
    /// Wants this id.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Wants this parent.
    #[must_use]
    pub fn parent(mut self, parent: impl Into<String>) -> Self {
        self.parent = Some(parent.into());
        self
    }

    /// Wants this root; a piece of work that has no root is its own.
    #[must_use]
    pub fn root(mut self, root: impl Into<String>) -> Self {
        self.root = Some(root.into());
        self
    }

    /// Wants this stage.
    #[must_use]
    pub fn stage(mut self, stage: impl Into<String>) -> Self {
        self.stage = Some(stage.into());
        self
    }

    /// Wants this label with this value.
    #[must_use]
    pub fn tag(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.insert(name.into(), value.into());
        self
    }

    /// Whether `correlation` has everything wanted.
    #[must_use]
    pub fn matches(&self, correlation: Option<&Correlation>) -> bool {
        let Some(have) = correlation else {
            return false;
        };
        let wants = |want: &Option<String>, have: Option<&String>| {
            want.as_ref().is_none_or(|want| Some(want) == have)
        };
        wants(&self.id, Some(&have.id))
            && wants(&self.parent, have.parent.as_ref())
            && wants(&self.root, have.root.as_ref().or(Some(&have.id)))
            && wants(&self.stage, have.stage.as_ref())
            && self
                .tags
                .iter()
                .all(|(name, value)| have.tags.get(name) == Some(value))
    }
}

/// A test on events that the application supplies.
#[derive(Clone)]
pub(crate) struct Predicate(pub(crate) Arc<dyn Fn(&crate::Event) -> bool + Send + Sync>);

impl fmt::Debug for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Predicate")
    }
}
