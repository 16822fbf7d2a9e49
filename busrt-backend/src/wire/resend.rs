//! Events sent again to one subscriber: a frame as a message, which has no topic of its own.

use bytes::Bytes;
use eventbus_trait::Topic;

use super::reader::{Reader, WireError, put_text};

/// What such a message begins with.
const MAGIC: [u8; 4] = [0xEB, 0x05, b'E', b'R'];
const VERSION: u8 = 1;

/// The message up to its frame.
pub(crate) fn begin_resend(topic: &Topic) -> Vec<u8> {
    let mut out = Vec::with_capacity(MAGIC.len() + 3 + topic.as_str().len());
    out.extend_from_slice(&MAGIC);
    out.push(VERSION);
    put_text(&mut out, topic.as_str());
    out
}

/// Reads a message that sends events again: their topic, and their frame. `None` if the bytes are
/// no such message.
///
/// # Errors
/// [`WireError`] says which field is wrong.
pub fn read_resend(bytes: &Bytes) -> Result<Option<(Topic, Bytes)>, WireError> {
    if !bytes.starts_with(&MAGIC) {
        return Ok(None);
    }
    let mut reader = Reader::new(bytes);
    reader.array::<4>("magic")?;
    let version = reader.u8("version")?;
    if version != VERSION {
        return Err(WireError::Version {
            version,
            known: VERSION,
        });
    }
    let topic =
        Topic::new(reader.text("topic")?).map_err(|_| WireError::Invalid { field: "topic" })?;
    let frame = reader.bytes("frame", reader.left())?;
    Ok(Some((topic, frame)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reads_back_and_every_cut_of_its_head_is_an_error() {
        let topic = Topic::new("a.b").unwrap();
        let mut bytes = begin_resend(&topic);
        let head = bytes.len();
        bytes.extend_from_slice(b"frame");
        let bytes = Bytes::from(bytes);
        let frame = Bytes::from_static(b"frame");
        assert_eq!(read_resend(&bytes), Ok(Some((topic, frame))));
        for cut in 4..head {
            assert!(read_resend(&bytes.slice(..cut)).is_err(), "cut at {cut}");
        }
        assert_eq!(read_resend(&Bytes::from_static(b"{}")), Ok(None));
    }
}
