//! Recordings: events as lines of JSON, which a later run publishes again.
//!
//! A payload must come back byte for byte, and a recording should be readable with `jq`. So JSON
//! stays JSON where a line can hold its very text, other text becomes a string, and the rest is
//! base64.

use std::borrow::Cow;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{BufRead as _, BufReader, BufWriter, ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use eventbus::{ContentType, Correlation, Delivery, Event, Headers, Payload, Topic};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::failure::Failure;

/// One line. Exactly one of `json`, `text` and `base64` is there.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    /// Microseconds from the start of the recording.
    at_us: u64,
    /// Which of the recording's publishers.
    publisher: u32,
    #[serde(borrow)]
    topic: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    at_most_once: bool,
    #[serde(borrow)]
    content_type: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Headers::is_empty")]
    headers: Headers,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    correlation: Option<Correlation>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    json: Option<Cow<'a, RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    base64: Option<Cow<'a, str>>,
}

/// Writes a recording.
#[derive(Debug)]
pub(crate) struct Recorder {
    file: BufWriter<File>,
    path: PathBuf,
}

impl Recorder {
    /// Begins a recording, in place of what is at `path`. Only its owner may read it: the command
    /// lines of processes may have secrets.
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .map_err(|reason| Failure::io(format!("create `{}`", path.display()), reason))?;
        // A file that was there keeps its mode until it is told.
        file.set_permissions(Permissions::from_mode(0o600))
            .map_err(|reason| Failure::io(format!("protect `{}`", path.display()), reason))?;
        Ok(Self {
            file: BufWriter::new(file),
            path: path.to_path_buf(),
        })
    }

    /// Adds events in order.
    pub(crate) fn write(
        &mut self,
        publisher: u32,
        at: Duration,
        events: &[Event],
    ) -> Result<(), Failure> {
        for event in events {
            let line = encode(publisher, at, event).map_err(|reason| self.failure(reason))?;
            writeln!(self.file, "{line}").map_err(|reason| self.failure(reason.to_string()))?;
        }
        Ok(())
    }

    /// Writes out what is buffered.
    pub(crate) fn finish(&mut self) -> Result<(), Failure> {
        self.file
            .flush()
            .map_err(|reason| self.failure(reason.to_string()))
    }

    fn failure(&self, reason: String) -> Failure {
        Failure::io(format!("write `{}`", self.path.display()), reason)
    }
}

/// Reads a recording, event by event, each with the number of its publisher.
#[derive(Debug)]
pub(crate) struct Player {
    file: BufReader<File>,
    path: PathBuf,
    line: usize,
    text: String,
}

impl Player {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let failure = |reason| Failure::io(format!("read `{}`", path.display()), reason);
        let file = File::open(path).map_err(failure)?;
        Ok(Self {
            file: BufReader::new(file),
            path: path.to_path_buf(),
            line: 0,
            text: String::new(),
        })
    }

    /// The next event, `None` at the end. Empty lines are passed over.
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Event)>, Failure> {
        loop {
            self.text.clear();
            self.line += 1;
            let read = self.file.read_line(&mut self.text);
            if read.map_err(|reason| self.unreadable(&reason))? == 0 {
                return Ok(None);
            }
            let text = self.text.trim();
            if !text.is_empty() {
                return decode(text).map(Some).map_err(|r| self.failure(&r));
            }
        }
    }

    /// What the line has is its own fault, anything else is the file's.
    fn unreadable(&self, reason: &std::io::Error) -> Failure {
        match reason.kind() {
            ErrorKind::InvalidData => self.failure(reason),
            _ => Failure::io(format!("read `{}`", self.path.display()), reason),
        }
    }

    fn failure(&self, reason: &dyn std::fmt::Display) -> Failure {
        Failure::Recording {
            file: self.path.display().to_string(),
            line: self.line,
            reason: reason.to_string(),
        }
    }
}

