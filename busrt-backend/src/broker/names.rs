//! Which topics, patterns and targets a client may put into a frame.
//!
//! busrt takes any bytes, and some of them kill it: a pattern of 800 segments overflows its stack,
//! a dot in a name costs it twice the time of the one before, a NUL makes one name two. So what is
//! meant for it is matched against what ours look like, not against what is known to be bad.

use std::slice::Split;

use eventbus_trait::{MAX_SEGMENT_BYTES, MAX_SEGMENTS, MAX_TOPIC_BYTES};

use crate::options::is_name;
use crate::topics::{LONGEST_PREFIX, split};

/// Longest topic or pattern on the broker.
pub(super) const MAX_TOPIC: usize = LONGEST_PREFIX + MAX_TOPIC_BYTES;
/// Longest client name.
pub(super) const MAX_TARGET: usize = 64;
/// The name under which busrt itself would answer.
pub(super) const BUSRT: &[u8] = b".broker";
/// The topic on which sessions publish nothing, to see whether the broker answers.
pub(super) const SIGN_OF_LIFE: &[u8] = b"eb-ping";

/// What a topic or pattern is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    /// One under our prefix, valid.
    Ours,
    /// That of the sign of life.
    SignOfLife,
    /// Something that is not under our prefix, and harmless.
    Foreign,
    /// Anything else.
    Invalid,
}

/// Looks at a topic to publish on.
pub(super) fn topic(name: &[u8]) -> Name {
    if name == SIGN_OF_LIFE {
        return Name::SignOfLife;
    }
    look(name, |mut segments| segments.all(is_segment))
}

/// Looks at a pattern to subscribe to.
pub(super) fn pattern(name: &[u8]) -> Name {
    look(name, |mut segments| {
        while let Some(segment) = segments.next() {
            match segment {
                b"+" => {}
                b"#" => return segments.next().is_none(),
                _ if is_segment(segment) => {}
                _ => return false,
            }
        }
        true
    })
}

fn look<'a>(name: &'a [u8], valid: impl FnOnce(Split<'a, u8, fn(&u8) -> bool>) -> bool) -> Name {
    if name.len() > MAX_TOPIC {
        return Name::Invalid;
    }
    let slash: fn(&u8) -> bool = |byte| *byte == b'/';
    let segments = |name: &'a [u8]| name.split(slash);
    let rest = str::from_utf8(name).ok().and_then(split);
    match rest.map(|(_, rest)| rest.as_bytes()) {
        Some(rest)
            if rest.len() <= MAX_TOPIC_BYTES
                && segments(rest).count() <= MAX_SEGMENTS
                && valid(segments(rest)) =>
        {
            Name::Ours
        }
        Some(_) => Name::Invalid,
        None => {
            let printable = name.iter().all(|byte| (b' '..=b'~').contains(byte));
            let shallow = segments(name).count() <= MAX_SEGMENTS;
            if !name.is_empty() && printable && shallow {
                Name::Foreign
            } else {
                Name::Invalid
            }
        }
    }
}

fn is_segment(segment: &[u8]) -> bool {
    (1..=MAX_SEGMENT_BYTES).contains(&segment.len())
        && segment
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// Whether a message can be for a client of this name.
pub(super) fn is_target(name: &[u8]) -> bool {
    str::from_utf8(name).is_ok_and(is_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_is_what_the_topics_of_the_bus_translate_to() {
        let deep = |segments: usize| format!("eb/{}", vec!["a"; segments].join("/"));
        let long = |bytes: usize, prefix: &str| {
            let segments = ("a".repeat(63) + "/").repeat(bytes.div_ceil(64));
            format!("{prefix}{}a", &segments[segments.len() - bytes + 1..])
        };
        for (name, expected) in [
            ("eb/a", Name::Ours),
            ("eb/events/process/new", Name::Ours),
            ("eb-a1/events/new", Name::Ours),
            ("eb-a1/", Name::Invalid),
            ("eb-a_1/a", Name::Foreign),
            ("eb-ping", Name::SignOfLife),
            ("plant/temperature", Name::Foreign),
            (".broker/info", Name::Foreign),
            ("eb", Name::Foreign),
            ("eb/", Name::Invalid),
            ("eb/a//b", Name::Invalid),
            ("eb/a.b", Name::Invalid),
            ("eb/+", Name::Invalid),
            ("eb/#", Name::Invalid),
            ("", Name::Invalid),
            ("plänt", Name::Invalid),
            (&long(255, "eb/"), Name::Ours),
            (&long(256, "eb/"), Name::Invalid),
            (&long(255, "eb-0123456789abcdef/"), Name::Ours),
            (&long(256, "eb-0123456789abcdef/"), Name::Invalid),
            (&deep(16), Name::Ours),
            (&deep(17), Name::Invalid),
            (&format!("eb/{}", "a".repeat(65)), Name::Invalid),
        ] {
            assert_eq!(topic(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn wildcards_are_whole_segments_and_the_tail_is_last() {
        for (name, expected) in [
            ("eb/#", Name::Ours),
            ("eb-a1/#", Name::Ours),
            ("eb-+/#", Name::Foreign),
            ("eb/+", Name::Ours),
            ("eb/a/+/b/#", Name::Ours),
            ("eb/#/a", Name::Invalid),
            ("eb/a+", Name::Invalid),
            ("eb/*", Name::Invalid),
            ("#", Name::Foreign),
            (&vec!["a"; 800].join("/"), Name::Invalid),
            (&vec![""; 100].join("/"), Name::Invalid),
        ] {
            assert_eq!(pattern(name.as_bytes()), expected, "{name}");
        }
    }
}
