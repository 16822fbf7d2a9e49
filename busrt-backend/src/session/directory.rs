//! Finding the other sessions: our broker's directory tells of them, a stock busrtd is asked.
//!
//! A stock broker has no directory, but its core RPC lists its clients. Sessions on it have names
//! that begin with `eb-`; one that comes says hello to all that are listed, and all of them look
//! from time to time who is there no longer. Of two that come at once, the one that registered
//! later finds the other, so nobody stays unknown.
//!
//! The request is written by hand on the data connection: a `RpcClient` would take every message
//! of other sessions for a call.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use busrt::ErrorKind;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use super::STOCK_CREDIT_BUDGET;
use super::node::Node;
use super::writer::Writer;
use crate::broker::DIRECTORY;
use crate::transport::Client;
use crate::wire::{Control, Refusal};

/// What the name of every session on a stock broker begins with.
pub(crate) const STOCK_PREFIX: &str = "eb-";
/// A stock broker's own client.
pub(crate) const STOCK_BROKER: &str = ".broker";
/// How often a stock broker is asked who is there.
const POLL: Duration = Duration::from_millis(500);

/// First byte of a busrt RPC call, reply, and error reply.
const CALL: u8 = 0x01;
const REPLY: u8 = 0x11;
const ERROR: u8 = 0x12;
/// Identity of our only kind of call.
const CALL_ID: u32 = 1;

/// How this connection learns who is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Membership {
    /// The directory tells.
    Directory,
    /// The broker is asked; when next.
    Polled(Instant),
}

/// Whether the broker has a directory. `client` need not be drained meanwhile.
pub(crate) async fn has_directory(
    client: &mut Client,
    message: &Control,
    patience: Duration,
) -> Result<bool, busrt::Error> {
    let confirm = match client.send(DIRECTORY, message.write(), true).await {
        Err(e) if e.kind() == ErrorKind::NotRegistered => return Ok(false),
        sent => sent?,
    };
    let Some(confirm) = confirm else {
        return Ok(true);
    };
    match timeout(patience, client.answered(confirm)).await {
        Ok(Ok(())) => Ok(true),
        Ok(Err(e)) if e.kind() == ErrorKind::NotRegistered => Ok(false),
        Ok(Err(e)) => Err(e),
        Err(_) => Err(busrt::Error::io("the broker does not answer")),
    }
}

impl Membership {
    /// Makes this node known.
    pub(crate) async fn join(
        node: &Node,
        client: &mut Client,
        patience: Duration,
    ) -> Result<Self, busrt::Error> {
        // Before anybody answers.
        {
            let mut state = node.state.lock();
            state.polled = false;
            state.refused = None;
        }
        let has_directory = has_directory(client, &Control::Join, patience).await;
        if has_directory
            .as_ref()
            .is_err_and(|e| e.kind() == ErrorKind::Access)
        {
            node.state.lock().refused = Some(Refusal::NotAllowed);
            node.changed.notify_waiters();
        }
        if has_directory? {
            node.credit_budget
                .store(super::CREDIT_BUDGET, Ordering::Relaxed);
            return Ok(Self::Directory);
        }
        if !node.name.starts_with(STOCK_PREFIX) {
            return Err(busrt::Error::io(format!(
                "the broker has no directory, and the client name `{}` does not begin with `{STOCK_PREFIX}`",
                node.name
            )));
        }
        debug!(client = %node.name, "stock broker");
        node.credit_budget
            .store(STOCK_CREDIT_BUDGET, Ordering::Relaxed);
        node.state.lock().polled = true;
        ask(client).await?;
        Ok(Self::Polled(Instant::now() + POLL))
    }

    /// Asks again if it is time, and gives up who has stayed away too long.
    pub(crate) async fn tick(
        &mut self,
        node: &Node,
        writer: &mut Writer,
        now: Instant,
    ) -> Result<(), busrt::Error> {
        if let Self::Polled(at) = self
            && *at <= now
        {
            *at = now + POLL;
            ask(&mut writer.client).await?;
        }
        node.expire(now);
        Ok(())
    }

    /// Whom to tell when leaving.
    pub(crate) fn farewell(&self, node: &Node) -> Vec<Arc<str>> {
        match self {
            Self::Directory => vec![DIRECTORY.into()],
            Self::Polled(_) => {
                let state = node.state.lock();
                let there = state.peers.values().filter(|peer| peer.away.is_none());
                there.map(|peer| Arc::clone(&peer.name)).collect()
            }
        }
    }
}

async fn ask(client: &mut Client) -> Result<(), busrt::Error> {
    #[derive(Serialize)]
    struct Params<'a> {
        filter: &'a str,
    }
    let mut call = vec![CALL];
    call.extend_from_slice(&CALL_ID.to_le_bytes());
    call.extend_from_slice(b"client.list\0");
    let params = Params {
        filter: concat!("^", "eb-"),
    };
    call.extend(rmp_serde::to_vec_named(&params).map_err(busrt::Error::data)?);
    client.send(STOCK_BROKER, call, false).await?;
    Ok(())
}

/// The sessions in a stock broker's answer; `None` if it is none.
pub(crate) fn read_answer(payload: &[u8]) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    struct Listed {
        name: String,
    }
    #[derive(Deserialize)]
    struct Answer {
        clients: Vec<Listed>,
    }
    let (kind, rest) = payload.split_first()?;
    let (id, body) = rest.split_at_checked(4)?;
    if *kind == ERROR {
        warn!(answer = %String::from_utf8_lossy(body), "the broker does not list its clients");
        return None;
    }
    if *kind != REPLY || id != CALL_ID.to_le_bytes() {
        return None;
    }
    let answer: Answer = rmp_serde::from_slice(body)
        .inspect_err(|reason| warn!(%reason, "unreadable list of clients"))
        .ok()?;
    let names = answer.clients.into_iter().map(|client| client.name);
    Some(
        names
            .filter(|name| name.starts_with(STOCK_PREFIX) && name != DIRECTORY)
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_and_anything_else_is_none() {
        #[derive(Serialize)]
        struct Client {
            name: &'static str,
            kind: &'static str,
            queue: usize,
        }
        #[derive(Serialize)]
        struct List {
            clients: Vec<Client>,
        }
        let client = |name| Client {
            name,
            kind: "ipc",
            queue: 0,
        };
        let list = List {
            clients: vec![client("eb-1"), client("python"), client("eb-2")],
        };
        let mut answer = vec![REPLY];
        answer.extend_from_slice(&CALL_ID.to_le_bytes());
        answer.extend(rmp_serde::to_vec_named(&list).unwrap());
        assert_eq!(read_answer(&answer).unwrap(), ["eb-1", "eb-2"]);
        for cut in 0..answer.len() {
            assert_eq!(read_answer(&answer[..cut]), None, "cut at {cut}");
        }
        answer[0] = ERROR;
        assert_eq!(read_answer(&answer), None);
    }
}
