//! Payloads: bytes, or a typed value that becomes bytes only if somebody asks for them.
//!
//! Subscribers in the publisher's own process get the very `Arc` that was published, as they did
//! when the bus was a channel. A process boundary, or a comparison, asks for the bytes; they are
//! made once and kept, so that ten subscriptions cost one encoding.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::codec::{Codec, CodecError, ContentType};

/// The content of an event. Cloning shares it.
#[derive(Clone)]
pub struct Payload {
    repr: Repr,
    content_type: ContentType,
}

#[derive(Clone)]
enum Repr {
    Bytes(Bytes),
    Typed(Arc<Typed>),
}

struct Typed {
    value: Arc<dyn Any + Send + Sync>,
    encode: fn(&(dyn Any + Send + Sync)) -> Result<Bytes, CodecError>,
    encoded: OnceLock<Result<Bytes, CodecError>>,
}

impl Payload {
    /// Bytes of a given type.
    #[inline]
    #[must_use]
    pub fn new(bytes: impl Into<Bytes>, content_type: ContentType) -> Self {
        Self {
            repr: Repr::Bytes(bytes.into()),
            content_type,
        }
    }

    /// Bytes that nobody here interprets.
    #[inline]
    #[must_use]
    pub fn raw(bytes: impl Into<Bytes>) -> Self {
        Self::new(bytes, ContentType::Raw)
    }

    /// A typed value, encoded by `C` when somebody asks for the bytes.
    ///
    /// ```
    /// use eventbus_trait::{Payload, codec::Json};
    /// let payload = Payload::typed::<Vec<i32>, Json>(vec![1, 2, 3]);
    /// assert_eq!(*payload.value::<Vec<i32>>().unwrap(), [1, 2, 3]);
    /// assert_eq!(payload.bytes().unwrap(), "[1,2,3]");
    /// ```
    #[must_use]
    pub fn typed<T, C>(value: impl Into<Arc<T>>) -> Self
    where
        T: Any + Send + Sync,
        C: Codec<T>,
    {
        let typed = Typed {
            value: value.into(),
            encode: |value| match value.downcast_ref::<T>() {
                Some(value) => C::encode(value),
                None => Err(CodecError {
                    action: "encode",
                    content_type: C::content_type(),
                    reason: "value is of another type".to_owned(),
                }),
            },
            encoded: OnceLock::new(),
        };
        Self {
            repr: Repr::Typed(Arc::new(typed)),
            content_type: C::content_type(),
        }
    }

    /// What the bytes are.
    #[must_use]
    pub fn content_type(&self) -> &ContentType {
        &self.content_type
    }

    /// The bytes; a typed value is encoded the first time.
    ///
    /// # Errors
    /// [`CodecError`] if a typed value has no encoding.
    pub fn bytes(&self) -> Result<Bytes, CodecError> {
        match &self.repr {
            Repr::Bytes(bytes) => Ok(bytes.clone()),
            Repr::Typed(typed) => typed.bytes(),
        }
    }

    /// Length of the bytes if they exist already, `None` for a typed value that nobody encoded.
    #[inline]
    #[must_use]
    pub fn known_len(&self) -> Option<usize> {
        match &self.repr {
            Repr::Bytes(bytes) => Some(bytes.len()),
            Repr::Typed(typed) => typed.encoded.get()?.as_ref().ok().map(Bytes::len),
        }
    }

    /// The published value itself, if it was published as a `T` and crossed no process boundary.
    #[must_use]
    pub fn value<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        match &self.repr {
            Repr::Bytes(_) => None,
            Repr::Typed(typed) => Arc::clone(&typed.value).downcast().ok(),
        }
    }

    /// The value, shared if it is at hand, decoded by `C` if it is not: the same call works in
    /// every phase.
    ///
    /// # Errors
    /// [`CodecError`] if the bytes are not such a value.
    pub fn decode<T, C>(&self) -> Result<Arc<T>, CodecError>
    where
        T: Any + Send + Sync,
        C: Codec<T>,
    {
        match self.value() {
            Some(value) => Ok(value),
            None => C::decode(&self.bytes()?).map(Arc::new),
        }
    }
}

impl Typed {
    fn bytes(&self) -> Result<Bytes, CodecError> {
        self.encoded
            .get_or_init(|| (self.encode)(&*self.value))
            .clone()
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::raw(bytes)
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self::raw(bytes)
    }
}

impl From<&'static [u8]> for Payload {
    fn from(bytes: &'static [u8]) -> Self {
        Self::raw(bytes)
    }
}

impl From<&'static str> for Payload {
    fn from(text: &'static str) -> Self {
        Self::raw(text)
    }
}

/// Equal when the content type and the bytes are; typed values are encoded to compare them.
impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.content_type == other.content_type && self.bytes() == other.bytes()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Payload");
        out.field("content_type", &self.content_type.as_str());
        match &self.repr {
            Repr::Bytes(bytes) => out.field("len", &bytes.len()),
            Repr::Typed(typed) => out.field("encoded", &typed.encoded.get().is_some()),
        };
        out.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::codec::Json;

    static ENCODED: AtomicUsize = AtomicUsize::new(0);

    struct Counted;

    impl Codec<u32> for Counted {
        fn content_type() -> ContentType {
            ContentType::Raw
        }
        fn encode(value: &u32) -> Result<Bytes, CodecError> {
            ENCODED.fetch_add(1, Ordering::Relaxed);
            Ok(Bytes::from(value.to_be_bytes().to_vec()))
        }
        fn decode(bytes: &Bytes) -> Result<u32, CodecError> {
            Ok(u32::from_be_bytes(bytes[..].try_into().unwrap()))
        }
    }

    #[test]
    fn a_typed_value_is_encoded_once_for_all_its_clones() {
        let value = Arc::new(7);
        let payload = Payload::typed::<u32, Counted>(Arc::clone(&value));
        let clone = payload.clone();
        assert_eq!(ENCODED.load(Ordering::Relaxed), 0);
        assert_eq!(payload.known_len(), None);
        assert!(Arc::ptr_eq(&payload.value::<u32>().unwrap(), &value));
        assert_eq!(payload.bytes(), clone.bytes());
        assert_eq!(ENCODED.load(Ordering::Relaxed), 1);
        assert_eq!(clone.known_len(), Some(4));
    }

    #[test]
    fn decode_works_on_both_sides_of_a_process_boundary() {
        let here = Payload::typed::<String, Json>("text".to_owned());
        let there = Payload::new(here.bytes().unwrap(), ContentType::Json);
        assert_eq!(here, there);
        assert_eq!(*here.decode::<String, Json>().unwrap(), "text");
        assert_eq!(*there.decode::<String, Json>().unwrap(), "text");
        assert!(there.decode::<u32, Json>().is_err());
    }
}
