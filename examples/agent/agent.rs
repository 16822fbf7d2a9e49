//! The agent: `cargo run --release --example agent`. See the README.

use std::process::ExitCode;

fn main() -> ExitCode {
    agent::run(agent::agent::main)
}
