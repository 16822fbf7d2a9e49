//! One frame of a client on its way into busrt: gathered as it comes, then done by the client of
//! busrt's broker that stands for the connection.
//!
//! Only what the screen has let pass gets here, so what cannot be any more is not looked for.
//!
//! Invariant: a payload is copied once, into the buffer that busrt then shares among all receivers,
//! and that buffer grows as bytes come, not as they are announced.

use std::mem;

use busrt::broker::Client;
use busrt::client::AsyncClient;
use busrt::{
    ERR_CLIENT_NOT_REGISTERED, Error, ErrorKind, OP_MESSAGE, OP_PUBLISH, OP_SUBSCRIBE,
    OP_UNSUBSCRIBE, QoS, RESPONSE_OK,
};

use super::screen::{HEAD, Head};
use crate::transport::BUFFER_BYTES;

/// The frame under way, if there is one.
#[derive(Debug, Default)]
pub(super) struct Operation {
    head: Head,
    /// Topic or target, empty for what has none.
    address: String,
    /// Payload, or list of patterns, as far as it has come.
    body: Vec<u8>,
    /// Bytes to come before the body, and of it.
    before: usize,
    left: usize,
}

impl Operation {
    /// Begins the frame that the screen has found valid; `bytes` are at its head.
    pub(super) fn begin(&mut self, bytes: &[u8]) {
        let Some((head, body)) = bytes.split_first_chunk::<HEAD>() else {
            return;
        };
        self.head = Head::new(head);
        self.address.clear();
        self.before = HEAD;
        self.left = self.head.len;
        if matches!(self.head.operation(), OP_PUBLISH | OP_MESSAGE) {
            let address = body.split(|byte| *byte == 0).next().unwrap_or_default();
            self.address
                .push_str(str::from_utf8(address).unwrap_or_default());
            self.before += address.len() + 1;
            self.left = self.left.saturating_sub(address.len() + 1);
        }
        self.body = Vec::with_capacity(self.left.min(BUFFER_BYTES));
    }

    /// Takes the next bytes of it, and says whether it is whole.
    pub(super) fn take(&mut self, bytes: &[u8]) -> bool {
        let skipped = self.before.min(bytes.len());
        self.before -= skipped;
        let bytes = &bytes[skipped..];
        self.make_room(bytes.len());
        self.body.extend_from_slice(bytes);
        self.has_come(bytes.len())
    }

    /// How much of it is to come, if that is too much for the common buffer, and where it belongs.
    pub(super) fn rest(&mut self) -> Option<(&mut Vec<u8>, usize)> {
        if self.left < BUFFER_BYTES {
            return None;
        }
        self.make_room(1);
        Some((&mut self.body, self.left))
    }

    /// What has been put there, beginning at `from`.
    pub(super) fn put(&self, from: usize) -> &[u8] {
        &self.body[from..]
    }

    /// So much has been put there; says whether it is whole.
    pub(super) fn has_come(&mut self, count: usize) -> bool {
        self.left -= count.min(self.left);
        self.left == 0 && self.before == 0
    }

    /// At most doubles what there is.
    fn make_room(&mut self, count: usize) {
        if self.body.capacity() - self.body.len() < count {
            let more = self.body.len().max(BUFFER_BYTES).max(count);
            self.body.reserve_exact(more.min(self.left));
        }
    }

    /// Does it, and returns the answer if its sender wants one.
    pub(super) async fn run(&mut self, client: &mut Client) -> Option<[u8; 6]> {
        // What is to be acknowledged is, by us.
        let qos = if self.head.is_realtime() {
            QoS::Realtime
        } else {
            QoS::No
        };
        let body = mem::take(&mut self.body);
        let done = match self.head.operation() {
            OP_PUBLISH => client.publish(&self.address, body.into(), qos).await,
            OP_MESSAGE => client.send(&self.address, body.into(), qos).await,
            OP_SUBSCRIBE => client.subscribe_bulk(&patterns(&body), qos).await,
            OP_UNSUBSCRIBE => client.unsubscribe_bulk(&patterns(&body), qos).await,
            _ => return None,
        };
        self.head.answer(code(done.map(drop)))
    }
}

fn patterns(list: &[u8]) -> Vec<&str> {
    list.split(|byte| *byte == 0)
        .filter_map(|pattern| str::from_utf8(pattern).ok())
        .collect()
}

fn code(done: Result<(), Error>) -> u8 {
    match done.map_err(|e| e.kind()) {
        Ok(()) => RESPONSE_OK,
        // The target's connection has ended, and its name is about to.
        Err(ErrorKind::Eof) => ERR_CLIENT_NOT_REGISTERED,
        Err(kind) => kind as u8,
    }
}
