//! What is in a span, and, with the feature, whose child it is.

use std::io;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tracing::info;
use tracing::subscriber::{NoSubscriber, with_default};
use tracing_subscriber::fmt::MakeWriter;

use crate::rpc::{Call, CallError, Failure, Reply, Service};
use crate::{Correlation, Event, Origin, PublisherId};

const THERE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn work() -> Correlation {
    let whole = Correlation::new("scan-7").tag("host", "a");
    let mut part = whole
        .child("pid-1")
        .child("hash")
        .stage("collect")
        .sequence(3);
    part.trace_parent = Some(THERE.to_owned());
    part
}

/// The lines of a log.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// `work`, with its spans and events going to `sink`.
fn with_sink(sink: impl tracing::Subscriber + Send + Sync + 'static, work: impl FnOnce()) {
    // As long as there is but one dispatcher, tracing asks the thread that comes to a call site first
    // whether anybody wants it, for good: with this one, it asks them all.
    let _another = tracing::Dispatch::new(NoSubscriber::default());
    with_default(sink, work);
}

impl Lines {
    fn while_doing(work: impl FnOnce()) -> Vec<Value> {
        let lines = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(lines.clone());
        with_sink(subscriber.finish(), work);
        let bytes = lines.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// The span, as a line within it shows it, without what is for OpenTelemetry.
fn shown(line: &Value) -> Value {
    let mut span = line["span"].as_object().unwrap().clone();
    span.retain(|name, _| !name.starts_with("otel."));
    Value::Object(span)
}

#[test]
fn an_events_span_shows_whose_it_is_and_to_what_it_belongs() {
    let lines = Lines::while_doing(|| {
        let mut event = Event::new("events.process.new", "x").unwrap();
        event.span().in_scope(|| info!("bare"));
        event = event.correlation(work());
        let origin = Origin {
            publisher: PublisherId([7; 16]),
            epoch: 1,
            sequence: 9,
        };
        event.accept(|| origin);
        event.span().in_scope(|| info!("full"));
    });
    assert_eq!(
        shown(&lines[0]),
        json!({"name": "event", "topic": "events.process.new"})
    );
    let publisher = PublisherId([7; 16]).to_string();
    assert_eq!(
        shown(&lines[1]),
        json!({
            "name": "event", "topic": "events.process.new", "publisher": publisher, "sequence": 9,
            "correlation": "hash", "correlation.parent": "pid-1", "correlation.root": "scan-7",
            "correlation.sequence": 3, "correlation.stage": "collect",
            "correlation.tags": "{\"host\": \"a\"}",
        })
    );
}

#[test]
fn a_calls_span_shows_what_is_called_and_to_what_it_belongs() {
    let call = Call::new("procmond", "hash", "").correlation(Correlation::new("a").child("b"));
    let lines = Lines::while_doing(|| call.span().in_scope(|| info!("within")));
    assert_eq!(
        shown(&lines[0]),
        json!({
            "name": "call", "service": "procmond", "method": "hash",
            "correlation": "b", "correlation.parent": "a", "correlation.root": "a",
        })
    );
}

fn attended(service: &Service, call: Call) -> Result<Reply, CallError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let ticket = service.desk().admit(&call.method)?;
    runtime.block_on(ticket.attend(call, std::future::pending()))
}

#[test]
fn a_handler_runs_within_its_calls_span_from_the_first_line_to_the_last() {
    let service = Service::new("s", |_: Call| {
        info!("before its future");
        async {
            tokio::task::yield_now().await;
            info!("in its future");
            if true {
                return Err(Failure::new(7, "disk full"));
            }
            Ok(Reply::empty())
        }
    });
    let lines = Lines::while_doing(|| {
        let call = Call::new("s", "m", "").correlation(work());
        attended(&service, call).unwrap_err();
        info!("afterwards");
    });
    assert_eq!(lines.len(), 3);
    for line in &lines[..2] {
        assert_eq!(line["span"]["correlation"], "hash", "{line}");
        assert_eq!(line["span"]["service"], "s", "{line}");
    }
    assert_eq!(lines[2]["span"], Value::Null);
}

#[test]
fn a_trace_parent_that_is_none_is_counted_and_told_and_no_error() {
    let mut correlation = Correlation::new("c");
    correlation.trace_parent = Some("00-what somebody sent".to_owned());
    let event = Event::new("a", "x")
        .unwrap()
        .correlation(correlation.clone());
    let before = super::refused();
    let lines = Lines::while_doing(|| event.span().in_scope(|| info!("within")));
    assert!(super::refused() > before);
    assert_eq!(
        event.get_correlation(),
        Some(&correlation),
        "it is not touched"
    );
    assert_eq!(lines[0]["fields"]["message"], "trace parent refused");
    assert_eq!(lines[0]["fields"]["correlation"], "c");
    assert_eq!(lines[1]["fields"]["message"], "within");

    let before = super::refused();
    let service = Service::new("s", |_: Call| async { Ok(Reply::empty()) });
    let call = Call::new("s", "m", "").correlation(correlation);
    assert!(attended(&service, call).is_ok());
    assert!(super::refused() > before);
}

#[test]
fn outside_of_a_trace_nothing_is_said_of_one() {
    let event = Event::new("a", "x").unwrap();
    assert_eq!(event.clone().in_current_span(), event);
    let call = Call::new("s", "m", "").correlation(work());
    assert_eq!(call.clone().in_current_span(), call);
    assert_eq!(work().in_current_span(), work());
}

#[cfg(feature = "opentelemetry")]
mod traced {
    use opentelemetry::trace::{SpanKind, Status, TracerProvider};
    use opentelemetry_sdk::trace::{InMemorySpanExporter, Sampler, SdkTracerProvider, SpanData};
    use tracing::{Instrument, Span, info_span};
    use tracing_subscriber::filter::Targets;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::trace::TraceParent;

