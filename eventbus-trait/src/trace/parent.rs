//! The `traceparent` of W3C's Trace Context: which span, of which trace.
//!
//! It comes from other processes, so it is read strictly, by the rules of the recommendation: what is not
//! exactly one is none. A later version may append to it, and is read as far as this one goes.
//!
//! Invariant: a [`TraceParent`] that exists names a trace and a span; neither id is all zeros.

use std::fmt;
use std::str::FromStr;

/// Bytes of version 00, and of the beginning that all later versions share.
const LENGTH: usize = 55;
/// The version that is written.
const VERSION: u8 = 0;
/// The version that is forbidden.
const NO_VERSION: u8 = 0xff;
/// The flag that says that the span is recorded.
const SAMPLED: u8 = 1;

/// Which span something comes from, and of which trace that is.
///
/// ```
/// use eventbus_trait::trace::TraceParent;
/// let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let parent: TraceParent = text.parse()?;
/// assert!(parent.sampled);
/// assert_eq!(parent.to_string(), text);
/// # Ok::<(), eventbus_trait::trace::TraceParentError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    /// Whether whoever made the span records it.
    pub sampled: bool,
}

/// Why a text is no `traceparent`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceParentError {
    /// Its parts do not have their lengths.
    #[error(
        "{length} bytes of trace parent are not version, trace, span and flags, parted by hyphens"
    )]
    Shape {
        /// How long it is, in bytes.
        length: usize,
    },
    /// There is no version 255.
    #[error("version `ff` of a trace parent is forbidden")]
    Version,
    /// Something in it is no digit.
    #[error("{part} of a trace parent is not of lower-case hexadecimal digits")]
    Digits {
        /// In which part.
        part: &'static str,
    },
    /// An id is all zeros, which says that there is none.
    #[error("{part} of a trace parent is all zeros")]
    Zero {
        /// Which one.
        part: &'static str,
    },
}

impl TraceParent {
    /// Puts one together; `None` if an id is all zeros.
    #[must_use]
    pub fn new(trace_id: [u8; 16], span_id: [u8; 8], sampled: bool) -> Option<Self> {
        (trace_id != [0; 16] && span_id != [0; 8]).then_some(Self {
            trace_id,
            span_id,
            sampled,
        })
    }

    /// The trace, most significant byte first.
    #[must_use]
    pub fn trace_id(&self) -> [u8; 16] {
        self.trace_id
    }

    /// The span, most significant byte first.
    #[must_use]
    pub fn span_id(&self) -> [u8; 8] {
        self.span_id
    }

    /// The trace as 32 digits, as tools for traces show it.
    #[must_use]
    pub fn trace(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.trace_id))
    }
}

impl FromStr for TraceParent {
    type Err = TraceParentError;

    fn from_str(text: &str) -> Result<Self, TraceParentError> {
        let bytes = text.as_bytes();
        let shape = || TraceParentError::Shape {
            length: bytes.len(),
        };
        let hyphens = [2, 35, 52];
        if bytes.len() < LENGTH || hyphens.iter().any(|&at| bytes[at] != b'-') {
            return Err(shape());
        }
        let [version] = digits("version", &bytes[..2])?;
        match bytes.get(LENGTH) {
            _ if version == NO_VERSION => return Err(TraceParentError::Version),
            Some(_) if version == VERSION => return Err(shape()),
            Some(&more) if more != b'-' => return Err(shape()),
            _ => {}
        }
        let trace_id = digits("trace id", &bytes[3..35])?;
        let span_id = digits("span id", &bytes[36..52])?;
        let [flags] = digits("flags", &bytes[53..LENGTH])?;
        let part = if trace_id == [0; 16] {
            "trace id"
        } else {
            "span id"
        };
        // Of the flags of a later version, this one means the same.
        Self::new(trace_id, span_id, flags & SAMPLED != 0).ok_or(TraceParentError::Zero { part })
    }
}

/// `N` bytes of twice as many digits.
fn digits<const N: usize>(part: &'static str, text: &[u8]) -> Result<[u8; N], TraceParentError> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(TraceParentError::Digits { part }),
    };
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(out)
}

