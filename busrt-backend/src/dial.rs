//! Getting to the broker, the first time and again; being it, if nobody else is.

use std::mem::replace;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use eventbus_trait::{ConnectError, PublisherId};
use parking_lot::Mutex;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::broker::{Broker, BrokerError, BrokerOptions, Listener, SocketError};
use crate::namespace;
use crate::options::{Address, Backoff, BrokerMode, OpenError, Options};
use crate::session::directory::{STOCK_PREFIX, has_directory};
use crate::transport::{self, Client, Terms};
use crate::wire::Control;

/// How long a client name that is in use is tried again at first.
const NAME_PATIENCE: Duration = Duration::from_secs(1);
/// The longest pause between two attempts meanwhile.
const NAME_PAUSE: Duration = Duration::from_millis(200);
/// How often something is tried again at first.
pub(crate) const RETRY: Duration = Duration::from_millis(20);

pub(crate) struct Dialer {
    pub(crate) options: Options,
    broker: Mutex<Option<Arc<Broker>>>,
    #[cfg(feature = "tcp")]
    connector: Option<crate::tls::Connector>,
}

impl Dialer {
    /// Starts the broker, if this process is to run it.
    #[cfg_attr(not(feature = "tcp"), allow(unused_mut, reason = "a port is TCP's"))]
    pub(crate) async fn new(mut options: Options) -> Result<Self, OpenError> {
        let broker = start_broker(&options).await?;
        #[cfg(feature = "tcp")]
        options.address.take_port(broker.as_ref());
        #[cfg(feature = "tcp")]
        let connector = connector(&options)?;
        Ok(Self {
            options,
            broker: Mutex::new(broker.map(Arc::new)),
            #[cfg(feature = "tcp")]
            connector,
        })
    }

    pub(crate) fn keepalive(&self) -> Duration {
        self.options.keepalive
    }

    /// Pauses between attempts, without end.
    pub(crate) fn pauses(&self) -> impl Iterator<Item = Duration> + Send + use<> {
        pauses(self.options.backoff)
    }

    /// The first client of a handle, and the name that it has on the broker.
    pub(crate) async fn first(&self, name: &str) -> Result<(Client, String), ConnectError> {
        let mut client = self.patient(name).await?;
        if self.is_in_process() || name.starts_with(STOCK_PREFIX) {
            return Ok((client, name.to_owned()));
        }
        let ours = has_directory(&mut client, &Control::Probe, self.options.connect_timeout)
            .await
            .map_err(|reason| ConnectError::Refused {
                address: self.address(),
                reason: reason.to_string(),
            })?;
        if ours {
            return Ok((client, name.to_owned()));
        }
        drop(client);
        let stock = format!("{STOCK_PREFIX}{name}");
        match self.patient(&stock).await {
            Ok(client) => Ok((client, stock)),
            // Told by the name that was asked for.
            Err(ConnectError::NameInUse { .. }) => Err(ConnectError::NameInUse {
                name: name.to_owned(),
            }),
            Err(reason) => Err(reason),
        }
    }

    /// The first client of a service, which is no session.
    pub(crate) async fn service(&self, name: &str) -> Result<Client, ConnectError> {
        self.patient(name).await
    }

    /// Why no client of this process may have the name, if so.
    pub(crate) fn not_entitled(&self, name: &str) -> Option<String> {
        #[cfg(feature = "tcp")]
        if let Some(connector) = &self.connector {
            return connector.check_name(name).err().map(|e| e.to_string());
        }
        let _ = name;
        None
    }

    /// A client, tried again for a moment while its name is in use: it may be that of a peer whose
    /// end the broker has not seen yet. With `wait`, tried for ever while nothing answers.
    async fn patient(&self, name: &str) -> Result<Client, ConnectError> {
        let patience = Instant::now() + NAME_PATIENCE;
        let mut again = RETRY;
        let mut pauses = self.pauses();
        loop {
            let pause = match self.timely(name).await {
                Err(ConnectError::NameInUse { .. }) if Instant::now() < patience => {
                    // The broker tells each attempt.
                    let longer = (again * 2).min(NAME_PAUSE);
                    replace(&mut again, longer)
                }
                Err(reason) if self.options.wait && may_pass(&reason) => {
                    let pause = pauses.next().unwrap_or(RETRY);
                    info!(address = %self.address(), %reason, ?pause, "waiting for the broker");
                    pause
                }
                done => return done,
            };
            tokio::time::sleep_until(tokio::time::Instant::now() + pause).await;
        }
    }

    /// A client after the connection was lost. If nobody is the broker any more, this process may
    /// become it.
    pub(crate) async fn dial_again(&self, name: &str) -> Result<Client, ConnectError> {
        match self.timely(name).await {
            Err(ConnectError::Unreachable { .. }) if self.take_over().await => {
                self.timely(name).await
            }
            done => done,
        }
    }

    async fn timely(&self, name: &str) -> Result<Client, ConnectError> {
        let within = self.options.connect_timeout;
        timeout(within, self.client(name))
            .await
            .unwrap_or_else(|_| {
                Err(ConnectError::Timeout {
                    address: self.address(),
                    waited: within,
                })
            })
    }

    async fn client(&self, name: &str) -> Result<Client, ConnectError> {
        let terms = Terms::new(self.options.keepalive, self.options.limits.max_event_size);
        match &self.options.address {
            Address::InProcess => {
                let broker = self.broker.lock().clone();
                match broker {
                    Some(broker) => transport::in_process(&broker, name).await,
                    None => Err(ConnectError::Closed),
                }
            }
            Address::Unix(path) => transport::unix(path, name, terms).await,
            #[cfg(feature = "tcp")]
            Address::Tcp { .. } => match &self.connector {
                Some(connector) => transport::tcp(connector, name, terms).await,
                None => Err(ConnectError::Closed),
            },
        }
    }

