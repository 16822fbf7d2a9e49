//! Making the verdicts of a divergence file again: each line's events pass through a comparison of
//! its own, as they did, and must come out as what the line says.

use std::io::BufRead;

use eventbus_trait::{Event, Payload, Topic};
use serde::Serialize;

use crate::class::{Class, Side};
use crate::record::{FORMAT, GoneOn, Passage, Record};
use crate::report::DivergenceClass;
use crate::track::{Context, Delivered, Dropped, Expect, Finding, Rules, Track};

/// Why a divergence file could not be replayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// It could not be read.
    #[error("cannot read divergences: {0}")]
    Read(#[from] std::io::Error),
    /// A line is none.
    #[error("line {line} is no divergence: {reason}")]
    Line {
        /// Its number, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
}

/// What a replay says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Replay {
    /// Divergences that came out as they were told.
    pub reproduced: u64,
    /// Those that did not, by line.
    pub otherwise: Vec<Otherwise>,
}

/// A divergence that came out as something else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Otherwise {
    /// Its line in the file, from 1.
    pub line: u64,
    /// What the file says.
    pub told: DivergenceClass,
    /// What came out.
    pub found: Vec<DivergenceClass>,
}

/// Replays the divergences in `lines`, as [`DivergenceFile`](crate::DivergenceFile) has them.
///
/// # Errors
/// [`ReplayError`] names the first line that is none.
pub fn replay(lines: impl BufRead) -> Result<Replay, ReplayError> {
    let mut replay = Replay::default();
    for (at, text) in lines.lines().enumerate() {
        let line = at as u64 + 1;
        let record: Record = serde_json::from_str(&text?).map_err(|error| ReplayError::Line {
            line,
            reason: error.to_string(),
        })?;
        if record.format != FORMAT {
            return Err(ReplayError::Line {
                line,
                reason: format!("its format is `{}`, not `{FORMAT}`", record.format),
            });
        }
        let told = &record.divergence;
        let found = again(&record);
        let same = |f: &Finding| {
            f.class == told.class && f.side == told.side && f.sequence == told.sequence
        };
        if found.iter().any(same) {
            replay.reproduced += 1;
        } else {
            replay.otherwise.push(Otherwise {
                line,
                told: told.class,
                found: found.iter().map(|f| f.class).collect(),
            });
        }
    }
    Ok(replay)
}

/// What happens at one instant.
#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Expect(&'a Passage),
    Offer(&'a Passage),
    Arrive(Side, u64, bool),
    GoOn(GoneOn),
    Conclude,
}

fn again(record: &Record) -> Vec<Finding> {
    let mut steps = steps(record);
    // In the order in which they are listed where they are simultaneous.
    steps.sort_by_key(|(at, _)| *at);
    let mut track = Track::new(Rules {
        grace: record.grace,
        silence: record.silence,
        window: 2 * record.around.len() + 64,
        context: 0,
    });
    let dropped = Dropped::default();
    let mut found = Vec::new();
    for (now, step) in steps {
        let mut cx = Context::new(now.max(1), &dropped);
        take(&mut track, step, record, &mut cx);
        found.append(&mut cx.findings);
    }
    found
}

fn steps(record: &Record) -> Vec<(u64, Step<'_>)> {
    let mut steps = Vec::new();
    for passage in &record.around {
        steps.push((passage.published, Step::Expect(passage)));
        if passage.given > 0 {
            steps.push((passage.given, Step::Offer(passage)));
        }
        for (side, at) in [
            (Side::Primary, passage.primary),
            (Side::Candidate, passage.candidate),
        ] {
            if at > 0 {
                let altered = passage.differs && side == Side::Candidate;
                steps.push((at, Step::Arrive(side, passage.sequence, altered)));
            }
        }
    }
    if record.gone_on != GoneOn::Delivered {
        steps.push((record.gone_on_at, Step::GoOn(record.gone_on)));
    }
    let told = &record.divergence;
    if let DivergenceClass::Duplicate | DivergenceClass::Phantom = told.class {
        let beyond = Step::Arrive(told.side, told.sequence, false);
        steps.push((record.at, beyond));
    }
    steps.push((record.at, Step::Conclude));
    steps
}

fn take(track: &mut Track, step: Step<'_>, record: &Record, cx: &mut Context<'_>) {
    match step {
        Step::Expect(passage) => {
            let expect = Expect {
                sequence: passage.sequence,
                class: Class::Open,
                ordered: passage.ordered,
                sampled: true,
                may_drop: [false; 2],
            };
            track.expect(expect, cx);
        }
        Step::Offer(passage) => track.offered(passage.sequence, cx.now),
        Step::Arrive(side, sequence, altered) => {
            let Ok(topic) = Topic::new("replay") else {
                return;
            };
            let event = Event::on(topic, Payload::raw(vec![u8::from(altered)]));
            track.arrive(side, sequence, &Delivered::new(&event), cx);
        }
        Step::GoOn(how) => {
            let cut = record.divergence.sequence;
            if how == GoneOn::Marker {
                track.mark(cut, cx.now);
                track.marked(cut, cx);
            } else {
                track.mark(cut, cx.now.saturating_sub(record.silence));
                track.give_up_mark(0, cx);
            }
        }
        Step::Conclude => track.sweep(None, cx),
    }
}
