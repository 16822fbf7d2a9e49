//! DEL-006 and DEL-007: what an event may hold, and how much.

use bytes::Bytes;
use eventbus_trait::{
    ContentType, Correlation, Delivery, Event, Limits, Payload, PublishError, Topic,
    TryPublishError,
};

use crate::check;
use crate::stage::{Author, Context, Reader};
use crate::verdict::{Checked, Unmet, ensure, ensure_eq};

/// DEL-006: topic, payload, headers, correlation, content type and delivery arrive unaltered.
pub(crate) async fn del_006_unaltered(context: Context) -> Checked {
    let stage = context.stage().await?;
    let author = stage.author(&stage.bus());
    let mut reader = stage.reader(&stage.bus(), "#").await?;
    for event in difficult_events(Limits::default().max_event_size)? {
        author.bus().publish(event.clone()).await?;
        arrives(&mut reader, &event).await?;
    }
    let batch = difficult_events(1000)?;
    author.bus().publish_batch(batch.clone()).await?;
    for event in &batch {
        arrives(&mut reader, event).await?;
    }
    for event in &batch {
        author
            .bus()
            .publisher(event.topic().clone())
            .publish(event.clone())
            .await?;
        arrives(&mut reader, event).await?;
    }
    typed_values_arrive(&author, &mut reader).await?;
    let mut readers = [reader];
    stage
        .while_reading(&mut readers, author.publish_over(&["a.b", "a.c"], 300))
        .await?;
    stage.drain(&mut readers, &[author]).await?;
    check::corrupted(&stage.history()).verdict()
}

fn difficult_events(largest: usize) -> Checked<Vec<Event>> {
    let every_byte: Vec<u8> = (0..=255).collect();
    let raw = |bytes: Vec<u8>| Event::new("content.raw", Payload::raw(bytes));
    let typed_as =
        |text: &str| Event::new("content.type", Payload::new("{}", ContentType::parse(text)));
    let correlation = Correlation::new("id \0 ü")
        .child("child")
        .stage("")
        .sequence(u64::MAX)
        .tag("", "empty name")
        .tag("name", "");
    let traced = Correlation {
        trace_parent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        ..Correlation::default()
    };
    Ok(vec![
        raw(vec![])?,
        raw(vec![0])?,
        raw(every_byte.clone())?,
        raw(vec![0xff, 0xfe, 0xc0, 0x80])?,
        raw((0..largest).map(|at| (at % 251) as u8).collect())?,
        typed_as("application/json")?,
        typed_as("application/x-protobuf")?,
        typed_as("application/octet-stream")?,
        typed_as("text/plain; charset=utf-8")?,
        typed_as("")?,
        raw(vec![1])?
            .header("", "")
            .header("ü\0", "\u{10ffff}\n")
            .header("a", "b=c;d"),
        (0..100).fold(raw(vec![2])?, |event, at| {
            event.header(format!("name-{at}"), "value")
        }),
        raw(every_byte)?.correlation(correlation),
        raw(vec![])?.header("a", "b").correlation(traced),
        raw(vec![3])?.delivery(Delivery::AtMostOnce),
    ])
}

async fn arrives(reader: &mut Reader, sent: &Event) -> Checked {
    let came = reader.expect().await?;
    ensure_eq!(came.topic(), sent.topic(), "topic");
    let what = |part: &str| format!("{part} of {sent:?}");
    ensure_eq!(
        came.payload().content_type(),
        sent.payload().content_type(),
        "{}",
        what("type")
    );
    ensure!(
        came.bytes()? == sent.bytes()?,
        "{} arrived altered",
        what("payload")
    );
    ensure_eq!(
        came.get_headers(),
        sent.get_headers(),
        "{}",
        what("headers")
    );
    ensure_eq!(
        came.get_correlation(),
        sent.get_correlation(),
        "{}",
        what("correlation")
    );
    ensure_eq!(
        came.get_delivery(),
        sent.get_delivery(),
        "{}",
        what("delivery")
    );
    Ok(())
}

