//! A screen's whole view of a stream, for the fuzz targets.

use eventbus_trait::TopicFilter;

use super::AclRule;
use super::rights::Rights;
use super::screen::{Breach, Screen, Step};

pub(crate) const MAX_FRAME: usize = 4_096;

/// What a stream came to.
#[derive(Debug, PartialEq, Default)]
pub(crate) struct Transcript {
    pub(crate) passed: Vec<u8>,
    pub(crate) dropped: usize,
    frames: Vec<u32>,
    answers: Vec<Option<[u8; 6]>>,
    end: Option<Breach>,
}

/// Screens a stream that comes in pieces of this length.
pub(crate) fn transcript(stream: &[u8], cut: usize, ruled: bool, priced: bool) -> Transcript {
    let rule = if ruled {
        AclRule {
            publish: TopicFilter::new("a.#").into_iter().collect(),
            subscribe: TopicFilter::new("*.b.#").into_iter().collect(),
            call: vec!["s*".to_owned()],
        }
    } else {
        AclRule::allow_all()
    };
    let mut screen = Screen::new(Rights::new(rule), MAX_FRAME, priced);
    let mut out = Transcript::default();
    let mut waiting = Vec::new();
    for piece in stream.chunks(cut) {
        waiting.extend_from_slice(piece);
        match take(&mut screen, &waiting, &mut out) {
            Ok(done) => drop(waiting.drain(..done)),
            Err(breach) => {
                out.end = Some(breach);
                break;
            }
        }
    }
    out
}

/// Goes on as far as it can: how many bytes are done with.
fn take(screen: &mut Screen, bytes: &[u8], out: &mut Transcript) -> Result<usize, Breach> {
    let mut at = 0;
    loop {
        match screen.step(&bytes[at..])? {
            Step::Frame { events } => out.frames.push(events),
            Step::Denied { answer, .. } => out.answers.push(answer),
            Step::Pass(count) => {
                assert!(count > 0, "no progress");
                out.passed.extend_from_slice(&bytes[at..at + count]);
                at += count;
            }
            Step::Drop(count) => {
                assert!(count > 0, "no progress");
                out.dropped += count;
                at += count;
            }
            Step::Need(need) => {
                let left = bytes.len() - at;
                assert!(need > left, "{need} needed, {left} there");
                assert!(need <= 9 + MAX_FRAME, "{need} needed");
                return Ok(at);
            }
        }
    }
}
