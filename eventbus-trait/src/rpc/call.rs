//! A call and its reply: who is asked for what, and until when.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::CallError;
use crate::codec::{Codec, CodecError, ContentType, Json, encode_json};
use crate::correlation::Correlation;
use crate::payload::Payload;

/// How long a call waits that says nothing else.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(5);
/// Longest name of a method, in bytes.
pub const MAX_METHOD_BYTES: usize = 64;

/// A call of a service's method.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Call {
    /// The service.
    pub service: String,
    /// The method: 1 to 64 printable ASCII characters.
    pub method: String,
    /// The request.
    pub payload: Payload,
    /// How long the caller waits; for a handler, how long it still has.
    pub deadline: Duration,
    /// What the call belongs to.
    pub correlation: Option<Correlation>,
    /// Whether it may be carried out twice. The handler is told; nothing here repeats a call by itself.
    pub idempotent: bool,
}

impl Call {
    /// A call with a request that is at hand.
    #[must_use]
    pub fn new(
        service: impl Into<String>,
        method: impl Into<String>,
        payload: impl Into<Payload>,
    ) -> Self {
        Self {
            service: service.into(),
            method: method.into(),
            payload: payload.into(),
            deadline: DEFAULT_DEADLINE,
            correlation: None,
            idempotent: false,
        }
    }

    /// A call whose request is `value` as JSON, encoded now.
    ///
    /// # Errors
    /// [`CodecError`] if `value` has no JSON form.
    pub fn json(
        service: impl Into<String>,
        method: impl Into<String>,
        value: &(impl Serialize + ?Sized),
    ) -> Result<Self, CodecError> {
        let payload = Payload::new(encode_json(value)?, ContentType::Json);
        Ok(Self::new(service, method, payload))
    }

    /// A call whose request is `value` itself: a handler in this process gets the same `Arc`,
    /// another process bytes by `C`.
    #[must_use]
    pub fn typed<T, C>(
        service: impl Into<String>,
        method: impl Into<String>,
        value: impl Into<Arc<T>>,
    ) -> Self
    where
        T: Any + Send + Sync,
        C: Codec<T>,
    {
        Self::new(service, method, Payload::typed::<T, C>(value))
    }

    /// A call whose request is a protobuf message, encoded now.
    ///
    /// # Errors
    /// [`CodecError`] if it is too large to be encoded.
    #[cfg(feature = "protobuf")]
    pub fn protobuf(
        service: impl Into<String>,
        method: impl Into<String>,
        message: &impl prost::Message,
    ) -> Result<Self, CodecError> {
        let bytes = crate::codec::encode_protobuf(message)?;
        let payload = Payload::new(bytes, ContentType::Protobuf);
        Ok(Self::new(service, method, payload))
    }

    /// Sets how long it waits for an answer.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets what it belongs to.
    #[must_use]
    pub fn correlation(mut self, correlation: Correlation) -> Self {
        self.correlation = Some(correlation);
        self
    }

    /// Says that it may be carried out twice.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// The request as a `T`: the caller's own value where it is at hand, else read by `C`.
    ///
    /// # Errors
    /// [`CodecError`] if the request is no such value.
    pub fn decode<T, C>(&self) -> Result<Arc<T>, CodecError>
    where
        T: Any + Send + Sync,
        C: Codec<T>,
    {
        self.payload.decode::<T, C>()
    }

    /// As `decode`, as JSON.
    ///
    /// # Errors
    /// [`CodecError`] if the request is not JSON of a `T`.
    pub fn decode_json<T>(&self) -> Result<Arc<T>, CodecError>
    where
        T: Any + Send + Sync + Serialize + DeserializeOwned,
    {
        self.payload.decode::<T, Json>()
    }

    /// As `decode`, as a protobuf message.
    ///
    /// # Errors
    /// [`CodecError`] if the request is no such message.
    #[cfg(feature = "protobuf")]
    pub fn decode_protobuf<T>(&self) -> Result<Arc<T>, CodecError>
    where
        T: Any + Send + Sync + prost::Message + Default,
    {
        self.payload.decode::<T, crate::codec::Protobuf>()
    }

