//! busrt's handshake, as far as it is known from it who a client is.
//!
//! Invariant: a peer that breaks it off, or drags it out, has cost a place and a few bytes.

use std::io;

use busrt::{
    ERR_ACCESS, ERR_DATA, ERR_NOT_SUPPORTED, ERR_OTHER, GREETINGS, PROTOCOL_VERSION, RESPONSE_OK,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::DIRECTORY;
use super::names::MAX_TARGET;
use super::stats::Reason;
use crate::options::is_name;

/// What a client is told in the handshake when there are as many connections as there may be.
/// busrt itself has no other use for this code there.
pub(crate) const ERR_NO_ROOM: u8 = ERR_OTHER;

/// Why a client is not registered, and what it is told.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) reason: Reason,
    pub(super) code: u8,
    pub(super) name: Option<String>,
}

impl Refused {
    pub(super) fn new(reason: Reason, code: u8) -> Self {
        Self {
            reason,
            code,
            name: None,
        }
    }

    pub(super) fn named(reason: Reason, code: u8, name: String) -> Self {
        Self {
            reason,
            code,
            name: Some(name),
        }
    }
}

fn greeting() -> [u8; 3] {
    let [low, high] = PROTOCOL_VERSION.to_le_bytes();
    [GREETINGS[0], low, high]
}

fn hung_up(_: io::Error) -> Refused {
    Refused::new(Reason::HungUp, ERR_DATA)
}

/// Asks a client for its name.
pub(super) async fn name(
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    may_be: impl Fn(&str) -> bool,
) -> Result<String, Refused> {
    say(writer, &greeting()).await.map_err(hung_up)?;
    let mut answer = [0; 3];
    reader.read_exact(&mut answer).await.map_err(hung_up)?;
    if answer != greeting() {
        return Err(Refused::new(Reason::Protocol, ERR_NOT_SUPPORTED));
    }
    say(writer, &[RESPONSE_OK]).await.map_err(hung_up)?;
    let mut length = [0; 2];
    reader.read_exact(&mut length).await.map_err(hung_up)?;
    let length = usize::from(u16::from_le_bytes(length));
    if length > MAX_TARGET {
        return Err(Refused::new(Reason::Name, ERR_DATA));
    }
    let mut name = vec![0; length];
    reader.read_exact(&mut name).await.map_err(hung_up)?;
    let name = match String::from_utf8(name) {
        Ok(name) if is_name(&name) => name,
        _ => return Err(Refused::new(Reason::Name, ERR_DATA)),
    };
    if name == DIRECTORY {
        return Err(Refused::named(Reason::Name, ERR_ACCESS, name));
    }
    if !may_be(&name) {
        return Err(Refused::named(Reason::Identity, ERR_ACCESS, name));
    }
    Ok(name)
}

/// Tells a client why not, and waits for it to hang up: a connection closed while something in it
/// is unread would take the answer with it.
pub(super) async fn refuse(
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    code: u8,
) {
    if say(writer, &[code]).await.is_ok() && writer.shutdown().await.is_ok() {
        let mut rest = [0; 256];
        while matches!(reader.read(&mut rest).await, Ok(1..)) {}
    }
}

/// Tells a client that has not been greeted that there is no room.
pub(super) async fn no_room(
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
) {
    if say(writer, &greeting()).await.is_ok() {
        refuse(reader, writer, ERR_NO_ROOM).await;
    }
}

async fn say(writer: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    writer.write_all(bytes).await?;
    writer.flush().await
}
