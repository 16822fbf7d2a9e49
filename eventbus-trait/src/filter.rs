//! Topic filters: which topics a subscription takes.
//!
//! Two matchers stand side by side. [`TopicFilter::matches`] is compiled and used by every
//! backend; [`reference::matches`] is the definition, as plain as can be, and the tests hold the
//! first against the second. A broker's own matcher decides nothing: what it lets through is
//! filtered again here (TOP-005).

use std::fmt;

use crate::topic::{Topic, TopicError, check_segment, check_shape};

/// A valid topic filter.
///
/// `*` and its alias `+` match exactly one segment; `#`, which may only stand last, matches zero
/// or more segments, so `events.#` matches `events` too.
///
/// ```
/// use eventbus_trait::{Topic, TopicFilter};
/// let filter = TopicFilter::new("events.*.#")?;
/// assert!(filter.matches(&Topic::new("events.process")?));
/// assert!(filter.matches(&Topic::new("events.process.new")?));
/// assert!(!filter.matches(&Topic::new("events")?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TopicFilter {
    text: String,
    parts: Vec<Part>,
    tail: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Part {
    Literal(Box<str>),
    One,
}

/// Why a text is not a topic filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// `#` stands before the last segment.
    #[error("`#` is segment {index} of {segments} in filter `{filter}`; it may only stand last")]
    TailNotLast {
        /// The whole text.
        filter: String,
        /// Where `#` stands, counted from 1.
        index: usize,
        /// How many segments there are.
        segments: usize,
    },
    /// A wildcard shares its segment with other characters (TOP-004).
    #[error("segment `{segment}` mixes a wildcard with text; a wildcard is a whole segment")]
    PartialWildcard {
        /// The segment.
        segment: String,
    },
    /// The rest is not a topic either.
    #[error(transparent)]
    Topic(#[from] TopicError),
}

impl TopicFilter {
    /// Checks `text` and compiles it.
    ///
    /// # Errors
    /// [`FilterError`] names the segment and what is wrong with it.
    pub fn new(text: impl AsRef<str>) -> Result<Self, FilterError> {
        let text = text.as_ref();
        check_shape(text)?;
        let segments = text.split('.').count();
        let mut parts = Vec::with_capacity(segments);
        let mut tail = false;
        for (at, segment) in text.split('.').enumerate() {
            match segment {
                "*" | "+" => parts.push(Part::One),
                "#" if at + 1 == segments => tail = true,
                "#" => {
                    return Err(FilterError::TailNotLast {
                        filter: text.to_owned(),
                        index: at + 1,
                        segments,
                    });
                }
                _ if segment.contains(['*', '+', '#']) => {
                    return Err(FilterError::PartialWildcard {
                        segment: segment.to_owned(),
                    });
                }
                _ => {
                    check_segment(text, at, segment)?;
                    parts.push(Part::Literal(segment.into()));
                }
            }
        }
        Ok(Self {
            text: text.to_owned(),
            parts,
            tail,
        })
    }

    /// The filter that matches one topic and no other.
    #[must_use]
    pub fn exactly(topic: &Topic) -> Self {
        Self {
            text: topic.as_str().to_owned(),
            parts: topic.segments().map(|s| Part::Literal(s.into())).collect(),
            tail: false,
        }
    }

    /// Whether the filter takes `topic`.
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> bool {
        let mut segments = topic.segments();
        for part in &self.parts {
            match (part, segments.next()) {
                (_, None) => return false,
                (Part::One, Some(_)) => {}
                (Part::Literal(want), Some(have)) => {
                    if **want != *have {
                        return false;
                    }
                }
            }
        }
        self.tail || segments.next().is_none()
    }

    /// Whether it takes every topic that `other` takes.
    ///
    /// ```
    /// use eventbus_trait::TopicFilter;
    /// let allowed = TopicFilter::new("events.*.#")?;
    /// assert!(allowed.covers(&TopicFilter::new("events.process.*")?));
    /// assert!(!allowed.covers(&TopicFilter::new("events.#")?), "it takes `events` too");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        // A topic has a segment at least, so `#` takes what `*.#` takes.
        let one = [Part::One];
        let theirs = if other.parts.is_empty() {
            &one[..]
        } else {
            &other.parts
        };
        let each = self
            .parts
            .iter()
            .zip(theirs)
            .all(|(ours, theirs)| matches!(ours, Part::One) || ours == theirs);
        each && match theirs.len().checked_sub(self.parts.len()) {
            // What `other` takes may be too short for this one.
            None => false,
            Some(0) => self.tail || !other.tail,
            Some(_) => self.tail,
        }
    }

    /// The text as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it ends in `#`.
    #[must_use]
    pub fn has_tail(&self) -> bool {
        self.tail
    }

    /// The segments before a final `#`, with `None` for a wildcard: what a backend needs to
    /// translate the filter into a broker's syntax.
    pub fn parts(&self) -> impl ExactSizeIterator<Item = Option<&str>> {
        self.parts.iter().map(|part| match part {
            Part::Literal(text) => Some(&**text),
            Part::One => None,
        })
    }
}

