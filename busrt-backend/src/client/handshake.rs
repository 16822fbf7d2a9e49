//! busrt's handshake, as a client speaks it.

use std::io;

use busrt::{Error, ErrorKind, GREETINGS, PROTOCOL_VERSION, RESPONSE_OK};
use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Registers `name`. What has been read already is in `read`, and what was read too much stays
/// there.
///
/// # Errors
/// What the broker answered, or that it does not speak this protocol.
pub(super) async fn register(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    read: &mut BytesMut,
    name: &str,
) -> Result<(), Error> {
    let length = u16::try_from(name.len()).map_err(|_| Error::data("name too long"))?;
    let greeting = take::<3>(stream, read).await?;
    let [magic, version @ ..] = greeting;
    if [magic] != GREETINGS {
        return Err(Error::not_supported("it does not greet as busrt does"));
    }
    if u16::from_le_bytes(version) != PROTOCOL_VERSION {
        return Err(Error::not_supported("it speaks another version of busrt"));
    }
    answered(stream, read, &greeting, "greeting").await?;
    let mut message = length.to_le_bytes().to_vec();
    message.extend_from_slice(name.as_bytes());
    answered(stream, read, &message, "registration").await
}

/// Says something and hears what the broker has to say to it. A broker that refuses may have hung
/// up on us before we said it: its answer counts, not the broken pipe.
async fn answered(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    read: &mut BytesMut,
    message: &[u8],
    to: &str,
) -> Result<(), Error> {
    let said = async {
        stream.write_all(message).await?;
        stream.flush().await
    };
    let said = said.await;
    match (take::<1>(stream, read).await, said) {
        (Ok([RESPONSE_OK]), _) => Ok(()),
        (Ok([code]), _) => Err(Error::new(
            ErrorKind::from(code),
            Some(format!("its answer to our {to} is {code:#04x}")),
        )),
        (Err(_), Err(reason)) | (Err(reason), Ok(())) => Err(reason.into()),
    }
}

async fn take<const N: usize>(
    stream: &mut (impl AsyncRead + Unpin),
    read: &mut BytesMut,
) -> io::Result<[u8; N]> {
    loop {
        if let Some((bytes, _)) = read.split_first_chunk::<N>() {
            let bytes = *bytes;
            read.advance(N);
            return Ok(bytes);
        }
        if stream.read_buf(read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