/// A typed value can be had as a value and as bytes, on whichever side of a process boundary.
async fn typed_values_arrive(author: &Author, reader: &mut Reader) -> Checked {
    let value = vec![("a".to_owned(), 1_u64), ("ü".to_owned(), u64::MAX)];
    author
        .bus()
        .publish(Event::typed::<_, Vec<(String, u64)>>(
            "content.typed",
            value.clone(),
        )?)
        .await?;
    let came = reader.expect().await?;
    ensure_eq!(
        *came.decode_json::<Vec<(String, u64)>>()?,
        value,
        "a typed value"
    );
    ensure_eq!(
        came.bytes()?,
        Event::json("content.typed", &value)?.bytes()?,
        "its bytes"
    );
    Ok(())
}

const LIMIT: usize = 4096;

/// DEL-007: an event over the limit is refused with both numbers, and the bus lives on.
pub(crate) async fn del_007_too_large(context: Context) -> Checked {
    let limits = Limits {
        max_event_size: LIMIT,
        ..Limits::default()
    };
    let stage = context.stage_with(limits).await?;
    let author = stage.author(&stage.bus());
    let mut reader = stage.reader(&stage.bus(), "a.#").await?;
    let of = |payload: usize| {
        let bytes = Bytes::from(vec![b'x'; payload]);
        Event::new("a.b", Payload::raw(bytes))
    };
    let over = [
        (of(LIMIT + 1)?, LIMIT + 1),
        (of(LIMIT * 100)?, LIMIT * 100),
        (of(LIMIT - 5)?.header("name", "12"), LIMIT + 1),
        (of(LIMIT)?.correlation(Correlation::new("id")), LIMIT + 10),
        (of(LIMIT + 1)?.delivery(Delivery::AtMostOnce), LIMIT + 1),
    ];
    for (event, size) in over {
        refused_everywhere(&author, &event, size).await?;
        let fits = of(LIMIT - 6)?.header("name", "12");
        ensure_eq!(
            fits.known_size(),
            Some(LIMIT),
            "size of an event at the limit"
        );
        author.bus().publish(fits.clone()).await?;
        arrives(&mut reader, &fits).await?;
        author.publish("a.c").await?;
        ensure_eq!(
            reader.expect().await?.topic().as_str(),
            "a.c",
            "topic of the next event"
        );
    }
    stage.drain(&mut [reader], &[author]).await?;
    check::lost(&stage.history()).verdict()
}

async fn refused_everywhere(author: &Author, event: &Event, size: usize) -> Checked {
    let bus = author.bus();
    let reason = PublishError::TooLarge { size, limit: LIMIT };
    let refused = |how: &str| Unmet::broken(format_args!("{how} took an event of {size}"));

    let refusal = bus
        .publish(event.clone())
        .await
        .err()
        .ok_or_else(|| refused("publish"))?;
    ensure_eq!(*refusal.reason(), reason, "publish");
    let refusal = bus
        .try_publish(event.clone())
        .err()
        .ok_or_else(|| refused("try_publish"))?;
    ensure_eq!(
        *refusal.reason(),
        TryPublishError::Publish(reason.clone()),
        "try_publish"
    );
    let publisher = bus.publisher(Topic::new("a.b")?);
    let refusal = publisher.publish(event.clone()).await;
    let refusal = refusal.err().ok_or_else(|| refused("a publisher"))?;
    ensure_eq!(*refusal.reason(), reason, "a publisher");
    let batch = bus.publish_batch(vec![event.clone()]).await;
    let batch = batch.err().ok_or_else(|| refused("publish_batch"))?;
    ensure_eq!(
        (batch.accepted, &batch.reason),
        (0, &reason),
        "publish_batch"
    );
    ensure_eq!(batch.events.len(), 1, "events handed back by publish_batch");
    Ok(())
}
