//! ORD-005: causes come before their effects.
//!
//! What makes it hard is a handler that is faster than the publisher is with the other
//! subscriptions: so there are many of those, made before and after the handlers' own, and of the
//! handlers one sleeps until it is woken and one looks again and again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use eventbus_trait::Topic;
use futures_util::FutureExt;

use crate::history::{History, Mark, mark_of};
use crate::stage::{Author, Context, Reader, Stage};
use crate::verdict::{Checked, Unmet};

const CAUSES: usize = 500;
/// So many of them are published one by one, each once the chain behind it has ended: the others as
/// fast as can be.
const ONE_BY_ONE: usize = 200;
/// Cause, effect, and the effect of that.
const CHAIN: [&str; 3] = ["chain.one", "chain.two", "chain.three"];

/// ORD-005: an event that a handler publishes is not seen before the one that it handled, by a
/// subscription that takes both.
pub(crate) async fn ord_005_cause_before_effect(context: Context) -> Checked {
    let stage = context.stage().await?;
    let handles = [stage.bus(), stage.connect().await?, stage.connect().await?];
    let mut observers = observers(&stage, &handles).await?;
    let (mut handlers, ends) = (Vec::new(), Arc::new(AtomicUsize::new(0)));
    let mut authors = vec![stage.author(&handles[0])];
    for at in 1..CHAIN.len() {
        let (author, bus) = (stage.author(&handles[at]), &handles[at]);
        let reader = stage.reader(bus, CHAIN[at - 1]).await?;
        let handler = Handler {
            author: Arc::clone(&author),
            effect: Topic::new(CHAIN[at])?,
            busy: at == 1,
            ends: (at == CHAIN.len() - 1).then(|| Arc::clone(&ends)),
        };
        authors.push(author);
        handlers.push(tokio::spawn(handler.handle(reader)));
    }
    observers.extend(self::observers(&stage, &handles).await?);

    let causing = async {
        for published in 0..CAUSES {
            authors[0].publish(CHAIN[0]).await?;
            while published < ONE_BY_ONE && ends.load(Ordering::SeqCst) <= published {
                tokio::task::yield_now().await;
            }
        }
        let handled = futures_util::future::try_join_all(handlers).await;
        let handled = handled.map_err(Unmet::broken)?;
        handled.into_iter().collect::<Checked<Vec<_>>>()
    };
    let handled = stage.while_reading(&mut observers, causing).await?;
    stage.drain(&mut observers, &authors).await?;
    let pairs: Vec<(Mark, Mark)> = handled.into_iter().flatten().collect();
    in_causal_order(&stage.history(), &observers, &pairs)
}

/// One on each handle, taking the whole chain.
async fn observers(
    stage: &Stage,
    handles: &[Arc<dyn eventbus_trait::EventBus>],
) -> Checked<Vec<Reader>> {
    let mut observers = Vec::new();
    for bus in handles {
        observers.push(stage.reader(bus, "chain.#").await?);
    }
    Ok(observers)
}

/// Publishes an effect of each event.
struct Handler {
    author: Arc<Author>,
    effect: Topic,
    /// Looks again and again instead of waiting to be woken.
    busy: bool,
    /// Counts the ends of chains, if this is where they end.
    ends: Option<Arc<AtomicUsize>>,
}

impl Handler {
    /// Returns which effect is whose.
    async fn handle(self, mut causes: Reader) -> Checked<Vec<(Mark, Mark)>> {
        let mut pairs = Vec::new();
        while pairs.len() < CAUSES {
            let cause = match causes.next().now_or_never() {
                Some(Some(cause)) => cause,
                None if self.busy => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Some(None) | None => causes.expect().await?,
            };
            let event = self.author.event(&self.effect);
            let pair = mark_of(&cause).zip(mark_of(&event));
            pairs.push(pair.ok_or_else(|| Unmet::broken("a handler got what nobody published"))?);
            self.author.send(event).await?;
            if let Some(ends) = &self.ends {
                ends.fetch_add(1, Ordering::SeqCst);
            }
        }
        Ok(pairs)
    }
}

fn in_causal_order(history: &History, observers: &[Reader], pairs: &[(Mark, Mark)]) -> Checked {
    let (mut examined, mut early) = (0, Vec::new());
    for observer in observers {
        let mut seen = HashSet::new();
        let causes: HashMap<Mark, Mark> = pairs
            .iter()
            .map(|(cause, effect)| (*effect, *cause))
            .collect();
        for mark in history.marks_of(observer.name()).into_iter().flatten() {
            if let Some(cause) = causes.get(&mark) {
                examined += 1;
                if !seen.contains(cause) {
                    let name = observer.name();
                    early.push(format!("in `{name}` event {mark} before {cause}"));
                }
            }
            seen.insert(mark);
        }
    }
    match early.first() {
        Some(first) => Err(Unmet::broken(format_args!(
            "{} of {examined} effects came before their causes: {first}",
            early.len()
        ))),
        None if examined == 0 => Err(Unmet::unexercised("no effect was seen")),
        None => Ok(()),
    }
}
