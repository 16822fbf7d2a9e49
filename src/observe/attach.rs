//! Serving what the bus that an application opens does, because its configuration says so.
//!
//! Invariant: the server holds nothing of the bus, and ends within a second of its being dropped.

use std::sync::{Arc, Weak};
use std::time::Duration;

use eventbus_trait::EventBus;
use shadow::ShadowBus;
use tokio::time::interval;
use tracing::info;

#[cfg(feature = "rollout")]
use super::Shadowed;
use super::{Observer, Server};
use crate::config::Config;
use crate::open::OpenError;

/// How often it is looked whether the bus is still there.
const PRESENCE: Duration = Duration::from_millis(250);

/// An address that is listened at for a bus that is yet to be opened. So an address in use is told
/// before anything else is begun.
#[derive(Debug)]
pub(crate) struct Attaching(Option<(Server, Observer)>);

impl Attaching {
    /// Listens, if the configuration says so.
    pub(crate) async fn begin(config: &Config) -> Result<Self, OpenError> {
        let Some(address) = &config.observe.listen else {
            return Ok(Self(None));
        };
        let failed = |reason: String| OpenError::Observe {
            address: address.to_string(),
            reason,
        };
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(failed("there is no tokio runtime".to_owned()));
        }
        let server = Server::bind(address).await;
        let server = server.map_err(|reason| failed(reason.to_string()))?;
        let title = config.name.clone().unwrap_or_else(|| "eventbus".to_owned());
        Ok(Self(Some((server, Observer::new(title)))))
    }

    /// Serves what a bus does.
    pub(crate) fn bus(self, bus: &Arc<dyn EventBus>) {
        if let Some((server, observer)) = self.0 {
            observer.watch_bus(bus);
            spawn(server, observer, Arc::downgrade(bus));
        }
    }

    /// Serves what a shadow does, and compares.
    pub(crate) fn shadow(self, shadow: &Arc<ShadowBus>) {
        if let Some((server, observer)) = self.0 {
            let bus: Arc<dyn EventBus> = Arc::clone(shadow) as _;
            observer.watch_bus(&bus);
            observer.watch_shadow(shadow);
            spawn(server, observer, Arc::downgrade(&bus));
        }
    }

    /// Serves what a bus does, where its rollout is, and what is compared; `shadow` finds the shadow of
    /// a phase, if it has one.
    #[cfg(feature = "rollout")]
    pub(crate) fn rollout(
        self,
        phased: &Arc<crate::rollout::PhasedBus>,
        shadow: impl Fn(&str) -> Option<Arc<ShadowBus>> + Send + Sync + 'static,
    ) {
        if let Some((server, observer)) = self.0 {
            let bus: Arc<dyn EventBus> = Arc::clone(phased) as _;
            observer.watch_bus(&bus);
            let phased = Arc::downgrade(phased);
            let status = move || Some(phased.upgrade()?.controller().status());
            observer.watch_rollout(status.clone());
            observer.watch_shadows(move || {
                let phase = status()?.phase;
                Some(shadow(&phase).map(|shadow| Shadowed::of(&shadow)))
            });
            spawn(server, observer, Arc::downgrade(&bus));
        }
    }
}

fn spawn(server: Server, observer: Observer, bus: Weak<dyn EventBus>) {
    info!(address = %server.address(), "page, metrics and health are served");
    tokio::spawn(async move {
        tokio::select! {
            () = server.serve(observer) => {}
            () = gone(&bus) => {}
        }
    });
}

async fn gone(bus: &Weak<dyn EventBus>) {
    let mut ticks = interval(PRESENCE);
    while bus.strong_count() > 0 {
        ticks.tick().await;
    }
}
