//! What a backend supplies so that the clauses can run on it.
//!
//! The clauses know the bus by its trait alone. Everything that differs from backend to backend
//! (how a bus is started, what it cannot do, what it does not hold yet) is said here, by the
//! backend's author, and shown in the table.

mod cutover;
mod door;
mod faults;
mod plane;
mod refusal;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use eventbus_trait::{EventBus, Limits};

pub use cutover::{Course, CutoverHarness, CutoverRig, Steps, Wreck};
pub use door::{Answer, Caller, DoorHarness, DoorRig};
pub use faults::{Fault, FaultHarness, FaultRig, Opening, Peer, Way};
pub(crate) use plane::AsWanted;
pub use plane::Plane;
pub use refusal::Refusal;

/// A clause that a phase does not hold yet, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiver {
    /// The clause's id, such as `SUB-007`.
    pub id: &'static str,
    /// Why, in words that a reader of the table would accept.
    pub reason: &'static str,
}

/// What a clause may need and a phase may not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Capability {
    /// Several handles of one bus, by [`EventBus::connect`].
    SeveralHandles,
    /// Two buses behind one, compared: [`Harness::shadow`].
    Shadow,
    /// A bus that can be moved to another phase while it is in use: [`Harness::cutover`].
    Cutover,
    /// A broker in another process and connections that can be hurt: [`Harness::faults`].
    Faults,
    /// Processes whose wall clock can be turned: [`FaultHarness::turns_clocks`].
    Clock,
    /// A front door of its own, which decides who comes in: [`Harness::door`].
    Door,
    /// A front door that is a socket in the file system: [`DoorHarness::has_socket`].
    Socket,
    /// A front door with TLS: [`DoorHarness::has_tls`].
    Tls,
    /// Request and reply, by [`EventBus::serve`] and [`EventBus::call`].
    Calls,
    /// Members, tasks and results over it: of no use without `SeveralHandles` and `Calls`.
    Control,
    /// A process of which can be seen what it holds: on Linux.
    Proc,
}

impl Capability {
    /// What is missing in a phase that lacks it.
    #[must_use]
    pub fn lack(self) -> &'static str {
        match self {
            Self::SeveralHandles => "the phase has one handle only",
            Self::Shadow => "the phase doubles nothing",
            Self::Cutover => "the phase is not moved to another",
            Self::Faults => "the phase has no connection that could fail",
            Self::Clock => {
                "no process of the phase has a clock that can be turned: there is none, or the \
                 package `libfaketime` is not installed"
            }
            Self::Door => "the phase has no front door",
            Self::Socket => "the phase has no socket file",
            Self::Tls => "the phase has no TLS, and no certificates to bind a name to",
            Self::Calls => "the phase has no request and reply",
            Self::Control => "the phase is not for members, tasks and results",
            Self::Proc => "what a process holds is read from /proc",
        }
    }
}

/// A phase under test: starts buses of one backend.
///
/// Put one in `main` of a test with `harness = false` and give it to [`run`](crate::run).
#[async_trait]
pub trait Harness: Send + Sync {
    /// The phase: the first half of each test's name.
    fn name(&self) -> &str;

    /// Starts a bus that shares nothing with any other one, and keeps `limits`.
    ///
    /// # Errors
    /// In words, why no bus could be started; the clause fails with them.
    async fn start(&self, limits: Limits) -> Result<Box<dyn Rig>, String>;

    /// What is tested, by name and version, such as `crossbeam-backend 0.1.0`: for the certificate.
    fn backend(&self) -> Option<String> {
        None
    }

    /// Whether the models that are explored beside the suite are of the phase's concurrent parts:
    /// its certificate lists them then, and else none.
    fn is_modelled(&self) -> bool {
        false
    }

    /// A client name that handles of the phase may have: `collector`.
    fn client_name(&self) -> &str {
        "collector"
    }

    /// Whether the phase has `capability`. A clause that needs one that is missing is not
    /// applicable; one that finds out only by itself that it is missing is inconclusive.
    fn has(&self, capability: Capability) -> bool {
        match capability {
            Capability::SeveralHandles | Capability::Calls | Capability::Control => true,
            Capability::Shadow => self.shadow().is_some(),
            Capability::Cutover => self.cutover().is_some(),
            Capability::Faults => self.faults().is_some(),
            Capability::Clock => self.faults().is_some_and(FaultHarness::turns_clocks),
            Capability::Door => self.door().is_some(),
            Capability::Socket => self.door().is_some_and(DoorHarness::has_socket),
            Capability::Tls => self.door().is_some_and(DoorHarness::has_tls),
            Capability::Proc => cfg!(target_os = "linux"),
        }
    }

    /// Why a clause that needs `capability`, which is missing, does not apply.
    fn lack(&self, capability: Capability) -> &'static str {
        capability.lack()
    }

    /// The clauses that the phase does not hold yet.
    fn waivers(&self) -> Vec<Waiver> {
        Vec::new()
    }

    /// The phase as a doubling one, for MIG-001 and MIG-002.
    fn shadow(&self) -> Option<&dyn ShadowHarness> {
        None
    }

    /// The phase as one that is moved to another, for MIG-003 and MIG-004.
    fn cutover(&self) -> Option<&dyn CutoverHarness> {
        None
    }

    /// The phase as one that can be hurt, for the FLT clauses and some of LIF.
    fn faults(&self) -> Option<&dyn FaultHarness> {
        None
    }

    /// The phase as one with a front door, for the SEC clauses.
    fn door(&self) -> Option<&dyn DoorHarness> {
        None
    }

    /// How the parts of the control plane are started on the phase: as the CTL clauses want them.
    fn plane(&self) -> &dyn Plane {
        &AsWanted
    }
}

