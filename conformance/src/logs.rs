//! What a bus tells the log of its events, caught for whoever asks (OBS-002).
//!
//! Lines are caught by their message, `event refused`, `event dropped` or `event sent again`, and
//! found by their field `publisher`; what a backend tells by [`eventbus_trait::fate`] has both. The
//! layer belongs to the process, because events are dropped and sent again by tasks that no clause
//! has started. It is put there by [`run`](crate::run), or by a program that has a subscriber of its
//! own and adds [`layer`] to it.
//!
//! Invariant: nothing is caught of a publisher that nobody watches, and no more than [`MOST`] lines
//! of one that somebody does; while nobody watches, nobody listens.

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Once};

use eventbus_trait::{Event, PublishError, PublisherId, fate};
use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt as lines, registry};

/// Most lines that are kept of one publisher.
pub const MOST: usize = 65_536;

/// What a line tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The publisher has its event back.
    Refused,
    /// A subscription will not get an event that was accepted.
    Dropped,
    /// An event is sent to a subscription again.
    SentAgain,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Refused, Self::Dropped, Self::SentAgain];

    /// The message that a backend tells it by.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::Refused => "event refused",
            Self::Dropped => "event dropped",
            Self::SentAgain => "event sent again",
        }
    }
}

/// A line, by its fields.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// What it tells.
    pub kind: Kind,
    /// The event's topic.
    pub topic: Option<String>,
    /// The event's sequence among those of its publisher.
    pub sequence: Option<u64>,
    /// The id of its correlation.
    pub correlation: Option<String>,
    /// The subscription concerned.
    pub subscription: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.kind.message())?;
        let texts = [
            ("topic", &self.topic),
            ("correlation", &self.correlation),
            ("subscription", &self.subscription),
            ("reason", &self.reason),
        ];
        if let Some(sequence) = self.sequence {
            write!(f, " sequence={sequence}")?;
        }
        for (name, text) in texts {
            if let Some(text) = text {
                write!(f, " {name}={text:?}")?;
            }
        }
        Ok(())
    }
}

type Caught = Arc<Mutex<Vec<Line>>>;

/// Who is watched, with what was caught of it and by how many it is watched.
static WATCHED: LazyLock<Mutex<BTreeMap<String, (Caught, usize)>>> = LazyLock::new(Mutex::default);
static WATCHES: AtomicUsize = AtomicUsize::new(0);

/// Catches the lines of one publisher until it is dropped.
#[derive(Debug)]
pub struct Watch {
    publisher: String,
    caught: Caught,
}

impl Watch {
    /// Begins.
    #[must_use]
    pub fn on(publisher: PublisherId) -> Self {
        let publisher = publisher.to_string();
        WATCHES.fetch_add(1, Ordering::SeqCst);
        let mut watched = WATCHED.lock();
        let (caught, watches) = watched.entry(publisher.clone()).or_default();
        *watches += 1;
        let caught = Arc::clone(caught);
        drop(watched);
        Self { publisher, caught }
    }

    /// What has been caught, in order.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        self.caught.lock().clone()
    }

    /// How many lines have been caught.
    #[must_use]
    pub fn count(&self) -> usize {
        self.caught.lock().len()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = WATCHED.lock();
        if let Some((_, watches)) = watched.get_mut(&self.publisher) {
            *watches -= 1;
            if *watches == 0 {
                watched.remove(&self.publisher);
            }
        }
        WATCHES.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Catches lines for [`Watch`]: for a program that has a subscriber of its own.
pub fn layer<S>() -> impl Layer<S> + Send + Sync
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    Catch.with_filter(OnlyWatched)
}

/// Makes [`layer`] the process's subscriber, beside lines on standard error where `RUST_LOG` asks
/// for some, unless it has one.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let catching = registry().with(layer());
        // One that is there already stays; `is_heard` tells.
        let _ = if std::env::var_os("RUST_LOG").is_some() {
            let filter = EnvFilter::from_default_env();
            let lines = lines::layer().with_writer(std::io::stderr);
            catching.with(lines.with_filter(filter)).try_init().is_ok()
        } else {
            tracing::subscriber::set_global_default(catching).is_ok()
        };
    });
}

/// Whether what is told is caught.
#[must_use]
pub fn is_heard() -> bool {
    let publisher = PublisherId::random();
    let watch = Watch::on(publisher);
    if let Ok(event) = Event::new("conformance.heard", "") {
        fate::refused(Some(publisher), &event, &PublishError::Closed);
    }
    watch.count() == 1
}

struct Catch;

impl<S: Subscriber> Layer<S> for Catch {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let (Some(publisher), Some(kind)) = (fields.take("publisher"), fields.kind()) else {
            return;
        };
        let caught = match WATCHED.lock().get(&publisher) {
            Some((caught, _)) => Arc::clone(caught),
            None => return,
        };
        let line = Line {
            kind,
            topic: fields.take("topic"),
            sequence: fields.take("sequence").and_then(|text| text.parse().ok()),
            correlation: fields.take("correlation"),
            subscription: fields.take("subscription"),
            reason: fields.take("reason"),
        };
        let mut caught = caught.lock();
        if caught.len() < MOST {
            caught.push(line);
        }
    }
}

/// Lets lines through that may be ours, while anybody watches.
struct OnlyWatched;

impl OnlyWatched {
    fn may_be_ours(metadata: &Metadata<'_>) -> bool {
        let fields = metadata.fields();
        let has = |name| fields.field(name).is_some();
        metadata.is_event() && has("publisher") && has("topic") && has("message")
    }
}

impl<S> Filter<S> for OnlyWatched {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        WATCHES.load(Ordering::Relaxed) > 0 && Self::may_be_ours(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if Self::may_be_ours(metadata) {
            Interest::sometimes()
        } else {
            Interest::never()
        }
    }
}

/// The fields of a line, as texts.
#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Fields {
    fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    fn kind(&self) -> Option<Kind> {
        let message = self.0.get("message")?;
        Kind::ALL
            .into_iter()
            .find(|kind| kind.message() == *message)
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        // Writing to a text does not fail.
        let _ = write!(text, "{value:?}");
        self.0.insert(field.name(), text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}
