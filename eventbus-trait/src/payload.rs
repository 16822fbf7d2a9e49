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
///
/// It is moved with every event, so what few payloads have is behind a pointer.
#[derive(Clone)]
pub struct Payload {
    repr: Repr,
    common: Common,
}

#[derive(Clone)]
enum Repr {
    /// Bytes of the type that `common` says.
    Bytes(Bytes),
    /// Anything else.
    Rare(Arc<Rare>),
}

/// The content types that need no allocation.
#[derive(Clone, Copy)]
enum Common {
    Json,
    Protobuf,
    Raw,
}

struct Rare {
    content_type: ContentType,
    content: Content,
}

enum Content {
    Bytes(Bytes),
    Typed(Typed),
}

struct Typed {
    value: Arc<dyn Any + Send + Sync>,
    encode: fn(&(dyn Any + Send + Sync)) -> Result<Bytes, CodecError>,
    encoded: OnceLock<Result<Bytes, CodecError>>,
}

impl Payload {
    /// Bytes of a given type.
    #[must_use]
    pub fn new(bytes: impl Into<Bytes>, content_type: ContentType) -> Self {
        let bytes = bytes.into();
        match Common::of(&content_type) {
            Some(common) => Self {
                repr: Repr::Bytes(bytes),
                common,
            },
            None => Self::rare(content_type, Content::Bytes(bytes)),
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
        Self::rare(C::content_type(), Content::Typed(typed))
    }

    fn rare(content_type: ContentType, content: Content) -> Self {
        let rare = Rare {
            content_type,
            content,
        };
        Self {
            repr: Repr::Rare(Arc::new(rare)),
            common: Common::Raw,
        }
    }

    /// What the bytes are.
    #[must_use]
    pub fn content_type(&self) -> &ContentType {
        match (&self.repr, self.common) {
            (Repr::Rare(rare), _) => &rare.content_type,
            (Repr::Bytes(_), Common::Json) => &ContentType::Json,
            (Repr::Bytes(_), Common::Protobuf) => &ContentType::Protobuf,
            (Repr::Bytes(_), Common::Raw) => &ContentType::Raw,
        }
    }

    /// The bytes; a typed value is encoded the first time.
    ///
    /// # Errors
    /// [`CodecError`] if a typed value has no encoding.
    pub fn bytes(&self) -> Result<Bytes, CodecError> {
        match &self.repr {
            Repr::Bytes(bytes) => Ok(bytes.clone()),
            Repr::Rare(rare) => rare.bytes(),
        }
    }

    /// The bytes if they exist already, without sharing them: for backends that have asked for
    /// [`bytes`](Self::bytes) before.
    #[inline]
    #[must_use]
    pub fn encoded(&self) -> Option<&[u8]> {
        match &self.repr {
            Repr::Bytes(bytes) => Some(bytes),
            Repr::Rare(rare) => rare.encoded(),
        }
    }

    /// Length of the bytes if they exist already, `None` for a typed value that nobody encoded.
    #[inline]
    #[must_use]
    pub fn known_len(&self) -> Option<usize> {
        match &self.repr {
            Repr::Bytes(bytes) => Some(bytes.len()),
            Repr::Rare(rare) => rare.known_len(),
        }
    }

    /// The published value itself, if it was published as a `T` and crossed no process boundary.
    #[must_use]
    pub fn value<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        match &self.repr {
            Repr::Bytes(_) => None,
            Repr::Rare(rare) => rare.value(),
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

impl Common {
    fn of(content_type: &ContentType) -> Option<Self> {
        match content_type {
            ContentType::Json => Some(Self::Json),
            ContentType::Protobuf => Some(Self::Protobuf),
            ContentType::Raw => Some(Self::Raw),
            ContentType::Other(_) => None,
        }
    }
}

impl Rare {
    fn bytes(&self) -> Result<Bytes, CodecError> {
        match &self.content {
            Content::Bytes(bytes) => Ok(bytes.clone()),
            Content::Typed(typed) => typed.bytes(),
        }
    }

    fn encoded(&self) -> Option<&[u8]> {
        match &self.content {
            Content::Bytes(bytes) => Some(bytes),
            Content::Typed(typed) => typed.encoded.get()?.as_deref().ok(),
        }
    }

    fn known_len(&self) -> Option<usize> {
        match &self.content {
            Content::Bytes(bytes) => Some(bytes.len()),
            Content::Typed(typed) => typed.encoded.get()?.as_ref().ok().map(Bytes::len),
        }
    }

    fn value<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        match &self.content {
            Content::Bytes(_) => None,
            Content::Typed(typed) => Arc::clone(&typed.value).downcast().ok(),
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
        self.content_type() == other.content_type() && self.bytes() == other.bytes()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Payload");
        out.field("content_type", &self.content_type().as_str());
        match self.known_len() {
            Some(len) => out.field("len", &len),
            None => out.field("encoded", &false),
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

    #[test]
    fn every_content_type_comes_back_as_it_was_given() {
        for text in ["application/json", "application/x-protobuf", "image/png"] {
            let content_type = ContentType::parse(text);
            let payload = Payload::new("x", content_type.clone());
            assert_eq!(*payload.content_type(), content_type);
            assert_eq!(payload.bytes().unwrap(), "x");
            assert_eq!(
                (payload.known_len(), payload.value::<u8>()),
                (Some(1), None)
            );
            assert_ne!(payload, Payload::raw("x"));
        }
        assert_eq!(*Payload::raw("x").content_type(), ContentType::Raw);
    }

    #[test]
    fn an_event_is_small_enough_to_be_moved() {
        assert!(size_of::<Payload>() <= 40);
        assert!(size_of::<crate::Event>() <= 104);
        assert_eq!(size_of::<Option<crate::Event>>(), size_of::<crate::Event>());
    }
}
