//! Topics: the names that events are published under.
//!
//! A topic is validated once, when it is made, so that nothing later has to ask whether a name is
//! well formed: not the matcher, not the wire, not the broker's own idea of a topic.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::intern::intern;

/// Most segments in a topic.
pub const MAX_SEGMENTS: usize = 16;
/// Most bytes in one segment.
pub const MAX_SEGMENT_BYTES: usize = 64;
/// Most bytes in a whole topic, separators included.
pub const MAX_TOPIC_BYTES: usize = 255;

/// A valid topic: 1 to 16 segments joined by `.`, each 1 to 64 of `A-Z a-z 0-9 _ -`, at most 255
/// bytes in all (TOP-001).
///
/// Cloning shares the text.
///
/// ```
/// use eventbus_trait::Topic;
/// let topic = Topic::new("events.process.new")?;
/// assert_eq!(topic.segments().count(), 3);
/// assert_eq!(topic.family(), "events.process");
/// assert!(Topic::new("events.*").is_err());
/// # Ok::<(), eventbus_trait::TopicError>(())
/// ```
#[derive(Clone)]
pub struct Topic(Text);

/// As large as one of them: a topic is moved with every event.
#[derive(Clone)]
enum Text {
    Shared(Arc<Box<str>>),
    Interned(&'static str),
}

/// Why a text is not a topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// The text is empty.
    #[error("topic is empty; name at least one segment")]
    Empty,
    /// The text is longer than [`MAX_TOPIC_BYTES`].
    #[error("topic of {bytes} bytes is over the limit of {MAX_TOPIC_BYTES}")]
    TooLong {
        /// Length of the text.
        bytes: usize,
    },
    /// There are more than [`MAX_SEGMENTS`] segments.
    #[error("topic of {segments} segments is over the limit of {MAX_SEGMENTS}")]
    TooDeep {
        /// Number of segments.
        segments: usize,
    },
    /// A segment is empty: two dots in a row, or one at an end.
    #[error("segment {index} of topic `{topic}` is empty")]
    EmptySegment {
        /// The whole text.
        topic: String,
        /// Which segment, counted from 1.
        index: usize,
    },
    /// A segment is longer than [`MAX_SEGMENT_BYTES`].
    #[error("segment `{segment}` of {bytes} bytes is over the limit of {MAX_SEGMENT_BYTES}")]
    SegmentTooLong {
        /// The segment.
        segment: String,
        /// Its length.
        bytes: usize,
    },
    /// A segment has a character that no segment may have.
    #[error("segment `{segment}` has {character:?}; allowed are A-Z a-z 0-9 _ -")]
    BadCharacter {
        /// The segment.
        segment: String,
        /// The first character that is not allowed.
        character: char,
    },
    /// A segment is a wildcard, which only a filter may have (TOP-004).
    #[error("segment `{segment}` is a wildcard; wildcards belong in filters, not in topics")]
    Wildcard {
        /// The wildcard.
        segment: String,
    },
}

impl Topic {
    /// Checks `text` and makes a topic of it.
    ///
    /// # Errors
    /// [`TopicError`] names the segment and what is wrong with it.
    pub fn new(text: impl AsRef<str>) -> Result<Self, TopicError> {
        let text = text.as_ref();
        check_shape(text)?;
        for (at, segment) in text.split('.').enumerate() {
            if matches!(segment, "*" | "+" | "#") {
                return Err(TopicError::Wildcard {
                    segment: segment.to_owned(),
                });
            }
            check_segment(text, at, segment)?;
        }
        Ok(Self(Text::Shared(Arc::new(text.into()))))
    }

