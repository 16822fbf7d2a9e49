//! Control messages: what sessions, and the directory of a broker, say to each other, point to
//! point.

use bytes::Bytes;
use eventbus_trait::{MAX_NAME_BYTES, PublisherId, TopicFilter};

use super::reader::{Reader, WireError, put_text};

const MAGIC: [u8; 4] = [0xEB, 0x05, b'E', b'C'];
const VERSION: u8 = 1;

/// A subscription as its node announces it to publishers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionInfo {
    /// Random, unique on the bus.
    pub id: u64,
    /// The name that stands in errors.
    pub name: String,
    /// What it takes.
    pub filters: Vec<TopicFilter>,
    /// The link at the subscriber's end, made up by it. Another one for the same subscription has
    /// begun anew, and knows nothing of the one before.
    pub link: u64,
    /// The cursor: everything of this publisher below this link sequence is in its queue. 0 for a
    /// new link; otherwise what follows is to be sent again.
    pub received: u64,
    /// What it has in bytes.
    pub received_bytes: u64,
    /// Credit: the publisher may send below this link sequence.
    pub credit: u64,
    /// Credit in bytes.
    pub credit_bytes: u64,
}

/// Another session on the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its client name on the broker.
    pub client: String,
}

/// How far a subscription is on one link: all cumulative, so a repeated or a late one does no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AckEntry {
    /// The subscription.
    pub subscription: u64,
    /// Everything below this link sequence is in its queue.
    pub received: u64,
    /// The publisher may send below this link sequence.
    pub credit: u64,
    /// The publisher may send until this many bytes in all.
    pub credit_bytes: u64,
}

/// How far a publisher is on one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusEntry {
    /// The subscription.
    pub subscription: u64,
    /// The next link sequence.
    pub next: u64,
    /// Events dropped on this link so far, in all.
    pub dropped: u64,
}

/// Why something was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The subscription's name is in use.
    #[error("the name is in use")]
    NameInUse,
    /// The broker's rules allow this client nothing.
    #[error("its rules allow this client neither to publish nor to subscribe")]
    NotAllowed,
    /// The broker has as many sessions as it may have.
    #[error("it has as many connections as it may have")]
    TooManyMembers,
}

/// A control message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// To the directory: count me in.
    Join,
    /// From the directory: you are in, and these are the others.
    Members(Vec<Member>),
    /// From the directory: you are not in.
    JoinRefused(Refusal),
    /// To the directory: I am leaving.
    Leave,
    /// From the directory: this session is new. It is said before the session itself is answered.
    Joined(Member),
    /// From the directory: this session has left and will not come back.
    Left(Member),
    /// From the directory: this session has lost its connection, and may come back.
    Lost(Member),
    /// From the front door, before anything else: what this client may do.
    Grant {
        /// It may publish on topics that one of these takes.
        publish: Vec<TopicFilter>,
        /// It may subscribe to what one of these covers.
        subscribe: Vec<TopicFilter>,
    },
    /// From the directory: are you there? There is no answer; the broker's is enough.
    Probe,
    /// A session that has come, or come back, tells all its subscriptions and asks for the other's.
    Hello {
        /// Its identity. Another one under the same name is another life.
        publisher: PublisherId,
        /// All its subscriptions.
        subscriptions: Vec<SubscriptionInfo>,
    },
    /// The answer.
    Welcome {
        /// Identity of the one who answers.
        publisher: PublisherId,
        /// All its subscriptions.
        subscriptions: Vec<SubscriptionInfo>,
    },
    /// A new subscription, or one that misses what follows its cursor.
    Open(SubscriptionInfo),
    /// The link stands: everything published from now on is on it.
    Opened {
        /// The subscription.
        subscription: u64,
        /// The link sequence that comes next. If it is beyond the cursor, what lies between was
        /// given up.
        first: u64,
    },
    /// The subscription may not be.
    OpenRefused {
        /// The subscription.
        subscription: u64,
        /// Why.
        refusal: Refusal,
    },
    /// The subscription ends.
    Close {
        /// The subscription.
        subscription: u64,
    },
    /// The link has ended; everything sent on it was sent before this.
    Closed(StatusEntry),
    /// How far subscriptions are.
    Ack(Vec<AckEntry>),
    /// How far a publisher is.
    Status(Vec<StatusEntry>),
}

