//! What all requests share.

use super::framing::{BodyLimits, HeadLimits};
use super::idempotency::InFlight;
use super::keys::Keys;
use crate::config::{self, Config, LogRequests};
use crate::numbers::Numbers;
use cuenta_engine::ids;
use cuenta_engine::input::UnknownProperties;
use cuenta_store::Database;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The shared state behind every operation.
pub type Shared = Arc<Server>;

/// How large and how slow a request may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of the head.
    pub head: HeadLimits,
    /// Of the body.
    pub body: BodyLimits,
    /// From the last byte of the request to the answer.
    pub answer: Duration,
}

/// What all requests share.
pub struct Server {
    /// The database.
    pub database: Database,
    /// Who may ask.
    pub keys: Keys,
    /// Which idempotency keys run.
    pub in_flight: InFlight,
    /// How large and slow a request may be.
    pub limits: Limits,
    /// What happens to unknown properties (D-005).
    pub unknown_properties: UnknownProperties,
    /// Which requests get a log line.
    pub log_requests: LogRequests,
    /// Counters for operators.
    pub numbers: Numbers,
    request_id_prefix: String,
    requests: AtomicU64,
}

impl Server {
    /// Puts the parts together.
    pub fn new(database: Database, config: &Config) -> Self {
        let http = &config.http;
        Server {
            keys: Keys::new(database.clone(), config.api.rate_limit),
            database,
            in_flight: InFlight::default(),
            limits: Limits {
                head: HeadLimits { max_header_bytes: http.max_header_bytes, max_uri_bytes: http.max_uri_bytes },
                body: BodyLimits {
                    max_bytes: http.max_body_bytes,
                    timeout: Duration::from_millis(http.body_timeout_ms),
                },
                answer: Duration::from_millis(http.request_timeout_ms),
            },
            unknown_properties: match config.api.unknown_properties {
                config::UnknownProperties::Refuse => UnknownProperties::Refuse,
                config::UnknownProperties::Ignore => UnknownProperties::Ignore,
            },
            log_requests: config.log.requests,
            numbers: Numbers,
            request_id_prefix: ids::secret().chars().take(10).collect(),
            requests: AtomicU64::new(0),
        }
    }

    /// `req_`, ten characters of this process, and a number: unique and short.
    pub fn next_request_id(&self) -> String {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        format!("req_{}{number:08x}", self.request_id_prefix)
    }
}
