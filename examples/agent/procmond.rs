//! The process monitor: `cargo run --release --example procmond`. See the README.

use std::process::ExitCode;

fn main() -> ExitCode {
    agent::run(agent::procmond::main)
}
