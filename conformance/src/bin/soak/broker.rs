//! The broker's process.

use busrt_backend::broker::{Broker, BrokerOptions, Listener};
use busrt_backend::tls::TlsOptions;

use crate::words::{At, Door};

pub(crate) async fn play(door: Door) -> Result<(), String> {
    let mut options = BrokerOptions::new();
    options.keepalive = door.keepalive;
    options.listeners.push(match door.at {
        At::Unix(path) => Listener::Unix(path),
        At::Tcp {
            address,
            ca,
            cert,
            key,
        } => Listener::Tcp {
            address,
            tls: TlsOptions::new(ca, cert, key),
        },
    });
    let broker = Broker::start(options).await;
    let broker = broker.map_err(|error| error.to_string())?;
    println!("ready");
    // Serves until the coordinator closes its end.
    let input = || std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
    let _ = tokio::task::spawn_blocking(input).await;
    broker.stop().await;
    Ok(())
}
