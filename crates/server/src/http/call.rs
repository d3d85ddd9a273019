//! A request on its way to its operation: the shape of what was sent, the permission, the idempotency key, the one
//! transaction, and the answer (idempotency 11, 12).

use super::framing::{BodyRefusal, read_body};
use super::gate::{Admitted, BodyTaken, REPLAYED};
use super::idempotency::fingerprint;
use super::problem::{self, answer, refuse, refuse_early};
use super::state::Shared;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use cuenta_engine::idempotency::{self, Found, IdempotencyKey, RECORD, StoredAnswer};
use cuenta_engine::input::{self, Fields};
use cuenta_engine::json::{self, Json};
use cuenta_engine::pages::{Query, no_parameters};
use cuenta_engine::{Access, Caller, Error, Kind, Scope};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How often a write is begun again because another server stored an answer under its key in the meantime.
const RACES: usize = 3;
/// The longest name in a path, in bytes: 255 characters of four bytes.
const LONGEST_SEGMENT: usize = 1_020;

/// An admitted request.
pub struct Call {
    server: Shared,
    admitted: Admitted,
    parts: Parts,
    body: Body,
}

impl FromRequest<Shared> for Call {
    type Rejection = Infallible;

    async fn from_request(request: Request, server: &Shared) -> Result<Self, Infallible> {
        let (mut parts, body) = request.into_parts();
        let admitted = parts.extensions.remove::<Admitted>().unwrap_or_else(|| Admitted::nobody(&"".into()));
        Ok(Call { server: server.clone(), admitted, parts, body })
    }
}

impl Admitted {
    /// A caller that sees nothing: whoever asks for a public document.
    pub(super) fn nobody(request_id: &Arc<str>) -> Self {
        let caller = Caller {
            organization_id: "".into(),
            key_id: "".into(),
            access: Access::Read,
            is_sandbox: false,
            request_id: Arc::clone(request_id),
        };
        Admitted { caller, idempotency_key: None }
    }
}

/// What an operation gives back.
pub enum Done<T> {
    /// 200 with this body.
    Body(T),
    /// 204.
    Nothing,
}

impl Call {
    /// The name at this place of the path, decoded. A name that is empty, too long, not UTF-8, badly encoded or with
    /// control characters is given as an empty one, which names nothing (404).
    pub fn segment(&self, at: usize) -> String {
        let raw = self.parts.uri.path().split('/').filter(|part| !part.is_empty()).nth(at).unwrap_or_default();
        decode(raw).unwrap_or_default()
    }

    /// Who asks.
    pub fn caller(&self) -> &Caller {
        &self.admitted.caller
    }

    /// Answers a read: `read` takes the query string, `work` runs on one unchanging state of the database.
    pub async fn read<I, T>(
        self,
        read: impl FnOnce(&Query) -> Result<I, Error>,
        mut work: impl FnMut(&mut Scope, &I) -> Result<T, Error> + Send + 'static,
    ) -> Response
    where
        I: Send + 'static,
        T: Serialize + Send + 'static,
    {
        let caller = self.admitted.caller;
        let request_id = caller.request_id.clone();
        let input = match query(&self.parts).and_then(|query| read(&query)) {
            Ok(input) => input,
            Err(error) => return refuse(&error, &request_id),
        };
        let result =
            self.server.database.read(move |transaction| work(&mut Scope::open(transaction, &caller)?, &input));
        let result = within(self.server.limits.answer, result).await;
        respond(&result.map(Done::Body), &request_id)
    }

