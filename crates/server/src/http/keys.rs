//! Who asks: keys are looked up, remembered for a second, and limited (D-004, D-015).

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use cuenta_engine::organizations::{KeyRecord, find_key};
use cuenta_engine::{Caller, Error};
use cuenta_store::Database;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// How long a key is believed without asking the database. `cuenta keys revoke` waits this long before it returns, so
/// that a revocation holds on every server from then on.
pub const BELIEVED_FOR: Duration = Duration::from_millis(1_000);
/// How many keys are remembered.
const REMEMBERED: usize = 10_000;

type Limiter = RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>;

/// The keys that were seen lately.
pub struct Keys {
    database: Database,
    known: RwLock<HashMap<String, Known>>,
    quota: Option<NonZeroU32>,
}

#[derive(Clone)]
struct Known {
    record: KeyRecord,
    limiter: Option<Arc<Limiter>>,
    checked: Instant,
}

/// Why a request is not from anybody.
pub enum Denied {
    /// 401 without an error code: no credentials were sent.
    Missing,
    /// 400: the header is not `Bearer`, a space and one token.
    Malformed,
    /// 401: unknown, revoked, or the secret is wrong.
    Invalid,
    /// The database could not be asked.
    Unavailable(Error),
}

/// The state of a caller's rate limit after this request.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// Requests per second.
    pub limit: u32,
    /// How many more may follow at once.
    pub remaining: u32,
    /// Seconds to wait when there is none left; nothing when this request is allowed.
    pub wait: Option<u64>,
}

impl Keys {
    /// Keys of this database, each limited to so many requests a second; 0 is no limit.
    pub fn new(database: Database, rate_limit: u32) -> Self {
        Keys { database, known: RwLock::new(HashMap::new()), quota: NonZeroU32::new(rate_limit) }
    }

    /// Finds out who asks, and what is left of their allowance.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<(Caller, Option<Allowance>), Denied> {
        let token = bearer_token(headers)?;
        let (id, secret) = token.split_once('.').ok_or(Denied::Invalid)?;
        let known = match self.remembered(id) {
            Some(known) => known,
            None => self.look_up(id).await?,
        };
        let caller = known.record.verify(secret).ok_or(Denied::Invalid)?.clone();
        Ok((caller, known.limiter.as_ref().zip(self.quota).map(|(limiter, quota)| allowance(limiter, quota))))
    }

    fn remembered(&self, id: &str) -> Option<Known> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(id).filter(|known| known.checked.elapsed() < BELIEVED_FOR).cloned()
    }

    async fn look_up(&self, id: &str) -> Result<Known, Denied> {
        let asked = Instant::now();
        let wanted = id.to_owned();
        let record = self.database.read(move |transaction| find_key(transaction, &wanted)).await;
        let record = record.map_err(Denied::Unavailable)?;
        let mut remembered = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let Some(record) = record else {
            remembered.remove(id);
            return Err(Denied::Invalid);
        };
        if remembered.len() >= REMEMBERED {
            remembered.clear();
        }
        let limiter = match remembered.get(id) {
            Some(before) => before.limiter.clone(),
            None => self.quota.map(|quota| {
                let limiter = RateLimiter::direct(Quota::per_second(quota));
                Arc::new(limiter.with_middleware::<StateInformationMiddleware>())
            }),
        };
        let known = Known { record, limiter, checked: asked };
        remembered.insert(id.to_owned(), known.clone());
        Ok(known)
    }
}

fn allowance(limiter: &Limiter, quota: NonZeroU32) -> Allowance {
    match limiter.check() {
        Ok(state) => Allowance { limit: quota.get(), remaining: state.remaining_burst_capacity(), wait: None },
        Err(until) => {
            let wait = until.wait_time_from(DefaultClock::default().now());
            // A client that comes back too early is refused again, and one that reads 0 does not wait at all.
            let seconds = wait.as_secs().saturating_add(1);
            Allowance { limit: quota.get(), remaining: 0, wait: Some(seconds) }
        }
    }
}

fn bearer_token(headers: &HeaderMap) -> Result<&str, Denied> {
    let header = headers.get(header::AUTHORIZATION).ok_or(Denied::Missing)?;
    let text = header.to_str().map_err(|_| Denied::Malformed)?;
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Denied::Missing);
    }
    let token = token.trim();
    if token.is_empty() || token.contains([' ', ',']) { Err(Denied::Malformed) } else { Ok(token) }
}

impl Denied {
    /// Status, code, explanation and challenge (RFC 6750) of the refusal; the database's own error is not among them.
    pub fn parts(&self) -> (StatusCode, &'static str, &'static str, HeaderValue) {
        match self {
            Denied::Malformed => (
                StatusCode::BAD_REQUEST,
                "invalid_request",
                "The Authorization header must be `Bearer`, a space and one key: `<key_id>.<key_secret>`",
                HeaderValue::from_static(r#"Bearer realm="api", error="invalid_request""#),
            ),
            Denied::Invalid => (
                StatusCode::UNAUTHORIZED,
                "unauthenticated",
                "This API key is not valid: it is unknown or revoked; `cuenta keys create` makes one",
                HeaderValue::from_static(r#"Bearer realm="api", error="invalid_token""#),
            ),
            Denied::Missing | Denied::Unavailable(_) => (
                StatusCode::UNAUTHORIZED,
                "unauthenticated",
                "The request carries no API key; send `Authorization: Bearer <key_id>.<key_secret>`",
                HeaderValue::from_static(r#"Bearer realm="api""#),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(value: &str) -> Result<String, Denied> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        bearer_token(&headers).map(str::to_owned)
    }

    #[test]
    fn a_bearer_token_is_one_word() {
        assert_eq!(token("Bearer a.b").ok().as_deref(), Some("a.b"));
        assert_eq!(token("bearer a.b").ok().as_deref(), Some("a.b"));
        assert!(matches!(token("Basic a.b"), Err(Denied::Missing)));
        assert!(matches!(token("Bearer "), Err(Denied::Malformed)));
        assert!(matches!(token("Bearer a b"), Err(Denied::Malformed)));
        assert!(matches!(bearer_token(&HeaderMap::new()), Err(Denied::Missing)));
    }
}
