//! Unit tests of the dispatcher: its decisions without a bus, and the whole of it on crossbeam with
//! workers, a registry and a clock that stands still.

mod bus;
mod decisions;
mod machine;