    /// The text.
    #[must_use]
    #[inline]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Text::Shared(text) => text,
            Text::Interned(text) => text,
        }
    }

    /// The same topic, kept for the life of the process if it is one of the first 4,096 that are:
    /// then cloning it touches nothing that threads share. For topics that live long, as those of
    /// a [`Publisher`](crate::Publisher) do, which calls this itself.
    #[must_use]
    pub fn interned(self) -> Self {
        match &self.0 {
            Text::Interned(_) => self,
            Text::Shared(text) => match intern(text) {
                Some(text) => Self(Text::Interned(text)),
                None => self,
            },
        }
    }

    /// The segments, from left to right.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.as_str().split('.')
    }

    /// Whether the two are equal; for topics that mostly share their text, faster than `==`, which
    /// compares it.
    #[inline]
    pub(crate) fn is(&self, other: &Self) -> bool {
        std::ptr::eq(self.as_str(), other.as_str()) || self == other
    }

    /// The first two segments, or the whole topic if it has fewer: the group that counters are
    /// kept by.
    #[must_use]
    pub fn family(&self) -> &str {
        let text = self.as_str();
        text.match_indices('.')
            .nth(1)
            .map_or(text, |(at, _)| &text[..at])
    }
}

/// Checks what holds for topics and filters alike: length and depth.
pub(crate) fn check_shape(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > MAX_TOPIC_BYTES {
        return Err(TopicError::TooLong { bytes: text.len() });
    }
    let segments = text.split('.').count();
    if segments > MAX_SEGMENTS {
        return Err(TopicError::TooDeep { segments });
    }
    Ok(())
}

/// Checks one literal segment.
pub(crate) fn check_segment(text: &str, at: usize, segment: &str) -> Result<(), TopicError> {
    if segment.is_empty() {
        return Err(TopicError::EmptySegment {
            topic: text.to_owned(),
            index: at + 1,
        });
    }
    if segment.len() > MAX_SEGMENT_BYTES {
        return Err(TopicError::SegmentTooLong {
            segment: segment.to_owned(),
            bytes: segment.len(),
        });
    }
    let bad = segment
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-')));
    match bad {
        Some(character) => Err(TopicError::BadCharacter {
            segment: segment.to_owned(),
            character,
        }),
        None => Ok(()),
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq for Topic {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Topic {}

impl Hash for Topic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl PartialOrd for Topic {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Topic {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl AsRef<str> for Topic {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl std::borrow::Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl std::str::FromStr for Topic {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl TryFrom<&str> for Topic {
    type Error = TopicError;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl TryFrom<String> for Topic {
    type Error = TopicError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl From<&Topic> for Topic {
    fn from(topic: &Topic) -> Self {
        topic.clone()
    }
}

impl From<std::convert::Infallible> for TopicError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_inclusive() {
        let segment = "s".repeat(MAX_SEGMENT_BYTES);
        assert!(Topic::new(&segment).is_ok());
        assert_eq!(
            Topic::new(format!("{segment}s")),
            Err(TopicError::SegmentTooLong {
                segment: format!("{segment}s"),
                bytes: 65
            })
        );
        let deep = vec!["a"; MAX_SEGMENTS].join(".");
        assert!(Topic::new(&deep).is_ok());
        assert_eq!(
            Topic::new(format!("{deep}.a")),
            Err(TopicError::TooDeep { segments: 17 })
        );
        let long = [segment.as_str(); 3].join(".") + "." + &"s".repeat(60);
        assert_eq!(long.len(), 255);
        assert!(Topic::new(&long).is_ok());
        assert_eq!(
            Topic::new(format!("{long}s")),
            Err(TopicError::TooLong { bytes: 256 })
        );
    }

    #[test]
    fn an_error_names_the_segment() {
        assert_eq!(Topic::new(""), Err(TopicError::Empty));
        assert_eq!(
            Topic::new("a..b"),
            Err(TopicError::EmptySegment {
                topic: "a..b".into(),
                index: 2
            })
        );
        assert_eq!(
            Topic::new("a.b c"),
            Err(TopicError::BadCharacter {
                segment: "b c".into(),
                character: ' '
            })
        );
        assert_eq!(
            Topic::new("a.+"),
            Err(TopicError::Wildcard {
                segment: "+".into()
            })
        );
        assert_eq!(
            Topic::new("a.b\0").unwrap_err().to_string(),
            "segment `b\0` has '\\0'; allowed are A-Z a-z 0-9 _ -"
        );
    }

    #[test]
    fn the_family_is_the_first_two_segments() {
        for (topic, family) in [
            ("a", "a"),
            ("a.b", "a.b"),
            ("a.b.c", "a.b"),
            ("a.b.c.d", "a.b"),
        ] {
            assert_eq!(Topic::new(topic).unwrap().family(), family);
        }
    }
}