fn encode(publisher: u32, at: Duration, event: &Event) -> Result<String, String> {
    let bytes = event.bytes().map_err(|error| error.to_string())?;
    let content_type = event.payload().content_type();
    let text = std::str::from_utf8(&bytes).ok();
    let json = text
        .filter(|_| *content_type == ContentType::Json)
        .and_then(verbatim);
    let line = Line {
        at_us: u64::try_from(at.as_micros()).unwrap_or(u64::MAX),
        publisher,
        topic: event.topic().as_str().into(),
        at_most_once: event.get_delivery() == Delivery::AtMostOnce,
        content_type: content_type.as_str().into(),
        headers: event.get_headers().cloned().unwrap_or_default(),
        correlation: event.get_correlation().cloned(),
        text: text.filter(|_| json.is_none()).map(Into::into),
        base64: text.is_none().then(|| STANDARD.encode(&bytes).into()),
        json: json.map(Cow::Owned),
    };
    serde_json::to_string(&line).map_err(|error| error.to_string())
}

/// JSON whose very text can stand within a line. `null` cannot: it reads as if it were not there.
fn verbatim(text: &str) -> Option<Box<RawValue>> {
    if text.contains(['\n', '\r']) || text == "null" {
        return None;
    }
    let raw = RawValue::from_string(text.to_owned()).ok()?;
    (raw.get() == text).then_some(raw)
}

fn decode(text: &str) -> Result<(u32, Event), String> {
    let line: Line<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let bytes = match (line.json, line.text, line.base64) {
        (Some(json), None, None) => Bytes::copy_from_slice(json.get().as_bytes()),
        (None, Some(text), None) => Bytes::copy_from_slice(text.as_bytes()),
        (None, None, Some(text)) => STANDARD
            .decode(text.as_bytes())
            .map_err(|error| error.to_string())?
            .into(),
        _ => return Err("exactly one of `json`, `text` and `base64` is needed".to_owned()),
    };
    let topic = Topic::new(&line.topic).map_err(|error| error.to_string())?;
    let payload = Payload::new(bytes, ContentType::parse(&line.content_type));
    let mut event = Event::on(topic, payload).headers(line.headers);
    if let Some(correlation) = line.correlation {
        event = event.correlation(correlation);
    }
    if line.at_most_once {
        event = event.delivery(Delivery::AtMostOnce);
    }
    Ok((line.publisher, event))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(payload: &'static [u8], content_type: ContentType) -> Event {
        Event::on(
            Topic::new("a.b").unwrap(),
            Payload::new(payload, content_type),
        )
    }

    #[test]
    fn an_event_is_read_as_it_was_written() {
        let events = [
            event(br#"{"b": 1.50, "a":"\u00e9"}"#, ContentType::Json),
            event(b" 1", ContentType::Json),
            event(b"[1,\n2]", ContentType::Json),
            event(b"null", ContentType::Json),
            event(b"not json", ContentType::Json),
            event(b"", ContentType::Raw),
            event(b"\0\xff\xfe", ContentType::Raw),
            event("\u{e9}\n".as_bytes(), ContentType::parse("text/plain")),
            event(b"x", ContentType::Protobuf)
                .header("host", "a")
                .correlation(Correlation::new("scan").tag("k", "v"))
                .delivery(Delivery::AtMostOnce),
        ];
        for event in events {
            let line = encode(3, Duration::from_micros(7), &event).unwrap();
            assert!(!line.contains('\n'), "{line}");
            assert_eq!(decode(&line), Ok((3, event)), "{line}");
        }
    }

    #[test]
    fn json_is_kept_readable() {
        let line = encode(0, Duration::ZERO, &event(b"{\"a\":1}", ContentType::Json)).unwrap();
        assert!(line.ends_with(r#""json":{"a":1}}"#), "{line}");
    }

    #[test]
    fn a_bad_line_is_told_and_not_believed() {
        let head = r#"{"at_us":1,"publisher":0,"topic":"a","content_type":"x""#;
        for (line, told) in [
            ("[]".to_owned(), "invalid length"),
            (format!("{head}}}"), "exactly one of"),
            (
                format!(r#"{head},"text":"","base64":""}}"#),
                "exactly one of",
            ),
            (format!(r#"{head},"base64":"?"}}"#), "Invalid"),
            (format!(r#"{head},"extra":1}}"#), "unknown field"),
            (
                r#"{"at_us":1,"publisher":0,"topic":"a.*","content_type":"x","text":""}"#
                    .to_owned(),
                "wildcard",
            ),
        ] {
            let error = decode(&line).unwrap_err();
            assert!(error.contains(told), "{line}: {error}");
        }
    }
}
