//! Events: what is published and what is received.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{Codec, CodecError, ContentType, Json, encode_json};
use crate::correlation::Correlation;
use crate::origin::{Origin, PublisherId};
use crate::payload::Payload;
use crate::topic::{Topic, TopicError};

/// Headers: short texts by name, which travel unaltered and in the order of their names.
pub type Headers = BTreeMap<String, String>;

/// What a publisher asks of the bus for one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Delivery {
    /// The event reaches every matching subscription that stays alive; publishing waits for room.
    /// DaemonEye's plan calls this "Processed".
    #[default]
    AtLeastOnce,
    /// Publishing never waits; what finds no room is dropped and counted. DaemonEye's plan calls
    /// this "Realtime".
    AtMostOnce,
}

/// One event.
///
/// ```
/// use eventbus_trait::{Delivery, Event};
/// let event = Event::json("events.process.new", &[1, 2, 3])?
///     .header("host", "a")
///     .delivery(Delivery::AtMostOnce);
/// assert_eq!(event.topic().as_str(), "events.process.new");
/// assert_eq!(*event.decode_json::<Vec<i32>>()?, [1, 2, 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    topic: Topic,
    payload: Payload,
    /// Whose it is says `stamp`.
    origin: Origin,
    meta: Option<Arc<Meta>>,
    stamp: Stamp,
    delivery: Delivery,
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Meta {
    headers: Headers,
    correlation: Option<Correlation>,
}

/// Whose stamp an event carries.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stamp {
    /// Nobody's yet.
    None,
    /// Put there by the bus that accepted it; publishing it again replaces it.
    Accepted,
    /// Put there by a layer above a bus, which the bus keeps.
    Given,
}

const NO_ORIGIN: Origin = Origin {
    publisher: PublisherId([0; 16]),
    epoch: 0,
    sequence: 0,
};

/// An event could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// The topic is not valid.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The value could not be encoded.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

impl Event {
    /// An event with a payload that is at hand.
    ///
    /// # Errors
    /// [`TopicError`] if `topic` is not a valid topic.
    pub fn new<T>(topic: T, payload: impl Into<Payload>) -> Result<Self, TopicError>
    where
        T: TryInto<Topic>,
        TopicError: From<T::Error>,
    {
        Ok(Self::on(topic.try_into()?, payload.into()))
    }

    /// An event on a topic that is valid already.
    #[inline]
    #[must_use]
    pub fn on(topic: Topic, payload: Payload) -> Self {
        Self {
            topic,
            payload,
            origin: NO_ORIGIN,
            meta: None,
            stamp: Stamp::None,
            delivery: Delivery::default(),
        }
    }

    /// An event whose payload is `value` as JSON, encoded now.
    ///
    /// # Errors
    /// [`EventError`] if `topic` is not a valid topic or `value` has no JSON form.
    pub fn json<T>(topic: T, value: &(impl Serialize + ?Sized)) -> Result<Self, EventError>
    where
        T: TryInto<Topic>,
        TopicError: From<T::Error>,
    {
        let topic = topic.try_into().map_err(TopicError::from)?;
        Ok(Self::on(
            topic,
            Payload::new(encode_json(value)?, ContentType::Json),
        ))
    }

    /// An event whose payload is `value` itself: subscribers in this process get the same `Arc`,
    /// others get JSON, encoded when it is first needed.
    ///
    /// # Errors
    /// [`TopicError`] if `topic` is not a valid topic.
    pub fn typed<T, V>(topic: T, value: impl Into<Arc<V>>) -> Result<Self, TopicError>
    where
        T: TryInto<Topic>,
        TopicError: From<T::Error>,
        V: Any + Send + Sync + Serialize + DeserializeOwned,
    {
        Ok(Self::on(
            topic.try_into()?,
            Payload::typed::<V, Json>(value),
        ))
    }

