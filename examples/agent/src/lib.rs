//! An agent and a process monitor on one bus.
//!
//! `procmond` reads `/proc`: it publishes which processes come and go, serves the six operations of a
//! collector, and hashes executables when it is asked to. `agent` has the broker, unless there is one,
//! knows who is there, and asks. On crossbeam, where nobody else can come, the agent hosts the monitor
//! itself: which of both it is, the configuration says alone.

pub mod agent;
mod hash;
mod plain;
mod proc;
pub mod procmond;
mod reputation;
mod setup;

use std::error::Error;
use std::process::ExitCode;

use tokio::runtime::Runtime;

pub use hash::{HashRequest, Hashed};
pub use proc::Process;
pub use reputation::Reputation;

/// Why a program ends before it should: a sentence.
pub type Failure = Box<dyn Error + Send + Sync>;

/// What procmond can be asked to do: a [`HashRequest`] for [`Hashed`].
pub const HASH_EXECUTABLE: &str = "hash_executable";
/// The kind of member that procmond is.
pub const KIND: &str = "process";

/// Runs a program to its end, which is told in one sentence if it is bad.
pub fn run<Main>(main: impl FnOnce() -> Main) -> ExitCode
where
    Main: Future<Output = Result<(), Failure>>,
{
    let ended = Runtime::new()
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(main()));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}