/// A started bus, with what the harness keeps alive for it.
#[async_trait]
pub trait Rig: Send + Sync {
    /// The first handle. Clauses get more by [`EventBus::connect`].
    fn bus(&self) -> Arc<dyn EventBus>;

    /// Waits until nothing is on its way any more, where the phase can tell. Clauses do not rely
    /// on it: they send fences through the bus and wait for those.
    async fn quiesce(&self) {}

    /// What the phase itself finds wrong at the end of a clause: a shadow's divergences.
    ///
    /// # Errors
    /// In words, what is wrong; the clause fails with them.
    async fn judge(&self) -> Result<(), String> {
        Ok(())
    }

    /// Paths that must be gone once every handle is shut down (LIF-004).
    fn paths(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

/// Puts another bus around the candidate of a shadow.
pub type Wrap = Box<dyn FnOnce(Arc<dyn EventBus>) -> Arc<dyn EventBus> + Send>;

/// A phase that doubles traffic to a candidate.
#[async_trait]
pub trait ShadowHarness: Send + Sync {
    /// Starts a shadow as [`Harness::start`] does, with `wrap` around its candidate.
    ///
    /// # Errors
    /// In words, why no bus could be started.
    async fn start_shadow(&self, limits: Limits, wrap: Wrap) -> Result<Box<dyn ShadowRig>, String>;
}

/// A started shadow.
#[async_trait]
pub trait ShadowRig: Rig {
    /// Waits until every delivery has been classified, or for `patience` at most, and counts.
    async fn compare(&self, patience: Duration) -> Comparison;

    /// Takes the candidate away, while the bus is in use: waits as [`compare`](Self::compare) does,
    /// and counts. Afterwards there is none until [`attach`](Self::attach).
    async fn detach(&self, patience: Duration) -> Comparison;

    /// Brings another candidate, with `wrap` around it, while the bus is in use. The comparison
    /// begins anew.
    ///
    /// # Errors
    /// In words, why there is none.
    async fn attach(&self, wrap: Wrap, depth: Depth) -> Result<(), String>;

    /// Makes the verdicts in a file of divergences again.
    ///
    /// # Errors
    /// In words, why it cannot be read.
    async fn replay(&self, file: &Path) -> Result<Replayed, String>;
}

/// How closely a shadow looks.
#[derive(Debug, Clone, PartialEq)]
pub struct Depth {
    /// The share of the events of which the contents are compared.
    pub sample: f64,
    /// Where every divergence is written.
    pub file: Option<PathBuf>,
}

impl Default for Depth {
    fn default() -> Self {
        Self {
            sample: 1.0,
            file: None,
        }
    }
}

/// What came of the divergences in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replayed {
    /// Those that came out as they were told.
    pub reproduced: u64,
    /// Those that did not.
    pub otherwise: u64,
}

/// What a shadow counted. Each expected delivery is in exactly one of the classes from `matched` to
/// `in_flight`; duplicates and phantoms come beyond those.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Comparison {
    /// Deliveries that both sides owe.
    pub expected: u64,
    /// Delivered by both, alike and in order.
    pub matched: u64,
    /// Of these, those whose contents were left out by sampling.
    pub unsampled: u64,
    /// Left out of the comparison on purpose.
    pub ignored: u64,
    /// Not delivered by one side.
    pub missing: u64,
    /// Delivered when it had been given up.
    pub late: u64,
    /// Delivered after a later one of its stream.
    pub reordered: u64,
    /// Delivered by both with different content.
    pub differs: u64,
    /// Not compared, for want of room or time.
    pub unverified: u64,
    /// Not classified yet.
    pub in_flight: u64,
    /// Copies delivered again.
    pub duplicate: u64,
    /// Deliveries of what nobody published.
    pub phantom: u64,
    /// Neighbours of different publishers that were told the other way round, which is no divergence.
    pub inverted: u64,
    /// What became of calls.
    pub calls: Mirroring,
    /// Where the first divergences are: topic, and sequence of the publisher.
    pub places: Vec<(String, u64)>,
}

/// What a shadow counted of the calls that ended on the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mirroring {
    /// All.
    pub made: u64,
    /// Not marked idempotent, so not made on the candidate.
    pub unmirrored: u64,
    /// The candidate answered alike.
    pub same: u64,
    /// The candidate answered something else.
    pub differs: u64,
    /// The candidate did not answer.
    pub failed: u64,
    /// Not compared, for another reason.
    pub not_compared: u64,
}

impl Mirroring {
    /// Whether every call is in exactly one of the others.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        let compared = self.same + self.differs + self.failed;
        self.made == self.unmirrored + compared + self.not_compared
    }
}

impl Comparison {
    /// Divergences, of all kinds.
    #[must_use]
    pub fn divergences(&self) -> u64 {
        self.missing + self.late + self.reordered + self.differs + self.duplicate + self.phantom
    }

    /// Whether every expected delivery is in exactly one class.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        let diverged = self.missing + self.late + self.reordered + self.differs;
        let compared = self.matched + self.ignored + diverged;
        self.expected == compared + self.unverified + self.in_flight
    }
}
