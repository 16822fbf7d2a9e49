//! Digests of what was delivered: enough to say whether two deliveries are the same, and what
//! differs, without keeping either.
//!
//! A digest is compared only with digests made in the same process, so the hash may change from
//! one build to the next.
//!
//! Invariant: every text and every list is hashed with its length, so that no two different
//! contents run together into the same bytes.

use std::hash::{BuildHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

use eventbus_trait::{Correlation, Event};
use foldhash::quality::FixedState;

/// What is kept of a delivery until its counterpart comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest {
    len: u64,
    payload: u64,
    content_type: u64,
    meta: u64,
}

impl Digest {
    /// The digest of an event, `None` if its payload has no bytes: a typed value that cannot be
    /// encoded, or whose encoder panics.
    pub(crate) fn of(event: &Event) -> Option<Self> {
        let bytes = catch_unwind(AssertUnwindSafe(|| event.bytes()))
            .ok()?
            .ok()?;
        let mut payload = hasher();
        payload.write(&bytes);
        Some(Self {
            len: bytes.len() as u64,
            payload: payload.finish(),
            content_type: hash(event.payload().content_type()),
            meta: meta(event),
        })
    }

    /// Whether the payloads are the same, byte for byte.
    pub(crate) fn has_payload_of(&self, other: &Self) -> bool {
        (self.len, self.payload) == (other.len, other.payload)
    }

    /// What differs between the primary's delivery and the candidate's, if anything does; with
    /// `payloads_alike`, beside their payloads.
    pub(crate) fn difference(
        primary: &Self,
        candidate: &Self,
        payloads_alike: bool,
    ) -> Option<String> {
        let mut parts = Vec::new();
        if payloads_alike {
            // Somebody else says so.
        } else if primary.len != candidate.len {
            parts.push(format!(
                "payload of {} bytes came as {} bytes",
                primary.len, candidate.len
            ));
        } else if primary.payload != candidate.payload {
            parts.push(format!("payload of {} bytes differs", primary.len));
        }
        if primary.content_type != candidate.content_type {
            parts.push("content type differs".to_owned());
        }
        if primary.meta != candidate.meta {
            parts.push("headers or correlation differ".to_owned());
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

fn meta(event: &Event) -> u64 {
    let (headers, correlation) = (event.get_headers(), event.get_correlation());
    if headers.is_none() && correlation.is_none() {
        return 0;
    }
    let mut hasher = hasher();
    headers.hash(&mut hasher);
    correlation.map(fields).hash(&mut hasher);
    hasher.finish()
}

fn fields(correlation: &Correlation) -> impl Hash + '_ {
    // Naming every field makes a new one a compile error here instead of a blind spot.
    let Correlation {
        id,
        parent,
        root,
        sequence,
        stage,
        tags,
        trace_parent,
    } = correlation;
    (id, parent, root, sequence, stage, tags, trace_parent)
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = hasher();
    value.hash(&mut hasher);
    hasher.finish()
}

fn hasher() -> impl Hasher {
    FixedState::with_seed(0x5eed_0b5e).build_hasher()
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventbus_trait::{ContentType, Payload, Topic};

    fn event(bytes: &'static str) -> Event {
        Event::new("a.b", bytes).unwrap()
    }

    fn difference(a: &Event, b: &Event) -> Option<String> {
        Digest::difference(&Digest::of(a).unwrap(), &Digest::of(b).unwrap(), false)
    }

    #[test]
    fn equal_contents_have_equal_digests() {
        let full = || {
            event("x")
                .header("k", "v")
                .correlation(Correlation::new("id").tag("a", "b").stage("s"))
        };
        assert_eq!(difference(&full(), &full()), None);
        let typed = Event::typed::<_, Vec<i32>>("a.b", vec![1]).unwrap();
        let plain = Event::json("a.b", &[1]).unwrap();
        assert_eq!(difference(&typed, &plain), None);
    }

    #[test]
    fn every_part_of_an_event_counts() {
        let base = event("xy");
        assert_eq!(
            difference(&base, &event("xyz")).unwrap(),
            "payload of 2 bytes came as 3 bytes"
        );
        assert_eq!(
            difference(&base, &event("xz")).unwrap(),
            "payload of 2 bytes differs"
        );
        let json = Event::on(
            Topic::new("a.b").unwrap(),
            Payload::new("xy", ContentType::Json),
        );
        assert_eq!(difference(&base, &json).unwrap(), "content type differs");
        let headers = "headers or correlation differ";
        for other in [
            base.clone().header("k", "v"),
            base.clone().correlation(Correlation::new("id")),
        ] {
            assert_eq!(difference(&base, &other).unwrap(), headers);
        }
    }

    #[test]
    fn payloads_that_are_alike_leave_the_rest_to_differ() {
        let of = |event: &Event| Digest::of(event).unwrap();
        let (a, b) = (of(&event("x")), of(&event("yz")));
        assert!(!a.has_payload_of(&b) && a.has_payload_of(&a));
        assert_eq!(Digest::difference(&a, &b, true), None);
        let other = of(&event("yz").header("k", "v"));
        let told = Digest::difference(&a, &other, true).unwrap();
        assert_eq!(told, "headers or correlation differ");
    }

    #[test]
    fn every_field_of_a_correlation_counts() {
        let base = Correlation::new("id");
        let other = |change: fn(&mut Correlation)| {
            let mut changed = base.clone();
            change(&mut changed);
            changed
        };
        let changed = [
            other(|c| c.id.push('x')),
            other(|c| c.parent = Some(String::new())),
            other(|c| c.root = Some(String::new())),
            other(|c| c.sequence = 1),
            other(|c| c.stage = Some(String::new())),
            other(|c| c.trace_parent = Some(String::new())),
            base.clone().tag("a", "b"),
        ];
        for changed in changed {
            let (a, b) = (
                event("x").correlation(base.clone()),
                event("x").correlation(changed),
            );
            assert!(difference(&a, &b).is_some());
        }
    }

    #[test]
    fn names_and_values_do_not_run_together() {
        let a = event("x").header("ab", "c");
        let b = event("x").header("a", "bc");
        assert!(difference(&a, &b).is_some());
    }

    #[test]
    fn a_payload_without_bytes_has_no_digest() {
        #[derive(serde::Deserialize)]
        struct Broken;
        impl serde::Serialize for Broken {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("no"))
            }
        }
        let broken = Event::typed::<_, Broken>("a.b", Broken).unwrap();
        assert_eq!(Digest::of(&broken), None);
    }
}