impl Control {
    /// The message's bytes.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.extend_from_slice(&MAGIC);
        out.push(VERSION);
        out.push(self.tag());
        match self {
            Self::Join | Self::Leave | Self::Probe => {}
            Self::Members(members) => {
                put_count(&mut out, members.len());
                members
                    .iter()
                    .take(MAX_COUNT)
                    .for_each(|m| put_text(&mut out, &m.client));
            }
            Self::Joined(member) | Self::Left(member) | Self::Lost(member) => {
                put_text(&mut out, &member.client);
            }
            Self::Grant { publish, subscribe } => {
                put_filters(&mut out, publish);
                put_filters(&mut out, subscribe);
            }
            Self::JoinRefused(refusal) => out.push(refusal.code()),
            Self::Hello {
                publisher,
                subscriptions,
            }
            | Self::Welcome {
                publisher,
                subscriptions,
            } => {
                out.extend_from_slice(&publisher.0);
                put_count(&mut out, subscriptions.len());
                subscriptions
                    .iter()
                    .take(MAX_COUNT)
                    .for_each(|s| s.write(&mut out));
            }
            Self::Open(subscription) => subscription.write(&mut out),
            Self::Opened {
                subscription,
                first,
            } => {
                put_u64s(&mut out, &[*subscription, *first]);
            }
            Self::OpenRefused {
                subscription,
                refusal,
            } => {
                put_u64s(&mut out, &[*subscription]);
                out.push(refusal.code());
            }
            Self::Close { subscription } => put_u64s(&mut out, &[*subscription]),
            Self::Closed(status) => status.write(&mut out),
            Self::Ack(entries) => {
                put_count(&mut out, entries.len());
                for e in entries.iter().take(MAX_COUNT) {
                    put_u64s(
                        &mut out,
                        &[e.subscription, e.received, e.credit, e.credit_bytes],
                    );
                }
            }
            Self::Status(entries) => {
                put_count(&mut out, entries.len());
                entries
                    .iter()
                    .take(MAX_COUNT)
                    .for_each(|e| e.write(&mut out));
            }
        }
        out
    }

    /// Reads a message; `None` if the bytes are no message of ours.
    ///
    /// # Errors
    /// [`WireError`] says which field is wrong.
    pub fn read(bytes: &Bytes) -> Result<Option<Self>, WireError> {
        if !bytes.starts_with(&MAGIC) {
            return Ok(None);
        }
        let mut r = Reader::new(bytes);
        r.array::<4>("magic")?;
        let version = r.u8("version")?;
        if version != VERSION {
            return Err(WireError::Version {
                version,
                known: VERSION,
            });
        }
        let message = Self::read_body(r.u8("tag")?, &mut r)?;
        r.end()?;
        Ok(Some(message))
    }

    fn read_body(tag: u8, r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(match tag {
            0 => Self::Join,
            1 => {
                let count = r.count("members", 2)?;
                Self::Members((0..count).map(|_| member(r)).collect::<Result<_, _>>()?)
            }
            2 => Self::JoinRefused(Refusal::read(r)?),
            3 => Self::Leave,
            4 => Self::Left(member(r)?),
            5 => Self::Probe,
            6 => {
                let (publisher, subscriptions) = read_self(r)?;
                Self::Hello {
                    publisher,
                    subscriptions,
                }
            }
            7 => {
                let (publisher, subscriptions) = read_self(r)?;
                Self::Welcome {
                    publisher,
                    subscriptions,
                }
            }
            8 => Self::Open(SubscriptionInfo::read(r)?),
            9 => Self::Opened {
                subscription: r.u64("subscription")?,
                first: r.u64("first")?,
            },
            10 => Self::OpenRefused {
                subscription: r.u64("subscription")?,
                refusal: Refusal::read(r)?,
            },
            11 => Self::Close {
                subscription: r.u64("subscription")?,
            },
            12 => Self::Closed(StatusEntry::read(r)?),
            13 => {
                let count = r.count("acknowledgements", 32)?;
                Self::Ack(
                    (0..count)
                        .map(|_| AckEntry::read(r))
                        .collect::<Result<_, _>>()?,
                )
            }
            14 => {
                let count = r.count("statuses", 24)?;
                Self::Status(
                    (0..count)
                        .map(|_| StatusEntry::read(r))
                        .collect::<Result<_, _>>()?,
                )
            }
            15 => Self::Joined(member(r)?),
            16 => Self::Lost(member(r)?),
            17 => Self::Grant {
                publish: read_filters(r)?,
                subscribe: read_filters(r)?,
            },
            _ => return Err(WireError::Invalid { field: "tag" }),
        })
    }

    fn tag(&self) -> u8 {
        match self {
            Self::Join => 0,
            Self::Members(_) => 1,
            Self::JoinRefused(_) => 2,
            Self::Leave => 3,
            Self::Left(_) => 4,
            Self::Probe => 5,
            Self::Hello { .. } => 6,
            Self::Welcome { .. } => 7,
            Self::Open(_) => 8,
            Self::Opened { .. } => 9,
            Self::OpenRefused { .. } => 10,
            Self::Close { .. } => 11,
            Self::Closed(_) => 12,
            Self::Ack(_) => 13,
            Self::Status(_) => 14,
            Self::Joined(_) => 15,
            Self::Lost(_) => 16,
            Self::Grant { .. } => 17,
        }
    }
}

