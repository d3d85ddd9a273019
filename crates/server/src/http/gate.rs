//! What every request passes before and after its operation, in the order of the contract (idempotency 11): framing, key,
//! rate limit, version, key grammar; afterwards the headers that every answer carries, the numbers and the log line.

use super::framing;
use super::idempotency::KeyHeader;
use super::keys::{Allowance, Denied};
use super::problem::{refuse, refuse_early};
use super::state::{Server, Shared};
use crate::config::LogRequests;
use axum::body::{Body, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use cuenta_engine::Caller;
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// The versions of the API that exist (D-003).
const VERSIONS: [&str; 1] = ["2026-04-01"];

const VERSION: HeaderName = HeaderName::from_static("alguna-version");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Whether the answer was stored before.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What the gate knows of a request, for its operation.
#[derive(Clone)]
pub struct Admitted {
    /// Who asks, with the id of the request.
    pub caller: Caller,
    /// The idempotency key, where a valid one was sent with a write.
    pub idempotency_key: Option<String>,
}

/// Marks the answer to a path or method that does not exist: such an answer echoes no idempotency key.
#[derive(Clone, Copy)]
pub struct NoRoute;

/// Whether the operation has read the body of its request to the end.
#[derive(Clone, Default)]
pub struct BodyTaken(pub Arc<AtomicBool>);

/// Passes one request.
pub async fn pass(State(server): State<Shared>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let request_id: Arc<str> = server.next_request_id().into();
    let operation = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let method = request.method().clone();
    let taken = BodyTaken::default();
    let has_body = !request.body().is_end_stream();
    request.extensions_mut().insert(taken.clone());
    // A panic is our mistake and must not take the connection with it, nor show itself.
    let passed = AssertUnwindSafe(admit(&server, request, next, &request_id)).catch_unwind().await;
    let mut response = passed.unwrap_or_else(|_| {
        tracing::error!(request_id = &*request_id, "an operation panicked");
        refuse_early(StatusCode::INTERNAL_SERVER_ERROR, "internal", "An internal error occurred", &request_id)
    });
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    if has_body && !taken.0.load(Ordering::Acquire) {
        // What is left of the body cannot be told from the next request: the client must not send one here.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    record(&server, &method, operation.as_deref().unwrap_or("unmatched"), &response, started, &request_id);
    response
}

async fn admit(server: &Server, request: Request, next: Next, request_id: &Arc<str>) -> Response {
    let (mut parts, body) = request.into_parts();
    if let Err(refusal) = framing::check(&parts, &server.limits.head) {
        let mut response = refuse_early(refusal.status, refusal.code, &refusal.message, request_id);
        if refusal.close {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        return response;
    }
    if is_public(parts.uri.path()) {
        parts.extensions.insert(Admitted::nobody(request_id));
        return next.run(Request::from_parts(parts, body)).await;
    }
    let key =
        if takes_key(&parts.method, parts.uri.path()) { KeyHeader::read(&parts.headers) } else { KeyHeader::None };
    let (response, allowance) = match server.keys.authenticate(&parts.headers).await {
        Err(Denied::Unavailable(error)) => (refuse(&error, request_id), None),
        Err(denied) => (unauthenticated(&denied, request_id), None),
        Ok((caller, allowance)) => {
            let caller = Caller { request_id: Arc::clone(request_id), ..caller };
            let refused = too_many(allowance, request_id)
                .or_else(|| wrong_version(&parts.headers, request_id))
                .or_else(|| key.refusal(request_id));
            let response = match refused {
                Some(response) => response,
                None => {
                    let idempotency_key = key.value().map(str::to_owned);
                    parts.extensions.insert(Admitted { caller, idempotency_key });
                    next.run(Request::from_parts(parts, body)).await
                }
            };
            (response, allowance)
        }
    };
    finish(response, &key, allowance)
}

/// The documents that need no key.
fn is_public(path: &str) -> bool {
    path == "/openapi.json" || path == "/docs" || path.starts_with("/docs/")
}

/// Every write takes a key but the ingestion of events (idempotency 1, 2).
fn takes_key(method: &Method, path: &str) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH | Method::DELETE) && path != "/events"
}

fn unauthenticated(denied: &Denied, request_id: &str) -> Response {
    let (status, code, detail, challenge) = denied.parts();
    let mut response = refuse_early(status, code, detail, request_id);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    response
}

fn too_many(allowance: Option<Allowance>, request_id: &str) -> Option<Response> {
    let wait = allowance?.wait?;
    let detail = format!("This key has made too many requests; it may make the next one in {wait} s");
    let mut response = refuse_early(StatusCode::TOO_MANY_REQUESTS, "rate_limited", &detail, request_id);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait));
    Some(response)
}

fn wrong_version(headers: &axum::http::HeaderMap, request_id: &str) -> Option<Response> {
    let sent = headers.get(VERSION).and_then(|value| value.to_str().ok());
    if sent.is_some_and(|sent| VERSIONS.contains(&sent)) {
        return None;
    }
    let problem = if headers.contains_key(VERSION) { "names a version that does not exist" } else { "is required" };
    let detail = format!("The header Alguna-Version {problem}; the versions are: {}", VERSIONS.join(", "));
    Some(refuse_early(StatusCode::BAD_REQUEST, "unknown_version", &detail, request_id))
}

/// Adds what an admitted answer carries (idempotency 27, D-015).
fn finish(mut response: Response, key: &KeyHeader, allowance: Option<Allowance>) -> Response {
    let routed = response.extensions().get::<NoRoute>().is_none();
    let headers = response.headers_mut();
    if let Some(echo) = key.value().filter(|_| routed).and_then(|key| HeaderValue::from_str(key).ok()) {
        headers.insert(IDEMPOTENCY_KEY, echo);
        headers.entry(REPLAYED).or_insert(HeaderValue::from_static("false"));
    }
    if let Some(Allowance { limit, remaining, wait }) = allowance {
        let policy = format!("default;q={limit};w=1");
        let state = format!("default;r={remaining};t={}", wait.unwrap_or(1));
        for (name, text) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, state)] {
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.insert(name, value);
            }
        }
    }
    response
}

fn record(
    server: &Server,
    method: &Method,
    path: &str,
    response: &Response<Body>,
    started: Instant,
    request_id: &str,
) {
    let status = response.status();
    let elapsed = started.elapsed();
    server.numbers.request(method, path, status, elapsed);
    let wanted = match server.log_requests {
        LogRequests::All => true,
        LogRequests::Errors => status.is_server_error(),
        LogRequests::None => false,
    };
    if wanted {
        let duration_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        tracing::info!(request_id, method = method.as_str(), path, status = status.as_u16(), duration_us, "request");
    }
}
