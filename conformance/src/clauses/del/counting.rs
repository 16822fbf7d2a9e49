//! DEL-008 to DEL-011: counts, and what a publisher may know of them.

use eventbus_trait::{Delivery, Event, Limits, Overflow, Subscribe, Topic};

use futures_util::future::{try_join, try_join_all};

use crate::check;
use crate::history::mark_of;
use crate::stage::{Author, Context, Reader, Stage};
use crate::verdict::{Checked, Unmet, ensure, ensure_eq};

/// DEL-008: `matched = delivered + filtered + dropped + queued` for every subscription, before,
/// while and after it is read, and when it ends with events unread, whatever its policy.
pub(crate) async fn del_008_conservation(context: Context) -> Checked {
    let stage = context.stage().await?;
    let bus = stage.bus();
    let author = stage.author(&bus);
    let wanted = |sequence: u64| sequence.is_multiple_of(3);
    let gate = move |event: &Event| mark_of(event).is_none_or(|mark| wanted(mark.sequence));
    let small = |overflow| Ok::<_, Unmet>(Subscribe::to("a.b")?.capacity(4).overflow(overflow));
    let mut readers = vec![
        stage.reader(&bus, "a.#").await?,
        stage
            .read(&bus, Subscribe::to("a.#")?.matching(gate))
            .await?,
        stage.read(&bus, small(Overflow::DropOldest)?).await?,
        stage.read(&bus, small(Overflow::DropNewest)?).await?,
    ];
    author.publish_over(&["a.b", "other"], 200).await?;
    let topic = Topic::new("a.b")?;
    for _ in 0..50 {
        author
            .send(author.event(&topic).delivery(Delivery::AtMostOnce))
            .await?;
    }
    conserved(&stage, &mut readers, 150).await?;
    for reader in &mut readers[..2] {
        for _ in 0..20 {
            reader.expect().await?;
        }
    }
    conserved(&stage, &mut readers, 150).await?;
    for reader in &mut readers {
        reader.read_until_matched(150).await?;
        let stats = reader.stats();
        let delivered = stage.history().marks_of(reader.name()).len() as u64;
        ensure_eq!(
            stats.delivered,
            delivered,
            "deliveries counted in {stats:?}"
        );
        ensure_eq!(
            stats.dropped,
            reader.lagged(),
            "losses counted in {stats:?}"
        );
    }
    conserved(&stage, &mut readers, 150).await?;
    let on_topic = (0..200).step_by(2).chain(200..250);
    let turned_away = on_topic.filter(|sequence| !wanted(*sequence)).count() as u64;
    ensure_eq!(
        readers[0].stats().delivered,
        150,
        "deliveries where nothing may be lost"
    );
    ensure_eq!(
        readers[1].stats().filtered,
        turned_away,
        "events that a predicate turned away"
    );
    if readers[2..].iter_mut().any(|reader| reader.lagged() == 0) {
        return Err(Unmet::unexercised("a small subscription lost nothing"));
    }
    unread_is_counted(&author, readers).await
}

/// What nobody has read when a subscription ends is in one of the counters that it ends with.
async fn unread_is_counted(author: &Author, readers: Vec<Reader>) -> Checked {
    author.publish_over(&["a.b"], 10).await?;
    for mut reader in readers {
        reader.counted(|s| s.matched == 160 && s.queued > 0).await?;
        let last = reader.unsubscribe().await?;
        ensure_eq!(last.matched, 160, "events matched at the end, of {last:?}");
        ensure!(
            last.is_conserved(),
            "unsubscribed with events unread, which no counter has: {last:?}"
        );
    }
    Ok(())
}

/// Waits until everything published has been counted, and holds the bus's own figures against the
/// subscriptions'.
async fn conserved(stage: &Stage, readers: &mut [Reader], matched: u64) -> Checked {
    for reader in readers {
        let stats = reader
            .counted(|s| s.matched == matched && s.is_conserved())
            .await?;
        let of_bus = stage.bus().stats().subscriptions;
        let of_bus = of_bus.into_iter().find(|of_bus| of_bus.name == stats.name);
        ensure_eq!(
            of_bus,
            Some(stats),
            "what the bus and the subscription count"
        );
    }
    Ok(())
}

