//! The event bus contract as tests that any backend can run.
//!
//! `docs/contract.md` says what a bus promises, clause by clause. This crate checks it, for every
//! backend alike, through the [`EventBus`](eventbus_trait::EventBus) trait alone. To run it on a
//! backend, implement [`Harness`], give the test `harness = false` in `Cargo.toml`, and write
//!
//! ```text
//! fn main() -> std::process::ExitCode {
//!     conformance::run(vec![Arc::new(MyHarness)])
//! }
//! ```
//!
//! Each clause becomes a test named `phase::clause`, the arguments are those of any Rust test, and
//! the run ends with a table. A broken clause fails the run, unless it is a SHOULD. A clause that a backend does not hold yet is waived with a reason and
//! shown as waived; a clause that never came to exercise its subject is inconclusive and fails the
//! run. Nothing asserts how fast a bus is.
//!
//! From the bottom up: a [`history`] is what happened; [`check`] names what is wrong with one;
//! [`stage`] has authors and readers who write one; the clauses stage what they are about and check
//! its history; [`mutants`] are buses with one defect each, which show that the clauses can fail.

pub mod certificate;
pub mod check;
mod clause;
mod clauses;
#[cfg(unix)]
pub mod fault;
mod harness;
pub mod history;
pub mod logs;
pub mod mutants;
mod outcome;
mod panics;
pub mod peer;
#[cfg(all(unix, feature = "phases"))]
pub mod phases;
mod report;
mod runner;
pub mod seed;
pub mod stage;
mod stop;
mod suite;
mod trials;
mod verdict;

pub use clause::{Clause, Level, Run, Unbuilt};
pub use clauses::{CLAUSES, UNBUILT, clause_of};
pub use harness::{
    Answer, Caller, Capability, Comparison, Course, CutoverHarness, CutoverRig, Depth, DoorHarness,
    DoorRig, Fault, FaultHarness, FaultRig, Harness, Mirroring, Opening, Peer, Plane, Refusal,
    Replayed, Rig, ShadowHarness, ShadowRig, Steps, Waiver, Way, Wrap, Wreck,
};
pub use outcome::{Outcome, Tally};
pub use report::Report;
pub use runner::{
    Settings, declared, declared_where_installed, outcome_of, run_clause, run_clause_within,
};
pub use seed::Seed;
pub use stage::{Context, Patience};
pub use stop::Stop;
pub use suite::{Progress, Suite, UnknownClause};
pub use trials::{run, run_with};
pub use verdict::{Checked, Unmet, Verdict};
