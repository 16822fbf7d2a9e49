//! Between our topics and busrt's.
//!
//! Segments are joined by `/` under a prefix of our own, so that foreign busrt clients can use the
//! same topics and nothing of the broker's own (`.broker/…`) is ever caught by a filter. busrt's
//! matcher lets through at least what ours takes; what arrives is matched again by ours.

use eventbus_trait::{Topic, TopicFilter};

/// What every topic of ours begins with on the broker.
pub const PREFIX: &str = "eb/";

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

/// The topic that a broker's name stands for, `None` if it is none of ours.
#[must_use]
pub fn from_broker(name: &str) -> Option<Topic> {
    let rest = name.strip_prefix(PREFIX)?;
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
    fn a_tail_becomes_two_patterns() {
        let of = |text| patterns(&TopicFilter::new(text).unwrap());
        assert_eq!(of("a.*.b"), ["eb/a/+/b"]);
        assert_eq!(of("a.#"), ["eb/a/#", "eb/a"]);
        assert_eq!(of("#"), ["eb/#"]);
    }
}
