//! FLW-003: application code that uses the bus while it is being called by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use eventbus_trait::{Event, Limits, PublishError, Refused, Subscribe, Topic, TryPublishError};

use crate::check;
use crate::stage::{Author, Context, Reader, Stage};
use crate::verdict::{Checked, Unmet, ensure};

/// FLW-003: publishing and subscribing from inside a handler, or from a predicate, never
/// deadlocks; a handler that fills its own queue is refused.
pub(crate) async fn flw_003_handlers_may_publish(context: Context) -> Checked {
    let limits = Limits {
        publish_deadline: Duration::from_millis(50),
        ..Limits::default()
    };
    let stage = context.stage_with(limits).await?;
    answers(&stage).await?;
    subscribes_within(&stage).await?;
    fills_its_own_queue(&stage).await?;
    publishes_from_a_predicate(&stage).await
}

/// A handler publishes an answer to each event, through the handle that it subscribed with.
async fn answers(stage: &Stage) -> Checked {
    const ROUNDS: usize = 200;
    let bus = stage.bus();
    let (asking, answering) = (stage.author(&bus), stage.author(&bus));
    let mut questions = stage.read(&bus, Subscribe::to("ask")?.capacity(1)).await?;
    let answers = stage.read(&bus, Subscribe::to("answer")?).await?;
    let handler = tokio::spawn(async move {
        for _ in 0..ROUNDS {
            questions.expect().await?;
            answering.publish("answer").await?;
        }
        Ok::<_, Unmet>((questions, answering))
    });
    let topic = Topic::new("ask")?;
    for _ in 0..ROUNDS {
        asking.insist(asking.event(&topic)).await?;
    }
    let (questions, answering) = stage
        .wait("a handler", handler)
        .await?
        .map_err(Unmet::broken)??;
    let mut readers = vec![questions, answers];
    stage.drain(&mut readers, &[asking, answering]).await?;
    check::lost(&stage.history()).verdict()?;
    end_all(readers).await
}

/// A handler subscribes, publishes to itself, reads it and unsubscribes, for each event.
async fn subscribes_within(stage: &Stage) -> Checked {
    let bus = stage.bus();
    let author = stage.author(&bus);
    let mut outer = stage.reader(&bus, "outer").await?;
    author.publish_over(&["outer"], 20).await?;
    for _ in 0..20 {
        outer.expect().await?;
        let mut inner = stage.reader(&bus, "inner").await?;
        author.publish("inner").await?;
        inner.expect().await?;
        inner.unsubscribe().await?;
    }
    end_all(vec![outer]).await
}

/// A handler publishes what it takes itself until its queue is full: refused, and not stuck.
async fn fills_its_own_queue(stage: &Stage) -> Checked {
    let bus = stage.bus();
    let author = stage.author(&bus);
    let mut own = stage.read(&bus, Subscribe::to("own")?.capacity(2)).await?;
    author.publish("own").await?;
    own.expect().await?;
    author.fill("own").await?;
    let event = author.event(&Topic::new("own")?);
    match author.send(event).await.map_err(Refused::into_parts) {
        Err((_, PublishError::Backpressure { .. })) => {}
        Ok(_) => return Err(Unmet::broken("a full queue took an event")),
        Err((_, reason)) => return Err(Unmet::broken(reason)),
    }
    let mut readers = vec![own];
    stage.drain(&mut readers, &[author]).await?;
    end_all(readers).await
}

/// A predicate publishes, which happens in the middle of receiving.
async fn publishes_from_a_predicate(stage: &Stage) -> Checked {
    let bus = stage.bus();
    let author = stage.author(&bus);
    let echoed = stage.reader(&bus, "echo").await?;
    let echo = Echo {
        author: stage.author(&bus),
        echoes: Arc::default(),
    };
    let echoes = Arc::clone(&echo.echoes);
    let subscribe = Subscribe::to("source")?.matching(move |event| echo.publish(event));
    let mut readers = vec![stage.read(&bus, subscribe).await?, echoed];
    author.publish_over(&["source"], 100).await?;
    stage.drain(&mut readers, &[Arc::clone(&author)]).await?;
    let echoes = echoes.load(Ordering::SeqCst);
    ensure!(
        echoes == 100,
        "a predicate published {echoes} of 100 events"
    );
    stage.drain(&mut readers, &[author]).await?;
    let came = stage.history().topics_of(readers[1].name()).len();
    // What comes through another author's predicate is not behind this author's fences.
    let more = 100_usize.saturating_sub(came);
    for _ in 0..more {
        readers[1].expect().await?;
    }
    Ok(())
}

struct Echo {
    author: Arc<Author>,
    echoes: Arc<AtomicU64>,
}

impl Echo {
    fn publish(&self, event: &Event) -> bool {
        if event.topic().as_str() != "source" {
            return true;
        }
        let Ok(topic) = Topic::new("echo") else {
            return false;
        };
        match self.author.try_send(self.author.event(&topic)) {
            Ok(_) => {
                self.echoes.fetch_add(1, Ordering::SeqCst);
                true
            }
            Err(refused) => matches!(refused.reason(), TryPublishError::Full { .. }),
        }
    }
}

async fn end_all(readers: Vec<Reader>) -> Checked {
    for reader in readers {
        reader.unsubscribe().await?;
    }
    Ok(())
}
