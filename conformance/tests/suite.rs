//! Every clause for every phase; ends with the table.

mod support;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Brokers and peers of the phases that can be hurt are this program again.
    if let Some(ended) = support::doors::life_as_a_child() {
        return ended;
    }
    conformance::run(support::phases())
}
