//! A broker by itself, as the configuration describes it.

use std::num::NonZeroU32;

use busrt_backend::broker::{Acl, Broker, BrokerError, BrokerOptions, Listener, RateLimit};

use crate::config::{AclRule, Config};

/// Why a standalone broker was not started.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration names nothing to listen at.
    #[error("nothing to listen at: set `broker.unix` or `broker.tcp`")]
    NoListener,
    /// The build lacks TCP.
    #[error("a broker's TCP port needs the feature `tcp`, which this build does not have")]
    FeatureOff,
    /// TCP needs certificates.
    #[error("a broker's TCP port needs TLS, so `tls.ca`, `tls.cert` and `tls.key` must be set")]
    NoCertificates,
    /// The broker did not start.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// Starts the broker that `config` describes: its sockets and ports, limits, and access rules.
///
/// It is the same broker that [`open`](crate::open) embeds where a phase asks for it. Call it
/// within a tokio runtime; the broker brings its own threads. `phase` plays no part.
///
/// # Errors
/// [`StartError`] names what is missing, or what the system refused.
///
/// ```
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("run/bus.sock");
/// let mut config = eventbus::Config::load()?;
/// config.broker.unix.push(path);
/// let broker = eventbus::start_broker(&config).await?;
/// assert_eq!(broker.stats().connections, 0);
/// broker.stop().await;
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub async fn start_broker(config: &Config) -> Result<Broker, StartError> {
    let mut listeners: Vec<_> = config
        .broker
        .unix
        .iter()
        .cloned()
        .map(Listener::Unix)
        .collect();
    listeners.extend(ports(config)?);
    if listeners.is_empty() {
        return Err(StartError::NoListener);
    }
    let mut options = BrokerOptions::new();
    options.fit(config.limits.max_event_size);
    options.listeners = listeners;
    options.keepalive = config.broker.timeout;
    options.max_connections = config.broker.max_connections;
    options.grace = config.broker.grace;
    options.acl = acl(config);
    options.rate = rate(config);
    Ok(Broker::start(options).await?)
}

#[cfg(feature = "tcp")]
fn ports(config: &Config) -> Result<Vec<Listener>, StartError> {
    let listen = |address: &std::net::SocketAddr| {
        Ok(Listener::Tcp {
            address: *address,
            tls: crate::open::tls(config).ok_or(StartError::NoCertificates)?,
        })
    };
    config.broker.tcp.iter().map(listen).collect()
}

#[cfg(not(feature = "tcp"))]
fn ports(config: &Config) -> Result<Vec<Listener>, StartError> {
    if config.broker.tcp.is_empty() {
        Ok(Vec::new())
    } else {
        Err(StartError::FeatureOff)
    }
}

/// The rules of a configuration, as a broker takes them. The rule of a name is also that of the
/// further handles of its process, whose names have two hyphens after it.
pub(crate) fn acl(config: &Config) -> Acl {
    let Some(rules) = &config.acl else {
        return Acl::default();
    };
    let deny = busrt_backend::broker::AclRule::deny_all();
    rules.iter().fold(Acl::new(deny), |acl, (name, rule)| {
        let acl = acl.with(name, translated(rule));
        let handles = format!("{name}--*");
        if name.ends_with('*') || rules.contains_key(&handles) {
            return acl;
        }
        acl.with(handles, translated(rule))
    })
}

/// A second's worth may come at once.
pub(crate) fn rate(config: &Config) -> Option<RateLimit> {
    let rate = NonZeroU32::new(config.broker.rate?)?;
    Some(RateLimit {
        per_second: rate,
        burst: rate,
    })
}

fn translated(rule: &AclRule) -> busrt_backend::broker::AclRule {
    busrt_backend::broker::AclRule {
        publish: rule.publish.clone(),
        subscribe: rule.subscribe.clone(),
        call: rule.call.clone(),
    }
}

#[cfg(test)]
mod tests {
    use eventbus_trait::TopicFilter;

    use super::*;

    fn publish(filter: &str) -> AclRule {
        let mut rule = AclRule::default();
        rule.publish.push(TopicFilter::new(filter).unwrap());
        rule
    }

    #[test]
    fn rules_for_nobody_allow_nothing_and_no_rules_everything() {
        use busrt_backend::broker::AclRule;
        let mut config = Config::default();
        assert_eq!(*acl(&config).rule("one"), AclRule::allow_all());
        config.acl = Some(std::collections::BTreeMap::new());
        assert_eq!(*acl(&config).rule("one"), AclRule::deny_all());
    }

    #[test]
    fn a_rule_holds_for_the_further_handles_of_a_name() {
        let mut config = Config::default();
        let rules = [("one", "a"), ("two", "b"), ("two--*", "c"), ("t*", "d")];
        for (name, filter) in rules {
            let rules = config.acl.get_or_insert_default();
            rules.insert(name.to_owned(), publish(filter));
        }
        let acl = acl(&config);
        for (name, filter) in [
            ("one", Some("a")),
            ("one--1", Some("a")),
            ("one-1", None),
            ("two", Some("b")),
            ("two--1", Some("c")),
            ("two-1", Some("d")),
        ] {
            let told = acl.rule(name).publish.first().map(ToString::to_string);
            assert_eq!(told.as_deref(), filter, "{name}");
        }
    }
}