/// As it travels, in version 00.
impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trace = u128::from_be_bytes(self.trace_id);
        let span = u64::from_be_bytes(self.span_id);
        let flags = u8::from(self.sampled);
        write!(f, "{VERSION:02x}-{trace:032x}-{span:016x}-{flags:02x}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn read(text: &str) -> Result<TraceParent, TraceParentError> {
        text.parse()
    }

    #[test]
    fn version_00_is_read_and_written_as_it_is() {
        for (flags, sampled) in [("00", false), ("01", true)] {
            let text = format!("00-{TRACE}-{SPAN}-{flags}");
            let parent = read(&text).unwrap();
            assert_eq!(
                (parent.sampled, parent.trace()),
                (sampled, TRACE.to_owned())
            );
            assert_eq!(parent.span_id(), 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
            assert_eq!(parent.to_string(), text);
        }
    }

    #[test]
    fn flags_that_this_version_does_not_know_are_not_passed_on() {
        for (flags, written) in [("03", "01"), ("fe", "00"), ("ff", "01")] {
            let parent = read(&format!("00-{TRACE}-{SPAN}-{flags}")).unwrap();
            assert!(parent.to_string().ends_with(&format!("-{written}")));
        }
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let known = read(&format!("00-{TRACE}-{SPAN}-01"));
        for later in ["cc", "01", "fe"] {
            for more in ["", "-", "-what the future brings"] {
                assert_eq!(read(&format!("{later}-{TRACE}-{SPAN}-01{more}")), known);
            }
            let glued = format!("{later}-{TRACE}-{SPAN}-01.more");
            assert_eq!(read(&glued), Err(TraceParentError::Shape { length: 60 }));
        }
    }

    #[test]
    fn what_is_none_is_refused_with_the_reason() {
        use TraceParentError::{Digits, Shape, Version, Zero};
        let (no_trace, no_span) = ("0".repeat(32), "0".repeat(16));
        let upper = TRACE.to_uppercase();
        let cases = [
            (String::new(), Shape { length: 0 }),
            (format!("00-{TRACE}-{SPAN}"), Shape { length: 52 }),
            (format!("00-{TRACE}-{SPAN}-1"), Shape { length: 54 }),
            (format!("00-{TRACE}-{SPAN}-01-"), Shape { length: 56 }),
            (format!("00-{TRACE}-{SPAN}-01-more"), Shape { length: 60 }),
            (format!("00_{TRACE}_{SPAN}_01"), Shape { length: 55 }),
            (format!("00-{SPAN}-{TRACE}-01"), Shape { length: 55 }),
            (format!("ff-{TRACE}-{SPAN}-01"), Version),
            (format!("ff-{TRACE}-{SPAN}-01-more"), Version),
            (format!("0g-{TRACE}-{SPAN}-01"), Digits { part: "version" }),
            (format!("00-{upper}-{SPAN}-01"), Digits { part: "trace id" }),
            (
                format!("00-{TRACE}-{:>16}-01", "7"),
                Digits { part: "span id" },
            ),
            (format!("00-{TRACE}-{SPAN}-0x"), Digits { part: "flags" }),
            (
                format!("00-{no_trace}-{SPAN}-01"),
                Zero { part: "trace id" },
            ),
            (format!("00-{TRACE}-{no_span}-01"), Zero { part: "span id" }),
        ];
        for (text, reason) in cases {
            assert_eq!(read(&text), Err(reason), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_what_is_read_is_stable(text in "\\PC{0,70}") {
            if let Ok(parent) = read(&text) {
                prop_assert_eq!(read(&parent.to_string()), Ok(parent));
            }
        }

        #[test]
        fn whatever_is_written_is_read_again(trace: [u8; 16], span: [u8; 8], sampled: bool) {
            let Some(parent) = TraceParent::new(trace, span, sampled) else { return Ok(()); };
            prop_assert_eq!(read(&parent.to_string()), Ok(parent));
        }

        /// One wrong byte anywhere is never taken for the same span.
        #[test]
        fn a_changed_byte_is_noticed(at in 0_usize..52, byte in b' '..b'~') {
            let text = format!("00-{TRACE}-{SPAN}-01");
            let mut changed = text.clone().into_bytes();
            prop_assume!(changed[at] != byte && at > 1);
            changed[at] = byte;
            let changed = String::from_utf8(changed).unwrap();
            prop_assert_ne!(read(&changed).ok(), read(&text).ok());
        }
    }
}
