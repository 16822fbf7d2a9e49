//! Making the spans, and OpenTelemetry's side of them, if the build has it.
//!
//! Nothing else here knows OpenTelemetry. Without the feature there are the same spans with the same
//! fields, and no trace.

use tracing::field::{Empty, display};
use tracing::instrument::Instrument;
use tracing::{Span, info_span};

use super::{TARGET, TraceParent};
use crate::correlation::Correlation;
use crate::event::Event;
use crate::rpc::{Call, CallError};

/// A span with all that is said of a correlation, besides its own fields. What is for OpenTelemetry's
/// eyes would only be noise in a log, so it is there with the feature alone.
macro_rules! correlated {
    ($name:literal, $kind:literal, $title:expr, $correlation:expr, $($fields:tt)*) => {{
        let correlation: Option<&Correlation> = $correlation;
        correlated!(
            @made $name, $kind, $title,
            $($fields)*
            correlation = correlation.map(|c| c.id.as_str()),
            correlation.parent = correlation.and_then(|c| c.parent.as_deref()),
            correlation.root = correlation.and_then(|c| c.root.as_deref()),
            correlation.sequence = correlation.map(|c| c.sequence).filter(|&n| n > 0),
            correlation.stage = correlation.and_then(|c| c.stage.as_deref()),
            correlation.tags = correlation.map(|c| &c.tags).filter(|tags| !tags.is_empty()).map(debug),
        )
    }};
    (@made $name:literal, $kind:literal, $title:expr, $($fields:tt)*) => {{
        #[cfg(feature = "opentelemetry")]
        let span = info_span!(
            target: TARGET, $name,
            otel.kind = $kind, otel.name = %$title, otel.status_code = Empty,
            $($fields)*
        );
        #[cfg(not(feature = "opentelemetry"))]
        let span = info_span!(target: TARGET, $name, $($fields)*);
        span
    }};
}

pub(super) fn of_event(event: &Event) -> Span {
    let origin = event.origin();
    correlated!(
        "event", "consumer", event.topic(), event.get_correlation(),
        topic = %event.topic(),
        publisher = origin.map(|origin| display(origin.publisher)),
        sequence = origin.map(|origin| origin.sequence),
    )
}

pub(super) fn of_call(call: &Call) -> Span {
    correlated!(
        "call",
        "server",
        format_args!("{}/{}", call.service, call.method),
        call.correlation.as_ref(),
        service = call.service,
        method = call.method,
        error = Empty,
    )
}

/// Within what a call is handled.
#[derive(Debug)]
pub(crate) struct Handling {
    span: Span,
    parent: Option<TraceParent>,
}

impl Handling {
    pub(crate) fn of(call: &Call) -> Self {
        let span = of_call(call);
        let parent = call.correlation.as_ref().and_then(Correlation::trace);
        if let Some(parent) = parent {
            adopt(&span, parent);
        }
        Self { span, parent }
    }

    pub(super) fn into_span(self) -> Span {
        self.span
    }

    /// What is done within it. Where the span is filtered out, what is done still belongs to the
    /// caller's trace.
    pub(crate) fn around<T>(&self, work: impl Future<Output = T>) -> impl Future<Output = T> {
        let work = work.instrument(self.span.clone());
        match self.parent {
            #[cfg(feature = "opentelemetry")]
            parent => with::within(work, parent),
            #[cfg(not(feature = "opentelemetry"))]
            _ => work,
        }
    }

    /// It ends in an error.
    pub(crate) fn failed(&self, error: &CallError) {
        self.span.record("error", display(error));
        #[cfg(feature = "opentelemetry")]
        self.span.record("otel.status_code", "ERROR");
    }
}

#[cfg(feature = "opentelemetry")]
pub(super) use with::{adopt, current};
#[cfg(not(feature = "opentelemetry"))]
pub(super) use without::{adopt, current};

#[cfg(feature = "opentelemetry")]
mod with {
    use opentelemetry::Context;
    use opentelemetry::trace::{
        FutureExt, SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState,
    };
    use tracing::Span;
    use tracing_opentelemetry::OpenTelemetrySpanExt;

    use super::TraceParent;

    pub(in super::super) fn current() -> Option<TraceParent> {
        // The second is for spans that are filtered out, and for who uses OpenTelemetry without tracing.
        of(&Span::current().context()).or_else(|| of(&Context::current()))
    }

    fn of(context: &Context) -> Option<TraceParent> {
        let span = context.span();
        let span = span.span_context();
        let (trace, id) = (span.trace_id().to_bytes(), span.span_id().to_bytes());
        TraceParent::new(trace, id, span.is_sampled())
    }

    pub(in super::super) fn adopt(span: &Span, parent: TraceParent) -> bool {
        span.set_parent(remote(parent)).is_ok()
    }

    pub(super) fn within<T>(
        work: impl Future<Output = T>,
        parent: Option<TraceParent>,
    ) -> impl Future<Output = T> {
        work.with_context(parent.map_or_else(Context::current, remote))
    }

    fn remote(parent: TraceParent) -> Context {
        let flags = TraceFlags::default().with_sampled(parent.sampled);
        Context::new().with_remote_span_context(SpanContext::new(
            TraceId::from_bytes(parent.trace_id()),
            SpanId::from_bytes(parent.span_id()),
            flags,
            true,
            TraceState::NONE,
        ))
    }
}

#[cfg(not(feature = "opentelemetry"))]
mod without {
    use tracing::Span;

    use super::TraceParent;

    pub(in super::super) fn current() -> Option<TraceParent> {
        None
    }

    pub(in super::super) fn adopt(_: &Span, _: TraceParent) -> bool {
        false
    }
}