    /// Becomes the broker if it is nobody's task any more; whether it is ours now.
    async fn take_over(&self) -> bool {
        if self.options.broker != BrokerMode::Auto || self.broker.lock().is_some() {
            return false;
        }
        match start_broker(&self.options).await {
            Ok(Some(broker)) => {
                *self.broker.lock() = Some(Arc::new(broker));
                true
            }
            Ok(None) => false,
            Err(reason) => {
                warn!(%reason, "this process cannot be the broker");
                false
            }
        }
    }

    /// The name that was asked for, or one of the handle's own.
    pub(crate) fn client_name(
        &self,
        asked: Option<&str>,
        publisher: PublisherId,
    ) -> Result<String, ConnectError> {
        let namespace = self.options.namespace.as_deref();
        #[cfg(feature = "tcp")]
        if let Some(connector) = &self.connector {
            let room = namespace::room(namespace);
            let name = connector.client_name(asked, &publisher.to_string(), room);
            let name = name.map_err(|reason| ConnectError::Refused {
                address: self.address(),
                reason: reason.to_string(),
            })?;
            return namespace::within(name, namespace);
        }
        let name = asked.map_or_else(|| format!("{STOCK_PREFIX}{publisher}"), str::to_owned);
        namespace::within(name, namespace)
    }

    fn is_in_process(&self) -> bool {
        self.options.address == Address::InProcess
    }

    pub(crate) fn backend(&self) -> &'static str {
        match self.options.address {
            Address::InProcess => "in-process",
            Address::Unix(_) => "unix",
            #[cfg(feature = "tcp")]
            Address::Tcp { .. } => "tcp",
        }
    }

    pub(crate) fn address(&self) -> String {
        match &self.options.address {
            Address::InProcess => "in-process".to_owned(),
            Address::Unix(path) => format!("unix://{}", path.display()),
            #[cfg(feature = "tcp")]
            Address::Tcp { host, port, .. } => crate::tls::address(host, *port),
        }
    }

    /// Ends the broker, if this process runs it.
    pub(crate) async fn stop(&self) {
        let broker = self.broker.lock().take();
        if let Some(broker) = broker.and_then(Arc::into_inner) {
            broker.stop().await;
        }
    }
}

/// Whether a broker may be there later.
fn may_pass(reason: &ConnectError) -> bool {
    matches!(
        reason,
        ConnectError::Unreachable { .. } | ConnectError::Timeout { .. }
    )
}

/// Jitter is up to the pause itself, so half the longest is doubled at most. Its seed has to be
/// given: handles that lost the same broker must not come back all at once.
fn pauses(backoff: Backoff) -> impl Iterator<Item = Duration> + Send + use<> {
    ExponentialBuilder::default()
        .with_min_delay(backoff.first)
        .with_max_delay((backoff.most / 2).max(backoff.first))
        .with_factor(2.0)
        .with_jitter()
        .with_jitter_seed(uuid::Uuid::new_v4().as_u64_pair().0)
        .without_max_times()
        .build()
}

/// Reads the certificates, and checks that they entitle to the name that is asked for.
#[cfg(feature = "tcp")]
fn connector(options: &Options) -> Result<Option<crate::tls::Connector>, OpenError> {
    let Address::Tcp { host, port, tls } = &options.address else {
        return Ok(None);
    };
    let connector = crate::tls::Connector::new(host, *port, tls)?;
    if let Some(name) = &options.name {
        connector.check_name(name)?;
    }
    Ok(Some(connector))
}

async fn start_broker(options: &Options) -> Result<Option<Broker>, OpenError> {
    let mut broker_options = BrokerOptions::new();
    broker_options.keepalive = options.keepalive;
    broker_options.max_connections = options.max_connections;
    broker_options.fit(options.limits.max_event_size);
    broker_options.acl = options.acl.clone();
    broker_options.rate = options.rate;
    let path = match &options.address {
        Address::Unix(path) => path,
        #[cfg(feature = "tcp")]
        Address::Tcp { host, port, tls } => {
            if options.broker != BrokerMode::Embedded {
                return Ok(None);
            }
            let address = crate::tls::resolve(host, *port)?;
            let tls = tls.clone();
            broker_options.listeners = vec![Listener::Tcp { address, tls }];
            info!(%address, "this process is the broker");
            return Ok(Some(Broker::start(broker_options).await?));
        }
        Address::InProcess => return Ok(Some(Broker::start(broker_options).await?)),
    };
    if options.broker == BrokerMode::External {
        return Ok(None);
    }
    broker_options.listeners = vec![Listener::Unix(path.clone())];
    match Broker::start(broker_options).await {
        Ok(broker) => {
            info!(socket = %path.display(), "this process is the broker");
            Ok(Some(broker))
        }
        Err(BrokerError::Socket(SocketError::InUse { .. }))
            if options.broker == BrokerMode::Auto =>
        {
            Ok(None)
        }
        Err(reason) => Err(reason.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_never_end() {
        let backoff = Backoff {
            first: Duration::from_millis(100),
            most: Duration::from_secs(30),
        };
        let pauses: Vec<_> = pauses(backoff).take(40).collect();
        let mut least = backoff.first;
        for pause in &pauses {
            assert!(*pause >= least, "{pause:?} after {least:?}");
            assert!(*pause <= least * 2, "jitter is at most the pause itself");
            assert!(*pause <= backoff.most);
            least = (least * 2).min(backoff.most / 2);
        }
        assert_eq!(pauses.len(), 40);
        let other: Vec<_> = super::pauses(backoff).take(40).collect();
        assert_ne!(pauses, other, "jittered");
    }
}
