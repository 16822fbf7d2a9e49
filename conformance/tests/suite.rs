//! Every clause for every phase; ends with the table.

mod support;

use std::process::ExitCode;

fn main() -> ExitCode {
    conformance::run(support::phases())
}
