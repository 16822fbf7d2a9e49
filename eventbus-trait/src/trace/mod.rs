//! Correlation and `tracing`: spans for what came from elsewhere, and where that continues.
//!
//! A piece of work goes through several processes; what it did in each is a span there. [`Event::span`]
//! and [`Call::span`] are spans with all that is known of the correlation as fields, so that a log alone
//! shows what belongs together. With the feature `opentelemetry` they are also spans of one trace: the
//! one within which the event was published, or the call made, is their parent, whichever process that
//! was in. What a service's handler does is within [`Call::span`] already.
//!
//! ```
//! use eventbus_trait::Event;
//! use tracing::Instrument;
//! # async fn handle(_: &Event) {}
//! # async fn next(event: Event) {
//! handle(&event).instrument(event.span()).await;
//! # }
//! ```
//!
//! A trace parent that is none is counted ([`refused`]), told at the level debug, and else as if there
//! were none: what somebody else gets wrong about tracing is no reason to lose an event.

mod parent;
mod span;

use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{Span, debug};

use crate::correlation::Correlation;
use crate::event::Event;
use crate::rpc::Call;

pub use parent::{TraceParent, TraceParentError};
pub(crate) use span::Handling;

/// The target of all spans of a bus. Who filters it out has neither them nor, for events, the trace.
pub const TARGET: &str = "eventbus::spans";

static REFUSED: AtomicU64 = AtomicU64::new(0);

/// How many trace parents that were none this process has met.
#[must_use]
pub fn refused() -> u64 {
    REFUSED.load(Ordering::Relaxed)
}

impl TraceParent {
    /// The current span, if it is part of a trace. Without the feature `opentelemetry` there is none.
    #[must_use]
    pub fn current() -> Option<Self> {
        span::current()
    }
}

impl Correlation {
    /// The span that the work comes from, if the trace parent is one; see [`refused`].
    #[must_use]
    pub fn trace(&self) -> Option<TraceParent> {
        let text = self.trace_parent.as_deref()?;
        match text.parse() {
            Ok(parent) => Some(parent),
            Err(reason) => {
                REFUSED.fetch_add(1, Ordering::Relaxed);
                let reason: TraceParentError = reason;
                debug!(target: TARGET, correlation = self.id, %reason, "trace parent refused");
                None
            }
        }
    }

    /// Makes the span that the work comes from the parent of `span`, for who makes spans of his own
    /// instead of [`Event::span`]; whether there was one. `span` must be new: once it was entered, or its
    /// trace was asked for, it has its parent. Without the feature `opentelemetry` it does nothing.
    ///
    /// ```
    /// use eventbus_trait::Event;
    /// # fn hash(event: &Event) {
    /// let span = tracing::info_span!("hash", topic = %event.topic());
    /// if let Some(correlation) = event.get_correlation() {
    ///     correlation.adopt(&span);
    /// }
    /// span.in_scope(|| { /* … */ });
    /// # }
    /// ```
    pub fn adopt(&self, span: &Span) -> bool {
        !span.is_disabled() && self.trace().is_some_and(|parent| span::adopt(span, parent))
    }

    /// The same, coming from the current span, if that is part of a trace. Work of another trace than
    /// the current span's stays with its own: that is somebody who passes on what others have begun.
    #[must_use]
    pub fn in_current_span(self) -> Self {
        here(self, Self::coming_from)
    }

    /// As [`in_current_span`](Self::in_current_span), with a span that is known by other means.
    #[must_use]
    pub fn coming_from(mut self, here: TraceParent) -> Self {
        let elsewhere = |parent: TraceParent| parent.trace_id() != here.trace_id();
        if !self.trace().is_some_and(elsewhere) {
            self.trace_parent = Some(here.to_string());
        }
        self
    }

    /// What becomes of the correlation of something that comes from a span; what has none belongs to that
    /// span's trace.
    fn at(present: Option<Self>, here: TraceParent) -> Self {
        present
            .unwrap_or_else(|| Self::new(here.trace()))
            .coming_from(here)
    }
}

/// Lets it come from the current span, if that is part of a trace.
fn here<T>(what: T, coming_from: impl FnOnce(T, TraceParent) -> T) -> T {
    match TraceParent::current() {
        Some(here) => coming_from(what, here),
        None => what,
    }
}

impl Event {
    /// A span in which to handle the event: `event`, with topic, publisher, sequence and correlation. Its
    /// parent is the span within which the event was published (feature `opentelemetry`), or else the
    /// current one.
    #[must_use]
    pub fn span(&self) -> Span {
        let span = span::of_event(self);
        if let Some(correlation) = self.get_correlation() {
            correlation.adopt(&span);
        }
        span
    }

    /// The same, coming from the current span, if that is part of a trace; see
    /// [`Correlation::in_current_span`]. An event without a correlation gets one then, whose id is the
    /// trace's.
    #[must_use]
    pub fn in_current_span(self) -> Self {
        here(self, Self::coming_from)
    }

    /// As [`in_current_span`](Self::in_current_span), with a span that is known by other means.
    #[must_use]
    pub fn coming_from(self, here: TraceParent) -> Self {
        let correlation = Correlation::at(self.get_correlation().cloned(), here);
        self.correlation(correlation)
    }
}

impl Call {
    /// A span in which to handle the call: `call`, with service, method and correlation. Its parent is the
    /// span within which the call was made (feature `opentelemetry`). A service's handlers run within it.
    #[must_use]
    pub fn span(&self) -> Span {
        Handling::of(self).into_span()
    }

    /// As [`Event::in_current_span`].
    #[must_use]
    pub fn in_current_span(self) -> Self {
        here(self, Self::coming_from)
    }

    /// As [`in_current_span`](Self::in_current_span), with a span that is known by other means.
    #[must_use]
    pub fn coming_from(mut self, here: TraceParent) -> Self {
        self.correlation = Some(Correlation::at(self.correlation, here));
        self
    }
}

#[cfg(test)]
mod tests;
