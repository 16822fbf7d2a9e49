//! Payloads that say which event they are, and the account of those that came.
//!
//! The bus under test puts its own stamp on events, so the account does not rely on it: each payload
//! has its number in it, and the rest is filled with a byte that the number decides.
//!
//! Invariant: a number counts as delivered once, however often it comes.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Bytes of the number.
pub(super) const LEAST_PAYLOAD: usize = 8;
/// The number of the last event of a stream, which is not counted.
pub(super) const FENCE: u64 = u64::MAX;
/// Payloads are cut from blocks of about this many bytes, so that making one costs no allocation.
const BLOCK: usize = 64 * 1024;

/// Payloads, numbered from 0.
#[derive(Debug)]
pub(super) struct Payloads {
    size: usize,
    next: u64,
    block: Bytes,
}

/// What came, counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    size: usize,
    /// Numbers are below this.
    most: u64,
    seen: Vec<u64>,
    /// The first number beyond what has come.
    next: u64,
    distinct: u64,
    doubled: u64,
    disordered: u64,
    altered: u64,
}

/// What became of the events that a bus accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Delivery {
    /// Events accepted.
    pub(crate) accepted: u64,
    /// Of these, those that came, each counted once.
    pub(crate) delivered: u64,
    /// Of these, those that did not come.
    pub(crate) lost: u64,
    /// Deliveries of an event that had come already.
    pub(crate) doubled: u64,
    /// Events that came after a later one.
    pub(crate) disordered: u64,
    /// Deliveries with a payload that nobody published.
    pub(crate) altered: u64,
}

/// The number that a payload carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Event(u64),
    Fence,
    None,
}

impl Payloads {
    pub(super) fn new(size: usize) -> Self {
        Self {
            size,
            next: 0,
            block: Bytes::new(),
        }
    }

    /// The next payload.
    pub(super) fn next(&mut self) -> Bytes {
        if self.block.is_empty() {
            self.block = self.make();
        }
        self.next += 1;
        self.block.split_to(self.size)
    }

    pub(super) fn fence(&self) -> Bytes {
        let mut payload = Vec::with_capacity(self.size);
        write(&mut payload, FENCE, self.size);
        payload.into()
    }

    fn make(&self) -> Bytes {
        let count = (BLOCK / self.size).max(1);
        let mut block = Vec::with_capacity(count * self.size);
        for number in (self.next..).take(count) {
            write(&mut block, number, self.size);
        }
        block.into()
    }
}

fn write(block: &mut Vec<u8>, number: u64, size: usize) {
    block.extend(number.to_le_bytes());
    let rest = size - LEAST_PAYLOAD;
    block.resize(block.len() + rest, fill(number));
}

fn fill(number: u64) -> u8 {
    let bytes = number.to_le_bytes();
    bytes.iter().fold(0x5a, |fill, byte| fill ^ byte)
}

impl Tally {
    /// Of payloads of `size` bytes, of which there are no more than `most`.
    pub(super) fn new(size: usize, most: u64) -> Self {
        Self {
            size,
            most,
            ..Self::default()
        }
    }

    /// Takes what came into account.
    pub(super) fn take(&mut self, payload: &[u8]) -> Mark {
        let Some(number) = self.read(payload) else {
            self.altered += 1;
            return Mark::None;
        };
        if number == FENCE {
            return Mark::Fence;
        }
        let (word, bit) = place(number);
        if word >= self.seen.len() {
            self.seen.resize(word + 1, 0);
        }
        if self.seen[word] & bit != 0 {
            self.doubled += 1;
            return Mark::Event(number);
        }
        self.seen[word] |= bit;
        self.distinct += 1;
        if number < self.next {
            self.disordered += 1;
        } else {
            self.next = number + 1;
        }
        Mark::Event(number)
    }

    fn read(&self, payload: &[u8]) -> Option<u64> {
        let (number, rest) = payload.split_first_chunk::<LEAST_PAYLOAD>()?;
        let number = u64::from_le_bytes(*number);
        let fill = fill(number);
        let differs = rest.iter().fold(0, |differs, byte| differs | (byte ^ fill));
        let known = number == FENCE || number < self.most;
        (payload.len() == self.size && differs == 0 && known).then_some(number)
    }

