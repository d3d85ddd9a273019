//! What operators and their machines ask: is it alive, is it ready, how is it doing. Kept apart from the API so that it
//! can listen where customers cannot reach.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::time::timeout;

/// Longer than a healthy database ever takes, shorter than the patience of the usual probes.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

const PATHS: &str = "There is nothing here. Ask for /healthz, /readyz or /metrics.\n";

/// The answer of a readiness probe: `Err` says why not.
pub type Readiness = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Whether the database can read and write, asked anew each time.
pub type Probe = Arc<dyn Fn() -> Readiness + Send + Sync>;

/// What the admin listener looks at.
#[derive(Clone)]
pub struct Admin {
    /// Reads and writes the database.
    pub probe: Probe,
    /// Set when the process was told to stop.
    pub draining: Arc<AtomicBool>,
    /// The numbers.
    pub metrics: PrometheusHandle,
}

/// The routes.
pub fn router(admin: Admin) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(|| async { text(StatusCode::NOT_FOUND, PATHS.to_owned()) })
        .with_state(admin)
}

/// 200 while the process runs, whatever the database does: a restart would not cure the database.
async fn healthz() -> Response {
    text(StatusCode::OK, "ok\n".to_owned())
}

/// 200 when a request would be served, else 503 with the reason.
async fn readyz(State(admin): State<Admin>) -> Response {
    if admin.draining.load(Ordering::Acquire) {
        return text(StatusCode::SERVICE_UNAVAILABLE, "draining: the server is shutting down\n".to_owned());
    }
    let reason = match timeout(PROBE_TIMEOUT, (admin.probe)()).await {
        Ok(Ok(())) => return text(StatusCode::OK, "ok\n".to_owned()),
        Ok(Err(reason)) => reason,
        Err(_) => format!("the database did not answer within {} ms", PROBE_TIMEOUT.as_millis()),
    };
    text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n"))
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, admin.metrics.render()).into_response()
}

fn text(status: StatusCode, body: String) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (status, kind, body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use http::{Method, Request};
    use http_body_util::BodyExt;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use tower::Service;

    fn admin(probe: Probe) -> Admin {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || metrics::counter!("things_total").increment(3));
        Admin { probe, draining: Arc::default(), metrics: recorder.handle() }
    }

    fn probe(answer: Result<(), String>) -> Probe {
        Arc::new(move || Box::pin(std::future::ready(answer.clone())))
    }

    async fn ask(admin: &Admin, method: Method, path: &str) -> (u16, String) {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let response = router(admin.clone()).call(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn the_three_paths() {
        let ready = admin(probe(Ok(())));
        assert_eq!(ask(&ready, Method::GET, "/healthz").await, (200, "ok\n".to_owned()));
        assert_eq!(ask(&ready, Method::GET, "/readyz").await, (200, "ok\n".to_owned()));
        let (status, numbers) = ask(&ready, Method::GET, "/metrics").await;
        assert_eq!(status, 200);
        assert!(numbers.contains("things_total 3"), "{numbers}");
        let (status, help) = ask(&ready, Method::GET, "/else").await;
        assert_eq!(status, 404);
        assert!(["/healthz", "/readyz", "/metrics"].iter().all(|path| help.contains(path)), "{help}");
        assert_eq!(ask(&ready, Method::HEAD, "/healthz").await, (200, String::new()));
        assert_eq!(ask(&ready, Method::POST, "/healthz").await.0, 405);
    }

    #[tokio::test]
    async fn readiness_says_why_not() {
        let broken = admin(probe(Err("the database is read-only".to_owned())));
        assert_eq!(
            ask(&broken, Method::GET, "/readyz").await,
            (503, "not ready: the database is read-only\n".to_owned())
        );
        assert_eq!(ask(&broken, Method::GET, "/healthz").await.0, 200);
        let leaving = admin(probe(Ok(())));
        leaving.draining.store(true, Ordering::Release);
        let (status, reason) = ask(&leaving, Method::GET, "/readyz").await;
        assert!(status == 503 && reason.contains("draining"), "{reason}");
    }

    #[tokio::test]
    async fn a_silent_database_is_not_ready() {
        let silent = admin(Arc::new(|| Box::pin(std::future::pending())));
        let (status, reason) = ask(&silent, Method::GET, "/readyz").await;
        assert!(status == 503 && reason.contains("2000 ms"), "{reason}");
    }
}