/// DEL-009: an `AtMostOnce` publish never waits for a slow subscriber; every loss is counted and
/// told in band, to subscriptions that otherwise lose nothing too.
pub(crate) async fn del_009_at_most_once_never_waits(context: Context) -> Checked {
    const EVENTS: usize = 2000;
    // Were it to wait, it would do so for longer than anything here is waited for.
    let limits = Limits {
        publish_deadline: context.patience() * 2,
        ..Limits::default()
    };
    let stage = context.stage_with(limits).await?;
    let bus = stage.bus();
    let author = stage.author(&bus);
    let mut readers = [
        stage.read(&bus, Subscribe::to("a.#")?.capacity(4)).await?,
        stage.reader(&bus, "a.b").await?,
    ];
    let topic = Topic::new("a.b")?;
    let publishing = async {
        for turn in 0..EVENTS {
            let event = author.event(&topic).delivery(Delivery::AtMostOnce);
            if turn % 2 == 0 {
                author.send(event).await?;
            } else {
                author.try_send(event)?;
            }
        }
        Ok::<_, Unmet>(())
    };
    stage
        .wait("publishes that wait for nobody", publishing)
        .await??;
    // A loss at the very end is told with whatever comes next.
    let closing = author.insist(author.event(&topic));
    let reading = try_join_all(
        readers
            .iter_mut()
            .map(|reader| reader.read_until_matched(EVENTS as u64 + 1)),
    );
    try_join(closing, reading).await?;
    ensure_eq!(
        readers[0].stats().dropped,
        readers[0].lagged(),
        "losses counted and told"
    );
    let lost: u64 = readers.iter().map(Reader::lagged).sum();
    ensure_eq!(
        bus.stats().dropped,
        lost,
        "copies that the publisher counts as dropped"
    );
    // First: what is neither here nor told was dropped all the same.
    check::uncounted(&stage.history()).verdict()?;
    check::duplicates(&stage.history()).verdict()?;
    if lost == 0 {
        return Err(Unmet::unexercised("nothing was dropped"));
    }
    Ok(())
}

/// DEL-010: a receipt is confirmed once every matching subscription has the event queued, and says
/// how many there were.
pub(crate) async fn del_010_receipt(context: Context) -> Checked {
    let stage = context.stage().await?;
    let bus = stage.bus();
    let author = stage.author(&bus);
    ensure_eq!(
        confirmed(&author, "a.b").await?,
        0,
        "confirmed with no subscription"
    );
    let mut readers = vec![stage.reader(&bus, "a.#").await?];
    ensure_eq!(
        confirmed(&author, "a.b").await?,
        1,
        "confirmed with one subscription"
    );
    queued(&mut readers, 1)?;
    readers.push(stage.reader(&bus, "*.b").await?);
    readers.push(stage.read(&bus, Subscribe::to("a.b")?.and("a.*")?).await?);
    let _elsewhere = stage.reader(&bus, "b.#").await?;
    let _excluded = stage
        .read(&bus, Subscribe::to("a.#")?.exclude_own())
        .await?;
    for _ in 0..50 {
        ensure_eq!(
            confirmed(&author, "a.b").await?,
            3,
            "confirmed with three subscriptions"
        );
        queued(&mut readers, 1)?;
    }
    let topic = Topic::new("a.b")?;
    let batch: Vec<Event> = (0..20).map(|_| author.event(&topic)).collect();
    let receipt = bus.publish_batch(batch).await?;
    let of_batch = receipt.confirmed(stage.patience()).await?.deliveries;
    ensure_eq!(of_batch, 60, "confirmed for a batch of 20");
    queued(&mut readers, 20)?;
    ensure!(
        receipt.confirmed(stage.patience()).await.is_ok(),
        "a receipt can be asked again"
    );
    Ok(())
}

/// DEL-011: `flush` returns once every matching subscription has queued everything that the handle
/// had accepted, however it was published.
pub(crate) async fn del_011_flush(context: Context) -> Checked {
    let stage = context.stage().await?;
    let (near, far) = (stage.bus(), stage.connect().await?);
    let author = stage.author(&near);
    near.flush(stage.patience()).await?;
    let mut readers = vec![
        stage.reader(&near, "a.#").await?,
        stage.reader(&far, "a.#").await?,
        stage.reader(&far, "a.b").await?,
    ];
    let topic = Topic::new("a.b")?;
    for _ in 0..5 {
        author.publish("a.b").await?;
        author.try_send(author.event(&topic))?;
        author.send_batch(vec![author.event(&topic)]).await?;
        near.flush(stage.patience()).await?;
        queued(&mut readers, 3)?;
    }
    Ok(())
}

async fn confirmed(author: &Author, topic: &str) -> Checked<u64> {
    Ok(author
        .publish(topic)
        .await?
        .confirmed(author.patience())
        .await?
        .deliveries)
}

/// Takes what is queued, without waiting: a confirmed event is there.
fn queued(readers: &mut [Reader], want: usize) -> Checked {
    for reader in readers {
        let have = reader.take();
        ensure_eq!(
            have,
            want,
            "confirmed events found queued in `{}`",
            reader.name()
        );
    }
    Ok(())
}
