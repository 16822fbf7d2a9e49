//! Payloads for people and for programs.
//!
//! A payload is whatever its publisher likes. It is shown as what it turns out to be, never as what it
//! says that it is, and never so that it controls the terminal that it is shown in.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use eventbus::codec::ContentType;
use eventbus::plain::{Plain, is_plain};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::plain;

/// Longest payload that is shown whole to people who asked for nothing else, in characters.
const MOST: usize = 4_096;

/// How a payload is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Form {
    /// JSON and text as they are, in one line, anything else in hexadecimal digits
    #[default]
    Auto,
    /// As text, with U+FFFD for what is none
    Text,
    /// In hexadecimal digits
    Hex,
    /// In base64
    Base64,
    /// Not at all
    None,
}

/// The option that asks for it.
#[derive(Debug, clap::Args)]
pub(crate) struct PayloadArgs {
    /// How to show payloads: `auto`, `text`, `hex`, `base64` or `none`
    #[arg(
        long = "payload",
        value_name = "FORM",
        value_enum,
        default_value = "auto",
        hide_possible_values = true
    )]
    pub(crate) form: Form,
}

/// A payload in a document: one of these, by what it is.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Shown {
    #[serde(rename = "payload", skip_serializing_if = "Option::is_none")]
    json: Option<Box<RawValue>>,
    #[serde(rename = "payload_text", skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(rename = "payload_base64", skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    #[serde(rename = "payload_hex", skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
}

/// In one line, for people.
pub(crate) fn line(bytes: &[u8], content_type: &ContentType, form: Form) -> String {
    let text = || whole(&String::from_utf8_lossy(bytes));
    match form {
        Form::None => String::new(),
        Form::Text => text(),
        Form::Hex => hex(bytes),
        Form::Base64 => STANDARD.encode(bytes),
        Form::Auto => short(match what(bytes, content_type) {
            What::Json(document) => plain::compact(document),
            What::Text(text) => whole(text),
            What::Bytes => format!("0x{}", hex(bytes)),
        }),
    }
}

/// For a document. Nothing is shortened.
pub(crate) fn document(bytes: &[u8], content_type: &ContentType, form: Form) -> Shown {
    let mut shown = Shown::default();
    match form {
        Form::None => {}
        Form::Text => shown.text = Some(String::from_utf8_lossy(bytes).into_owned()),
        Form::Hex => shown.hex = Some(hex(bytes)),
        Form::Base64 => shown.base64 = Some(STANDARD.encode(bytes)),
        Form::Auto => match what(bytes, content_type) {
            What::Json(document) => {
                shown.json = RawValue::from_string(plain::compact(document)).ok();
            }
            What::Text(text) => shown.text = Some(text.to_owned()),
            What::Bytes => shown.base64 = Some(STANDARD.encode(bytes)),
        },
    }
    shown
}

enum What<'a> {
    Json(&'a str),
    Text(&'a str),
    Bytes,
}

/// Clients in other languages send JSON without saying so. A protobuf message may happen to be text.
fn what<'a>(bytes: &'a [u8], content_type: &ContentType) -> What<'a> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return What::Bytes;
    };
    if *content_type == ContentType::Protobuf {
        return What::Bytes;
    }
    if serde_json::from_str::<&RawValue>(text).is_ok() {
        return What::Json(text);
    }
    let breaks = |c: char| matches!(c, '\n' | '\r' | '\t');
    if *content_type == ContentType::Raw && !is_plain(&text.replace(breaks, "")) {
        return What::Bytes;
    }
    What::Text(text)
}

/// In one line, however long it is.
fn whole(text: &str) -> String {
    Plain::line(text).at_most(usize::MAX).to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn short(text: String) -> String {
    match text.char_indices().nth(MOST) {
        Some((end, _)) => {
            let more = text[end..].chars().count();
            format!("{} … {more} characters more", &text[..end])
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto(bytes: &[u8], content_type: &ContentType) -> (String, serde_json::Value) {
        let document = document(bytes, content_type, Form::Auto);
        (
            line(bytes, content_type, Form::Auto),
            serde_json::to_value(document).unwrap(),
        )
    }

    #[test]
    fn a_payload_is_shown_as_what_it_is() {
        use serde_json::json;
        let other = ContentType::parse("text/plain");
        for (bytes, content_type, line, document) in [
            (
                &b"{ \"a\": 1 }"[..],
                ContentType::Json,
                "{\"a\":1}",
                json!({"payload": {"a": 1}}),
            ),
            (b"[1]", ContentType::Raw, "[1]", json!({"payload": [1]})),
            (
                b"no json",
                ContentType::Json,
                "no json",
                json!({"payload_text": "no json"}),
            ),
            (
                b"a\nb",
                ContentType::Raw,
                "a\\nb",
                json!({"payload_text": "a\nb"}),
            ),
            (
                b"\x1b[2J",
                other,
                "\\u{1b}[2J",
                json!({"payload_text": "\u{1b}[2J"}),
            ),
            (
                b"\x00a",
                ContentType::Raw,
                "0x0061",
                json!({"payload_base64": "AGE="}),
            ),
            (
                b"\xff",
                ContentType::Json,
                "0xff",
                json!({"payload_base64": "/w=="}),
            ),
            (
                b"12",
                ContentType::Protobuf,
                "0x3132",
                json!({"payload_base64": "MTI="}),
            ),
            (b"", ContentType::Raw, "", json!({"payload_text": ""})),
        ] {
            assert_eq!(
                auto(bytes, &content_type),
                (line.to_owned(), document),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn it_is_asked_for_in_the_same_way_everywhere() {
        use clap::CommandFactory as _;
        let program = crate::args::Cli::command();
        let told = |of: &str| {
            let command = program.find_subcommand(of).unwrap();
            let mut options = command.get_arguments();
            let option = options.find(|option| option.get_long() == Some("payload"));
            let option = option.unwrap();
            let values: Vec<_> = option.get_possible_values();
            let values: Vec<_> = values.iter().map(|v| v.get_name().to_owned()).collect();
            let help = option.get_help().unwrap().to_string();
            assert!(
                values
                    .iter()
                    .all(|value| help.contains(&format!("`{value}`"))),
                "{help}"
            );
            (help, values, option.get_default_values().to_vec())
        };
        assert_eq!(told("call"), told("tail"));
    }

    #[test]
    fn it_is_shown_as_it_was_asked_for() {
        let shown = |form| line(b"a\xff\x1b", &ContentType::Json, form);
        assert_eq!(shown(Form::Text), "a\u{fffd}\\u{1b}");
        assert_eq!(shown(Form::Hex), "61ff1b");
        assert_eq!(shown(Form::Base64), "Yf8b");
        assert_eq!(shown(Form::None), "");
    }

    #[test]
    fn what_is_left_out_is_told() {
        let line = line(&[b'x'; MOST + 3], &ContentType::Json, Form::Auto);
        assert!(line.ends_with("x … 3 characters more"), "{line}");
    }
}
