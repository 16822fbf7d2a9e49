//! Waiting until every link has acknowledged an event.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use eventbus_trait::{Confirm, ConfirmUpTo, Confirmation, Receipt, ReceiptError};
use futures_timer::Delay;

use super::link::{Link, LinkState};
use super::places::{Places, Several};

/// The places that a receipt waits for.
#[derive(Default)]
pub(crate) struct Pending {
    links: Vec<Wanted>,
}

/// What one link has to acknowledge.
struct Wanted {
    link: Arc<Link>,
    /// The last of its events.
    last: u64,
    /// How many there are.
    events: u64,
}

enum Settled {
    Confirmed,
    Closed,
    Lost,
}

#[async_trait]
impl Confirm for Pending {
    async fn confirmed(&self, deadline: Duration) -> Result<Confirmation, ReceiptError> {
        self.settled(Delay::new(deadline)).await
    }
}

#[async_trait]
impl ConfirmUpTo for Link {
    async fn confirmed(
        self: Arc<Self>,
        place: u64,
        deadline: Duration,
    ) -> Result<Confirmation, ReceiptError> {
        let one = Pending {
            links: vec![Wanted {
                link: self,
                last: place,
                events: 1,
            }],
        };
        one.settled(Delay::new(deadline)).await
    }
}

#[async_trait]
impl Confirm for Several {
    async fn confirmed(&self, deadline: Duration) -> Result<Confirmation, ReceiptError> {
        let mut pending = Pending::default();
        pending.add_several(self);
        pending.settled(Delay::new(deadline)).await
    }
}

impl From<Places> for Receipt {
    fn from(places: Places) -> Self {
        match places {
            Places::Nowhere => Self::ready(0),
            Places::One(link, sequence) => Self::up_to(link, sequence),
            Places::Several(several) => Self::pending(several),
        }
    }
}

impl From<Pending> for Receipt {
    fn from(pending: Pending) -> Self {
        if pending.links.is_empty() {
            return Self::ready(0);
        }
        Self::pending(Box::new(pending))
    }
}

impl Pending {
    /// Waits until every link has settled, at most until `deadline` is ready.
    pub(crate) async fn settled(
        &self,
        mut deadline: impl Future<Output = ()> + Unpin,
    ) -> Result<Confirmation, ReceiptError> {
        let started = Instant::now();
        let mut deliveries = 0;
        let mut lost = Vec::new();
        let (mut late, mut silent) = (false, Vec::new());
        for Wanted { link, last, events } in &self.links {
            let settled = if late {
                settled_now(link, *last)
            } else {
                tokio::select! {
                    biased;
                    settled = settled(link, *last) => Some(settled),
                    () = &mut deadline => {
                        late = true;
                        settled_now(link, *last)
                    }
                }
            };
            match settled {
                Some(Settled::Confirmed) => deliveries += events,
                Some(Settled::Closed) => {
                    let missing = (last + 1).saturating_sub(link.received());
                    deliveries += events.saturating_sub(missing);
                }
                Some(Settled::Lost) => lost.push(link.name.clone()),
                None => silent.push(link.name.clone()),
            }
        }
        if !silent.is_empty() {
            return Err(ReceiptError::Unconfirmed {
                subscriptions: silent,
                waited: started.elapsed(),
            });
        }
        if lost.is_empty() {
            Ok(Confirmation { deliveries })
        } else {
            Err(ReceiptError::Lost {
                subscriptions: lost,
            })
        }
    }

    /// Adds the places of another event; on one link only the latest matters.
    pub(crate) fn add(&mut self, places: Places) {
        match places {
            Places::Nowhere => {}
            Places::One(link, sequence) => self.add_one(&link, sequence),
            Places::Several(several) => self.add_several(&several),
        }
    }

    fn add_several(&mut self, several: &Several) {
        for (link, sequence) in several.iter() {
            self.add_one(link, sequence);
        }
    }

    fn add_one(&mut self, link: &Arc<Link>, sequence: u64) {
        let mut wanted = self.links.iter_mut();
        match wanted.find(|wanted| Arc::ptr_eq(&wanted.link, link)) {
            Some(wanted) => {
                wanted.last = sequence;
                wanted.events += 1;
            }
            None => self.links.push(Wanted {
                link: Arc::clone(link),
                last: sequence,
                events: 1,
            }),
        }
    }

    /// Waits for all that a link has to acknowledge before `next`, without counting it.
    pub(crate) fn add_all(&mut self, link: Arc<Link>, next: u64) {
        self.links.push(Wanted {
            link,
            last: next.saturating_sub(1),
            events: 0,
        });
    }
}

async fn settled(link: &Link, sequence: u64) -> Settled {
    loop {
        let progress = link.progress.notified();
        tokio::pin!(progress);
        progress.as_mut().enable();
        match settled_now(link, sequence) {
            Some(settled) => return settled,
            None => progress.await,
        }
    }
}

/// How the link has settled; `None` if it has not.
fn settled_now(link: &Link, sequence: u64) -> Option<Settled> {
    if link.received() > sequence {
        return Some(Settled::Confirmed);
    }
    match link.state() {
        LinkState::Open => None,
        LinkState::Closed => Some(Settled::Closed),
        LinkState::Lost => Some(Settled::Lost),
    }
}
