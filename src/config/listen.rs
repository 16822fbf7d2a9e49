//! What a standalone broker listens at, and what its clients may do.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use eventbus_trait::TopicFilter;
use figment::Figment;
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};

use super::error::ConfigError;
use crate::phase::{MAX_SOCKET_PATH_BYTES, Phase};

/// Where `/healthz` and `/metrics` are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetricsAddress {
    /// At a TCP port, in plain HTTP.
    Tcp(SocketAddr),
    /// At a UNIX socket.
    Unix(PathBuf),
}

/// What the clients of one name, or of many, may do at a broker.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct AclRule {
    /// They may publish on topics that one of these takes.
    pub publish: Vec<TopicFilter>,
    /// They may subscribe to what one of these covers as a whole.
    pub subscribe: Vec<TopicFilter>,
    /// Services that they may call: names, or beginnings of names with a final `*`.
    pub call: Vec<String>,
}

const PATH: &str = "an absolute path of at most 107 bytes";
const PORT: &str = "an address and a port such as `127.0.0.1:7777` or `[::]:7777`";
const PHASES: &str = crate::phase::EXPECTED;
const METRICS: &str = "an address and a port such as `127.0.0.1:9100`, or `unix:/path`";
const NAMES: &str = "names of clients: 1 to 64 of A-Z a-z 0-9 _ -, or a beginning and a final `*`";

impl fmt::Display for MetricsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The error says what is expected.
impl FromStr for MetricsAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("unix:") {
            Some(path) => {
                let path = path.strip_prefix("//").unwrap_or(path);
                socket_path(path).map(Self::Unix).ok_or(METRICS)
            }
            None => text.parse().map(Self::Tcp).map_err(|_| METRICS),
        }
    }
}

fn socket_path(text: &str) -> Option<PathBuf> {
    let fits = text.starts_with('/')
        && !text.ends_with('/')
        && !text.contains('\0')
        && text.len() <= MAX_SOCKET_PATH_BYTES;
    fits.then(|| Path::new(text).to_path_buf())
}

/// A list of texts, or one text: an environment variable, in which commas part them.
#[derive(Debug, Default)]
pub(super) struct Texts(Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;
        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of texts")
            }

            fn visit_str<E>(self, text: &str) -> Result<Texts, E> {
                let parts = text
                    .split(',')
                    .map(str::trim)
                    .filter(|part| !part.is_empty());
                Ok(Texts(parts.map(str::to_owned).collect()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = list.next_element()? {
                    texts.push(text);
                }
                Ok(Texts(texts))
            }
        }
        deserializer.deserialize_any(OneOrMore)
    }
}

impl Texts {
    fn read<T>(
        &self,
        figment: &Figment,
        key: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, ConfigError> {
        let read_one = |text: &String| {
            read(text).map_err(|expected| ConfigError::Value {
                key: key.to_owned(),
                value: text.clone(),
                place: ConfigError::place(figment, key),
                expected,
            })
        };
        self.0.iter().map(read_one).collect()
    }

    pub(super) fn sockets(
        &self,
        figment: &Figment,
        key: &str,
    ) -> Result<Vec<PathBuf>, ConfigError> {
        self.read(figment, key, |text| {
            socket_path(text).ok_or_else(|| PATH.to_owned())
        })
    }

    pub(super) fn ports(
        &self,
        figment: &Figment,
        key: &str,
    ) -> Result<Vec<SocketAddr>, ConfigError> {
        self.read(figment, key, |text| {
            text.parse().map_err(|_| PORT.to_owned())
        })
    }

    pub(super) fn phases(&self, figment: &Figment, key: &str) -> Result<Vec<Phase>, ConfigError> {
        self.read(figment, key, |text| {
            text.parse().map_err(|_| PHASES.to_owned())
        })
    }

    /// Files, which are looked for when they are needed.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.0.iter().map(PathBuf::from).collect()
    }

    fn filters(&self, figment: &Figment, key: &str) -> Result<Vec<TopicFilter>, ConfigError> {
        self.read(figment, key, |text| {
            TopicFilter::new(text).map_err(|reason| format!("a topic filter; {reason}"))
        })
    }

    fn services(&self, figment: &Figment, key: &str) -> Result<Vec<String>, ConfigError> {
        self.read(figment, key, |text| {
            is_pattern(text)
                .then(|| text.to_owned())
                .ok_or_else(|| NAMES.to_owned())
        })
    }
}

/// A rule as it is written.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawRule {
    publish: Texts,
    subscribe: Texts,
    call: Texts,
}

/// Reads the table `[acl]`.
pub(super) fn acl(
    figment: &Figment,
    rules: &BTreeMap<String, RawRule>,
) -> Result<BTreeMap<String, AclRule>, ConfigError> {
    let read = |(name, raw): (&String, &RawRule)| {
        if !is_pattern(name) {
            return Err(ConfigError::Value {
                key: "acl".to_owned(),
                value: name.clone(),
                place: ConfigError::place(figment, "acl"),
                expected: NAMES.to_owned(),
            });
        }
        let key = |what: &str| format!("acl.{name}.{what}");
        let rule = AclRule {
            publish: raw.publish.filters(figment, &key("publish"))?,
            subscribe: raw.subscribe.filters(figment, &key("subscribe"))?,
            call: raw.call.services(figment, &key("call"))?,
        };
        Ok((name.clone(), rule))
    };
    rules.iter().map(read).collect()
}

/// A client's name, or the beginning of one with a final `*`.
fn is_pattern(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    let name = text.strip_suffix('*').unwrap_or(text);
    (1..=64).contains(&text.len()) && name.bytes().all(fits)
}
