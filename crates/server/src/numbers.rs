//! Counters and distributions for operators, in the names of Prometheus.

use axum::http::{Method, StatusCode};
use cuenta_store::Database;
use std::time::Duration;

/// Records what happens. The exporter behind it is installed by the process, or by nobody in a test.
#[derive(Clone, Copy, Debug, Default)]
pub struct Numbers;

impl Numbers {
    /// One answered request. `path` is the pattern of the route, so that the number of series stays small.
    pub fn request(&self, method: &Method, path: &str, status: StatusCode, elapsed: Duration) {
        let (method, path, status) = (known(method), path.to_owned(), status.as_u16().to_string());
        metrics::counter!("cuenta_http_requests_total", "method" => method, "path" => path.clone(), "status" => status)
            .increment(1);
        metrics::histogram!("cuenta_http_request_duration_seconds", "method" => method, "path" => path)
            .record(elapsed);
    }

    /// How much waits for the database.
    pub fn waiting(&self, database: &Database) {
        let (writes, reads) = database.waiting();
        let set = |queue: &'static str, waiting: usize| {
            let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
            metrics::gauge!("cuenta_database_waiting", "queue" => queue).set(waiting);
        };
        set("writes", writes);
        set("reads", reads);
    }

    /// So many audit entries were sealed.
    pub fn sealed(&self, entries: u64) {
        metrics::counter!("cuenta_audit_entries_sealed_total").increment(entries);
    }

    /// So many idempotency records were removed.
    pub fn swept(&self, records: u64) {
        metrics::counter!("cuenta_idempotency_keys_removed_total").increment(records);
    }
}

/// A method as a label; a caller may invent methods, and each would be a series.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