    /// Answers a write with a body: `read` takes it, `work` runs in one transaction.
    pub async fn write<I, T>(
        mut self,
        read: impl Fn(&mut Fields<'_>) -> Option<I>,
        mut work: impl FnMut(&mut Scope, &I) -> Result<T, Error> + Send + 'static,
    ) -> Response
    where
        I: Clone + Send + 'static,
        T: Serialize + Send + 'static,
    {
        let request_id = self.admitted.caller.request_id.clone();
        let body = match self.json_body().await {
            Ok(body) => body,
            Err(response) => return *response,
        };
        let unknown = self.server.unknown_properties;
        let input =
            no_parameters_of(&self.parts).and_then(|()| input::read(&body, unknown, read).map_err(Error::from));
        match input {
            Ok(input) => {
                let work = move |scope: &mut Scope| work(scope, &input).map(Done::Body);
                self.change(Some(&body), work).await
            }
            Err(error) => refuse(&error, &request_id),
        }
    }

    /// Answers a write without a body, and with none in the answer.
    pub async fn delete(
        mut self,
        mut work: impl FnMut(&mut Scope) -> Result<(), Error> + Send + 'static,
    ) -> Response {
        let request_id = self.admitted.caller.request_id.clone();
        match self.bytes().await {
            Ok(bytes) if bytes.trim_ascii().is_empty() => {}
            Ok(_) => {
                let detail = "This operation takes no body";
                return refuse_early(StatusCode::BAD_REQUEST, "unexpected_body", detail, &request_id);
            }
            Err(response) => return *response,
        }
        if let Err(error) = no_parameters_of(&self.parts) {
            return refuse(&error, &request_id);
        }
        self.change(None, move |scope: &mut Scope| work(scope).map(|()| Done::<()>::Nothing)).await
    }

    /// Permission, idempotency key, transaction, answer.
    async fn change<T: Serialize + Send + 'static>(
        self,
        body: Option<&Json>,
        mut work: impl FnMut(&mut Scope) -> Result<Done<T>, Error> + Send + 'static,
    ) -> Response {
        let Admitted { caller, idempotency_key } = self.admitted.clone();
        let request_id = caller.request_id.clone();
        if caller.access == Access::Read {
            let detail = "This key may only read; a key of the scope `full` may write";
            return refuse(&Error::new(Kind::Forbidden, "insufficient_scope", detail), &request_id);
        }
        let Some(key) = idempotency_key else {
            let result = self.server.database.write(move |transaction| work(&mut Scope::open(transaction, &caller)?));
            return respond(&within(self.server.limits.answer, result).await, &request_id);
        };
        let query = query(&self.parts).unwrap_or_default();
        let (method, path) = (self.parts.method.as_str(), self.parts.uri.path());
        let version = self.parts.headers.get("alguna-version").map_or("", |value| value.to_str().unwrap_or(""));
        let fingerprint = fingerprint(method, path, &query, version, body);
        let key = IdempotencyKey { key, fingerprint, replaces_expired: false };
        let run = self.server.clone().run_with_key(caller, key, work);
        match within(self.server.limits.answer, run).await {
            Ok((stored, replayed)) => stored_answer(stored, replayed),
            Err(error) => refuse(&error, &request_id),
        }
    }

    async fn bytes(&mut self) -> Result<Bytes, Box<Response>> {
        let body = std::mem::replace(&mut self.body, Body::empty());
        let request_id = &self.admitted.caller.request_id;
        let read = read_body(body, self.server.limits.body).await;
        if let (Ok(_), Some(taken)) = (&read, self.parts.extensions.get::<BodyTaken>()) {
            taken.0.store(true, Ordering::Release);
        }
        read.map_err(|refusal| {
            let code = match refusal {
                BodyRefusal::TooLarge => "body_too_large",
                BodyRefusal::TimedOut => "body_timeout",
                BodyRefusal::Broken => "body_broken",
            };
            let mut response = refuse_early(refusal.status(), code, &refusal.to_string(), request_id);
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            Box::new(response)
        })
    }

    async fn json_body(&mut self) -> Result<Json, Box<Response>> {
        let request_id = self.admitted.caller.request_id.clone();
        let media = media_type(&self.parts);
        let unsupported = |detail: &str| {
            Box::new(refuse_early(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail, &request_id))
        };
        if media == Media::Other {
            return Err(unsupported("The body must be JSON in UTF-8: send `Content-Type: application/json`"));
        }
        if media == Media::Encoded {
            return Err(unsupported("The body must not be compressed: leave out Content-Encoding"));
        }
        let bytes = self.bytes().await?;
        let parsed = json::parse(&bytes).map_err(Error::from);
        match parsed {
            Ok(body @ Json::Object(_)) => Ok(body),
            Ok(body) if media == Media::Json => Ok(body),
            // curl calls every body a form; one that is no JSON object really may be one (D-003 f., media types).
            _ if media == Media::Form => {
                Err(unsupported("The body must be a JSON object: send `Content-Type: application/json`"))
            }
            Ok(body) => Ok(body),
            Err(error) => Err(Box::new(refuse(&error, &request_id))),
        }
    }
}

