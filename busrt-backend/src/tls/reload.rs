//! Something made from certificate files, made again when they change.
//!
//! Whoever is about to make a connection looks, at most once a second: no thread watches, and an
//! idle process does nothing. Files that cannot be used leave what was made from the last good
//! ones in place, and are tried again at each look: what was wrong may have passed, like a want of
//! descriptors or a date. A reason is logged once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tracing::{error, info};

use super::files::{Material, Side, Stamp};
use super::{TlsError, TlsOptions};

/// How often files are looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Reloading<T> {
    options: TlsOptions,
    side: Side,
    make: fn(Material, &TlsOptions) -> Result<T, TlsError>,
    current: ArcSwap<T>,
    looked: Mutex<Looked>,
}

/// What was seen when the files were last looked at.
struct Looked {
    at: Instant,
    /// Of the files that are in use.
    stamp: Stamp,
    /// Why newer ones are not.
    failed: Option<TlsError>,
}

impl<T> Reloading<T> {
    pub(super) fn new(
        options: &TlsOptions,
        side: Side,
        make: fn(Material, &TlsOptions) -> Result<T, TlsError>,
    ) -> Result<Self, TlsError> {
        // Before they are read: what changes while they are read is seen at the next look.
        let stamp = Stamp::of(options);
        let first = make(Material::read(options, side)?, options)?;
        Ok(Self {
            options: options.clone(),
            side,
            make,
            current: ArcSwap::from_pointee(first),
            looked: Mutex::new(Looked {
                at: Instant::now(),
                stamp,
                failed: None,
            }),
        })
    }

    /// What the files make, as they were a second ago or later.
    pub(super) fn get(&self) -> Arc<T> {
        if let Some(mut looked) = self.looked.try_lock()
            && looked.at.elapsed() >= LOOK_EVERY
        {
            looked.at = Instant::now();
            let stamp = Stamp::of(&self.options);
            if stamp != looked.stamp {
                self.renew(stamp, &mut looked);
            }
        }
        self.current.load_full()
    }

    pub(super) fn options(&self) -> &TlsOptions {
        &self.options
    }

    fn renew(&self, stamp: Stamp, looked: &mut Looked) {
        let cert = self.options.cert.display();
        let made = Material::read(&self.options, self.side)
            .and_then(|material| (self.make)(material, &self.options));
        match made {
            Ok(made) => {
                self.current.store(Arc::new(made));
                looked.stamp = stamp;
                looked.failed = None;
                info!(%cert, "certificates read again");
            }
            Err(reason) => {
                if looked.failed.as_ref() != Some(&reason) {
                    error!(%cert, %reason, "changed certificates not used");
                }
                looked.failed = Some(reason);
            }
        }
    }
}
