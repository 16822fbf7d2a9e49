//! Seeing what a bus, its shadow and its rollout do: a page, `/metrics` and `/healthz`.
//!
//! An [`Observer`] knows where to look; what it sees at one moment is an [`Observed`], from which all
//! views are made. An application turns it on by configuration:
//!
//! ```toml
//! [observe]
//! listen = "127.0.0.1:9600"
//! ```
//!
//! [`open`](crate::open) then serves what the bus that it opens does, until that bus is dropped. A
//! program that wants more to be seen, or to be seen without that, has an [`Observer`] of its own:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # if !eventbus::Phase::available().contains(&"crossbeam") { return Ok(()); }
//! use eventbus::observe::{Observer, Server};
//! # let config = eventbus::Config::default();
//! let bus = eventbus::open(&config).await?;
//! let observer = Observer::new("collector");
//! observer.watch_bus(&bus);
//! observer.check("disk", || Err("the disk is full".to_owned()));
//! assert_eq!(observer.look().health.reasons, ["disk: the disk is full"]);
//! let server = Server::bind(&"127.0.0.1:0".parse()?).await?;
//! println!("http://{}/", server.address());
//! let serving = tokio::spawn(server.serve(observer));
//! # serving.abort();
//! # Ok(())
//! # }
//! ```

mod attach;
mod history;
mod listen;
mod metrics;
mod observed;
mod observer;
mod page;
mod rows;
mod server;
#[cfg(unix)]
mod socket;
#[cfg(all(test, feature = "crossbeam"))]
mod tests;
mod text;

use std::io;

use crate::config::MetricsAddress;
use listen::Listening;

pub(crate) use attach::Attaching;
pub use history::{History, Point};
pub use observed::{Brokered, Health, Observed, SCHEMA, Shadowed};
pub use observer::Observer;
pub use page::frozen;
pub use rows::LeftOut;
pub use text::plain;

/// A server of the page, `/observed.json`, `/metrics` and `/healthz`, in plain HTTP without a password.
///
/// It takes 16 connections at a time, one request each, and 5 s for each; who comes on top waits.
#[derive(Debug)]
pub struct Server(Listening);

impl Server {
    /// Listens at an address.
    ///
    /// # Errors
    /// What the system says.
    pub async fn bind(address: &MetricsAddress) -> io::Result<Self> {
        Listening::at(address).await.map(Self)
    }

    /// The address, with the port that it got.
    #[must_use]
    pub fn address(&self) -> &MetricsAddress {
        self.0.address()
    }

    /// Serves until the future is dropped, and has the observer look once a second.
    pub async fn serve(self, observer: Observer) {
        let router = server::router(observer.clone());
        tokio::select! {
            () = self.0.serve(router) => {}
            () = observer.keep_looking() => {}
        }
    }
}
