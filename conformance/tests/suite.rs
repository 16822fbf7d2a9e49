//! Every clause for every phase; ends with the table.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Brokers and peers of the phases that can be hurt are this program again.
    if let Some(ended) = conformance::phases::life_as_a_child() {
        return ended;
    }
    // Building it may take longer than any clause.
    if let Err(reason) = conformance::fault::busrtd() {
        eprintln!("{reason}");
    }
    conformance::run(conformance::phases::phases())
}