    fn spans_of(sampler: Sampler, filter: Targets, work: impl FnOnce()) -> Vec<SpanData> {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler)
            .with_simple_exporter(exporter.clone())
            .build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let subscriber = tracing_subscriber::registry().with(filter).with(layer);
        with_sink(subscriber, work);
        exporter.get_finished_spans().unwrap()
    }

    fn all() -> Targets {
        Targets::new().with_default(tracing::Level::TRACE)
    }

    fn spans(work: impl FnOnce()) -> Vec<SpanData> {
        spans_of(Sampler::AlwaysOn, all(), work)
    }

    fn parent_of(span: &SpanData) -> Option<TraceParent> {
        let trace = span.span_context.trace_id().to_bytes();
        TraceParent::new(trace, span.parent_span_id.to_bytes(), true)
    }

    fn itself(span: &SpanData) -> TraceParent {
        let context = &span.span_context;
        let (trace, id) = (context.trace_id().to_bytes(), context.span_id().to_bytes());
        TraceParent::new(trace, id, true).unwrap()
    }

    fn there() -> TraceParent {
        THERE.parse().unwrap()
    }

    #[test]
    fn a_span_of_an_event_is_a_child_of_its_publishers() {
        let event = Event::new("a.b", "x").unwrap().correlation(work());
        let spans = spans(|| {
            info_span!("the reader's loop").in_scope(|| event.span().in_scope(|| {}));
        });
        let [span, own] = &spans[..] else {
            panic!("{spans:?}")
        };
        assert_eq!((&*span.name, &span.span_kind), ("a.b", &SpanKind::Consumer));
        assert_eq!(parent_of(span), Some(there()));
        assert!(span.parent_span_is_remote);
        assert_ne!(own.span_context.trace_id(), span.span_context.trace_id());
    }

    #[test]
    fn a_span_of_a_users_own_is_adopted_while_it_is_new() {
        let spans = spans(|| {
            let span = info_span!("hash");
            assert!(work().adopt(&span));
            span.in_scope(|| {});
            assert!(!work().adopt(&span));
            assert!(!Correlation::new("untraced").adopt(&info_span!("other")));
        });
        let parent = |name| parent_of(spans.iter().find(|span| span.name == name).unwrap());
        assert_eq!(parent("hash"), Some(there()));
        assert_eq!(parent("other"), None);
    }