impl super::state::Server {
    /// Runs a write under its key, or finds the answer that it had before. The flag says which.
    async fn run_with_key<T: Serialize + Send + 'static>(
        self: Shared,
        caller: Caller,
        key: IdempotencyKey,
        work: impl FnMut(&mut Scope) -> Result<Done<T>, Error> + Send + 'static,
    ) -> Result<(StoredAnswer, bool), Error> {
        let mut work = Some(work);
        for _ in 0..RACES {
            let (looking, wanted) = (caller.clone(), key.clone());
            let found = self
                .database
                .read(move |transaction| idempotency::look_up(&mut Scope::open(transaction, &looking)?, &wanted))
                .await?;
            let key = match found {
                Found::Replay(stored) => return Ok((stored, true)),
                Found::Mismatch => {
                    let message = "This Idempotency-Key was used for another request; a new request needs a new key";
                    return Err(Error::refused_state("idempotency_key_reused", message));
                }
                Found::Nothing => key.clone(),
                Found::Expired => IdempotencyKey { replaces_expired: true, ..key.clone() },
            };
            // Looked up before it is taken: replays of a finished request must not meet each other here.
            let Some(flight) = self.in_flight.enter(&caller.organization_id, &key.key) else {
                return Err(cuenta_store::Error::Claimed.into());
            };
            let Some(mut work) = work.take() else { break };
            let running = caller.clone();
            let result = self.database.write(move |transaction| {
                let _flight = &flight;
                let request_id = &*running.request_id;
                let scope = &mut Scope::open(transaction, &running)?;
                idempotency::run(scope, &key, &mut work, |result| render(result, request_id))
            });
            match result.await {
                Ok(stored) => return Ok((stored, false)),
                // Another server has answered the same key since it was looked up: the next look finds its answer.
                Err(error) if error.is_constraint(RECORD) => {}
                Err(error) => return Err(error),
            }
        }
        Err(cuenta_store::Error::Conflict("the idempotency key was taken again and again".to_owned()).into())
    }
}

/// The answer to a result, in the form in which it is stored and sent.
fn render<T: Serialize>(result: &Result<Done<T>, Error>, request_id: &str) -> StoredAnswer {
    match result {
        Ok(Done::Body(value)) => match serde_json::to_vec(value) {
            Ok(body) => StoredAnswer { status: 200, body },
            Err(error) => render::<T>(&Err(Error::internal(error)), request_id),
        },
        Ok(Done::Nothing) => StoredAnswer { status: 204, body: Vec::new() },
        Err(error) => {
            let status = problem::status(error.kind());
            let body = problem::body(status, error.code(), error.message(), error.fields(), request_id);
            StoredAnswer { status: status.as_u16(), body }
        }
    }
}

fn respond<T: Serialize>(result: &Result<Done<T>, Error>, request_id: &str) -> Response {
    match result {
        Err(error) => refuse(error, request_id),
        Ok(_) => {
            let StoredAnswer { status, body } = render(result, request_id);
            answer(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body)
        }
    }
}

fn stored_answer(stored: StoredAnswer, replayed: bool) -> Response {
    let status = StatusCode::from_u16(stored.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = answer(status, stored.body);
    if replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// Waits for an answer as long as a request may take. What was begun goes on to its end: the caller may ask again with
/// the same key.
async fn within<T>(longest: std::time::Duration, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(longest, answer).await.unwrap_or_else(|_| {
        Err(Error::unavailable(
            "timed_out",
            "The answer took too long; repeat the request with the same Idempotency-Key",
        ))
    })
}

fn no_parameters_of(parts: &Parts) -> Result<(), Error> {
    query(parts).and_then(|query| no_parameters(&query))
}

/// The query string, decoded. Broken encoding is 400.
fn query(parts: &Parts) -> Result<Query, Error> {
    let text = parts.uri.query().unwrap_or_default();
    let mut pairs = Vec::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (decode_query(name), decode_query(value)) {
            (Some(name), Some(value)) => pairs.push((name, value)),
            _ => {
                let message = "The query string is not UTF-8 in percent-encoding";
                return Err(Error::new(Kind::Invalid, "invalid_query", message));
            }
        }
    }
    Ok(Query(pairs))
}

fn decode_query(text: &str) -> Option<String> {
    if !well_encoded(text) {
        return None;
    }
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

fn well_encoded(text: &str) -> bool {
    let mut parts = text.split('%');
    parts.next();
    parts.all(|part| part.len() >= 2 && part.bytes().take(2).all(|byte| byte.is_ascii_hexdigit()))
}

fn decode(segment: &str) -> Option<String> {
    if segment.is_empty() || !well_encoded(segment) {
        return None;
    }
    let name = percent_decode_str(segment).decode_utf8().ok()?;
    let usable = name.len() <= LONGEST_SEGMENT && !name.chars().any(char::is_control);
    usable.then(|| name.into_owned())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Media {
    Json,
    /// What curl sends when it is told nothing else.
    Form,
    Encoded,
    Other,
}

fn media_type(parts: &Parts) -> Media {
    let encoding = parts.headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes);
    if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case(b"identity")) {
        return Media::Encoded;
    }
    let text = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut pieces = text.split(';').map(str::trim);
    let kind = pieces.next().unwrap_or_default().to_ascii_lowercase();
    let utf8 = pieces.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => parameter.is_empty(),
    });
    match kind.as_str() {
        "application/json" if utf8 => Media::Json,
        "application/x-www-form-urlencoded" if utf8 => Media::Form,
        _ => Media::Other,
    }
}
