//! Random programs against models of what a bus promises, shrunk when they fail.
//!
//! Each machine has a model that says which operations make sense, and what they have to end in
//! where that is known; the history of each program is judged by the checkers of `conformance`, so
//! that a failure is named as in any clause and ends with the smallest history. The programs are
//! drawn by the seed of the run; `PROPTEST_CASES` says how many of each.
//!
//! The program has no test harness of its own making, because brokers that are killed are this
//! program again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed"
)]

/// Names the functions of a module that are tests: without a harness, `#[test]` means nothing else.
macro_rules! tests {
    ($($(#[doc = $doc:literal])* #[test] fn $name:ident() $body:block)*) => {
        $($(#[doc = $doc])* fn $name() $body)*

        /// The tests of this module.
        pub(crate) fn tests() -> Vec<(&'static str, fn())> {
            vec![$((stringify!($name), $name as fn())),*]
        }
    };
}

mod differential;
mod faults;
mod flow;
mod programs;
mod pubsub;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    if let Some(ended) = conformance::phases::life_as_a_child() {
        return ended;
    }
    let machines = [
        ("pubsub", pubsub::tests()),
        ("flow", flow::tests()),
        ("differential", differential::tests()),
        ("faults", faults::tests()),
    ];
    let trials = machines.into_iter().flat_map(|(machine, tests)| {
        tests.into_iter().map(move |(name, test)| {
            Trial::test(format!("{machine}::{name}"), move || {
                test();
                Ok(())
            })
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
