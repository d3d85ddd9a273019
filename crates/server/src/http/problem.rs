//! Refusals as `application/problem+json` (RFC 9457, contract section 4, D-002): one table from the kind of an error to
//! its status, and the headers that tell a client whether a repeat can help.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use cuenta_engine::input::Problem as FieldProblem;
use cuenta_engine::{Error, Kind, error};
use serde::Serialize;

/// Whether a client may repeat a request after 429 or 5xx (idempotency 27).
const TRANSIENT: HeaderName = HeaderName::from_static("transient-error");

/// The body of every error.
#[derive(Debug, Serialize)]
pub struct Problem<'problem> {
    /// Always `about:blank`: the status says what kind of problem it is.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The HTTP status text.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The whole explanation in one text.
    pub detail: &'problem str,
    /// Stable, snake case.
    pub code: &'problem str,
    /// For a 401 the same as `detail`: a gateway's clients look for it there (D-004).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<&'problem str>,
    /// The fields at fault, where there are any.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub errors: &'problem [FieldProblem],
    /// Equal to the header `X-Request-Id`.
    pub request_id: &'problem str,
}

/// The status of an error of the engine.
pub fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::Refused => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::TooMany => StatusCode::TOO_MANY_REQUESTS,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The body of a refusal.
pub fn body(status: StatusCode, code: &str, detail: &str, errors: &[FieldProblem], request_id: &str) -> Vec<u8> {
    let problem = Problem {
        kind: "about:blank",
        title: status.canonical_reason().unwrap_or("Error"),
        status: status.as_u16(),
        detail,
        code,
        message: (status == StatusCode::UNAUTHORIZED).then_some(detail),
        errors,
        request_id,
    };
    serde_json::to_vec(&problem).unwrap_or_default()
}

/// The answer to an error of the engine. Our own mistakes are logged with their source; the caller learns no more than
/// that there was one.
pub fn refuse(error: &Error, request_id: &str) -> Response<Body> {
    let status = status(error.kind());
    if status.is_server_error() {
        let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        tracing::error!(request_id, code = error.code(), source, "a request failed");
    }
    let content = body(status, error.code(), error.message(), error.fields(), request_id);
    let mut response = answer(status, content);
    if status == StatusCode::SERVICE_UNAVAILABLE || error.code() == error::IN_FLIGHT {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if error.kind() == Kind::Forbidden {
        let challenge = HeaderValue::from_static(r#"Bearer realm="api", error="insufficient_scope""#);
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

/// The answer to a request that was refused before it reached the engine.
pub fn refuse_early(status: StatusCode, code: &str, detail: &str, request_id: &str) -> Response<Body> {
    answer(status, body(status, code, detail, &[], request_id))
}

/// An answer with its content type, and with `Transient-Error` where the client may repeat (idempotency 27).
pub fn answer(status: StatusCode, content: Vec<u8>) -> Response<Body> {
    let kind = if status.as_u16() >= 400 { "application/problem+json" } else { "application/json" };
    let empty = content.is_empty();
    let mut response = Response::new(Body::from(content));
    *response.status_mut() = status;
    if !empty {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(TRANSIENT, HeaderValue::from_static("true"));
    }
    response
}
