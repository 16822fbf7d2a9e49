//! A phase whose front door has a defect.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use eventbus_trait::{EventBus, Limits};

use super::around::Around;
use super::layered::{Layered, layered};
use super::shared::Shared;
use super::{Defect, MutantBus, MutantHarness};
use crate::harness::{Answer, Caller, DoorHarness, DoorRig, Refusal, Rig};

#[async_trait]
impl DoorHarness for MutantHarness {
    async fn start_door(
        &self,
        limits: Limits,
        connections: usize,
    ) -> Result<Box<dyn DoorRig>, String> {
        let Some(door) = self.inner.door() else {
            return Err("the phase has no front door".to_owned());
        };
        let connections = match self.defect {
            Defect::AdmitsEverybody => connections * 10,
            Defect::AdmitsOneMore => connections + 1,
            Defect::AdmitsOneFewer => connections - 1,
            _ => connections,
        };
        let inner = door.start_door(limits, connections).await?;
        let shared = self.shared();
        if let Some(socket) = inner.socket() {
            match self.defect {
                Defect::BaresSocket => bare(&socket, 0o666)?,
                Defect::BaresDirectory => bare(socket.parent().unwrap_or(&socket), 0o755)?,
                _ => {}
            }
        }
        let bus = MutantBus::with(inner.bus(), &shared);
        let full = AtomicBool::new(false);
        Ok(Box::new(MutantDoorRig {
            inner,
            bus,
            shared,
            full,
        }))
    }

    fn has_socket(&self) -> bool {
        self.inner.door().is_some_and(DoorHarness::has_socket)
    }

    fn has_tls(&self) -> bool {
        self.inner.door().is_some_and(DoorHarness::has_tls)
    }
}

#[cfg(unix)]
fn bare(path: &Path, mode: u32) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt as _;
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, permissions).map_err(|error| error.to_string())
}

#[cfg(not(unix))]
fn bare(_: &Path, _: u32) -> Result<(), String> {
    Err("files have no modes here".to_owned())
}

struct MutantDoorRig {
    inner: Box<dyn DoorRig>,
    bus: Arc<MutantBus>,
    shared: Arc<Shared>,
    /// Whether somebody was turned away for want of room.
    full: AtomicBool,
}

impl Around for MutantDoorRig {
    fn inner(&self) -> &dyn Rig {
        &*self.inner
    }

    fn shown(&self) -> Arc<dyn EventBus> {
        Arc::clone(&self.bus) as Arc<dyn EventBus>
    }
}

impl MutantDoorRig {
    /// Who is let in as if it were a member.
    fn admits(&self, caller: &Caller) -> bool {
        use Defect as D;
        matches!(
            (self.shared.defect, caller),
            (D::AdmitsPlain, Caller::Plain)
                | (D::AdmitsUncertified, Caller::NoCertificate)
                | (D::AdmitsForeigners, Caller::ForeignAuthority)
                | (D::AdmitsExpired, Caller::Expired)
                | (D::LeadsAstray, Caller::WrongServerName)
                | (D::AdmitsImpostors, Caller::AnothersName)
                | (D::AdmitsGarbage, Caller::Bytes(_))
        )
    }

    async fn come_inside(&self, caller: Caller) -> Result<Answer, String> {
        let inner = &self.inner;
        let spilt = self.shared.defect == Defect::SpillsGarbage;
        if spilt && matches!(caller, Caller::Bytes(_)) {
            self.shared.arm();
        }
        if self.admits(&caller) {
            return inner.come(Caller::Member).await;
        }
        let both = [Defect::LetsGuestsPublish, Defect::LetsGuestsSubscribe];
        if caller == Caller::Guest && both.contains(&self.shared.defect) {
            let guest = inner.come(Caller::Guest).await?;
            let member = inner.come(Caller::Member).await?;
            return Ok(match (guest, member) {
                (Answer::In(guest), Answer::In(member)) => Answer::In(self.promoted(guest, member)),
                (guest, _) => guest,
            });
        }
        inner.come(caller).await
    }

    fn promoted(&self, guest: Arc<dyn EventBus>, member: Arc<dyn EventBus>) -> Arc<dyn EventBus> {
        let (publishes, subscribes) = match self.shared.defect {
            Defect::LetsGuestsPublish => (member, guest),
            _ => (guest, member),
        };
        layered(Promoted {
            publishes,
            subscribes,
        })
    }
}

/// A guest that is a member in one respect.
struct Promoted {
    publishes: Arc<dyn EventBus>,
    subscribes: Arc<dyn EventBus>,
}

impl Layered for Promoted {
    fn inner(&self) -> &Arc<dyn EventBus> {
        &self.publishes
    }

    fn subscribes_on(&self) -> &Arc<dyn EventBus> {
        &self.subscribes
    }
}

#[async_trait]
impl DoorRig for MutantDoorRig {
    async fn come(&self, caller: Caller) -> Result<Answer, String> {
        let keeps = self.shared.defect == Defect::KeepsRoom;
        if keeps && self.full.load(Ordering::SeqCst) {
            return Ok(Answer::Out("too many connections".to_owned().into()));
        }
        Ok(match self.come_inside(caller).await? {
            Answer::In(bus) => Answer::In(MutantBus::with(bus, &self.shared)),
            Answer::Out(_) if self.shared.defect == Defect::GivesNoReason => {
                Answer::Out(String::new().into())
            }
            Answer::Out(Refusal::Connect(error)) if self.shared.defect == Defect::SpeaksLoosely => {
                Answer::Out(error.to_string().into())
            }
            Answer::Out(reason) => {
                self.full.store(true, Ordering::SeqCst);
                Answer::Out(reason)
            }
            other => other,
        })
    }

    fn socket(&self) -> Option<PathBuf> {
        self.inner.socket()
    }

    async fn second_broker(&self) -> Result<(), String> {
        match (self.shared.defect, self.socket()) {
            (Defect::YieldsSocket, _) => return Ok(()),
            (Defect::RemovesSocket, Some(socket)) => {
                std::fs::remove_file(socket).map_err(|error| error.to_string())?;
            }
            _ => {}
        }
        self.inner.second_broker().await
    }
}
