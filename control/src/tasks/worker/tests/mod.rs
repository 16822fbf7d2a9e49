//! Unit tests of the worker: its decisions without a bus, and the whole of it on crossbeam with a clock
//! that stands still.

mod bus;
mod machine;
