//! OBS-002: what was refused, dropped or sent again is found in the log, and nothing else is.
//!
//! What has to be there follows from what was published and what arrived, never from the log itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use eventbus_trait::{Delivery, EventBus, Limits, Overflow, Subscribe, Topic};

use crate::harness::{Capability, Fault, Opening};
use crate::history::{History, Mark, Op, Publication, mark_of};
use crate::logs::{self, Kind, Line, Watch};
use crate::stage::{Author, Context, Faulty, Lasts, Reader, Stage};
use crate::verdict::{Checked, Unmet, ensure, ensure_eq};

/// OBS-002: for every event that is refused, dropped or sent again there is one line that says
/// which event, by publisher, topic, sequence and correlation, which subscription, and why.
pub(crate) async fn obs_002_losses_are_in_the_log(context: Context) -> Checked {
    if !logs::is_heard() {
        return Err(Unmet::unexercised(
            "the process has another `tracing` subscriber: add `conformance::logs::layer()` to it",
        ));
    }
    refused_and_dropped(&context).await?;
    if context.has(Capability::Faults) {
        sent_again(&context).await?;
    }
    Ok(())
}

async fn refused_and_dropped(context: &Context) -> Checked {
    let limits = Limits {
        max_event_size: 4096,
        publish_deadline: Duration::from_millis(20),
        ..Limits::default()
    };
    let stage = context.stage_with(limits).await?;
    let bus = stage.bus();
    let watch = Watch::on(bus.publisher_id());
    let author = stage.correlated_author(&bus);
    let small = |filter: &str, overflow| {
        let subscribe = Subscribe::to(filter)?.capacity(4).overflow(overflow);
        Ok::<_, Unmet>(subscribe.named(format!("{overflow:?}")))
    };
    let mut readers = [
        stage.read(&bus, small("full", Overflow::Wait)?).await?,
        stage
            .read(&bus, small("old.*", Overflow::DropOldest)?)
            .await?,
        stage
            .read(&bus, small("new.*", Overflow::DropNewest)?)
            .await?,
    ];

    let untried = have_refused(&author).await?;
    let topic = Topic::new("full")?;
    for _ in 0..3 {
        let event = author.event(&topic).delivery(Delivery::AtMostOnce);
        author.send(event).await?;
    }
    author
        .publish_over(&["old.a", "new.a", "old.b", "new.b"], 60)
        .await?;
    let mut expected = Expected::default();
    expected.refused(&stage.history(), &author, &untried);
    for reader in &mut readers {
        expected.dropped(&stage, &author, reader).await?;
    }
    expected.found(&stage, &watch).await?;
    refused_when_closed(context, &stage).await?;
    // Whatever came late would be too much.
    expected.found(&stage, &watch).await
}

/// Has events refused for each reason that a publisher may meet; the events that were handed back
/// without being tried.
async fn have_refused(author: &Author) -> Checked<BTreeSet<Mark>> {
    let full = Topic::new("full")?;
    author.fill("full").await?;
    let past = "an event went past a full subscription";
    ensure!(author.send(author.event(&full)).await.is_err(), "{past}");
    let large = || author.event(&full).header("large", "x".repeat(8192));
    ensure!(
        author.send(large()).await.is_err(),
        "a large event was taken"
    );
    ensure!(author.try_send(large()).is_err(), "a large event was taken");
    let free = Topic::new("free")?;
    let batch = [&free, &full, &free].map(|topic| author.event(topic));
    match author.send_batch(batch.into()).await {
        Ok(_) => Err(Unmet::broken(past)),
        Err(refused) => Ok(refused.events.iter().skip(1).filter_map(mark_of).collect()),
    }
}

