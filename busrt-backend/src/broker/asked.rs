//! Who has called a client, so that it answers nobody else.
//!
//! busrt's own clients match replies by their number alone, whoever they come from. So a client with a
//! rule answers only what it was asked, by whom it was asked, once.
//!
//! Invariant: bounded; what is forgotten for want of room is the oldest, whose answer is then refused.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use busrt::{Frame, FrameKind};
use parking_lot::Mutex;

use crate::wire::call::CallFrame;

/// Most calls that a client may be going to answer.
const MOST: usize = 65_536;
/// First byte of busrt's notifications, and of its requests.
const CALLS: [u8; 2] = [0x00, 0x01];

/// The calls that have gone to a client. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    hasher: RandomState,
    /// By caller and number.
    calls: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Asked {
    /// Notes what a frame on its way to the client asks.
    pub(super) fn note(&self, frame: &Frame) {
        let payload = frame.payload();
        let is_call = payload.first().is_some_and(|kind| CALLS.contains(kind));
        if frame.kind() != FrameKind::Message || !is_call {
            return;
        }
        match request(payload) {
            Some(id) => self.add(frame.sender(), &[id]),
            // Whoever asks whether a call is there is told if it is not.
            None => {
                if let Ok(Some(CallFrame::Ask { ids })) =
                    CallFrame::read(&bytes::Bytes::copy_from_slice(payload))
                {
                    self.add(frame.sender(), &ids);
                }
            }
        }
    }

    fn add(&self, caller: &str, ids: &[u32]) {
        let open = &mut *self.0.lock();
        for id in ids {
            let key = open.hasher.hash_one((caller.as_bytes(), id));
            if open.calls.insert(key) {
                open.order.push_back(key);
            }
        }
        while open.calls.len() > MOST
            && let Some(oldest) = open.order.pop_front()
        {
            open.calls.remove(&oldest);
        }
        // Those that were answered stand in the order only.
        if open.order.len() > 2 * MOST {
            let calls = &open.calls;
            open.order.retain(|key| calls.contains(key));
        }
    }

    /// Whether `caller` waits for this answer, for the last time; `None` if it is too short to say.
    pub(super) fn by(&self, caller: &[u8], answer: &[u8]) -> Option<bool> {
        let (_, rest) = answer.split_first()?;
        let id = u32::from_le_bytes(*rest.first_chunk()?);
        let open = &mut *self.0.lock();
        let key = open.hasher.hash_one((caller, &id));
        Some(open.calls.remove(&key))
    }
}

/// The number of a request whose caller waits for an answer.
fn request(payload: &[u8]) -> Option<u32> {
    let (kind, rest) = payload.split_first()?;
    let id = u32::from_le_bytes(*rest.first_chunk()?);
    (*kind == CALLS[1]).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_is_answered_once_and_the_oldest_is_forgotten() {
        let asked = Asked::default();
        let answer = |id: u32| [&[0x11][..], &id.to_le_bytes()].concat();
        asked.add("caller", &[7, 8]);
        assert_eq!(asked.by(b"caller", &answer(7)[..4]), None);
        assert_eq!(asked.by(b"another", &answer(7)), Some(false));
        assert_eq!(asked.by(b"caller", &answer(7)), Some(true));
        assert_eq!(asked.by(b"caller", &answer(7)), Some(false));
        let many: Vec<u32> = (100..100 + MOST as u32).collect();
        asked.add("caller", &many);
        assert_eq!(asked.by(b"caller", &answer(8)), Some(false));
        assert_eq!(asked.by(b"caller", &answer(101)), Some(true));
        // However many are answered meanwhile, one that takes its time is not forgotten.
        for id in 0..3 * MOST as u32 {
            asked.add("another", &[id]);
            assert_eq!(asked.by(b"another", &answer(id)), Some(true));
        }
        assert_eq!(asked.by(b"caller", &answer(102)), Some(true));
        assert!(asked.0.lock().order.len() <= 2 * MOST);
    }
}
