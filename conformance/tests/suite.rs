//! Every clause for every phase; ends with the table.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Brokers and peers of the phases that can be hurt are this program again.
    if let Some(ended) = conformance::phases::life_as_a_child() {
        return ended;
    }
    if std::env::var_os("RUST_LOG").is_some() {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_writer(std::io::stderr)
            .init();
    }
    // Building it may take longer than any clause.
    if let Err(reason) = conformance::fault::busrtd() {
        eprintln!("{reason}");
    }
    conformance::run(conformance::phases::phases())
}
