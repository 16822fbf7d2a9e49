//! A phase that can be hurt, and that has a defect: in its buses, or in how it stands the faults.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use eventbus_trait::{EventBus, Limits};
use parking_lot::Mutex;

use super::around::Around;
use super::shared::Shared;
use super::{Defect, MutantBus, MutantHarness};
use crate::harness::{Fault, FaultHarness, FaultRig, Opening, Peer, Refusal, Rig, Way};
use crate::history::Op;
use crate::peer::Part;

#[async_trait]
impl FaultHarness for MutantHarness {
    async fn start_faulty(&self, limits: Limits) -> Result<Box<dyn FaultRig>, String> {
        let Some(faults) = self.inner.faults() else {
            return Err("the phase has nothing to hurt".to_owned());
        };
        Ok(self.hurt(faults.start_faulty(limits).await?))
    }

    fn turns_clocks(&self) -> bool {
        // Seconds of publishing as fast as can be would show no more of a bus than its other faults.
        let turns = self.inner.faults().is_some_and(FaultHarness::turns_clocks);
        turns && self.layer == super::Layer::Faults
    }

    async fn start_by_a_clock(&self, limits: Limits) -> Result<Box<dyn FaultRig>, String> {
        let Some(faults) = self.inner.faults() else {
            return Err("the phase has nothing to hurt".to_owned());
        };
        Ok(self.hurt(faults.start_by_a_clock(limits).await?))
    }
}

impl MutantHarness {
    fn hurt(&self, inner: Box<dyn FaultRig>) -> Box<dyn FaultRig> {
        let shared = self.shared();
        shared.hurts(inner.bus().publisher_id());
        let bus = MutantBus::with(inner.bus(), &shared);
        let dead = Mutex::default();
        Box::new(MutantFaultRig {
            inner,
            bus,
            shared,
            dead,
            began: Instant::now(),
            lived: AtomicBool::new(false),
            struck_at: Mutex::default(),
            last: Mutex::default(),
        })
    }
}

/// How many pieces a mutant that wears out stands.
const PATIENCE: u64 = 10;

struct MutantFaultRig {
    inner: Box<dyn FaultRig>,
    bus: Arc<MutantBus>,
    shared: Arc<Shared>,
    /// Names of clients in other processes.
    dead: Mutex<Vec<String>>,
    began: Instant,
    /// Whether there was a subscriber in another process.
    lived: AtomicBool,
    /// Pieces that had gone up before the fault that lasts.
    struck_at: Mutex<Option<u64>>,
    /// The last fault.
    last: Mutex<Option<Fault>>,
}

impl Around for MutantFaultRig {
    fn inner(&self) -> &dyn Rig {
        &*self.inner
    }

    fn shown(&self) -> Arc<dyn EventBus> {
        Arc::clone(&self.bus) as Arc<dyn EventBus>
    }
}

#[async_trait]
impl FaultRig for MutantFaultRig {
    async fn open(&self, opening: Opening) -> Result<Arc<dyn EventBus>, Refusal> {
        let last = *self.last.lock();
        if self.shared.defect == Defect::StaysStarved && last == Some(Fault::NoDescriptors) {
            return Err("no descriptors".to_owned().into());
        }
        let (named, waits) = (opening.name.clone(), opening.wait);
        if named.is_some_and(|name| self.dead.lock().contains(&name)) {
            return Err("the name is in use".to_owned().into());
        }
        let opening = match self.shared.defect {
            Defect::NeverWaits => Opening {
                wait: false,
                ..opening
            },
            _ => opening,
        };
        let bus = match (self.inner.open(opening).await, self.shared.defect) {
            (Ok(bus), _) => bus,
            (Err(_), Defect::OpensToNothing) if !waits && last == Some(Fault::BrokerKilled) => {
                self.inner.bus()
            }
            (Err(_), Defect::SaysNothingClear) => {
                return Err("nothing answers, in words alone".to_owned().into());
            }
            (Err(error), _) => return Err(error),
        };
        Ok(MutantBus::with(bus, &self.shared))
    }

