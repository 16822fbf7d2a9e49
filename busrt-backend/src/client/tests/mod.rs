//! The codec at every cut, and a client before a broker that does what the test says.

mod codec;
mod connection;

use super::decode::HEAD;

/// A frame as a broker writes it.
fn frame(kind: u8, names: &[&str], payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for name in names {
        body.extend_from_slice(name.as_bytes());
        body.push(0);
    }
    body.extend_from_slice(payload);
    let mut frame = announced(kind, body.len());
    frame.extend_from_slice(&body);
    frame
}

/// The head of a frame of `len` bytes.
fn announced(kind: u8, len: usize) -> Vec<u8> {
    let mut head = vec![kind];
    head.extend_from_slice(&u32::try_from(len).unwrap().to_le_bytes());
    head.push(1);
    assert_eq!(head.len(), HEAD);
    head
}

fn answer(id: u32, code: u8) -> Vec<u8> {
    let mut answer = vec![busrt::OP_ACK];
    answer.extend_from_slice(&id.to_le_bytes());
    answer.push(code);
    answer
}