    #[test]
    fn what_is_published_in_a_span_says_so() {
        let mut said = Vec::new();
        let spans = spans(|| {
            let event = Event::new("a", "x").unwrap();
            let call = Call::new("s", "m", "");
            info_span!("work").in_scope(|| {
                said.push(event.in_current_span().get_correlation().cloned().unwrap());
                said.push(call.in_current_span().correlation.unwrap());
            });
        });
        let here = itself(&spans[0]);
        for correlation in said {
            assert_eq!(correlation.trace(), Some(here));
            assert_eq!(correlation.id, here.trace());
        }
    }

    /// A step's trace parent is the span of that step, and not of the one before; but work of another
    /// trace stays there.
    #[test]
    fn a_step_comes_from_its_own_span_and_what_is_passed_on_from_its_authors() {
        let mut next = work();
        let mut passed = work();
        let mut mended = work();
        mended.trace_parent = Some("garbage".to_owned());
        let event = Event::new("a", "x").unwrap().correlation(work());
        let spans = spans(|| {
            event
                .span()
                .in_scope(|| next = work().child("next").in_current_span());
            info_span!("another trace").in_scope(|| {
                passed = work().in_current_span();
                mended = mended.clone().in_current_span();
            });
        });
        assert_eq!(next.trace(), Some(itself(&spans[0])));
        assert_eq!(next.trace().unwrap().trace_id(), there().trace_id());
        assert_eq!(
            (next.id.as_str(), next.root.as_deref()),
            ("next", Some("scan-7"))
        );
        assert_eq!(passed, work());
        assert_eq!(mended.trace(), Some(itself(&spans[1])));
    }

    #[test]
    fn a_handler_is_within_its_callers_trace_and_so_is_what_it_does() {
        let service = Service::new("s", |call: Call| {
            async move {
                let next = Event::new("a", "x").unwrap().in_current_span();
                let next = next.get_correlation().unwrap().trace().unwrap();
                assert_eq!(next.trace_id(), there().trace_id());
                Err(Failure::new(7, call.method))
            }
            .instrument(info_span!("inner"))
        });
        let spans = spans(|| {
            let call = Call::new("s", "m", "").correlation(work());
            attended(&service, call).unwrap_err();
        });
        let [inner, handler] = &spans[..] else {
            panic!("{spans:?}")
        };
        assert_eq!(
            (&*handler.name, &handler.span_kind),
            ("s/m", &SpanKind::Server)
        );
        assert_eq!(parent_of(handler), Some(there()));
        assert_eq!(handler.status, Status::error(""));
        assert_eq!(parent_of(inner), Some(itself(handler)));
    }

    /// Who hides the bus's own spans, or does not record this trace, has a shorter trace, and no two.
    #[test]
    fn what_is_filtered_or_not_sampled_does_not_cut_the_trace() {
        let service = Service::new("s", |_: Call| async {
            let here = TraceParent::current().unwrap();
            Ok(Reply::new(here.to_string().into_bytes()))
        });
        let mut unsampled = work();
        unsampled.trace_parent = Some(THERE.replace("-01", "-00"));
        let ask = |work: Correlation| {
            let reply = attended(&service, Call::new("s", "m", "").correlation(work)).unwrap();
            let bytes = reply.payload.bytes().unwrap();
            std::str::from_utf8(&bytes)
                .unwrap()
                .parse::<TraceParent>()
                .unwrap()
        };
        let hidden = all().with_target(super::super::TARGET, tracing::Level::ERROR);
        let spans = spans_of(Sampler::AlwaysOn, hidden, || {
            assert_eq!(ask(work()), there())
        });
        assert!(spans.is_empty());
        let by_parent = Sampler::ParentBased(Box::new(Sampler::AlwaysOn));
        let spans = spans_of(by_parent, all(), || {
            let here = ask(unsampled.clone());
            assert_eq!(here.trace_id(), there().trace_id());
            assert_ne!(here.span_id(), there().span_id());
            assert!(!here.sampled);
        });
        assert!(spans.is_empty());
        assert!(Span::current().is_none());
    }
}
