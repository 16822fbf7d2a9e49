//! Contract, clauses, mutants, models, properties and phases name each other, and the matrix in
//! `docs/conformance.md` is what they say.
//!
//! An id without a test, or a test of this suite without an id, fails here. To write the matrix anew:
//!
//! ```text
//! EVENTBUS_BLESS=1 cargo test -p conformance --test traceability
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod contract;
mod matrix;
mod source;
