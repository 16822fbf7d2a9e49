//! Showing a comparison while it runs, and keeping what there was to see for its report.

use std::path::Path;

use eventbus::Config;
use eventbus::config::MetricsAddress;
use eventbus::observe::{Observer, Server};
use tokio::task::JoinHandle;

use crate::args::ShadowArgs;
use crate::failure::Failure;

/// What the page is called.
pub(crate) const TITLE: &str = "eventbus shadow";

/// Looks at the comparison that runs; ends what it serves when it is dropped.
#[derive(Debug)]
pub(crate) struct Observing {
    pub(crate) observer: Observer,
    looking: JoinHandle<()>,
}

impl Observing {
    /// Looks on, and serves what it sees if a flag or the configuration says so. From the configuration
    /// the address is taken away, so that the buses to compare do not listen there as well.
    pub(crate) async fn begin(args: &ShadowArgs, config: &mut Config) -> Result<Self, Failure> {
        let configured = config.observe.listen.take();
        let observer = Observer::new(TITLE);
        let looks = observer.clone();
        let looking = match args.observe.as_ref().or(configured.as_ref()) {
            Some(address) => {
                let server = Server::bind(address).await;
                let server = server.map_err(|reason| Failure::listen(address, &reason))?;
                crate::tell(&match server.address() {
                    MetricsAddress::Tcp(at) => format!("to be seen at http://{at}/"),
                    socket @ MetricsAddress::Unix(_) => format!("to be seen at {socket}"),
                });
                tokio::spawn(server.serve(looks))
            }
            None => tokio::spawn(async move { looks.keep_looking().await }),
        };
        Ok(Self { observer, looking })
    }
}

impl Drop for Observing {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

/// Whether a report with this name is a page.
pub(crate) fn is_page(path: &Path) -> bool {
    path.extension()
        .is_some_and(|end| end.eq_ignore_ascii_case("html"))
}
