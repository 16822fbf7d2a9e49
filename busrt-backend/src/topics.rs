//! Between our topics and busrt's.
//!
//! Segments are joined by `/` under a prefix of our own, so that foreign busrt clients can use the
//! same topics and nothing of the broker's own (`.broker/…`) is ever caught by a filter. busrt's
//! matcher lets through at least what ours takes; what arrives is matched again by ours.

use std::borrow::Cow;

use eventbus_trait::{Topic, TopicFilter};

use crate::namespace;

/// What every topic of ours begins with on the broker, unless it is in a namespace: then its
/// first segment is `eb-` and the namespace, which no filter of another bus takes.
pub const PREFIX: &str = "eb/";
/// What comes before a namespace.
const NAMESPACED: &str = "eb-";
/// Longest beginning of a topic.
pub(crate) const LONGEST_PREFIX: usize = NAMESPACED.len() + namespace::LONGEST + 1;

/// The broker's name of a topic.
///
/// ```
/// # use eventbus_trait::Topic;
/// let topic = Topic::new("events.process.new").unwrap();
/// assert_eq!(busrt_backend::topics::to_broker(&topic), "eb/events/process/new");
/// ```
#[must_use]
pub fn to_broker(topic: &Topic) -> String {
    let mut out = String::with_capacity(PREFIX.len() + topic.as_str().len());
    out.push_str(PREFIX);
    out.extend(
        topic
            .as_str()
            .chars()
            .map(|c| if c == '.' { '/' } else { c }),
    );
    out
}

/// A broker's name or pattern under [`PREFIX`] as it is in a namespace.
pub(crate) fn within<'a>(name: &'a str, namespace: Option<&str>) -> Cow<'a, str> {
    match (namespace, name.strip_prefix(PREFIX)) {
        (Some(namespace), Some(rest)) => Cow::Owned(format!("{NAMESPACED}{namespace}/{rest}")),
        _ => Cow::Borrowed(name),
    }
}

/// The namespace of a broker's name or pattern, and what follows; `None` if it is none of ours.
pub(crate) fn split(name: &str) -> Option<(Option<&str>, &str)> {
    if let Some(rest) = name.strip_prefix(PREFIX) {
        return Some((None, rest));
    }
    let (namespace, rest) = name.strip_prefix(NAMESPACED)?.split_once('/')?;
    namespace::is_one(namespace).then_some((Some(namespace), rest))
}

/// The topic that a broker's name stands for, in whichever namespace; `None` if it is none of ours.
#[must_use]
pub fn from_broker(name: &str) -> Option<Topic> {
    let (_, rest) = split(name)?;
    if rest.contains('.') {
        return None;
    }
    Topic::new(rest.replace('/', ".")).ok()
}

/// The broker's patterns for a filter. busrt's `a/#` does not match `a`, so a filter that ends in
/// `#` needs two.
#[must_use]
pub fn patterns(filter: &TopicFilter) -> Vec<String> {
    let parts: Vec<&str> = filter.parts().map(|part| part.unwrap_or("+")).collect();
    let stem = format!("{PREFIX}{}", parts.join("/"));
    if !filter.has_tail() {
        vec![stem]
    } else if parts.is_empty() {
        vec![format!("{PREFIX}#")]
    } else {
        vec![format!("{stem}/#"), stem]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_translate_both_ways() {
        let topic = Topic::new("events.process.new").unwrap();
        assert_eq!(from_broker(&to_broker(&topic)), Some(topic));
        for foreign in [".broker/info", "eb", "eb/", "eb/a//b", "eb/a.b", "other/a"] {
            assert_eq!(from_broker(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_namespace_is_the_first_segment() {
        let topic = Topic::new("events.new").unwrap();
        let name = to_broker(&topic);
        assert_eq!(within(&name, None), "eb/events/new");
        let inside = within(&name, Some("a1"));
        assert_eq!(inside, "eb-a1/events/new");
        assert_eq!(split(&inside), Some((Some("a1"), "events/new")));
        assert_eq!(split(&name), Some((None, "events/new")));
        assert_eq!(from_broker(&inside), Some(topic));
        for foreign in [
            "eb-ping",
            "eb-/a",
            "eb-a-b/c",
            "eb-a.b/c",
            "eb-12345678901234567/a",
        ] {
            assert_eq!(split(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_tail_becomes_two_patterns() {
        let of = |text| patterns(&TopicFilter::new(text).unwrap());
        assert_eq!(of("a.*.b"), ["eb/a/+/b"]);
        assert_eq!(of("a.#"), ["eb/a/#", "eb/a"]);
        assert_eq!(of("#"), ["eb/#"]);
    }
}
