//! DEL-012: what a codec wrote is what arrives, and nobody on the way reads it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use eventbus_trait::codec::{Codec, CodecError};
use eventbus_trait::{ContentType, Event, Payload, Topic};

use crate::stage::{Context, Reader};
use crate::verdict::{Checked, ensure, ensure_eq};

/// A process, as protobuf has it: `uint32 pid = 1; string name = 2;`.
#[derive(Debug, Clone)]
struct Process {
    pid: u32,
    name: String,
    /// How often this one was written.
    written: Arc<AtomicUsize>,
}

/// Writes and reads as prost does, for this one message; and counts what it writes.
struct Wire;

impl Codec<Process> for Wire {
    fn content_type() -> ContentType {
        ContentType::Protobuf
    }

    fn encode(process: &Process) -> Result<Bytes, CodecError> {
        process.written.fetch_add(1, Ordering::SeqCst);
        let mut bytes = vec![0x08];
        let mut pid = process.pid;
        while pid > 0x7f {
            bytes.push(pid as u8 | 0x80);
            pid >>= 7;
        }
        bytes.extend([pid as u8, 0x12, process.name.len() as u8]);
        bytes.extend(process.name.as_bytes());
        Ok(bytes.into())
    }

    fn decode(bytes: &Bytes) -> Result<Process, CodecError> {
        let wrong = |reason: &str| CodecError {
            action: "decode",
            content_type: ContentType::Protobuf,
            reason: reason.to_owned(),
        };
        let rest = bytes.strip_prefix(b"\x08").ok_or_else(|| wrong("no pid"))?;
        let end = rest.iter().position(|byte| byte & 0x80 == 0);
        let (pid, rest) = rest.split_at(end.ok_or_else(|| wrong("endless pid"))? + 1);
        let digits = pid.iter().rev();
        let pid = digits.fold(0, |pid: u32, byte| pid << 7 | u32::from(byte & 0x7f));
        let name = match rest {
            [0x12, length, rest @ ..] => rest.get(..usize::from(*length)),
            _ => None,
        };
        let name = name.ok_or_else(|| wrong("no name"))?;
        let name = std::str::from_utf8(name).map_err(|_| wrong("no text"))?;
        Ok(Process {
            pid,
            name: name.to_owned(),
            written: Arc::default(),
        })
    }
}

/// Bytes that a reader understands and would not write: a field that it does not know, and a number
/// that is longer than it need be.
const BY_OTHERS: &[u8] = b"\x08\xe7\xa4\x80\x80\x00\x12\x04sshd\xf8\x07\x2a";

/// DEL-012: a typed value arrives as what its codec makes of it, once; encoded bytes arrive as they
/// are, whatever a reader knows of them, also when they are passed on.
pub(crate) async fn del_012_as_its_codec_wrote_it(context: Context) -> Checked {
    let stage = context.stage().await?;
    let author = stage.author(&stage.bus());
    let mut reader = stage.reader(&stage.bus(), "#").await?;
    let mut other = stage.reader(&stage.bus(), "typed.#").await?;
    let process = Process {
        pid: 4711,
        name: "sshd \u{fc}".to_owned(),
        written: Arc::default(),
    };
    let bytes = Wire::encode(&process)?;
    let typed = || -> Checked<Event> {
        let payload = Payload::typed::<Process, Wire>(process.clone());
        Ok(Event::new("typed.process", payload)?)
    };

    process.written.store(0, Ordering::SeqCst);
    author.bus().publish(typed()?).await?;
    let first = came(&mut reader, &bytes).await?;
    came(&mut other, &bytes).await?;
    let read = first.payload().decode::<Process, Wire>()?;
    ensure_eq!(
        (read.pid, &read.name),
        (process.pid, &process.name),
        "value"
    );
    let written = process.written.load(Ordering::SeqCst);
    ensure!(written == 1, "two subscriptions cost {written} encodings");

    author.bus().publish_batch(vec![typed()?, typed()?]).await?;
    let publisher = author.bus().publisher(Topic::new("typed.process")?);
    publisher.publish(typed()?).await?;
    for _ in 0..3 {
        came(&mut reader, &bytes).await?;
        came(&mut other, &bytes).await?;
    }

    let others = Payload::new(BY_OTHERS, ContentType::Protobuf);
    author
        .bus()
        .publish(Event::new("typed.others", others)?)
        .await?;
    let event = came(&mut reader, BY_OTHERS).await?;
    let read = event.payload().decode::<Process, Wire>()?;
    ensure_eq!(
        (read.pid, &*read.name),
        (4711, "sshd"),
        "what is known of it"
    );
    author.bus().publish(event).await?;
    came(&mut reader, BY_OTHERS).await?;

    let none = Payload::new(&b"\xff\xff"[..], ContentType::Protobuf);
    author
        .bus()
        .publish(Event::new("typed.none", none)?)
        .await?;
    let event = came(&mut reader, b"\xff\xff").await?;
    let error = event.payload().decode::<Process, Wire>().err();
    ensure_eq!(
        error.map(|e| e.action),
        Some("decode"),
        "of what is no such message"
    );
    author.bus().publish(typed()?).await?;
    came(&mut reader, &bytes).await.map(drop)
}

async fn came(reader: &mut Reader, bytes: &[u8]) -> Checked<Event> {
    let event = reader.expect().await?;
    let content_type = event.payload().content_type();
    ensure_eq!(content_type, &ContentType::Protobuf, "content type");
    ensure_eq!(&event.bytes()?[..], bytes, "bytes");
    Ok(event)
}
