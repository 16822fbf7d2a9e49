//! Waiting until every link has acknowledged an event.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use eventbus_trait::{Confirm, Confirmation, ReceiptError};
use futures_timer::Delay;

use super::link::{Link, LinkState};
use super::routes::Sequences;

/// The link sequences that a receipt waits for.
pub(crate) struct Pending {
    pub(crate) links: Sequences,
    pub(crate) deliveries: u64,
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

impl Pending {
    /// Waits until every link has settled, at most until `deadline` is ready.
    pub(crate) async fn settled(
        &self,
        mut deadline: impl Future<Output = ()> + Unpin,
    ) -> Result<Confirmation, ReceiptError> {
        let started = Instant::now();
        let mut deliveries = self.deliveries;
        let mut lost = Vec::new();
        for (at, (link, sequence)) in self.links.iter().enumerate() {
            tokio::select! {
                biased;
                settled = settled(link, *sequence) => match settled {
                    Settled::Confirmed => {}
                    Settled::Closed => deliveries = deliveries.saturating_sub(1),
                    Settled::Lost => lost.push(link.name.clone()),
                },
                () = &mut deadline => {
                    let rest = self.links[at..].iter();
                    let silent = rest.filter(|(link, sequence)| !has(link, *sequence));
                    return Err(ReceiptError::Unconfirmed {
                        subscriptions: silent.map(|(link, _)| link.name.clone()).collect(),
                        waited: started.elapsed(),
                    });
                }
            }
        }
        if lost.is_empty() {
            Ok(Confirmation { deliveries })
        } else {
            Err(ReceiptError::Lost {
                subscriptions: lost,
            })
        }
    }

    /// Adds the links of another event; of one link only the latest sequence matters.
    pub(crate) fn add(&mut self, links: Sequences) {
        self.deliveries += links.len() as u64;
        for (link, sequence) in links {
            match self
                .links
                .iter_mut()
                .find(|(known, _)| Arc::ptr_eq(known, &link))
            {
                Some((_, latest)) => *latest = sequence,
                None => self.links.push((link, sequence)),
            }
        }
    }
}

fn has(link: &Link, sequence: u64) -> bool {
    link.received() > sequence
}

async fn settled(link: &Link, sequence: u64) -> Settled {
    loop {
        let progress = link.progress.notified();
        tokio::pin!(progress);
        progress.as_mut().enable();
        if has(link, sequence) {
            return Settled::Confirmed;
        }
        match link.state() {
            LinkState::Open => progress.await,
            LinkState::Closed => return Settled::Closed,
            LinkState::Lost => return Settled::Lost,
        }
    }
}