    async fn strike(&self, fault: Fault) -> Result<(), String> {
        let sets_off = match self.shared.defect {
            Defect::ForgetsSubscriptions => fault.breaks_the_connection(),
            Defect::LosesAtRestart => fault == Fault::BrokerKilled,
            Defect::RepeatsAfterReset => fault == Fault::Reset,
            Defect::ReordersInPartition => {
                matches!(fault, Fault::Partition | Fault::HalfPartition(_))
            }
            Defect::LosesByTheClock => matches!(fault, Fault::ClockJump { .. }),
            Defect::CorruptsTorn => matches!(fault, Fault::Torn(_)),
            _ => false,
        };
        *self.struck_at.lock() = Some(self.inner.pieces(Way::Up));
        self.inner.strike(fault).await?;
        *self.last.lock() = Some(fault);
        if self.shared.defect == Defect::LosesCallsInResets && fault.breaks_the_connection() {
            self.shared.calls_armed.store(true, Ordering::SeqCst);
        }
        if sets_off {
            self.shared.arm();
        }
        Ok(())
    }

    async fn heal(&self) -> Result<(), String> {
        *self.struck_at.lock() = None;
        self.inner.heal().await
    }

    fn struck(&self) -> u64 {
        self.inner.struck()
    }

    fn keepalive(&self) -> Duration {
        self.inner.keepalive()
    }

    fn pieces(&self, way: Way) -> u64 {
        let pieces = self.inner.pieces(way);
        if self.shared.defect == Defect::WearsOut && way == Way::Up {
            let mut struck_at = self.struck_at.lock();
            if struck_at.is_some_and(|before| pieces >= before + PATIENCE) {
                *struck_at = None;
                self.shared.arm();
            }
        }
        pieces
    }

    fn broker_cpu(&self) -> Option<Duration> {
        match self.shared.defect {
            Defect::Spins => Some(self.began.elapsed()),
            _ => self.inner.broker_cpu(),
        }
    }

    async fn start_peer(&self, part: Part) -> Result<Box<dyn Peer>, String> {
        let inner = self.inner.start_peer(part.clone()).await?;
        if self.shared.defect == Defect::RemembersTheDead {
            self.dead
                .lock()
                .extend(part.client_name().map(str::to_owned));
        }
        let shared = Arc::clone(&self.shared);
        let subscribes = part.subscription().is_some();
        let reborn = subscribes && self.lived.swap(true, Ordering::SeqCst);
        Ok(Box::new(MutantPeer {
            inner,
            part,
            shared,
            heard: 0,
            reborn,
        }))
    }
}

/// Another process, whose words are not always what it said.
struct MutantPeer {
    inner: Box<dyn Peer>,
    part: Part,
    shared: Arc<Shared>,
    heard: u64,
    /// Whether another subscriber was there before it.
    reborn: bool,
}

/// How far behind what a publisher sends the event is that it never sends.
const UNSENT: u64 = 1_000_000;

impl Peer for MutantPeer {
    fn kill(&mut self) {
        self.inner.kill();
        let subscribed = matches!(self.part, Part::Subscriber { .. });
        let serves = matches!(self.part, Part::Callee { .. });
        let armed = serves && self.shared.defect == Defect::OutlivesTheKilled;
        self.shared.calls_armed.fetch_or(armed, Ordering::SeqCst);
        if subscribed && self.shared.defect == Defect::HarmsNeighbours {
            self.shared.arm();
        }
    }

    fn said(&mut self) -> Vec<String> {
        let mut said = self.inner.said();
        match self.shared.defect {
            Defect::ConfirmsUnsent => {
                let first = said.iter().find_map(|line| match line.parse() {
                    Ok(Op::Invoke(publication)) => Some(publication),
                    _ => None,
                });
                if let Some(mut unsent) = first.filter(|_| self.heard == 0) {
                    self.heard += 1;
                    unsent.mark.sequence += UNSENT;
                    let accepted = Op::Accepted(unsent.mark);
                    said.extend([Op::Invoke(unsent).to_string(), accepted.to_string()]);
                }
            }
            Defect::MissesInSecondLife if self.reborn => said.retain(|_| {
                self.heard += 1;
                self.heard != super::EVERY
            }),
            _ => {}
        }
        said
    }
}