/// The definition of matching, kept as plain as can be.
pub mod reference {
    /// Whether `filter` takes `topic`, both as text and both valid.
    ///
    /// ```
    /// use eventbus_trait::filter::reference::matches;
    /// assert!(matches("events.#", "events"));
    /// assert!(!matches("events.*", "events"));
    /// ```
    #[must_use]
    pub fn matches(filter: &str, topic: &str) -> bool {
        let filter: Vec<&str> = filter.split('.').collect();
        let topic: Vec<&str> = topic.split('.').collect();
        rest_matches(&filter, &topic)
    }

    fn rest_matches(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            ([], []) => true,
            (["#"], _) => true,
            ([], _) | (_, []) => false,
            ([f, filter @ ..], [t, topic @ ..]) => {
                (matches!(*f, "*" | "+") || f == t) && rest_matches(filter, topic)
            }
        }
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl std::str::FromStr for TopicFilter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_matches_zero_or_more() {
        let filter = TopicFilter::new("a.#").unwrap();
        for (topic, expected) in [("a", true), ("a.b", true), ("a.b.c", true), ("b", false)] {
            assert_eq!(
                filter.matches(&Topic::new(topic).unwrap()),
                expected,
                "{topic}"
            );
        }
    }

    #[test]
    fn a_wildcard_is_a_whole_segment_and_a_tail_is_last() {
        assert_eq!(
            TopicFilter::new("a.#.b"),
            Err(FilterError::TailNotLast {
                filter: "a.#.b".into(),
                index: 2,
                segments: 3
            })
        );
        assert_eq!(
            TopicFilter::new("a.b*"),
            Err(FilterError::PartialWildcard {
                segment: "b*".into()
            })
        );
    }

    #[test]
    fn what_covers_takes_at_least_as_much() {
        let covers = |wide: &str, narrow: &str| {
            let narrow = TopicFilter::new(narrow).unwrap();
            TopicFilter::new(wide).unwrap().covers(&narrow)
        };
        for (wide, narrow) in [
            ("#", "#"),
            ("#", "a.b"),
            ("*.#", "#"),
            ("a.#", "a"),
            ("a.#", "a.*.#"),
            ("a.*", "a.+"),
            ("a.*", "a.b"),
            ("*.b", "a.b"),
        ] {
            assert!(covers(wide, narrow), "{wide} covers {narrow}");
        }
        for (wide, narrow) in [
            ("a", "#"),
            ("*", "#"),
            ("a.*", "a.#"),
            ("a.*.#", "a.#"),
            ("a.b", "a.*"),
            ("a.#", "*.#"),
            ("a.*", "a"),
            ("a.*", "a.b.c"),
        ] {
            assert!(!covers(wide, narrow), "{wide} does not cover {narrow}");
        }
    }

    /// All topics of up to four segments, in which `z` stands for whatever no filter names.
    fn topics() -> Vec<String> {
        let mut all = Vec::new();
        let mut longest = vec![String::new()];
        for _ in 0..4 {
            longest = longest
                .iter()
                .flat_map(|stem| ["a", "b", "z"].map(|s| format!("{stem}.{s}")))
                .collect();
            all.extend(longest.iter().map(|topic| topic[1..].to_owned()));
        }
        all
    }

    fn filter() -> impl proptest::strategy::Strategy<Value = String> {
        use proptest::prelude::*;
        let parts = proptest::collection::vec(proptest::sample::select(vec!["a", "b", "*"]), 0..4);
        (parts, any::<bool>())
            .prop_map(|(mut parts, tail)| {
                parts.extend(tail.then_some("#"));
                parts.join(".")
            })
            .prop_filter("an empty text is no filter", |text| !text.is_empty())
    }

    proptest::proptest! {
        #[test]
        fn covering_agrees_with_the_definition_of_matching(wide in filter(), narrow in filter()) {
            let expected = topics().iter().all(|topic| {
                !reference::matches(&narrow, topic) || reference::matches(&wide, topic)
            });
            let covers = TopicFilter::new(&wide).unwrap().covers(&TopicFilter::new(&narrow).unwrap());
            proptest::prop_assert_eq!(covers, expected, "{} and {}", wide, narrow);
        }
    }

    proptest::proptest! {
        #[test]
        fn the_compiled_matcher_agrees_with_the_definition(
            filter in proptest::collection::vec(proptest::sample::select(vec!["a", "b", "*", "+"]), 1..5),
            tail: bool,
            topic in proptest::collection::vec(proptest::sample::select(vec!["a", "b", "c"]), 1..6),
        ) {
            let mut filter = filter.join(".");
            if tail { filter.push_str(".#"); }
            let topic = topic.join(".");
            let compiled = TopicFilter::new(&filter).unwrap().matches(&Topic::new(&topic).unwrap());
            proptest::prop_assert_eq!(compiled, reference::matches(&filter, &topic));
        }
    }
}