    /// What became of `accepted` events.
    pub(super) fn close(&self, accepted: u64) -> Delivery {
        // Whatever has come without having been accepted was published by nobody.
        let strange = (accepted..self.next)
            .filter(|number| {
                let (word, bit) = place(*number);
                self.seen[word] & bit != 0
            })
            .count() as u64;
        let delivered = self.distinct - strange;
        Delivery {
            accepted,
            delivered,
            lost: accepted - delivered,
            doubled: self.doubled,
            disordered: self.disordered,
            altered: self.altered + strange,
        }
    }
}

fn place(number: u64) -> (usize, u64) {
    // Numbers that are taken are far below what fits.
    let word = usize::try_from(number / 64).unwrap_or(usize::MAX);
    (word, 1 << (number % 64))
}

impl Delivery {
    /// Adds another stream's.
    pub(crate) fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.disordered += other.disordered;
        self.altered += other.altered;
    }

    /// Of the accepted, the share that was delivered; 0 if nothing was accepted.
    pub(crate) fn success_rate(&self) -> f64 {
        if self.accepted == 0 {
            return 0.0;
        }
        self.delivered as f64 / self.accepted as f64
    }

    /// Each in its own words: what is not as at-least-once, in order and once, wants it.
    pub(crate) fn faults(&self) -> Vec<String> {
        let counts = [
            (self.lost, "lost"),
            (self.doubled, "delivered twice"),
            (self.disordered, "out of order"),
            (self.altered, "altered"),
        ];
        let mut faults: Vec<_> = counts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} of {} events {what}", self.accepted))
            .collect();
        if self.accepted == 0 {
            faults.push("no event was accepted".to_owned());
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(numbers: &[usize], size: usize) -> Tally {
        let mut payloads = Payloads::new(size);
        let many = numbers.iter().max().map_or(0, |most| most + 1);
        let all: Vec<_> = (0..many).map(|_| payloads.next()).collect();
        let mut tally = Tally::new(size, 10_000);
        for number in numbers {
            assert_eq!(tally.take(&all[*number]), Mark::Event(*number as u64));
        }
        tally
    }

    #[test]
    fn what_came_whole_is_delivered() {
        for (size, many) in [(LEAST_PAYLOAD, 10_000), (100, 2_000), (BLOCK + 1, 5)] {
            let numbers: Vec<_> = (0..many).collect();
            let many = many as u64;
            let delivery = tally(&numbers, size).close(many);
            assert_eq!((delivery.delivered, delivery.lost), (many, 0), "{size}");
            assert_eq!(delivery.faults(), [""; 0]);
            assert_eq!(delivery.success_rate(), 1.0);
        }
    }

    #[test]
    fn each_fault_is_counted_as_what_it_is() {
        let delivery = tally(&[0, 1, 1, 4, 3, 5], 32).close(7);
        let found = (delivery.delivered, delivery.lost, delivery.doubled);
        assert_eq!(found, (5, 2, 1));
        assert_eq!((delivery.disordered, delivery.altered), (1, 0));
        assert_eq!(delivery.faults().len(), 3);
        // Number 2 was never accepted.
        let delivery = tally(&[0, 1, 2], 32).close(2);
        assert_eq!((delivery.lost, delivery.altered), (0, 1));
        let nothing = tally(&[], 8).close(0);
        assert_eq!(nothing.faults(), ["no event was accepted"]);
    }

    #[test]
    fn an_altered_payload_is_no_event() {
        let mut payloads = Payloads::new(20);
        let whole = payloads.next();
        let mut tally = Tally::new(20, 1);
        for at in 0..whole.len() {
            let mut altered = whole.to_vec();
            altered[at] ^= 1;
            assert_eq!(tally.take(&altered), Mark::None, "{at}");
        }
        assert_eq!(tally.take(&whole[..19]), Mark::None);
        assert_eq!(tally.take(&[]), Mark::None);
        assert_eq!(tally.take(&payloads.fence()), Mark::Fence);
        assert_eq!(tally.close(0).altered, 22);
    }
}
