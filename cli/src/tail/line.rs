//! How an event is told: a line for people, a document for programs.

use std::time::SystemTime;

use eventbus::plain::Plain;
use eventbus::{Correlation, Delivery, Event, Headers, Item};
use serde::Serialize;

use super::args::TailArgs;
use crate::failure::Failure;
use crate::payload::{self, Form, Shown};
use crate::plain;

#[derive(Debug, Serialize)]
struct Document<'a> {
    received: String,
    topic: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    publisher: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    delivery: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<&'a Headers>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation: Option<&'a Correlation>,
    content_type: &'a str,
    bytes: usize,
    #[serde(flatten)]
    payload: Shown,
}

#[derive(Debug, Serialize)]
struct Dropped {
    /// Events that were dropped at this place.
    dropped: u64,
}

/// One line, with its end.
pub(super) fn of(item: &Item, args: &TailArgs) -> Result<String, Failure> {
    let mut line = match item {
        Item::Lagged(dropped) if args.json => json(&Dropped { dropped: *dropped })?,
        Item::Lagged(dropped) => format!("# {dropped} events dropped here"),
        Item::Event(event) if args.json => document(event, args.payload.form)?,
        Item::Event(event) => words(event, args)?,
    };
    line.push('\n');
    Ok(line)
}

fn document(event: &Event, form: Form) -> Result<String, Failure> {
    let bytes = bytes(event)?;
    let origin = event.origin();
    let content_type = event.payload().content_type();
    json(&Document {
        received: now(),
        topic: event.topic().as_str(),
        publisher: origin.map(|origin| origin.publisher.to_string()),
        epoch: origin.map(|origin| origin.epoch),
        sequence: origin.map(|origin| origin.sequence),
        delivery: match event.get_delivery() {
            Delivery::AtLeastOnce => "at-least-once",
            Delivery::AtMostOnce => "at-most-once",
        },
        headers: event.get_headers(),
        correlation: event.get_correlation(),
        content_type: content_type.as_str(),
        bytes: bytes.len(),
        payload: payload::document(&bytes, content_type, form),
    })
}

fn words(event: &Event, args: &TailArgs) -> Result<String, Failure> {
    let now = now();
    // The day is known to whoever looks on.
    let time = now.split_once('T').map_or(&*now, |(_, time)| time);
    let mut words = vec![
        time.trim_end_matches('Z').to_owned(),
        event.topic().to_string(),
    ];
    if args.long {
        if let Some(origin) = event.origin() {
            words.push(format!("{}#{}", origin.publisher, origin.sequence));
        }
        let headers = event.get_headers().into_iter().flatten();
        words.extend(
            headers.map(|(name, value)| Plain::line(format_args!("{name}={value}")).to_string()),
        );
        if let Some(correlation) = event.get_correlation() {
            words.push(format!("correlation={}", Plain::line(&correlation.id)));
        }
    }
    let content_type = event.payload().content_type();
    words.push(payload::line(
        &bytes(event)?,
        content_type,
        args.payload.form,
    ));
    words.retain(|word| !word.is_empty());
    Ok(words.join(" "))
}

fn bytes(event: &Event) -> Result<bytes::Bytes, Failure> {
    event
        .bytes()
        .map_err(|reason| Failure::io("show an event", reason))
}

fn json(document: &impl Serialize) -> Result<String, Failure> {
    match serde_json::to_string(document) {
        Ok(text) => Ok(plain::json(&text)),
        Err(reason) => Err(Failure::io("show an event", reason)),
    }
}

/// By this machine's clock, in UTC.
fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;
    use eventbus::plain::is_plain;
    use eventbus::{ContentType, Payload};

    #[derive(Debug, clap::Parser)]
    struct Words {
        #[command(flatten)]
        args: TailArgs,
    }

    fn told(item: &Item, words: &str) -> String {
        let words = format!("tail # {words}");
        let words = Words::parse_from(words.split_whitespace());
        of(item, &words.args).unwrap()
    }

    fn hostile() -> Item {
        let text = ContentType::parse("text/plain");
        let text = Payload::new("x\u{1b}]0;y\u{7}\nevents.b forged", text);
        let event = Event::new("events.a", text).unwrap();
        let event = event.header("h\u{9b}", "\u{202e}v");
        Item::Event(event.correlation(Correlation::new("c\r1").tag("\u{1b}", "t")))
    }

    #[test]
    fn nothing_in_an_event_controls_a_terminal_or_forges_a_line() {
        for words in [
            "",
            "--long",
            "--json",
            "--long --payload text",
            "--json --payload text",
        ] {
            let told = told(&hostile(), words);
            assert!(
                is_plain(told.strip_suffix('\n').unwrap()),
                "{words}: {told:?}"
            );
        }
    }

    #[test]
    fn what_is_told_can_be_read_back() {
        let told = told(&hostile(), "--json");
        let read: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(read["headers"]["h\u{9b}"], "\u{202e}v");
        assert_eq!(read["correlation"]["id"], "c\r1");
        assert_eq!(read["payload_text"], "x\u{1b}]0;y\u{7}\nevents.b forged");
        assert_eq!(read["delivery"], "at-least-once");
    }

    #[test]
    fn a_drop_has_a_line_of_its_own() {
        assert_eq!(told(&Item::Lagged(7), ""), "# 7 events dropped here\n");
        assert_eq!(told(&Item::Lagged(7), "--json"), "{\"dropped\":7}\n");
    }
}
