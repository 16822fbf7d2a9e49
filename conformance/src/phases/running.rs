//! A broker that runs already, and is not ours: no fault is struck, nothing is asked of its door.
//!
//! Others use it meanwhile. So each bus has a namespace of its own there: its members and theirs
//! neither see nor wait for each other.
//!
//! Invariant: whatever bus is started here has a namespace that no other bus has.

use std::fmt::Display;
use std::sync::Arc;

use async_trait::async_trait;
use busrt_backend::{Address, BrokerMode, Options};
use eventbus_trait::{Event, EventBus, Limits, Subscribe};
use tokio::sync::OnceCell;

use super::busrt_version;
use crate::harness::{Capability, Harness, Rig};

/// A client name for clauses that want one, unless a certificate says which may be had.
const CLIENT: &str = "collector";

/// The broker at an address.
#[derive(Debug, Clone)]
pub struct Running {
    options: Options,
    name: &'static str,
    client: String,
    looked: Arc<OnceCell<()>>,
}

impl Running {
    /// The broker at `address`, which has to run.
    ///
    /// # Errors
    /// In words, why nobody can connect there: it is no address of a broker of another process, or
    /// the certificate entitles to no client name.
    pub fn at(address: Address) -> Result<Self, String> {
        let (name, client) = match &address {
            Address::Unix(_) => ("unix broker", CLIENT.to_owned()),
            Address::Tcp { tls, .. } => {
                let names =
                    busrt_backend::tls::own_names(tls).map_err(|error| error.to_string())?;
                let first = names.iter().next().unwrap_or(CLIENT);
                ("tcp broker", first.to_owned())
            }
            _ => return Err("a broker in a process is no other process's".to_owned()),
        };
        let mut options = Options::new(address);
        options.broker = BrokerMode::External;
        Ok(Self {
            options,
            name,
            client,
            looked: Arc::default(),
        })
    }
}

impl Running {
    async fn open(&self, limits: Limits) -> Result<Arc<dyn EventBus>, String> {
        let mut options = self.options.clone();
        options.limits = limits;
        options.namespace = Some(format!("{:08x}", rand::random::<u32>()));
        match busrt_backend::open(options).await {
            Ok(bus) => Ok(bus),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Looks, once, whether the broker lets us do what clauses do: its rules are no defect of its
    /// bus.
    async fn look_around(&self) -> Result<(), String> {
        let bus = self.open(Limits::default()).await?;
        let denied = |error: &dyn Display| format!("clauses use every topic, but: {error}");
        let everything = Subscribe::to("#").map_err(|error| denied(&error))?;
        let subscription = bus.subscribe(everything).await;
        let subscription = subscription.map_err(|error| denied(&error))?;
        subscription.unsubscribe().await;
        let event = Event::new("a.b", "").map_err(|error| denied(&error))?;
        bus.publish(event).await.map_err(|error| denied(&error))?;
        let ended = bus.shutdown().await;
        ended.map_err(|error| error.to_string())
    }
}

#[async_trait]
impl Harness for Running {
    fn name(&self) -> &str {
        self.name
    }

    fn backend(&self) -> Option<String> {
        Some(busrt_version())
    }

    fn lack(&self, capability: Capability) -> &'static str {
        match capability {
            Capability::Faults => "a broker that others use is not hurt",
            Capability::Door => "the door of a broker that others use is not tried",
            other => other.lack(),
        }
    }

    fn client_name(&self) -> &str {
        &self.client
    }

    async fn start(&self, limits: Limits) -> Result<Box<dyn Rig>, String> {
        self.looked.get_or_try_init(|| self.look_around()).await?;
        Ok(Box::new(There(self.open(limits).await?)))
    }
}

struct There(Arc<dyn EventBus>);

impl Rig for There {
    fn bus(&self) -> Arc<dyn EventBus> {
        Arc::clone(&self.0)
    }
}
