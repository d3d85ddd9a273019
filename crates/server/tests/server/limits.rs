//! How much, how large, how slow (D-013, D-015): limits that are told, and what happens behind them.

use crate::app::{Ask, PATIENCE, until_waiting};
use crate::wire::{Wire, head};
use crate::{App, Hold, check_with};
use insta::assert_snapshot;
use serde_json::json;

fn tag(app: &App) -> Ask<'_> {
    app.ask("POST", "/tags").json(&json!({"name": "a", "color": "#000000", "entity_types": ["plan"]}))
}

#[test]
fn a_key_has_its_rate() {
    check_with(&[("CUENTA_RATE_LIMIT", "3")], async |app| {
        let mut remaining = Vec::new();
        let limited = loop {
            let answer = app.get("/tags").await;
            assert_eq!(answer.header("ratelimit-policy"), "default;q=3;w=1");
            if answer.status == 429 {
                break answer;
            }
            remaining.push(answer.header("ratelimit").to_owned());
            assert!(remaining.len() < 100, "the limit is never reached");
        };
        assert_eq!(remaining[..1], ["default;r=2;t=1"]);
        assert!(remaining.len() >= 3, "a burst of a second's requests is fine: {remaining:?}");
        assert_snapshot!("rate_limited", limited.shown());
        assert_eq!((limited.header("ratelimit"), limited.header("retry-after")), ("default;r=0;t=1", "1"));
        // Every key has its own rate; who has none is told so first; the reference is for everybody.
        app.ask("GET", "/tags").key(&app.second_key).send().await.body(200);
        app.ask("GET", "/tags").key("key_x.y").send().await.refused(401, "unauthenticated");
        app.ask("GET", "/openapi.json").send().await.body(200);
        let recovered = async {
            while app.get("/tags").await.status == 429 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, recovered).await.expect("the rate recovers");
    });
}

/// Idempotency 31 and 18: replays count, and 429 is not stored.
#[test]
fn replays_count_and_a_limit_is_no_answer() {
    check_with(&[("CUENTA_RATE_LIMIT", "2")], async |app| {
        tag(app).idempotent("k").send().await.body(200);
        let limited = loop {
            let answer = tag(app).idempotent("k").send().await;
            if answer.status == 429 {
                break answer;
            }
            assert_eq!(answer.header("idempotent-replayed"), "true");
        };
        assert_eq!((limited.header("idempotency-key"), limited.header("idempotent-replayed")), ("k", "false"));
        let again = tag(app).key(&app.second_key).idempotent("k").send().await;
        assert_eq!((again.status, again.header("idempotent-replayed")), (200, "true"));
    });
}

#[test]
fn without_a_limit_nothing_is_counted() {
    check_with(&[("CUENTA_RATE_LIMIT", "0")], async |app| {
        for _ in 0..150 {
            let answer = app.get("/tags").await;
            answer.body(200);
            assert!(!answer.headers.contains_key("ratelimit") && !answer.headers.contains_key("ratelimit-policy"));
        }
    });
}

#[test]
fn a_body_has_a_largest_size() {
    check_with(&[("CUENTA_MAX_BODY_BYTES", "1024")], async |app| {
        let sized = |size: usize| {
            let empty = json!({"provider": "x", "description": ""}).to_string().len();
            let body = json!({"provider": "x", "description": "d".repeat(size - empty)}).to_string();
            assert_eq!(body.len(), size);
            app.ask("POST", "/integrations").header("content-type", "application/json").bytes(body)
        };
        sized(1_024).send().await.body(200);
        assert_snapshot!("body_too_large", sized(1_025).idempotent("k").send().await.shown());
        assert_eq!((app.count("integrations").await, app.count("idempotency_keys").await), (1, 0));
        let mut wire = Wire::open(app).await;
        let more = ["Content-Type: application/json", "Transfer-Encoding: chunked"];
        wire.send(head(app, "POST /integrations", &more).as_bytes()).await;
        // A length that nobody declared is counted as it comes.
        wire.send(format!("401\r\n{}\r\n0\r\n\r\n", " ".repeat(1_025)).as_bytes()).await;
        let answer = wire.rest().await;
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("body_too_large"), "{answer}");
    });
}

