//! How the parts of the control plane are started on a phase.
//!
//! What a clause says of members, tasks and results is kept by the bus and by the crate `control`
//! together. A defect of the first is a wrapper around the bus; one of the second is a part that was
//! started otherwise than the clause wanted it: here.

use control::shutdown::Coordinator;
use control::tasks::worker;
use control::{collector, dispatch, registry, results};

/// Starts the parts of the control plane as a clause wants them, unless it says otherwise.
pub trait Plane: Send + Sync {
    /// What a registry goes by.
    fn rules(&self, wanted: registry::Rules) -> registry::Rules {
        wanted
    }

    /// Bounds of a dispatcher.
    fn dispatcher(&self, wanted: dispatch::Options) -> dispatch::Options {
        wanted
    }

    /// Bounds of a worker.
    fn worker(&self, wanted: worker::Options) -> worker::Options {
        wanted
    }

    /// How a collector is served.
    fn host(&self, wanted: collector::Options) -> collector::Options {
        wanted
    }

    /// Bounds of a gatherer.
    fn gather(&self, wanted: results::Options) -> results::Options {
        wanted
    }

    /// Members of the kind `first` end before those of the kind `then`.
    fn before(&self, coordinator: Coordinator, first: &str, then: &str) -> Coordinator {
        coordinator.before(first, then)
    }
}

/// All parts as they are wanted.
pub(crate) struct AsWanted;

impl Plane for AsWanted {}
