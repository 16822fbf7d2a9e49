//! A TLS connection as a UNIX socket, which is what busrt's client takes.
//!
//! Both ends live and die together: when the connection ends, so does the socket, at once and
//! after everything that had arrived; when the socket ends, what was written into it is still sent.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tracing::debug;

use crate::transport::BUFFER_BYTES;

/// How long the other end may take to read the last that was sent, once the socket has ended.
const LINGER: Duration = Duration::from_secs(2);

/// Carries bytes both ways until one end is closed. `greeting` has arrived already.
pub(super) async fn run(
    tls: impl AsyncRead + AsyncWrite,
    greeting: Vec<u8>,
    mut socket: UnixStream,
) {
    let (mut from_peer, mut to_peer) = tokio::io::split(tls);
    let (mut from_client, mut to_client) = socket.split();
    let arriving = async {
        to_client.write_all(&greeting).await?;
        let ended = carry(&mut from_peer, &mut to_client).await;
        let _ = to_client.shutdown().await;
        // A client that is gone is no reason to leave anything unread, see below.
        let _ = tokio::io::copy(&mut from_peer, &mut tokio::io::sink()).await;
        ended
    };
    let leaving = async {
        carry(&mut from_client, &mut to_peer).await?;
        to_peer.shutdown().await
    };
    tokio::pin!(arriving, leaving);
    let ended = tokio::select! {
        ended = &mut arriving => {
            // A client that is refused may still be saying who it is: it is to find the answer,
            // not a broken pipe.
            let _ = tokio::time::timeout(LINGER, leaving).await;
            ended
        }
        ended = &mut leaving => {
            // Closing while something unread is here would reset the connection, and take what
            // was sent last with it; so the other end is waited for.
            let _ = tokio::time::timeout(LINGER, arriving).await;
            ended
        }
    };
    if let Err(reason) = ended {
        debug!(%reason, "tunnel ended");
    }
}

async fn carry(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let bytes = from.read(&mut buffer).await?;
        let Some(read) = buffer.get(..bytes).filter(|read| !read.is_empty()) else {
            return Ok(());
        };
        to.write_all(read).await?;
        to.flush().await?;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    /// A tunnel's two outer ends: the broker's, and the client's.
    fn tunnel(greeting: &str) -> (DuplexStream, UnixStream) {
        let (inner, broker) = duplex(4096);
        let (client, far) = UnixStream::pair().unwrap();
        tokio::spawn(run(inner, greeting.as_bytes().to_vec(), far));
        (broker, client)
    }

    async fn all(mut stream: impl AsyncRead + Unpin) -> Vec<u8> {
        let mut read = Vec::new();
        let reading = stream.read_to_end(&mut read);
        let watchdog = Duration::from_secs(60);
        let ended = tokio::time::timeout(watchdog, reading).await;
        ended.expect("no end").unwrap();
        read
    }

    #[tokio::test]
    async fn a_connection_that_ends_takes_its_socket_along_after_all_that_arrived() {
        let (mut broker, client) = tunnel("greeting ");
        broker.write_all(b"and more").await.unwrap();
        drop(broker);
        assert_eq!(all(client).await, b"greeting and more");
    }

    #[tokio::test]
    async fn what_a_client_wrote_last_is_sent_though_it_reads_no_more() {
        let (broker, mut client) = tunnel("greeting");
        let (reader, mut writer) = tokio::io::split(broker);
        let busy = tokio::spawn(async move {
            // More than anything in between holds, read by nobody.
            for _ in 0..1_000 {
                if writer.write_all(&[1; 1024]).await.is_err() {
                    break;
                }
            }
        });
        let last = vec![2; 1 << 20];
        let expected = last.clone();
        let leaving = tokio::spawn(async move {
            client.write_all(&last).await.unwrap();
        });
        assert!(all(reader).await == expected);
        leaving.await.unwrap();
        busy.abort();
    }
}