#[test]
fn a_large_body_that_was_announced_is_not_waited_for() {
    check_with(&[], async |app| {
        let mut wire = Wire::open(app).await;
        let more = ["Content-Type: application/json", "Content-Length: 1048577", "Expect: 100-continue"];
        wire.send(head(app, "POST /tags", &more).as_bytes()).await;
        let answer = wire.rest().await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "nothing of the body was asked for: {answer}");
    });
}

#[test]
fn a_body_that_does_not_come_is_408() {
    check_with(&[("CUENTA_BODY_TIMEOUT_MS", "100")], async |app| {
        let mut wire = Wire::open(app).await;
        let more = ["Content-Type: application/json", "Content-Length: 10"];
        wire.send(head(app, "POST /tags", &more).as_bytes()).await;
        wire.send(b"{").await;
        let answer = wire.rest().await;
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("body_timeout"), "{answer}");
        assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
    });
}

#[test]
fn heads_have_a_largest_size() {
    check_with(&[("CUENTA_MAX_HEADER_BYTES", "1024"), ("CUENTA_MAX_URI_BYTES", "256")], async |app| {
        let long = app.ask("GET", &format!("/customers?alias={}", "x".repeat(300))).send().await;
        assert_snapshot!("uri_too_long", long.shown());
        let wide = app.ask("GET", "/customers").header("x-wide", "x".repeat(1_024)).send().await;
        assert_snapshot!("headers_too_large", wide.shown());
        app.ask("GET", "/customers").header("x-wide", "x".repeat(500)).send().await.body(200);
        // Far beyond, where the request is not read to its end.
        let mut wire = Wire::open(app).await;
        wire.send(head(app, "GET /customers", &[&format!("X-Wide: {}", "x".repeat(50_000))]).as_bytes()).await;
        let answer = wire.rest().await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    });
}

#[test]
fn an_answer_that_takes_too_long_is_503_and_its_work_goes_on() {
    check_with(&[("CUENTA_REQUEST_TIMEOUT_MS", "100")], async |app| {
        let hold = Hold::begin(app).await;
        let late = tag(app).idempotent("k").send().await;
        assert_snapshot!("timed_out", late.shown());
        tag(app).idempotent("k").send().await.refused(409, "idempotency_key_in_flight");
        hold.release().await;
        let again = loop {
            let again = tag(app).idempotent("k").send().await;
            if again.status != 409 {
                break again;
            }
        };
        assert_eq!((again.status, again.header("idempotent-replayed")), (200, "true"));
        assert_eq!(app.count("tags").await, 1);
    });
}

#[test]
fn a_full_queue_is_503() {
    check_with(&[("CUENTA_DATABASE_QUEUE", "1")], async |app| {
        let hold = Hold::begin(app).await;
        let waiting = tag(app).send();
        let crowd = async {
            until_waiting(app, 1).await;
            let refused = tag(app).idempotent("k").send().await;
            assert_snapshot!("queue_full", refused.shown());
            hold.release().await;
        };
        let (waited, ()) = tokio::join!(waiting, crowd);
        waited.body(200);
        // The key is free: 503 is not stored.
        let done = tag(app).idempotent("k").send().await;
        assert_eq!((done.status, done.header("idempotent-replayed")), (200, "false"));
    });
}

#[test]
fn unknown_properties_may_be_ignored_by_setting() {
    check_with(&[("CUENTA_UNKNOWN_PROPERTIES", "ignore")], async |app| {
        let body = json!({"provider": "x", "providre": "y"}).to_string();
        // The document describes the default; this request is outside of it.
        let mut wire = Wire::open(app).await;
        let length = format!("Content-Length: {}", body.len());
        let head = head(app, "POST /integrations", &["Content-Type: application/json", "Connection: close", &length]);
        wire.send(format!("{head}{body}").as_bytes()).await;
        let answer = wire.rest().await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    });
}
