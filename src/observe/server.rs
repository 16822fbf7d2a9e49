//! What is answered where.
//!
//! Invariant: nothing here changes anything, so there is nothing that a foreign page could make
//! a browser do; and what it could read is kept from it by refusing names that only DNS knows.

use std::net::IpAddr;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;

use super::{Observer, metrics, page};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What `/healthz` answers.
#[derive(Debug, Serialize)]
struct Healthz<'a> {
    status: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    reasons: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connections: Option<u64>,
    uptime_seconds: u64,
}

/// That a connection came to the loopback address, as any browser on this machine makes one.
///
/// Names that only DNS knows are refused there: a page elsewhere could have its own name resolve to the
/// loopback address, and then read what is here as if it were its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Local;

/// All paths that there are.
pub(super) fn router(observer: Observer) -> Router {
    Router::new()
        .route("/", get(live))
        .route("/observed.json", get(observed))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .fallback(nothing)
        .method_not_allowed_fallback(only_get)
        .with_state(observer)
        .layer(from_fn(guard))
}

async fn live(State(observer): State<Observer>) -> Response {
    let page = page::live(&observer.latest());
    let mut response = typed(HTML, page.html).into_response();
    if let Ok(policy) = HeaderValue::from_str(&page.policy) {
        let headers = response.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    response
}

async fn observed(State(observer): State<Observer>) -> Response {
    match serde_json::to_string(&*observer.latest()) {
        Ok(text) => typed(JSON, text + "\n").into_response(),
        Err(reason) => (StatusCode::INTERNAL_SERVER_ERROR, reason.to_string()).into_response(),
    }
}

async fn metrics(State(observer): State<Observer>) -> impl IntoResponse {
    typed(METRICS, metrics::text(&observer.latest()))
}

async fn healthz(State(observer): State<Observer>) -> Response {
    let seen = observer.latest();
    let document = Healthz {
        status: &seen.health.status,
        reasons: &seen.health.reasons,
        sessions: seen.broker.as_ref().map(|broker| broker.sessions),
        connections: seen.broker.as_ref().map(|broker| broker.connections),
        uptime_seconds: seen.uptime_ms / 1000,
    };
    let status = if seen.health.is_ok() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let text = serde_json::to_string(&document).unwrap_or_default();
    (status, typed(JSON, text + "\n")).into_response()
}

async fn nothing() -> impl IntoResponse {
    let there_is = "there are /, /observed.json, /metrics and /healthz\n";
    (StatusCode::NOT_FOUND, typed(TEXT, there_is.to_owned()))
}

async fn only_get() -> impl IntoResponse {
    (
        StatusCode::METHOD_NOT_ALLOWED,
        typed(TEXT, "only GET\n".to_owned()),
    )
}

fn typed(kind: &'static str, body: String) -> impl IntoResponse {
    ([(CONTENT_TYPE, HeaderValue::from_static(kind))], body)
}

async fn guard(request: Request, next: Next) -> Response {
    let local = request.extensions().get::<Local>().is_some();
    let host = request.headers().get(HOST).map(|host| host.to_str());
    let mut response = match host {
        Some(Ok(host)) if local && !is_ours(host) => {
            let sentence = "ask by address, or as `localhost`\n".to_owned();
            (StatusCode::MISDIRECTED_REQUEST, typed(TEXT, sentence)).into_response()
        }
        Some(Err(_)) => StatusCode::BAD_REQUEST.into_response(),
        _ => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Whether no page elsewhere can have this name: an address, or a name of one word.
fn is_ours(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    !name.contains('.') || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_only_dns_knows_is_not_ours() {
        for host in [
            "127.0.0.1:9600",
            "[::1]:9600",
            "localhost:9600",
            "broker",
            "10.0.0.7",
            "",
        ] {
            assert!(is_ours(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9600",
            "127.0.0.1.evil.example:9600",
        ] {
            assert!(!is_ours(host), "{host}");
        }
    }
}
