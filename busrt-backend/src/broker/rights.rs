//! A client's access rule, ready to be asked frame by frame.
//!
//! Invariant: an answer depends on the rule and on what is asked, never on what was asked before;
//! what is remembered saves work only.

use std::collections::HashMap;

use bytes::Bytes;
use eventbus_trait::{MAX_TOPIC_BYTES, Topic, TopicFilter};

use super::AclRule;
use super::asked::Asked;
use crate::topics;
use crate::wire::{Control, SubscriptionInfo};

/// Topics whose answer is remembered.
const REMEMBERED: usize = 256;
/// Whatever a session sends begins so; two letters say what it is.
const SESSION: [u8; 2] = [0xEB, 0x05];
/// Events sent again.
const RESENT: [u8; 4] = [0xEB, 0x05, b'E', b'R'];

/// First bytes of busrt's replies to calls, and of its errors.
const ANSWERS: [u8; 2] = [0x11, 0x12];

/// Yes, or what is denied.
pub(super) type Answer = Result<(), &'static str>;

/// What one client may do.
#[derive(Debug)]
pub(super) struct Rights {
    /// `None`: everything.
    rule: Option<AclRule>,
    publish: HashMap<Box<[u8]>, bool>,
    asked: Asked,
}

impl Rights {
    pub(super) fn new(rule: AclRule) -> Self {
        let whole = |filters: &[TopicFilter]| filters.iter().any(|f| f.as_str() == "#");
        let everything = whole(&rule.publish)
            && whole(&rule.subscribe)
            && rule.call.iter().any(|name| name == "*");
        Self {
            rule: (!everything).then_some(rule),
            publish: HashMap::new(),
            asked: Asked::default(),
        }
    }

    /// Where to note what the client is asked, if it may not say everything.
    pub(super) fn asked(&self) -> Option<Asked> {
        self.rule.as_ref().map(|_| self.asked.clone())
    }

    /// What the client is told about them, `None` if it may do everything.
    pub(super) fn grant(&self) -> Option<Vec<u8>> {
        let rule = self.rule.as_ref()?;
        let grant = Control::Grant {
            publish: rule.publish.clone(),
            subscribe: rule.subscribe.clone(),
        };
        Some(grant.write())
    }

    /// Whether it may publish on a topic of the broker's, which is a valid one.
    pub(super) fn may_publish(&mut self, name: &[u8]) -> bool {
        let Some(rule) = &self.rule else {
            return true;
        };
        if let Some(known) = self.publish.get(name) {
            return *known;
        }
        let topic = str::from_utf8(name).ok().and_then(topics::from_broker);
        let may = topic.is_some_and(|topic| takes(rule, &topic));
        if self.publish.len() == REMEMBERED {
            self.publish.clear();
        }
        self.publish.insert(name.into(), may);
        may
    }

    /// Whether it may subscribe to a pattern of the broker's, which is a valid one.
    pub(super) fn may_subscribe(&self, pattern: &[u8]) -> bool {
        let Some(rule) = &self.rule else {
            return true;
        };
        str::from_utf8(pattern)
            .ok()
            .and_then(topics::split)
            .and_then(|(_, text)| TopicFilter::new(text.replace('/', ".")).ok())
            .is_some_and(|filter| covers(rule, &filter))
    }

    /// Whether it may send a message; `None` if that cannot be said before more of it has come.
    /// `whole` says that nothing more comes.
    pub(super) fn may_say(&self, target: &[u8], payload: &[u8], whole: bool) -> Option<Answer> {
        let Some(rule) = &self.rule else {
            return Some(Ok(()));
        };
        // An answer is no call, and is for who has called.
        if payload.first().is_some_and(|kind| ANSWERS.contains(kind)) {
            const UNASKED: Answer = Err("answering what was not asked");
            return match self.asked.by(target, payload) {
                Some(true) => Some(Ok(())),
                Some(false) => Some(UNASKED),
                None => whole.then_some(UNASKED),
            };
        }
        let kind = payload.get(..SESSION.len() + 2);
        match kind {
            None if !whole => None,
            Some(kind) if kind == RESENT => may_resend(rule, payload, whole),
            Some(kind) if kind.starts_with(&SESSION) => whole.then(|| may_control(rule, payload)),
            _ => {
                let called = rule.call.iter().any(|name| match name.strip_suffix('*') {
                    Some(beginning) => target.starts_with(beginning.as_bytes()),
                    None => target == name.as_bytes(),
                });
                Some(if called {
                    Ok(())
                } else {
                    Err("calling this client")
                })
            }
        }
    }
}

fn takes(rule: &AclRule, topic: &Topic) -> bool {
    rule.publish.iter().any(|filter| filter.matches(topic))
}

fn covers(rule: &AclRule, filter: &TopicFilter) -> bool {
    rule.subscribe.iter().any(|allowed| allowed.covers(filter))
}

/// Events sent again: the topic stands in front.
fn may_resend(rule: &AclRule, payload: &[u8], whole: bool) -> Option<Answer> {
    const DENIED: Answer = Err("publishing on this topic");
    let rest = &payload[RESENT.len()..];
    let Some(([version, low, high], rest)) = rest.split_first_chunk() else {
        return whole.then_some(DENIED);
    };
    let len = usize::from(u16::from_le_bytes([*low, *high]));
    if *version != 1 || len > MAX_TOPIC_BYTES {
        return Some(DENIED);
    }
    let Some(topic) = rest.get(..len) else {
        return whole.then_some(DENIED);
    };
    let topic = str::from_utf8(topic).ok().and_then(|t| Topic::new(t).ok());
    Some(match topic {
        Some(topic) if takes(rule, &topic) => Ok(()),
        _ => DENIED,
    })
}

fn may_control(rule: &AclRule, payload: &[u8]) -> Answer {
    let open = |subscription: &SubscriptionInfo| {
        let filters = &subscription.filters;
        !filters.is_empty() && filters.iter().all(|filter| covers(rule, filter))
    };
    // Who may neither publish nor subscribe has no part in the bus, and nothing to say about it.
    let no_part = rule.publish.is_empty() && rule.subscribe.is_empty();
    let allowed = match Control::read(&Bytes::copy_from_slice(payload)) {
        Ok(Some(Control::Leave | Control::Probe)) => true,
        Ok(Some(_)) if no_part => return Err("taking part in the bus"),
        Ok(Some(Control::Open(subscription))) => open(&subscription),
        Ok(Some(Control::Hello { subscriptions, .. } | Control::Welcome { subscriptions, .. })) => {
            subscriptions.iter().all(open)
        }
        Ok(Some(_)) => true,
        // Events without a topic, and what this program does not know: nobody can say.
        Ok(None) | Err(_) => return Err("a message that cannot be judged"),
    };
    if allowed {
        Ok(())
    } else {
        Err("subscribing to this")
    }
}
