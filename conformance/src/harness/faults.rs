//! What a backend supplies so that the clauses can hurt it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use eventbus_trait::{EventBus, Limits};

use super::{Refusal, Rig};

/// A direction between a bus handle and its broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// From the handle to the broker.
    Up,
    /// From the broker to the handle.
    Down,
}

/// What can be done to the connection of the first handle, or to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The broker's process is killed. Healing starts another one at the same place.
    BrokerKilled,
    /// The connection is reset, once.
    Reset,
    /// Nothing passes, in either direction, until it is healed. No socket is closed.
    Partition,
    /// Nothing passes in this direction until it is healed.
    HalfPartition(Way),
    /// Everything comes later until it is healed.
    Delay,
    /// Everything comes a few bytes at a time until it is healed.
    Trickle,
    /// The wall clock of the broker, and of other processes, is so many hours off until it is
    /// healed. Only a bus that was started with such a clock has it.
    ClockJump {
        /// Ahead, or behind if negative.
        hours: i32,
    },
    /// The broker's process can open nothing any more until it is healed.
    NoDescriptors,
    /// What is sent this way next is cut in the middle, and the connection reset.
    Torn(Way),
}

impl Fault {
    /// Whether the handle has to connect again after it, however short it was.
    #[must_use]
    pub fn breaks_the_connection(self) -> bool {
        matches!(self, Self::BrokerKilled | Self::Reset | Self::Torn(_))
    }
}

/// How another handle is opened.
#[derive(Debug, Clone, Default)]
pub struct Opening {
    /// Under this client name.
    pub name: Option<String>,
    /// Waiting for a broker that is not there.
    pub wait: bool,
    /// Giving up after this time, instead of the phase's own.
    pub within: Option<Duration>,
}

/// A phase whose broker is another process, and whose connections can be hurt.
#[async_trait]
pub trait FaultHarness: Send + Sync {
    /// Starts a bus as [`Harness::start`](super::Harness::start) does, with a broker in a process
    /// of its own, and something between it and the first handle that can hurt their connection.
    ///
    /// # Errors
    /// In words, why no bus could be started.
    async fn start_faulty(&self, limits: Limits) -> Result<Box<dyn FaultRig>, String>;

    /// Whether [`start_by_a_clock`](Self::start_by_a_clock) can be done here.
    fn turns_clocks(&self) -> bool {
        false
    }

    /// Whether it could be done where the tools for it are installed.
    fn could_turn_clocks(&self) -> bool {
        self.turns_clocks()
    }

    /// As [`start_faulty`](Self::start_faulty), with a broker and other processes whose wall clock
    /// can be turned.
    ///
    /// # Errors
    /// In words, why no bus could be started.
    async fn start_by_a_clock(&self, limits: Limits) -> Result<Box<dyn FaultRig>, String> {
        let _ = limits;
        Err("the phase's processes have no clock that could be turned".to_owned())
    }
}

/// A started bus that can be hurt.
#[async_trait]
pub trait FaultRig: Rig {
    /// Another bus at the same broker, whose connection is not hurt.
    ///
    /// # Errors
    /// What opening said.
    async fn open(&self, opening: Opening) -> Result<Arc<dyn EventBus>, Refusal>;

    /// Strikes. What is to strike what is sent next may not have struck when this returns:
    /// [`struck`](Self::struck) tells.
    ///
    /// # Errors
    /// In words, why it could not.
    async fn strike(&self, fault: Fault) -> Result<(), String>;

    /// Ends whatever lasts.
    ///
    /// # Errors
    /// In words, why it could not.
    async fn heal(&self) -> Result<(), String>;

    /// How often faults have really touched something: a process that ran, bytes or connections
    /// that were there.
    fn struck(&self) -> u64;

    /// In how many pieces something has gone this way, between the first handle and the broker, so
    /// far: writes of whatever stands between them, or what comes closest.
    fn pieces(&self, way: Way) -> u64;

    /// The keepalive of the handles.
    fn keepalive(&self) -> Duration;

    /// The CPU time that the broker's process has used up to now, if that can be told.
    fn broker_cpu(&self) -> Option<Duration> {
        None
    }

    /// Another process on the bus, which plays [`play`](crate::peer::play).
    ///
    /// # Errors
    /// In words, why there is none.
    async fn start_peer(&self, part: crate::peer::Part) -> Result<Box<dyn Peer>, String>;
}

/// Another process.
pub trait Peer: Send {
    /// Kills it, without a chance to say anything. What it had said can still be asked for.
    fn kill(&mut self);

    /// The lines that it has said since it was last asked; of one that was killed, all that are
    /// left.
    fn said(&mut self) -> Vec<String>;
}