/// A handle that is shut down refuses everything.
async fn refused_when_closed(context: &Context, stage: &Stage) -> Checked {
    let bus = if context.has(Capability::SeveralHandles) {
        stage.connect().await?
    } else {
        return Ok(());
    };
    let watch = Watch::on(bus.publisher_id());
    let author = stage.correlated_author(&bus);
    stage.wait("shutdown", bus.shutdown()).await??;
    let topic = Topic::new("free")?;
    let closed = "published through a handle that was shut down";
    ensure!(author.send(author.event(&topic)).await.is_err(), "{closed}");
    ensure!(author.try_send(author.event(&topic)).is_err(), "{closed}");
    let mut expected = Expected::default();
    expected.refused(&stage.history(), &author, &BTreeSet::new());
    expected.found(stage, &watch).await
}

/// The lines that have to be there, without their reasons.
#[derive(Debug, Default)]
struct Expected(Vec<Line>);

impl Expected {
    /// What was refused to `author`, less what was never tried.
    fn refused(&mut self, history: &History, author: &Author, untried: &BTreeSet<Mark>) {
        let own = publications(history, author);
        for entry in &history.entries {
            if let Op::Refused(mark) = &entry.op
                && let Some(publication) = own.get(mark)
                && !untried.contains(mark)
            {
                self.0.push(line(Kind::Refused, publication, None, None));
            }
        }
    }

    /// What `author` has published for a subscription, which has not got it: an author that is alone
    /// on its handle knows the sequences, because they count what was accepted.
    async fn dropped(&mut self, stage: &Stage, author: &Author, reader: &mut Reader) -> Checked {
        let history = stage.history();
        let own = publications(&history, author);
        let accepted = history.entries.iter().filter_map(|entry| match &entry.op {
            Op::Accepted(mark) => own.get(mark),
            _ => None,
        });
        let interest = history.entries.iter().find_map(|entry| match &entry.op {
            Op::Subscribed(it) if *it.subscription == *reader.name() => Some(it.clone()),
            _ => None,
        });
        let interest = interest.ok_or_else(|| Unmet::broken("an unknown subscription"))?;
        let owed: Vec<(u64, &Publication)> = (0..)
            .zip(accepted.copied())
            .filter(|(_, publication)| interest.takes(publication))
            .collect();
        reader.read_until_matched(owed.len() as u64).await?;
        let arrived: BTreeSet<_> = stage
            .history()
            .marks_of(reader.name())
            .into_iter()
            .collect();
        let before = self.0.len();
        for (sequence, publication) in owed {
            if !arrived.contains(&Some(publication.mark)) {
                let name = Some(reader.name());
                self.0
                    .push(line(Kind::Dropped, publication, Some(sequence), name));
            }
        }
        if self.0.len() == before {
            return Err(Unmet::unexercised(format_args!(
                "`{}` lost nothing",
                reader.name()
            )));
        }
        Ok(())
    }

    /// Whether exactly these are in the log.
    async fn found(&self, stage: &Stage, watch: &Watch) -> Checked {
        // What is missing is told by name below.
        let _ = stage
            .until("the lines of the log", || watch.count() >= self.0.len())
            .await;
        let mut left = self.0.clone();
        for line in watch.lines() {
            ensure!(line.reason.is_some(), "no reason in the log for {line}");
            let refused = line.kind == Kind::Refused;
            let bare = Line {
                reason: None,
                // A layer above may have given one to an event before it was refused.
                sequence: line.sequence.filter(|_| !refused),
                // Where a refusal names one it is to blame, which the error has told.
                subscription: line.subscription.clone().filter(|_| !refused),
                ..line.clone()
            };
            match left.iter().position(|expected| *expected == bare) {
                Some(at) => drop(left.swap_remove(at)),
                None => return Err(Unmet::broken(format_args!("wrong in the log: {line}"))),
            }
        }
        match left.first() {
            None => Ok(()),
            Some(line) => Err(Unmet::broken(format_args!(
                "{} lines are not in the log, one of them {line}",
                left.len()
            ))),
        }
    }
}