    /// An event whose payload is a protobuf message, encoded now.
    ///
    /// # Errors
    /// [`EventError`] if `topic` is not a valid topic or the message is too large to be encoded.
    #[cfg(feature = "protobuf")]
    pub fn protobuf<T>(topic: T, message: &impl prost::Message) -> Result<Self, EventError>
    where
        T: TryInto<Topic>,
        TopicError: From<T::Error>,
    {
        let topic = topic.try_into().map_err(TopicError::from)?;
        let bytes = crate::codec::encode_protobuf(message)?;
        Ok(Self::on(topic, Payload::new(bytes, ContentType::Protobuf)))
    }

    /// Asks for another delivery than [`Delivery::AtLeastOnce`].
    #[must_use]
    pub fn delivery(mut self, delivery: Delivery) -> Self {
        self.delivery = delivery;
        self
    }

    /// Adds a header, or replaces it.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.meta_mut().headers.insert(name.into(), value.into());
        self
    }

    /// Replaces all headers.
    #[must_use]
    pub fn headers(mut self, headers: Headers) -> Self {
        if !headers.is_empty() || self.meta.is_some() {
            self.meta_mut().headers = headers;
        }
        self
    }

    /// Sets the correlation.
    #[must_use]
    pub fn correlation(mut self, correlation: Correlation) -> Self {
        self.meta_mut().correlation = Some(correlation);
        self
    }

    /// Gives the event a stamp that the bus keeps instead of its own. For layers above a bus,
    /// which must recognise an event on both sides: an application has no use for it.
    #[must_use]
    pub fn given_origin(mut self, origin: Origin) -> Self {
        self.give_origin(origin);
        self
    }

    /// As [`given_origin`](Event::given_origin), where the event is.
    #[inline]
    pub fn give_origin(&mut self, origin: Origin) {
        self.origin = origin;
        self.stamp = Stamp::Given;
    }

    /// Takes a [given](Event::given_origin) stamp off again and puts back what was there `before`: for
    /// layers above a bus, whose caller gets a refused event back as it was.
    #[must_use]
    pub fn taken_back(mut self, before: Option<Origin>) -> Self {
        (self.origin, self.stamp) = match before {
            Some(origin) => (origin, Stamp::Accepted),
            None => (NO_ORIGIN, Stamp::None),
        };
        self
    }

    /// Stamps the event as accepted: for backends, once per publish. A given stamp is kept,
    /// any other is replaced by `own`.
    #[inline]
    pub fn accept(&mut self, own: impl FnOnce() -> Origin) {
        if !self.has_given_origin() {
            self.origin = own();
        }
        self.stamp = Stamp::Accepted;
    }

    /// Whether [`Event::accept`] would keep the stamp that is there.
    #[must_use]
    pub fn has_given_origin(&self) -> bool {
        matches!(self.stamp, Stamp::Given)
    }

    /// The topic.
    #[inline]
    #[must_use]
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// The payload.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// Takes the payload out.
    #[must_use]
    pub fn into_payload(self) -> Payload {
        self.payload
    }

    /// The delivery asked for.
    #[inline]
    #[must_use]
    pub fn get_delivery(&self) -> Delivery {
        self.delivery
    }

    /// Publisher, epoch and sequence; `None` until a bus has accepted the event, and on events of
    /// foreign clients that carry no envelope.
    #[inline]
    #[must_use]
    pub fn origin(&self) -> Option<&Origin> {
        match self.stamp {
            Stamp::None => None,
            Stamp::Accepted | Stamp::Given => Some(&self.origin),
        }
    }

    /// A header's value.
    #[must_use]
    pub fn get_header(&self, name: &str) -> Option<&str> {
        self.meta.as_ref()?.headers.get(name).map(String::as_str)
    }

    /// All headers, if there are any.
    #[must_use]
    pub fn get_headers(&self) -> Option<&Headers> {
        self.meta
            .as_ref()
            .map(|meta| &meta.headers)
            .filter(|headers| !headers.is_empty())
    }

    /// The correlation, if the event has one.
    #[must_use]
    pub fn get_correlation(&self) -> Option<&Correlation> {
        self.meta.as_ref()?.correlation.as_ref()
    }

    /// The payload's bytes.
    ///
    /// # Errors
    /// [`CodecError`] if it is a typed value without an encoding.
    pub fn bytes(&self) -> Result<Bytes, CodecError> {
        self.payload.bytes()
    }

    /// The payload as a `T`: the published value itself where it is at hand, else read by `C`.
    ///
    /// # Errors
    /// [`CodecError`] if the payload is no such value.
    pub fn decode<T, C>(&self) -> Result<Arc<T>, CodecError>
    where
        T: Any + Send + Sync,
        C: Codec<T>,
    {
        self.payload.decode::<T, C>()
    }

    /// As `decode`, as a protobuf message.
    ///
    /// # Errors
    /// [`CodecError`] if the payload is no such message.
    #[cfg(feature = "protobuf")]
    pub fn decode_protobuf<T>(&self) -> Result<Arc<T>, CodecError>
    where
        T: Any + Send + Sync + prost::Message + Default,
    {
        self.payload.decode::<T, crate::codec::Protobuf>()
    }

    /// The payload as a `T`: the published value itself where it is at hand, else read as JSON.
    ///
    /// # Errors
    /// [`CodecError`] if the payload is not JSON of a `T`.
    pub fn decode_json<T>(&self) -> Result<Arc<T>, CodecError>
    where
        T: Any + Send + Sync + Serialize + DeserializeOwned,
    {
        self.payload.decode::<T, Json>()
    }

    /// Size that the limit is held against: payload, headers and correlation, in bytes. A typed
    /// payload that nobody has encoded counts as `None`.
    #[inline]
    #[must_use]
    pub fn known_size(&self) -> Option<usize> {
        Some(self.payload.known_len()? + self.meta_size())
    }

    /// Bytes of headers and correlation.
    #[inline]
    #[must_use]
    pub fn meta_size(&self) -> usize {
        self.meta.as_ref().map_or(0, |meta| {
            meta.headers
                .iter()
                .map(|(k, v)| k.len() + v.len())
                .sum::<usize>()
                + meta.correlation.as_ref().map_or(0, Correlation::size)
        })
    }

    fn meta_mut(&mut self) -> &mut Meta {
        Arc::make_mut(self.meta.get_or_insert_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(sequence: u64) -> Origin {
        Origin {
            publisher: PublisherId([0; 16]),
            epoch: 1,
            sequence,
        }
    }

    #[test]
    fn accepting_replaces_an_old_stamp_and_keeps_a_given_one() {
        let mut event = Event::new("a", "x").unwrap();
        event.accept(|| origin(1));
        assert_eq!(event.origin(), Some(&origin(1)));
        event.accept(|| origin(2));
        assert_eq!(event.origin(), Some(&origin(2)));
        let mut event = event.given_origin(origin(9));
        event.accept(|| origin(3));
        assert_eq!(event.origin(), Some(&origin(9)));
        event.accept(|| origin(4));
        assert_eq!(
            event.origin(),
            Some(&origin(4)),
            "a stamp is given for one publish only"
        );
    }

    #[test]
    fn an_event_taken_back_is_as_it_came() {
        let mut old = Event::new("a", "x").unwrap();
        for before in [None, Some(origin(7))] {
            if let Some(before) = before {
                old.accept(|| before);
            }
            let stamped = old.clone().given_origin(origin(1));
            assert_eq!(stamped.taken_back(before), old);
        }
    }

    #[test]
    fn size_counts_payload_and_metadata() {
        let event = Event::new("a", "12345").unwrap();
        assert_eq!(event.known_size(), Some(5));
        let event = event.header("ab", "c").correlation(Correlation::new("id"));
        assert_eq!(event.known_size(), Some(5 + 3 + 2 + 8));
        assert_eq!(Event::typed("a", 5_u32).unwrap().known_size(), None);
    }
}
