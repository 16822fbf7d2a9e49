//! Payloads within a JSON object: JSON as it is, anything else as base64 with its content type.
//!
//! Invariant: what is read has the bytes and the content type of what was written.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use eventbus_trait::codec::CodecError;
use eventbus_trait::{ContentType, Payload};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Malformed;

/// How a payload stands in a message. With nothing set it is the JSON `null`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Content {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    json: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
}

impl Content {
    pub(super) fn of(payload: &Payload) -> Result<Self, CodecError> {
        let bytes = payload.bytes()?;
        let json = (*payload.content_type() == ContentType::Json)
            .then(|| serde_json::from_slice::<&RawValue>(&bytes).ok())
            .flatten();
        Ok(match json {
            // What is around the value is white space, and would not come back.
            Some(json) if json.get().len() == bytes.len() => Self {
                json: Some(json.to_owned()),
                ..Self::default()
            },
            _ => Self {
                base64: Some(STANDARD.encode(&bytes)),
                content_type: Some(payload.content_type().as_str().to_owned()),
                ..Self::default()
            },
        })
    }

    pub(super) fn payload(self) -> Result<Payload, Malformed> {
        let content_type = self.content_type.as_deref().map(ContentType::parse);
        match (self.json, self.base64) {
            (Some(_), Some(_)) => Err(Malformed::Field {
                field: "json",
                expected: "alone: there is `base64` beside it",
            }),
            (None, Some(text)) => {
                let bytes = STANDARD.decode(text).map_err(|_| Malformed::Field {
                    field: "base64",
                    expected: "base64 with padding",
                })?;
                Ok(Payload::new(
                    bytes,
                    content_type.unwrap_or(ContentType::Raw),
                ))
            }
            (json, None) => {
                let bytes = json.map_or_else(
                    || b"null".to_vec(),
                    |json| Box::<str>::from(json).into_string().into_bytes(),
                );
                Ok(Payload::new(
                    bytes,
                    content_type.unwrap_or(ContentType::Json),
                ))
            }
        }
    }
}
