//! Reading little-endian fields from a byte slice with every bound checked.

use bytes::Bytes;

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The bytes end before the field does.
    #[error("truncated: {field} needs {needed} bytes, {left} are left")]
    Truncated {
        /// The field.
        field: &'static str,
        /// Its length.
        needed: usize,
        /// What is left.
        left: usize,
    },
    /// Bytes are left over.
    #[error("{left} bytes left over")]
    LeftOver {
        /// How many.
        left: usize,
    },
    /// It is a message of ours in a version that this program does not know.
    #[error("version {version} is not known; this program knows {known}")]
    Version {
        /// The version found.
        version: u8,
        /// The version known.
        known: u8,
    },
    /// A field has a value that it cannot have.
    #[error("{field} is not valid")]
    Invalid {
        /// The field.
        field: &'static str,
    },
}

pub(crate) struct Reader<'a> {
    whole: &'a Bytes,
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(whole: &'a Bytes) -> Self {
        Self { whole, at: 0 }
    }

    /// Goes on at a place that was reached before.
    pub(crate) fn at(whole: &'a Bytes, at: usize) -> Self {
        let at = at.min(whole.len());
        Self { whole, at }
    }

    pub(crate) fn whole(&self) -> &'a Bytes {
        self.whole
    }

    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn skip(&mut self, field: &'static str, len: usize) -> Result<(), WireError> {
        self.take(field, len).map(|_| ())
    }

    pub(crate) fn left(&self) -> usize {
        self.whole.len() - self.at
    }

    #[inline]
    fn take(&mut self, field: &'static str, needed: usize) -> Result<&'a [u8], WireError> {
        let left = self.left();
        if needed > left {
            return Err(WireError::Truncated {
                field,
                needed,
                left,
            });
        }
        let out = &self.whole[self.at..self.at + needed];
        self.at += needed;
        Ok(out)
    }

    pub(crate) fn array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], WireError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(field, N)?);
        Ok(out)
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, WireError> {
        self.array::<1>(field).map(|[b]| b)
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, WireError> {
        self.array(field).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, WireError> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, WireError> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// A slice of `len` bytes that shares the whole's memory.
    pub(crate) fn bytes(&mut self, field: &'static str, len: usize) -> Result<Bytes, WireError> {
        let from = self.at;
        self.take(field, len)?;
        Ok(self.whole.slice(from..from + len))
    }

    /// A text with a 16-bit length.
    pub(crate) fn text(&mut self, field: &'static str) -> Result<&'a str, WireError> {
        let len = usize::from(self.u16(field)?);
        std::str::from_utf8(self.take(field, len)?).map_err(|_| WireError::Invalid { field })
    }

    /// A 16-bit count of things that take at least `each` bytes.
    pub(crate) fn count(&mut self, field: &'static str, each: usize) -> Result<usize, WireError> {
        let count = usize::from(self.u16(field)?);
        let needed = count * each;
        if needed > self.left() {
            return Err(WireError::Truncated {
                field,
                needed,
                left: self.left(),
            });
        }
        Ok(count)
    }

    pub(crate) fn end(self) -> Result<(), WireError> {
        match self.left() {
            0 => Ok(()),
            left => Err(WireError::LeftOver { left }),
        }
    }
}

pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    let mut len = text.len().min(usize::from(u16::MAX));
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    #[allow(clippy::cast_possible_truncation, reason = "bounded by u16::MAX above")]
    out.extend_from_slice(&(len as u16).to_le_bytes());
    out.extend_from_slice(&text.as_bytes()[..len]);
}
