//! The table of mutants: what is wrong with each, which clause it is there for, and every clause
//! that fails with it.
//!
//! One table makes the defects, their documentation and the expectations, so that none of them can
//! be forgotten.

use crate::clause::Clause;
use crate::harness::Capability;

/// Where a defect sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layer {
    /// In the bus's handles and subscriptions.
    Bus,
    /// In how the bus stands faults: [`Harness::faults`](crate::Harness::faults).
    Faults,
    /// In the front door: [`Harness::door`](crate::Harness::door).
    Door,
    /// In the comparison of two buses: [`Harness::shadow`](crate::Harness::shadow).
    Shadow,
    /// In the move to another phase: [`Harness::cutover`](crate::Harness::cutover).
    Cutover,
    /// In members, dispatchers and whoever gathers, or in what they say to each other:
    /// [`Harness::plane`](crate::Harness::plane).
    Control,
}

/// A mutant: a phase with one defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mutant {
    /// What it does wrong.
    pub defect: Defect,
    /// The same in one line.
    pub what: &'static str,
    /// Where.
    pub layer: Layer,
    /// The clause that it is there for.
    pub breaks: &'static str,
    /// Every clause that fails with it, `breaks` among them.
    pub fails: &'static [&'static str],
    /// Clauses that fail with it on some schedules, and why they do not on others.
    pub may_fail: &'static [(&'static str, &'static str)],
}

/// Clauses that go further where the phase has what they do not need.
const GO_FURTHER: &[(&str, Capability)] = &[
    ("RPC-001", Capability::Faults),
    ("RPC-008", Capability::Faults),
    ("LIF-006", Capability::Faults),
    ("OBS-002", Capability::Faults),
];

impl Mutant {
    /// Whether a run of `clause` can meet the defect. What a defect of the door, say, has no part
    /// in is the phase as it was.
    #[must_use]
    pub fn concerns(&self, clause: &Clause) -> bool {
        let outside = match self.layer {
            Layer::Bus => {
                let others = [
                    Capability::Clock,
                    Capability::Cutover,
                    Capability::Door,
                    Capability::Shadow,
                ];
                // What members, tasks and results need of a bus is other clauses' subject. So those of
                // the control plane are run where it is known that they fail: each takes its time.
                let of_another =
                    clause.needs.contains(&Capability::Control) && !self.fails.contains(&clause.id);
                return !of_another && !others.iter().any(|other| clause.needs.contains(other));
            }
            Layer::Faults if clause.needs.contains(&Capability::Clock) => Capability::Clock,
            Layer::Faults => Capability::Faults,
            Layer::Door => Capability::Door,
            Layer::Shadow => Capability::Shadow,
            Layer::Cutover => Capability::Cutover,
            Layer::Control => Capability::Control,
        };
        clause.needs.contains(&outside) || GO_FURTHER.contains(&(clause.id, outside))
    }
}

/// The mutant with this defect.
#[must_use]
pub fn mutant_of(defect: Defect) -> Option<&'static Mutant> {
    MUTANTS.iter().find(|mutant| mutant.defect == defect)
}