fn line(
    kind: Kind,
    publication: &Publication,
    sequence: Option<u64>,
    subscription: Option<&str>,
) -> Line {
    Line {
        kind,
        topic: Some(publication.topic.to_string()),
        sequence,
        correlation: Some(Author::correlation_of(publication.mark)),
        subscription: subscription.map(ToOwned::to_owned),
        reason: None,
    }
}

fn publications<'a>(history: &'a History, author: &Author) -> BTreeMap<Mark, &'a Publication> {
    let publications = history.entries.iter().filter_map(|entry| match &entry.op {
        Op::Invoke(publication) if author.wrote(publication.mark) => Some(publication),
        _ => None,
    });
    publications.map(|it| (it.mark, it)).collect()
}

/// After a connection was lost, what is sent again is as many events as are counted, each of them
/// one that was published, with the stamp that it arrives with.
async fn sent_again(context: &Context) -> Checked {
    const RESETS: usize = 20;
    let faulty = context.fault_stage().await?;
    let stage = &faulty.stage;
    let (near, far) = (stage.bus(), faulty.open(Opening::default()).await?);
    if near.state().has_changed().is_err() {
        // A handle that has no connection never sends anything again.
        return Ok(());
    }
    let handles = [near, far];
    let watches = handles.each_ref().map(|bus| Watch::on(bus.publisher_id()));
    let authors = handles.each_ref().map(|bus| stage.correlated_author(bus));
    let mut readers = vec![
        stage.reader(&handles[0], "a.#").await?,
        stage.reader(&handles[1], "a.#").await?,
    ];
    let resends = || handles.iter().any(|bus| bus.stats().resends > 0);
    for _ in 0..RESETS {
        reset(&faulty, &authors, &mut readers).await?;
        if resends() {
            break;
        }
    }
    if !resends() {
        return Err(Unmet::unexercised("no event was sent again"));
    }
    stage.drain(&mut readers, &authors).await?;
    let stamps = stamps(&stage.history());
    for (bus, watch) in handles.iter().zip(&watches) {
        of_one_handle(stage, bus, watch, &stamps).await?;
    }
    Ok(())
}

async fn reset(faulty: &Faulty, authors: &[Arc<Author>], readers: &mut [Reader]) -> Checked {
    faulty
        .publish_through(Fault::Reset, Lasts::Moment, authors, readers)
        .await
}

async fn of_one_handle(
    stage: &Stage,
    bus: &Arc<dyn EventBus>,
    watch: &Watch,
    stamps: &BTreeMap<String, (String, u64)>,
) -> Checked {
    let again = || {
        let lines = watch.lines().into_iter();
        lines.filter(|line| line.kind == Kind::SentAgain).collect()
    };
    let _ = stage
        .until("the lines of the log", || {
            let again: Vec<Line> = again();
            again.len() as u64 >= bus.stats().resends
        })
        .await;
    let again: Vec<Line> = again();
    ensure_eq!(
        again.len() as u64,
        bus.stats().resends,
        "events sent again, in the log and counted"
    );
    for line in again {
        ensure!(
            line.subscription.is_some() && line.reason.is_some() && line.sequence.is_some(),
            "something is left out of {line}"
        );
        let Some(correlation) = &line.correlation else {
            // A fence.
            continue;
        };
        let stamp = line.topic.clone().zip(line.sequence);
        ensure_eq!(stamps.get(correlation), stamp.as_ref(), "stamp of {line}");
    }
    Ok(())
}

/// Topic and sequence of what arrived, by correlation.
fn stamps(history: &History) -> BTreeMap<String, (String, u64)> {
    let arrivals = history.entries.iter().filter_map(|entry| match &entry.op {
        Op::Delivered(arrival) => Some(arrival),
        _ => None,
    });
    let stamps = arrivals.filter_map(|arrival| {
        let correlation = Author::correlation_of(arrival.mark?);
        let sequence = arrival.origin?.sequence;
        Some((correlation, (arrival.topic.to_string(), sequence)))
    });
    stamps.collect()
}
