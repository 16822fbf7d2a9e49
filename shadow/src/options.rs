//! What a shadow run may use, and how patient it is.

use std::sync::Arc;
use std::time::Duration;

use crate::hooks::{Compare, Hooks, Ignore, Redact, Sample};
use crate::noise::NoiseFloor;
use crate::queue::Queue;
use crate::record::DivergenceFile;
use crate::sabotage::SabotageBus;

/// What happens to an event that finds the queue to the candidate full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WhenFull {
    /// The candidate does not get it and its deliveries are told as unverified. The application
    /// never waits for the candidate.
    #[default]
    Unverified,
    /// Publishing waits until there is room, so that everything is compared. **The candidate can
    /// hold the application up**, for ever if it hangs: for test drives, not for production.
    /// `publish` waits for room, for its turn among the publishers of a topic, and `subscribe`
    /// for the candidate's subscription; `try_publish` says `Full` instead.
    Wait,
}

/// Bounds and patience of a shadow run.
///
/// ```
/// use shadow::{ShadowOptions, WhenFull};
/// let options = ShadowOptions {
///     when_full: WhenFull::Wait,
///     ..ShadowOptions::default()
/// };
/// # let _ = options;
/// ```
#[derive(Debug, Clone)]
pub struct ShadowOptions {
    /// Events that may wait for the candidate: 65,536. An event counts once for each KiB that it
    /// begins, so this bounds the memory as well.
    pub queue: usize,
    /// What happens when that queue is full.
    pub when_full: WhenFull,
    /// How long the candidate may be at one event while others wait before the queue counts as full:
    /// 1 s. That is looked at every 256 events. It is given events again once it has worked off what
    /// waits. With [`WhenFull::Wait`] its publishers wait instead.
    pub stall: Duration,
    /// How long an event may take after a later one of its stream came instead: 2 s. After that it
    /// is missing, or late if it still comes.
    pub grace: Duration,
    /// How long the candidate may deliver nothing to a subscription, markers included, before what
    /// it owes there is missing: 10 s. A candidate that stands still for less is slow, not wrong.
    pub silence: Duration,
    /// Calls that may be under way on the candidate: 512. A call counts once for each KiB of request
    /// and reply that it begins. What finds no room is not compared.
    pub mirrored_calls: usize,
    /// Most deliveries remembered of one stream (publisher, topic, subscription): 131,072.
    pub window: usize,
    /// Most streams of one subscription: 65,536.
    pub max_streams: usize,
    /// Capacity of the subscriptions on the candidate, which are drained all the time: 65,536.
    pub candidate_capacity: usize,
    /// Most divergences that the report lists; all are counted: 100.
    pub max_divergences: usize,
    /// Share of the expected deliveries that may be unverified for an unexplained reason in a
    /// verdict of match: 0.
    pub unverified_limit: f64,
    /// What two primaries differ by, if that was measured: then latency and order across publishers
    /// are part of the verdict, by the two limits that follow. Else they are told and not judged.
    pub noise_floor: Option<NoiseFloor>,
    /// How many times the noise floor's ratio the candidate's median latency may be of the
    /// primary's: 10.
    pub latency_limit: f64,
    /// By how much the rate of inversions across publishers may be above the noise floor's: 0.05.
    pub inversion_limit: f64,
    /// How long `shutdown` waits for the candidate, and then again for its thread: 1 s.
    pub shutdown_wait: Duration,
    /// Events that the comparison leaves alone; both sides get them.
    pub ignore: Option<Ignore>,
    /// Of which events the contents are compared: all. What is delivered, and in which order, is
    /// compared of every event.
    pub sample: Option<Sample>,
    /// Which payloads are alike that differ in their bytes: none.
    pub compare: Option<Compare>,
    /// What is shown of events that diverged: nothing.
    pub redact: Option<Redact>,
    /// Where every divergence is written, with the events around it: nowhere.
    pub divergence_file: Option<DivergenceFile>,
    /// The bus that misbehaves on purpose, if the candidate is one: the report then says how many
    /// divergences it injected.
    pub sabotage: Option<Arc<SabotageBus>>,
}

impl ShadowOptions {
    pub(crate) fn queue(&self) -> Queue {
        let queue = Queue::new(self.queue);
        match self.when_full {
            WhenFull::Unverified => queue.stall(self.stall),
            WhenFull::Wait => queue,
        }
    }

    /// What a comparison of contents asks.
    pub(crate) fn hooks(&self) -> Hooks<'_> {
        Hooks {
            compare: self.compare.as_ref(),
            redact: self.redact.as_ref(),
        }
    }
}

impl Default for ShadowOptions {
    fn default() -> Self {
        Self {
            queue: 65_536,
            when_full: WhenFull::default(),
            stall: Duration::from_secs(1),
            grace: Duration::from_secs(2),
            silence: Duration::from_secs(10),
            mirrored_calls: 512,
            window: 131_072,
            max_streams: 65_536,
            candidate_capacity: 65_536,
            max_divergences: 100,
            unverified_limit: 0.0,
            noise_floor: None,
            latency_limit: 10.0,
            inversion_limit: 0.05,
            shutdown_wait: Duration::from_secs(1),
            ignore: None,
            sample: None,
            compare: None,
            redact: None,
            divergence_file: None,
            sabotage: None,
        }
    }
}
