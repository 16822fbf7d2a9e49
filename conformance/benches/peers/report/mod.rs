//! What a run found, and the documents made of it. Nothing here measures, so that a test can make
//! the documents again from the stored results and compare.

pub(crate) mod document;
mod grid;
mod plot;
mod prose;
pub(crate) mod results;
