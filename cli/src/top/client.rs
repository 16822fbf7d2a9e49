//! Asking a program what it does.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use eventbus::observe::{Observed, SCHEMA};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::args::Target;
use crate::plain;

/// For one question and its answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// Far more than what there is to see takes.
const MOST_BYTES: usize = 16 << 20;

/// What there is to see there as a document, in which no character controls a terminal.
pub(super) async fn document(target: &Target) -> Result<String, String> {
    written_again(&fetch(target).await?)
}

/// Whoever listens there may answer anything: only what can be read is passed on.
fn written_again(text: &str) -> Result<String, String> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(said)?;
    Ok(plain::json(&value.to_string()) + "\n")
}

/// What the program answers, as it is.
async fn fetch(target: &Target) -> Result<String, String> {
    let asked = async {
        match target {
            Target::Tcp(at) => ask(TcpStream::connect(at).await.map_err(nobody)?, at).await,
            Target::Unix(path) => {
                ask(
                    UnixStream::connect(path).await.map_err(nobody)?,
                    "localhost",
                )
                .await
            }
        }
    };
    match timeout(DEADLINE, asked).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {DEADLINE:?}")),
    }
}

/// What there is to see there.
pub(super) async fn look(target: &Target) -> Result<Observed, String> {
    read(&fetch(target).await?)
}

fn read(text: &str) -> Result<Observed, String> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(said)?;
    match value.get("schema").and_then(serde_json::Value::as_u64) {
        Some(schema) if schema == u64::from(SCHEMA) => serde_json::from_value(value).map_err(said),
        Some(schema) => Err(format!("it speaks version {schema}, this program {SCHEMA}")),
        None => Err("that is no eventbus program".to_owned()),
    }
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    host: &str,
) -> Result<String, String> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(said)?;
    let request = Request::get("/observed.json").header(HOST, host);
    let request = request.body(Empty::<Bytes>::new()).map_err(said)?;
    let answered = async {
        let answer = sender.send_request(request).await.map_err(said)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MOST_BYTES);
        let body = body.collect().await.map_err(said)?.to_bytes();
        if status != StatusCode::OK {
            return Err(format!("it answers {status}"));
        }
        String::from_utf8(body.to_vec()).map_err(said)
    };
    // The connection is driven as long as it is needed.
    let mut answered = std::pin::pin!(answered);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        answer = &mut answered => answer,
        _ = &mut connection => answered.await,
    }
}

fn nobody(reason: io::Error) -> String {
    format!("{reason}; a program serves there by `observe.listen`, a broker by --metrics")
}

fn said(reason: impl std::fmt::Display) -> String {
    reason.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_is_said_to_be_so() {
        assert_eq!(read("{}").unwrap_err(), "that is no eventbus program");
        let other = read(r#"{"schema":2}"#).unwrap_err();
        assert_eq!(other, "it speaks version 2, this program 1");
        assert!(read("<html>").is_err());
    }

    #[test]
    fn what_would_control_a_terminal_is_escaped() {
        let told = "{ \"title\": \"a\\u001b[31m\u{9b}2J\u{202e}\" }\n\u{1b}";
        assert!(
            written_again(told).is_err(),
            "what comes behind is no document"
        );
        let title = r#"{"title":"a\u001b[31m\u009b2J\u202e"}"#;
        let again = written_again(told.trim_end_matches('\u{1b}')).unwrap();
        assert_eq!(again, format!("{title}\n"));
    }
}
