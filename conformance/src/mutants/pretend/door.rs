//! A pretended front door: whoever comes is taken for what it says it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use eventbus_trait::{
    ConnectError, Event, EventBus, Limits, PublishError, PublisherId, Subscribe, SubscribeError,
    TopicFilter,
};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Pretend;
use crate::harness::{Answer, Caller, DoorHarness, DoorRig, Rig};
use crate::mutants::layered::{Layered, layered};

/// What a guest may publish and subscribe to.
const OPEN: &str = "open.#";

#[async_trait]
impl DoorHarness for Pretend {
    async fn start_door(
        &self,
        limits: Limits,
        connections: usize,
    ) -> Result<Box<dyn DoorRig>, String> {
        let rig = self.inner.start(limits).await?;
        let place = Place::new().map_err(|error| error.to_string())?;
        let room = Arc::new(Semaphore::new(connections));
        let own = Arc::clone(&room).try_acquire_owned();
        let bus = member(rig.bus(), own.map_err(|error| error.to_string())?);
        Ok(Box::new(Pretended {
            rig,
            bus,
            room,
            place,
        }))
    }
}

/// A directory with a socket in it.
struct Place {
    directory: PathBuf,
    socket: PathBuf,
}

impl Place {
    fn new() -> std::io::Result<Self> {
        let name = format!("pretend-{}", PublisherId::random());
        let directory = std::env::temp_dir().join(name);
        let socket = directory.join("socket");
        let place = Self { directory, socket };
        own(&place.directory, &place.socket)?;
        Ok(place)
    }
}

#[cfg(unix)]
fn own(directory: &Path, socket: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    std::fs::DirBuilder::new().mode(0o700).create(directory)?;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(socket).map(|_| ())
}

#[cfg(not(unix))]
fn own(directory: &Path, socket: &Path) -> std::io::Result<()> {
    std::fs::create_dir(directory)?;
    std::fs::File::create_new(socket).map(|_| ())
}

impl Drop for Place {
    fn drop(&mut self) {
        // What is left in the system's directory for such things goes with the system.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

struct Pretended {
    rig: Box<dyn Rig>,
    bus: Arc<dyn EventBus>,
    room: Arc<Semaphore>,
    place: Place,
}

impl Rig for Pretended {
    fn bus(&self) -> Arc<dyn EventBus> {
        Arc::clone(&self.bus)
    }
}

impl Pretended {
    async fn admit(&self, guest: bool) -> Result<Answer, String> {
        let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else {
            let (address, reason) = ("pretend".to_owned(), "too many connections".to_owned());
            return Ok(Answer::Out(
                ConnectError::Refused { address, reason }.into(),
            ));
        };
        let bus = self.rig.bus().connect(None).await;
        let bus = member(bus.map_err(|error| error.to_string())?, permit);
        if !guest {
            return Ok(Answer::In(bus));
        }
        let open = TopicFilter::new(OPEN).map_err(|error| error.to_string())?;
        Ok(Answer::In(layered(Guest { inner: bus, open })))
    }
}

#[async_trait]
impl DoorRig for Pretended {
    async fn come(&self, caller: Caller) -> Result<Answer, String> {
        let reason = match caller {
            Caller::Member => return self.admit(false).await,
            Caller::Guest => return self.admit(true).await,
            Caller::Plain => "no TLS",
            Caller::NoCertificate => "no certificate",
            Caller::ForeignAuthority => "a certificate from nobody we know",
            Caller::Expired => "a certificate that has expired",
            Caller::WrongServerName => "the broker's certificate is for another name",
            Caller::AnothersName => "a name that is another's",
            Caller::Bytes(_) => "no greeting",
        };
        Ok(Answer::Out(reason.to_owned().into()))
    }

    fn socket(&self) -> Option<PathBuf> {
        Some(self.place.socket.clone())
    }

    async fn second_broker(&self) -> Result<(), String> {
        Err("another broker listens there".to_owned())
    }
}

/// A session that has a place until it is closed.
struct Member {
    inner: Arc<dyn EventBus>,
    place: Mutex<Option<OwnedSemaphorePermit>>,
}

fn member(inner: Arc<dyn EventBus>, permit: OwnedSemaphorePermit) -> Arc<dyn EventBus> {
    let place = Mutex::new(Some(permit));
    layered(Member { inner, place })
}

impl Layered for Member {
    fn inner(&self) -> &Arc<dyn EventBus> {
        &self.inner
    }

    fn after_shutdown(&self) {
        self.place.lock().take();
    }
}

/// A session that may do little.
struct Guest {
    inner: Arc<dyn EventBus>,
    open: TopicFilter,
}

impl Layered for Guest {
    fn inner(&self) -> &Arc<dyn EventBus> {
        &self.inner
    }

    fn before_try_publish(&self, event: &Event) -> Result<(), PublishError> {
        if self.open.matches(event.topic()) {
            return Ok(());
        }
        let topic = event.topic().to_string();
        Err(PublishError::Denied { topic })
    }

    fn before_subscribe(&self, subscribe: &Subscribe) -> Result<(), SubscribeError> {
        let mut filters = subscribe.filters().iter();
        match filters.find(|filter| !self.open.covers(filter)) {
            None => Ok(()),
            Some(denied) => Err(SubscribeError::Denied {
                filter: denied.as_str().to_owned(),
            }),
        }
    }
}
