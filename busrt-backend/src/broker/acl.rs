//! What each client may do.
//!
//! A rule is looked up once, when a client has said its name, and holds for its connection. It
//! names what is allowed; everything else is denied.

use eventbus_trait::TopicFilter;

use crate::namespace;

/// What stands between a name and the handle of its process.
const HANDLE: &str = "--";

/// What one client, or many, may do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AclRule {
    /// It may publish on topics that one of these takes.
    pub publish: Vec<TopicFilter>,
    /// It may subscribe to what one of these covers as a whole.
    pub subscribe: Vec<TopicFilter>,
    /// Services that it may call: names, or beginnings of names with a final `*`. It is enforced
    /// on messages to a client by its name that are neither a session's own nor the answer to a call
    /// that this client was asked.
    pub call: Vec<String>,
}

impl AclRule {
    /// Everything is allowed.
    #[must_use]
    pub fn allow_all() -> Self {
        let everything = || TopicFilter::new("#").into_iter().collect::<Vec<_>>();
        Self {
            publish: everything(),
            subscribe: everything(),
            call: vec!["*".to_owned()],
        }
    }

    /// Nothing is allowed: a place to start from.
    #[must_use]
    pub fn deny_all() -> Self {
        Self::default()
    }
}

/// Rules by client name.
///
/// The rule of a client is the one under its exact name, else the one under that without its
/// namespace (`reader` for `reader--in-a`), else the one under the longest beginning of its name that ends in `*`, else the default. What follows two hyphens is a handle's and not
/// proved by a certificate, so only beginnings that have two hyphens themselves see it: `reader-*`
/// is for `reader-7` and `reader-7--1`, and not for `reader--1`.
///
/// ```
/// use busrt_backend::broker::{Acl, AclRule};
/// use eventbus_trait::TopicFilter;
/// let mut reader = AclRule::deny_all();
/// reader.subscribe.push(TopicFilter::new("events.#")?);
/// let acl = Acl::new(AclRule::deny_all()).with("reader-*", reader.clone());
/// assert_eq!(*acl.rule("reader-7"), reader);
/// assert_eq!(*acl.rule("reader-7--1"), reader);
/// assert_eq!(*acl.rule("reader--1"), AclRule::deny_all());
/// assert_eq!(*acl.rule("writer"), AclRule::deny_all());
/// let acl = acl.with("writer", AclRule::allow_all());
/// assert_eq!(*acl.rule("writer--in-a1"), AclRule::allow_all());
/// assert_eq!(*acl.rule("writer--1"), AclRule::deny_all());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acl {
    default: AclRule,
    clients: Vec<(String, AclRule)>,
}

impl Acl {
    /// Rules with a default and no more.
    #[must_use]
    pub fn new(default: AclRule) -> Self {
        Self {
            default,
            clients: Vec::new(),
        }
    }

    /// Adds the rule of a client, or of all whose names begin with what stands before a final `*`.
    /// A later rule for the same name replaces an earlier one.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, rule: AclRule) -> Self {
        let name = name.into();
        self.clients.retain(|(known, _)| *known != name);
        self.clients.push((name, rule));
        self
    }

    /// The rule of a client.
    #[must_use]
    pub fn rule(&self, client: &str) -> &AclRule {
        let proved = client
            .split_once(HANDLE)
            .map_or(client, |(proved, _)| proved);
        let (own, _) = namespace::split(client);
        let named = |wanted| self.clients.iter().find(|(name, _)| name == wanted);
        let exact = named(client).or_else(|| named(own));
        let longest = || {
            self.clients
                .iter()
                .filter_map(|entry| Some((entry.0.strip_suffix('*')?, entry)))
                .filter(|(beginning, _)| {
                    let sees = if beginning.contains(HANDLE) {
                        client
                    } else {
                        proved
                    };
                    sees.starts_with(beginning)
                })
                .max_by_key(|(beginning, _)| beginning.len())
                .map(|(_, entry)| entry)
        };
        exact
            .or_else(longest)
            .map_or(&self.default, |(_, rule)| rule)
    }
}

impl Default for Acl {
    /// Everything is allowed to everybody.
    fn default() -> Self {
        Self::new(AclRule::allow_all())
    }
}
