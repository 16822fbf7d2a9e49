//! What several tests of the suite itself share.

pub(crate) mod pretend;