    /// Checks what can be said of a call before anybody is asked; for backends. `limit` is the
    /// most bytes that request and correlation may have; a typed request that is not encoded has
    /// none.
    ///
    /// # Errors
    /// [`CallError::BadMethod`], or [`CallError::TooLarge`].
    pub fn check(&self, limit: usize) -> Result<(), CallError> {
        let printable = |byte: u8| (b'!'..=b'~').contains(&byte);
        let length = self.method.len();
        if !(1..=MAX_METHOD_BYTES).contains(&length) || !self.method.bytes().all(printable) {
            return Err(CallError::BadMethod {
                method: self.method.clone(),
            });
        }
        let meta = self.correlation.as_ref().map_or(0, Correlation::size);
        match self.payload.known_len().map(|len| len + meta) {
            Some(size) if size > limit => Err(CallError::TooLarge { size, limit }),
            _ => Ok(()),
        }
    }
}

/// A service's answer.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Reply {
    /// The answer.
    pub payload: Payload,
}

impl Reply {
    /// A reply that is at hand.
    #[must_use]
    pub fn new(payload: impl Into<Payload>) -> Self {
        Self {
            payload: payload.into(),
        }
    }

    /// A reply without content.
    #[must_use]
    pub fn empty() -> Self {
        Self::new("")
    }

    /// `value` as JSON, encoded now.
    ///
    /// # Errors
    /// [`CodecError`] if `value` has no JSON form.
    pub fn json(value: &(impl Serialize + ?Sized)) -> Result<Self, CodecError> {
        let payload = Payload::new(encode_json(value)?, ContentType::Json);
        Ok(Self { payload })
    }

    /// `value` itself: a caller in this process gets the same `Arc`, another process bytes by `C`.
    #[must_use]
    pub fn typed<T, C>(value: impl Into<Arc<T>>) -> Self
    where
        T: Any + Send + Sync,
        C: Codec<T>,
    {
        Self::new(Payload::typed::<T, C>(value))
    }

    /// A protobuf message, encoded now.
    ///
    /// # Errors
    /// [`CodecError`] if it is too large to be encoded.
    #[cfg(feature = "protobuf")]
    pub fn protobuf(message: &impl prost::Message) -> Result<Self, CodecError> {
        let bytes = crate::codec::encode_protobuf(message)?;
        Ok(Self::new(Payload::new(bytes, ContentType::Protobuf)))
    }

    /// The reply as a `T`: the handler's own value where it is at hand, else read by `C`.
    ///
    /// # Errors
    /// [`CodecError`] if the reply is no such value.
    pub fn decode<T, C>(&self) -> Result<Arc<T>, CodecError>
    where
        T: Any + Send + Sync,
        C: Codec<T>,
    {
        self.payload.decode::<T, C>()
    }

    /// As `decode`, as JSON.
    ///
    /// # Errors
    /// [`CodecError`] if the reply is not JSON of a `T`.
    pub fn decode_json<T>(&self) -> Result<Arc<T>, CodecError>
    where
        T: Any + Send + Sync + Serialize + DeserializeOwned,
    {
        self.payload.decode::<T, Json>()
    }

    /// As `decode`, as a protobuf message.
    ///
    /// # Errors
    /// [`CodecError`] if the reply is no such message.
    #[cfg(feature = "protobuf")]
    pub fn decode_protobuf<T>(&self) -> Result<Arc<T>, CodecError>
    where
        T: Any + Send + Sync + prost::Message + Default,
    {
        self.payload.decode::<T, crate::codec::Protobuf>()
    }

    /// Checks that it is no larger than `limit` bytes, for backends. A typed reply that is not
    /// encoded has no size.
    ///
    /// # Errors
    /// [`CallError::ReplyTooLarge`].
    pub fn check(&self, limit: usize) -> Result<(), CallError> {
        match self.payload.known_len() {
            Some(size) if size > limit => Err(CallError::ReplyTooLarge { size, limit }),
            _ => Ok(()),
        }
    }
}
