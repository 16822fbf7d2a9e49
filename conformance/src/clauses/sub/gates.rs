//! SUB-003, SUB-004 and SUB-009: which events a subscription gets, and how often.

use eventbus_trait::{Correlation, CorrelationFilter, Event, Subscribe, Topic};

use crate::check;
use crate::history::mark_of;
use crate::stage::{Author, Context, is_fence};
use crate::verdict::{Checked, ensure_eq};

/// SUB-003: filters of one subscription that overlap give one copy.
pub(crate) async fn sub_003_one_copy(context: Context) -> Checked {
    let stage = context.stage().await?;
    let bus = stage.bus();
    let author = stage.author(&bus);
    let overlapping = Subscribe::to("a.#")?
        .and("a.*")?
        .and("a.b")?
        .and("#")?
        .and("a.b")?;
    let mut readers = vec![stage.read(&bus, overlapping).await?];
    let publishing = author.publish_over(&["a", "a.b", "a.b.c", "z"], 200);
    stage.while_reading(&mut readers, publishing).await?;
    stage.drain(&mut readers, &[author]).await?;
    let history = stage.history();
    ensure_eq!(
        history.marks_of(readers[0].name()).len(),
        200,
        "copies of 200 events"
    );
    check::duplicates(&history).verdict()?;
    check::lost(&history).verdict()
}

/// SUB-004: each subscription gets a copy, the publisher's own too unless they exclude it.
pub(crate) async fn sub_004_a_copy_each(context: Context) -> Checked {
    let stage = context.stage().await?;
    let (near, far) = (stage.bus(), stage.connect().await?);
    let others = || Ok::<_, eventbus_trait::FilterError>(Subscribe::to("a.#")?.exclude_own());
    let mut readers = vec![
        stage.reader(&near, "a.#").await?,
        stage.reader(&near, "a.#").await?,
        stage.reader(&far, "a.#").await?,
        stage.read(&near, others()?).await?,
        stage.read(&far, others()?).await?,
    ];
    let authors = [stage.author(&near), stage.author(&far)];
    let topics = ["a.b", "a.c"];
    stage
        .while_reading(&mut readers, authors[0].publish_over(&topics, 100))
        .await?;
    stage
        .while_reading(&mut readers, authors[1].publish_over(&topics, 60))
        .await?;
    // Each handle's fences reach the subscriptions that take them; those that leave their own
    // handle out wait for the other's, which stand behind everything they are owed.
    let (all, excluding) = readers.split_at_mut(3);
    stage.drain(all, &authors).await?;
    stage.drain(&mut excluding[..1], &authors[1..]).await?;
    stage.drain(&mut excluding[1..], &authors[..1]).await?;
    let history = stage.history();
    let copies: Vec<usize> = readers
        .iter()
        .map(|r| history.marks_of(r.name()).len())
        .collect();
    ensure_eq!(copies, [160, 160, 160, 60, 100], "copies per subscription");
    check::phantoms(&history).verdict()?;
    check::lost(&history).verdict()
}

/// SUB-009: a predicate and a correlation filter decide by the event, and a predicate that panics
/// turns it away.
pub(crate) async fn sub_009_gates_decide_alike(context: Context) -> Checked {
    let stage = context.stage().await?;
    let bus = stage.bus();
    let author = stage.author(&bus);
    let odd = |event: &Event| mark_of(event).is_none_or(|m| m.sequence % 2 == 1);
    let panicking = |event: &Event| {
        if mark_of(event).is_some_and(|m| m.sequence % 3 == 0) {
            // Unwinds without the message that a panic would print.
            std::panic::resume_unwind(Box::new("a predicate's own panic"));
        }
        true
    };
    let header = |event: &Event| is_fence(event) || event.get_header("keep") == Some("yes");
    let correlated = CorrelationFilter::default().root("root").tag("host", "a");
    let gates = [
        Subscribe::to("a.#")?.matching(odd),
        Subscribe::to("a.#")?.matching(panicking),
        Subscribe::to("a.#")?.matching(header),
        Subscribe::to("a.#")?.correlated(correlated.clone()),
        Subscribe::to("a.#")?
            .correlated(correlated)
            .matching(header),
    ];
    let mut readers = Vec::new();
    for gate in gates {
        readers.push(stage.read(&bus, gate).await?);
    }
    let publishing = publish_with_metadata(&author, 120);
    let sent = stage.while_reading(&mut readers, publishing).await?;
    for reader in &mut readers {
        reader.read_until_matched(sent.len() as u64).await?;
    }
    for (reader, wants) in readers.iter_mut().zip(WANTS) {
        let marks = stage.history().marks_of(reader.name());
        let have: Vec<u64> = marks.iter().flatten().map(|mark| mark.sequence).collect();
        let want: Vec<u64> = sent.iter().copied().filter(|n| wants(*n)).collect();
        ensure_eq!(have, want, "events that `{}` took", reader.name());
        let stats = reader.stats();
        let turned_away = (sent.len() - want.len()) as u64;
        ensure_eq!(
            stats.filtered,
            turned_away,
            "events turned away, of {stats:?}"
        );
    }
    Ok(())
}

/// Which sequences the gates of SUB-009 admit, one after the other.
const WANTS: [fn(u64) -> bool; 5] = [
    |n| n % 2 == 1,
    |n| n % 3 != 0,
    |n| n % 5 == 0,
    |n| n % 4 == 1 && n % 8 < 4,
    |n| n % 4 == 1 && n % 8 < 4 && n % 5 == 0,
];

/// Publishes `n` events with headers and correlations by their sequence, which is returned.
async fn publish_with_metadata(author: &Author, n: u64) -> Checked<Vec<u64>> {
    let topic = Topic::new("a.b")?;
    let mut sequences = Vec::new();
    for sequence in 0..n {
        let mut event = author.event(&topic);
        event = event.header(
            "keep",
            if sequence.is_multiple_of(5) {
                "yes"
            } else {
                "no"
            },
        );
        if sequence % 4 != 0 {
            let host = if sequence % 8 < 4 { "a" } else { "b" };
            let root = Correlation::new(if sequence % 4 == 1 { "root" } else { "other" });
            let child = root.tag("host", host).child(format!("child-{sequence}"));
            event = event.correlation(child);
        }
        author.send(event).await?;
        sequences.push(sequence);
    }
    Ok(sequences)
}
