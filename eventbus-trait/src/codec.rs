//! Codecs: how a typed value becomes bytes, and what says so on the way.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a payload's bytes are; it travels with the event.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ContentType {
    /// `application/json`, the default.
    Json,
    /// `application/x-protobuf`.
    Protobuf,
    /// `application/octet-stream`: bytes that nobody here interprets.
    Raw,
    /// Any other media type.
    Other(Arc<str>),
}

impl ContentType {
    /// The media type.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/x-protobuf",
            Self::Raw => "application/octet-stream",
            Self::Other(text) => text,
        }
    }

    /// The content type of a media type.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text {
            "application/json" => Self::Json,
            "application/x-protobuf" => Self::Protobuf,
            "application/octet-stream" => Self::Raw,
            other => Self::Other(other.into()),
        }
    }
}

impl fmt::Display for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A value could not be encoded, or bytes could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {action} {content_type}: {reason}")]
pub struct CodecError {
    /// `encode` or `decode`.
    pub action: &'static str,
    /// The content type concerned.
    pub content_type: ContentType,
    /// What the codec said.
    pub reason: String,
}

/// Turns values of `T` into bytes and back.
pub trait Codec<T> {
    /// What the bytes are.
    fn content_type() -> ContentType;
    /// Encodes a value.
    ///
    /// # Errors
    /// The codec's own reason, if the value has no encoding.
    fn encode(value: &T) -> Result<Bytes, CodecError>;
    /// Decodes a value.
    ///
    /// # Errors
    /// The codec's own reason, if the bytes are not such a value.
    fn decode(bytes: &Bytes) -> Result<T, CodecError>;
}

/// JSON by serde.
#[derive(Debug, Clone, Copy)]
pub struct Json;

impl<T: Serialize + DeserializeOwned> Codec<T> for Json {
    fn content_type() -> ContentType {
        ContentType::Json
    }

    fn encode(value: &T) -> Result<Bytes, CodecError> {
        encode_json(value)
    }

    fn decode(bytes: &Bytes) -> Result<T, CodecError> {
        serde_json::from_slice(bytes).map_err(|e| error("decode", ContentType::Json, e))
    }
}

/// Encodes by reference, for values that can be written but not read back.
pub(crate) fn encode_json<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, CodecError> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|e| error("encode", ContentType::Json, e))
}

/// Bytes as they are.
#[derive(Debug, Clone, Copy)]
pub struct Raw;

impl Codec<Bytes> for Raw {
    fn content_type() -> ContentType {
        ContentType::Raw
    }

    fn encode(value: &Bytes) -> Result<Bytes, CodecError> {
        Ok(value.clone())
    }

    fn decode(bytes: &Bytes) -> Result<Bytes, CodecError> {
        Ok(bytes.clone())
    }
}

impl Codec<Vec<u8>> for Raw {
    fn content_type() -> ContentType {
        ContentType::Raw
    }

    fn encode(value: &Vec<u8>) -> Result<Bytes, CodecError> {
        Ok(Bytes::copy_from_slice(value))
    }

    fn decode(bytes: &Bytes) -> Result<Vec<u8>, CodecError> {
        Ok(bytes.to_vec())
    }
}

/// Protobuf by prost: for messages that derive `prost::Message`, so that no `protoc` is needed.
#[cfg(feature = "protobuf")]
#[derive(Debug, Clone, Copy)]
pub struct Protobuf;

#[cfg(feature = "protobuf")]
impl<T: prost::Message + Default> Codec<T> for Protobuf {
    fn content_type() -> ContentType {
        ContentType::Protobuf
    }

    fn encode(value: &T) -> Result<Bytes, CodecError> {
        encode_protobuf(value)
    }

    fn decode(bytes: &Bytes) -> Result<T, CodecError> {
        T::decode(bytes.clone()).map_err(|e| error("decode", ContentType::Protobuf, e))
    }
}

/// Encodes by reference, as `encode_json`.
#[cfg(feature = "protobuf")]
pub(crate) fn encode_protobuf(message: &impl prost::Message) -> Result<Bytes, CodecError> {
    let mut bytes = Vec::with_capacity(message.encoded_len());
    let encoded = message.encode(&mut bytes);
    encoded.map_err(|e| error("encode", ContentType::Protobuf, e))?;
    Ok(bytes.into())
}

fn error(action: &'static str, content_type: ContentType, reason: impl fmt::Display) -> CodecError {
    CodecError {
        action,
        content_type,
        reason: reason.to_string(),
    }
}