/// Longest list in one message. Acknowledgements beyond it are sent in several; nothing else comes
/// near it.
pub(crate) const MAX_COUNT: usize = u16::MAX as usize;

#[allow(clippy::cast_possible_truncation, reason = "bounded by MAX_COUNT")]
fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&(count.min(MAX_COUNT) as u16).to_le_bytes());
}

fn put_u64s(out: &mut Vec<u8>, values: &[u64]) {
    for value in values {
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn put_filters(out: &mut Vec<u8>, filters: &[TopicFilter]) {
    put_count(out, filters.len());
    filters
        .iter()
        .take(MAX_COUNT)
        .for_each(|f| put_text(out, f.as_str()));
}

fn read_filters(r: &mut Reader<'_>) -> Result<Vec<TopicFilter>, WireError> {
    let count = r.count("filters", 2)?;
    (0..count)
        .map(|_| {
            TopicFilter::new(r.text("filter")?).map_err(|_| WireError::Invalid { field: "filter" })
        })
        .collect()
}

fn read_self(r: &mut Reader<'_>) -> Result<(PublisherId, Vec<SubscriptionInfo>), WireError> {
    let publisher = PublisherId(r.array("publisher")?);
    let count = r.count("subscriptions", SubscriptionInfo::MIN)?;
    let subscriptions = (0..count)
        .map(|_| SubscriptionInfo::read(r))
        .collect::<Result<_, _>>()?;
    Ok((publisher, subscriptions))
}

fn member(r: &mut Reader<'_>) -> Result<Member, WireError> {
    Ok(Member {
        client: r.text("member")?.to_owned(),
    })
}

impl Refusal {
    fn code(self) -> u8 {
        match self {
            Self::NameInUse => 0,
            Self::TooManyMembers => 1,
            Self::NotAllowed => 2,
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, WireError> {
        match r.u8("refusal")? {
            0 => Ok(Self::NameInUse),
            1 => Ok(Self::TooManyMembers),
            2 => Ok(Self::NotAllowed),
            _ => Err(WireError::Invalid { field: "refusal" }),
        }
    }
}

impl SubscriptionInfo {
    const MIN: usize = 8 * 6 + 2 + 2;

    fn write(&self, out: &mut Vec<u8>) {
        put_u64s(
            out,
            &[
                self.id,
                self.link,
                self.received,
                self.received_bytes,
                self.credit,
                self.credit_bytes,
            ],
        );
        put_text(out, &self.name);
        put_filters(out, &self.filters);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let id = r.u64("subscription")?;
        let link = r.u64("link")?;
        let received = r.u64("received")?;
        let received_bytes = r.u64("received bytes")?;
        let credit = r.u64("credit")?;
        let credit_bytes = r.u64("credit in bytes")?;
        let name = r.text("name")?;
        if name.len() > MAX_NAME_BYTES {
            return Err(WireError::Invalid { field: "name" });
        }
        let name = name.to_owned();
        let filters = read_filters(r)?;
        Ok(Self {
            id,
            name,
            filters,
            link,
            received,
            received_bytes,
            credit,
            credit_bytes,
        })
    }
}

impl AckEntry {
    fn read(r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            subscription: r.u64("subscription")?,
            received: r.u64("received")?,
            credit: r.u64("credit")?,
            credit_bytes: r.u64("credit in bytes")?,
        })
    }
}

impl StatusEntry {
    fn write(&self, out: &mut Vec<u8>) {
        put_u64s(out, &[self.subscription, self.next, self.dropped]);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            subscription: r.u64("subscription")?,
            next: r.u64("next sequence")?,
            dropped: r.u64("dropped")?,
        })
    }
}
#[cfg(test)]
mod tests;