macro_rules! mutants {
    ($($layer:ident { $(
        $defect:ident $what:literal $breaks:literal
        $(also [$($also:literal)*])? $(may [$($may:literal: $why:literal)*])?;
    )* })*) => {
        /// What is wrong with a mutant.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Defect {
            /// Nothing.
            None,
            $($(#[doc = $what] $defect,)*)*
            /// Refuses every event. For candidates.
            RefusesAll,
            /// Panics in every publish. For candidates.
            Panics,
            /// Never returns from a publish. For candidates.
            Hangs,
            /// Never returns from a shutdown.
            NeverShutsDown,
        }

        /// Every mutant, by layer and by the clause that it is there for.
        pub static MUTANTS: &[Mutant] = &[$($(Mutant {
            defect: Defect::$defect,
            what: $what,
            layer: Layer::$layer,
            breaks: $breaks,
            fails: &[$breaks $(, $($also),*)?],
            may_fail: &[$($(($may, $why)),*)?],
        },)*)*];
    };
}

mutants! {
Bus {
    ForgetsDeepTopics "Events on topics deeper than eight segments are lost." "TOP-001";
    IgnoresPlus "`+` is taken for a segment of that name." "TOP-002"
        also ["TOP-005"];
    WidensStar "A `*` at the end of a filter takes any number of segments." "TOP-002"
        also ["TOP-005"];
    NeedsASegment "`a.#` does not match `a`, as in the broker." "TOP-003"
        also ["TOP-005"];
    ForgetsSecondStar "A filter with two `*` takes nothing." "TOP-005";
    Drops "One delivery in forty is dropped." "DEL-001"
        also ["DEL-005" "DEL-008" "DEL-009" "DEL-010" "ORD-005" "SUB-001" "SUB-003"
            "SUB-004" "SUB-005" "SUB-006" "SUB-007" "SUB-008" "SUB-009" "FLW-001"
            "FLW-002" "FLW-003" "FLW-004" "LIF-001" "LIF-002" "LIF-003" "LIF-005"
            "LIF-006" "LIF-008" "SEC-007" "FLT-001" "FLT-002" "FLT-003" "FLT-004"
            "FLT-005" "FLT-006"]
        may ["FLW-005": "on a slow machine the event that it loses there is one that may be lost"];
    Invents "After one delivery in forty comes an event that nobody published." "DEL-002"
        also ["DEL-005" "DEL-008" "DEL-009" "DEL-010" "SUB-003" "SUB-004" "SUB-007"
            "SUB-009" "FLW-001" "FLW-002" "FLW-003" "FLW-004" "LIF-002" "LIF-003"
            "FLT-001" "FLT-002" "FLT-003" "FLT-004" "FLT-005" "FLT-006"];
    Duplicates "One delivery in forty comes twice." "DEL-003"
        also ["DEL-005" "DEL-008" "DEL-009" "DEL-010" "SUB-003" "SUB-004" "SUB-005"
            "SUB-007" "SUB-009" "FLW-002" "FLW-003" "FLW-004" "FLW-005" "LIF-002"
            "LIF-003" "SEC-007" "FLT-001" "FLT-002" "FLT-003" "FLT-004" "FLT-005"
            "FLT-006"];
    DeliversRefused "What was refused for want of room comes later." "DEL-004"
        also ["FLW-001"];
    RepeatsCancelled "A publish that is cancelled happens twice." "DEL-005";
    Corrupts "One payload in forty has a byte more." "DEL-006"
        also ["FLT-001" "FLT-002" "FLT-003" "FLT-004" "FLT-005" "FLT-006"];
    StripsHeaders "Headers and correlations are lost on the way." "DEL-006"
        also ["DEL-007" "CTL-007" "CTL-008" "OBS-003" "OBS-004"];
    StopsAtNul "A payload ends at its first NUL, unless it is marked." "DEL-006"
        also ["DEL-012"];
    SwallowsLarge "An event over the size limit is taken, and goes nowhere." "DEL-007"
        also ["DEL-004" "MIG-005" "OBS-001" "OBS-002"];
    Miscounts "Subscriptions count one event too many as turned away." "DEL-008"
        also ["SUB-009"];
    CountsNoLosses "Subscriptions do not count what they lose." "DEL-008"
        also ["DEL-009" "FLW-002" "FLW-006"];
    ForgetsUnread "What is unread when a subscription ends is in no counter." "DEL-008";
    WaitsAlways "`AtMostOnce` events wait for room." "DEL-009"
        also ["SUB-008" "LIF-004" "OBS-002"]
        may ["FLW-005": "on a slow machine the mutant gives up before its turn comes"];
    WaitsThenDrops "`AtMostOnce` events wait for room until the deadline, and are dropped then." "DEL-009"
        also ["SUB-008" "OBS-002"]
        may ["LIF-004": "four of its waits are most of the time that the clause has"];
    LosesInSilence "Losses are neither counted nor told in band." "DEL-009"
        also ["DEL-008" "FLW-002" "FLW-006"];
    Overstates "Receipts count one subscription too many." "DEL-010"
        also ["SUB-002"];
    ConfirmsTooSoon "Receipts are confirmed before the event is queued." "DEL-010"
        also ["DEL-011"];
    FlushesTooSoon "A flush returns before what it is for is queued." "DEL-011";
    RereadsProtobuf "Protobuf is read and written again, without what its reader does not know." "DEL-012";
    ReordersTopic "One delivery in forty changes places with the next of its author on its topic." "ORD-001"
        also ["DEL-005" "DEL-009" "DEL-010" "ORD-002" "ORD-003" "ORD-005" "SUB-007"
            "SUB-009" "FLW-002" "FLW-005" "LIF-003" "FLT-001" "FLT-002" "FLT-003"
            "FLT-004" "FLT-005" "FLT-006"];
    ReordersTopics "One delivery in forty changes places with the next of its author, on another topic." "ORD-002"
        also ["DEL-010" "ORD-003" "ORD-005" "FLW-002" "LIF-003"];
    MixesTasks "What two tasks publish through one handle is reordered within a task." "ORD-003";
    QueuesControl "Subscribing, connecting and shutting down wait for the publishes that are under way." "ORD-004"
        also ["LIF-001"];
    ReordersAuthors "One delivery in forty comes after the next, which is another author's." "ORD-005"
        also ["DEL-010"];
    MissesBarrier "A subscription made while events flow misses its first." "SUB-001"
        also ["DEL-010" "ORD-004" "SUB-002" "FLW-003" "LIF-002"];
    OverlooksNewcomers "The first event of a handle is lost to subscriptions older than the handle." "SUB-001"
        also ["FLW-005" "LIF-002" "SEC-007"];
    OutlivesUnsubscribe "An ended subscription lives on inside." "SUB-002"
        also ["DEL-008" "SUB-005" "SUB-006" "MIG-005"];
    CopiesPerFilter "An event that two filters of a subscription take comes twice." "SUB-003"
        also ["DEL-010"];
    IgnoresExcludeOwn "A subscription that leaves out its own handle's events gets them." "SUB-004"
        also ["DEL-010"];
    SharesNames "Names of subscriptions that are in use are given out again." "SUB-005"
        also ["MIG-005"];
    HasNoLimit "There is always room for one more subscription." "SUB-006"
        also ["MIG-005"];
    HoldsUpEverybody "One publish at a time passes through a handle, however long it waits." "SUB-008"
        also ["ORD-004" "FLW-004"];
    IgnoresGates "Predicate and correlation filter are ignored." "SUB-009"
        also ["DEL-008" "FLW-003"];
    SwallowsBackpressure "A publish that found no room returns Ok." "FLW-001"
        also ["DEL-004" "FLW-003" "MIG-005" "OBS-002"];
    EntersSome "A publish that found no room in one subscription enters the others." "FLW-001";
    OverstatesWaits "A publish gives up at half its time, and says that it had it all." "FLW-001";
    HidesLosses "Losses are not told in band." "FLW-002"
        also ["DEL-008" "DEL-009"];
    MisplacesLosses "Losses are told one event too late." "FLW-002"
        also ["DEL-008" "DEL-009"];
    ConfusesOverflow "`DropNewest` drops the oldest." "FLW-002";
    Deadlocks "Publishing from inside a predicate never returns." "FLW-003";
    LosesWakeUps "A receiver with room for one event is not woken now and then." "FLW-004";
    WakesInTurn "A publish that waits for room waits for those that waited before, too." "FLW-004";
    IgnoresRate "There is no rate limit, whatever is set." "FLW-005";
    OverstaysDeadlines "A publish waits for its turn, also past its deadline." "FLW-005";
    Hoards "Every event that was offered is kept." "FLW-006";
    HoardsCrumbs "Of every event that was offered sixty-four bytes are kept." "FLW-006";
    LosesReplies "One reply in forty never comes." "RPC-001"
        also ["RPC-002" "RPC-008"];
    SwapsReplies "One call in forty gets the reply to the one before." "RPC-002"
        also ["RPC-001" "RPC-008"];
    DeliversLate "A reply that comes too late is taken by the next call." "RPC-003";
    DeniesTimeouts "A call that timed out is told to have found no room." "RPC-004"
        also ["RPC-001" "RPC-003"];
    WaitsForNobody "A call of a service that there is not ends at its deadline." "RPC-005"
        also ["RPC-008" "CTL-009"];
    MixesUnknown "A method that there is not is told to be a service that there is not." "RPC-005";
    DiesOfPanics "After a handler has panicked no call is answered." "RPC-006";
    KeepsCancelled "A call that is dropped goes on." "RPC-007"
        also ["RPC-001"];
    OutlivesCallees "A call whose callee has gone does not end." "RPC-008";
    RunsEverything "Every call that comes is handled at once." "RPC-009";
    NeverCloses "Goes on after shutdown." "LIF-001"
        also ["DEL-004" "ORD-004" "MIG-005" "OBS-002"];
    ClosesOthers "Shutting one handle down shuts the others down." "LIF-001"
        also ["ORD-004" "RPC-008" "CTL-001" "CTL-005" "CTL-009" "LIF-002" "LIF-006"
            "MIG-005"];
    SleepsWithoutRoom "A publish that waits for room sleeps through shutdown." "LIF-001"
        also ["ORD-004"];
    OutlivesItsHandle "A handle that is dropped lives on." "LIF-001"
        also ["RPC-008"];
    ForgetsAtShutdown "What is queued at shutdown is given up." "LIF-002"
        also ["ORD-004" "LIF-001"];
    SleepsThroughShutdown "A `recv` that sleeps at shutdown is not woken." "LIF-002";
    LosesCancelled "The first event after a `recv` that was given up is lost." "LIF-003"
        also ["ORD-005"];
    LeaksTask "Each handle leaves a task behind." "LIF-004";
    LeaksThread "Each handle leaves a thread behind." "LIF-004";
    LeaksFile "Each handle leaves an open file behind." "LIF-004";
    LeavesPath "A path that should be gone is there after shutdown." "LIF-004";
    NeedsARuntime "Publishing from a plain thread fails." "LIF-005";
    SharesClientNames "Names of clients that are in use are given out again." "LIF-006"
        also ["MIG-005"];
    TakesAnyName "A client may have any name." "MIG-005";
    Overcounts "The bus counts one event too many." "OBS-001";
    CountsWaits "A publisher's publish that had to wait counts as refused." "OBS-001";
    CountsNoRefusals "The bus counts no refusals." "OBS-001"
        also ["FLW-005"];
    ForgetsFamilies "The bus counts nothing by topic family." "OBS-001";
    KeepsSilent "Publishing leaves no word in the log." "OBS-002";
    StripsCalls "What a call belongs to is lost on the way." "OBS-003"
        also ["OBS-004" "RPC-002"];
}
Faults {
    ForgetsSubscriptions "A subscription misses the first event after its handle has connected again." "SUB-007"
        also ["FLT-001" "FLT-002" "FLT-004"];
    LosesCallsInResets "The first call after a connection was broken does not end." "RPC-001";
    OutlivesTheKilled "A call whose callee's process was killed does not end." "RPC-008";
    RemembersTheDead "The name of a client that was killed stays taken." "LIF-006";
    NeverNotices "The handle believes itself connected, come what may." "LIF-007";
    OpensToNothing "A bus opens where nobody listens." "LIF-008";
    SaysNothingClear "Where nobody listens, opening fails without saying so." "LIF-008";
    NeverWaits "Opening does not wait for a broker, though asked to." "LIF-008";
    LosesByTheClock "An event of the hurt handle is lost when a clock jumps." "FLT-007";
    Spins "A broker that can do nothing keeps a processor busy." "SEC-007";
    StaysStarved "A broker that was without descriptors lets nobody in any more." "SEC-007";
    LosesAtRestart "An event of the hurt handle is lost when the broker restarts." "FLT-001";
    RepeatsAfterReset "An event of the hurt handle comes again after a reset." "FLT-002";
    CountsNoReconnects "The bus does not count that it has connected again." "FLT-002";
    ReordersInPartition "Two events of the hurt handle change places in a partition." "FLT-003";
    CorruptsTorn "An event of the hurt handle is altered where bytes are torn." "FLT-004";
    WearsOut "An event of the hurt handle is lost where a fault outlasts ten pieces." "FLT-004";
    HarmsNeighbours "When a subscriber dies, the others lose an event." "FLT-005";
    MissesInSecondLife "A subscriber that starts again misses an event." "FLT-005";
    CountsResendsTwice "Each event that is sent again is counted twice." "OBS-002";
    ConfirmsUnsent "A publisher has confirmations of what it takes to its grave." "FLT-006";
}
Door {
    BaresSocket "Everybody may connect to the socket." "SEC-001";
    BaresDirectory "Everybody may look into the socket's directory." "SEC-001";
    YieldsSocket "A second broker takes the place of the first." "SEC-001";
    RemovesSocket "A second broker removes the socket of the first." "SEC-001";
    AdmitsPlain "A client without TLS is let in." "SEC-002";
    AdmitsUncertified "A client without a certificate is let in." "SEC-002";
    AdmitsForeigners "A client with another authority's certificate is let in." "SEC-002";
    AdmitsExpired "A client whose certificate has expired is let in." "SEC-002";
    LeadsAstray "A client does not see that the broker's certificate is for another name." "SEC-002";
    GivesNoReason "Who is turned away is not told why." "SEC-002"
        also ["SEC-003" "SEC-005" "SEC-006"];
    AdmitsImpostors "A client is let in under a name that its certificate is not for." "SEC-003";
    LetsGuestsPublish "A guest may publish where it may not." "SEC-004";
    LetsGuestsSubscribe "A guest may subscribe to what it may not." "SEC-004";
    DeniesSilently "What is denied is told to have been done." "SEC-004";
    AdmitsGarbage "Who sends garbage is let in." "SEC-005";
    SpillsGarbage "When garbage comes, those inside lose an event." "SEC-005";
    AdmitsEverybody "There is always room for one more connection." "SEC-006";
    AdmitsOneMore "There is room for one connection more than there should be." "SEC-006";
    AdmitsOneFewer "There is room for one connection fewer than there should be." "SEC-006";
    SpeaksLoosely "Who finds no room is told so in words alone." "SEC-006";
    KeepsRoom "The room of who has left is not given back." "SEC-006";
}
Shadow {
    ShowsCandidate "The application sees the candidate." "MIG-001"
        also ["MIG-002" "MIG-006"];
    SpreadsPanics "A panic of the candidate reaches the application." "MIG-001"
        may ["MIG-002": "an application that waits for the candidate leaves it no two events to reorder"];
    SpreadsSlowness "The application waits for the candidate." "MIG-001"
        may ["MIG-002": "an application that waits for the candidate leaves it no two events to reorder"];
    SpreadsRefusals "What the candidate refuses is refused to the application." "MIG-001"
        may ["MIG-002": "an application that waits for the candidate leaves it no two events to reorder"];
    StumblesOverCandidates "The first event after a candidate came is refused to the application." "MIG-001"
        also ["MIG-002"];
    MirrorsEffects "Every call is made on the candidate, whatever it does." "MIG-006";
    SpreadsFailures "A call that the candidate fails is failed to the application." "MIG-006";
    BlindToReplies "Other replies of the candidate are taken for the same." "MIG-006";
    ForgetsUnmirrored "Calls that are not made on the candidate are in no count." "MIG-006";
    BlindToMissing "Events that one side lacks are taken for matched." "MIG-002";
    BlindToDuplicates "Copies delivered again are not seen." "MIG-002";
    BlindToDifferences "Events that differ are taken for matched." "MIG-002";
    BlindToPhantoms "Events that nobody published are not seen." "MIG-002";
    BlindToOrder "Events out of order are taken for matched." "MIG-002";
    CountsTwice "Each duplicate is counted twice." "MIG-002";
    Cries "A divergence is reported where there is none." "MIG-002";
    LosesCount "An expected delivery is in no class." "MIG-002";
    Mislocates "Divergences are located on another topic." "MIG-002";
    ComparesTheEarlier "What was published before a candidate came is missing on it." "MIG-002";
    CountsTheSample "Only what is in the sample is counted." "MIG-002";
    CriesAtPublishers "Publishers in another order are taken for a divergence." "MIG-002";
    ReplaysOtherwise "A divergence comes out of its file as another one." "MIG-002";
}
Cutover {
    StaysPut "A bus is said to have moved, and has not." "MIG-003";
    LosesInCutover "Each subscription loses an event when the bus is moved." "MIG-003";
    RepeatsInCutover "Each subscription has an event twice when the bus is moved." "MIG-003";
    ReordersInCutover "Two events change places when the bus is moved." "MIG-003";
    EndsInCutover "Subscriptions end when the bus is moved." "MIG-003";
    RefusesInCutover "An event is refused when the bus is moved." "MIG-003";
    RenamesInCutover "A publisher is somebody else once the bus was moved." "MIG-003";
    RecountsInCutover "A publisher counts anew once the bus was moved." "MIG-003";
    ForgetsCommits "After a crash the bus starts in the phase that it had left." "MIG-004";
    CommitsTooSoon "After a crash the bus starts in the phase that it was to move to." "MIG-004";
    Wavers "After a crash each start finds the other phase." "MIG-004";
    WakesDeaf "After a crash the bus publishes in one phase and subscribes in the other." "MIG-004";
}
Control {
    ForgetsVersions "The version of a member is lost on the way." "CTL-001";
    HidesLeaving "That a member leaves is not heard." "CTL-001"
        also ["CTL-009"];
    NeverDegrades "Nobody is silent for too long." "CTL-002"
        also ["CTL-005"];
    ForgetsRecoveries "The second heartbeat of a member is lost." "CTL-002"
        also ["CTL-005"];
    AppliesTrials "What is only to be validated is applied." "CTL-003";
    AppliesHalves "A part of a configuration is not applied." "CTL-003";
    TakesOldVersions "A configuration that is not newer is applied." "CTL-003";
    ClaimsEverything "A member that can do something else claims that it can do the work." "CTL-004";
    OverfillsMembers "A member is given more than it has room for." "CTL-004";
    PilesUp "Every task goes to the member that had the first." "CTL-004"
        also ["CTL-005" "CTL-006"];
    LosesResults "That a task is done is not heard." "CTL-005"
        also ["CTL-004" "CTL-006" "CTL-008" "OBS-004"];
    GivesUpAtOnce "A task that one member does not take is given up." "CTL-005";
    MisquotesRefusals "Why a member refuses a task is told otherwise." "CTL-005";
    TakesNoOrders "A collector that does tasks takes no orders." "CTL-005";
    ForgetsWhatIsDone "A member does not remember what it has done." "CTL-006";
    HidesCancellations "A task that was given up is taken for a result." "CTL-007";
    StripsRoots "What a result belongs to is lost on the way." "CTL-007"
        also ["CTL-008" "OBS-004"];
    HoardsResults "What is gathered has no bound." "CTL-008";
    HoardsTasks "Tasks that are outstanding have no bound." "CTL-008";
    CrowdsMembers "Members have no bound." "CTL-008";
    CutsShort "A member that is to go has no time for it." "CTL-009";
    ClaimsGrace "A member that was forced to go says that it has finished." "CTL-009";
    IgnoresKinds "Members go in no order." "CTL-009";
    TearsTraces "An order for a task belongs to no trace." "OBS-004";
}
}

/// The MUST clauses that no mutant can break, and why.
pub static UNBREAKABLE: &[(&str, &str)] = &[(
    "TOP-004",
    "topics and filters are checked by their types, before any bus sees them",
)];
