//! What is refused before and around the operations (contract sections 1 and 4, D-002 to D-005, idempotency 11).

use crate::app::Ask;
use crate::wire::{Wire, head};
use crate::{App, check};
use insta::assert_snapshot;
use serde_json::json;

fn customer() -> serde_json::Value {
    json!({"name": "A", "currency": "USD"})
}

fn create(app: &App) -> Ask<'_> {
    app.ask("POST", "/customers").json(&customer())
}

#[test]
fn who_asks_must_be_known() {
    check(async |app| {
        let plain = || app.ask("GET", "/customers").without("authorization");
        assert_snapshot!("no_key", plain().send().await.shown());
        assert_snapshot!("wrong_key", plain().header("authorization", "Bearer key_x.y").send().await.shown());
        let (id, secret) = app.key.split_once('.').unwrap();
        let wrong = [
            format!("{id}.{}", &secret[1..]),
            format!("{id}."),
            id.to_owned(),
            format!(".{secret}"),
            secret.to_owned(),
            format!("{id}.{secret}x"),
            format!("{}.{secret}", id.to_uppercase()),
        ];
        for key in wrong {
            let refused = plain().key(&key).send().await;
            refused.refused(401, "unauthenticated");
            assert!(refused.header("www-authenticate").contains("invalid_token"), "{refused:?}");
            assert_eq!(refused.json()["message"], refused.json()["detail"], "both shapes at once (D-004)");
        }
        for header in ["Basic abc", "Bearer", "bearer"] {
            let refused = plain().header("authorization", header).send().await;
            assert!(matches!(refused.status, 400 | 401), "{header}: {refused:?}");
        }
        for header in [format!("Bearer {id}.{secret} x"), format!("Bearer {}, {}", app.key, app.key)] {
            plain().header("authorization", header).send().await.refused(400, "invalid_request");
        }
        let twice = app.ask("GET", "/customers").header("authorization", format!("Bearer {}", app.key)).send().await;
        twice.refused(400, "header_repeated");
        plain().header("authorization", format!("bearer {}", app.key)).send().await.body(200);
        // A path that does not exist tells strangers nothing.
        app.ask("GET", "/nowhere").without("authorization").send().await.refused(401, "unauthenticated");
    });
}

#[test]
fn a_key_for_reading_cannot_write() {
    check(async |app| {
        app.customer(&["a"]).await;
        app.ask("GET", "/customers/a").key(&app.reader).send().await.body(200);
        assert_snapshot!("read_only_key", create(app).key(&app.reader).send().await.shown());
        for (method, path) in [
            ("PATCH", "/customers/a"),
            ("POST", "/customers/nobody/connected-accounts"),
            ("POST", "/test-clock/advance"),
        ] {
            let body = match path {
                "/test-clock/advance" => json!({"to": "2090-01-01T00:00:00Z"}),
                "/customers/a" => json!({"name": "B"}),
                _ => json!({"integration_id": "i", "external_id": "e"}),
            };
            app.ask(method, path).key(&app.reader).json(&body).send().await.refused(403, "insufficient_scope");
        }
        let delete = app.ask("DELETE", "/customers/a/connected-accounts/x").key(&app.reader).send().await;
        delete.refused(403, "insufficient_scope");
        // The shape comes before the permission.
        let malformed = app.ask("POST", "/customers").key(&app.reader).json(&json!({})).send().await;
        malformed.refused(400, "validation_failed");
        assert_eq!(app.count("customers").await, 1);
    });
}

#[test]
fn a_version_must_be_named() {
    check(async |app| {
        let without = app.ask("GET", "/customers").without("alguna-version");
        assert_snapshot!("no_version", without.clone().send().await.shown());
        for version in ["", "2026-04-02", "2026-04-01 ", "v2", "latest"] {
            let answer = without.clone().header("alguna-version", version).send().await;
            if version.trim() == "2026-04-01" {
                answer.body(200);
            } else {
                assert!(answer.refused(400, "unknown_version").contains("2026-04-01"));
            }
        }
        let twice = app.ask("GET", "/customers").header("alguna-version", "2026-04-01").send().await;
        twice.refused(400, "header_repeated");
        without.without("authorization").send().await.refused(401, "unauthenticated");
    });
}

#[test]
fn what_is_not_there_is_told_from_what_cannot_be_done_there() {
    check(async |app| {
        assert_snapshot!("no_such_path", app.get("/nowhere").await.shown());
        assert_snapshot!("no_such_method", app.ask("DELETE", "/customers").send().await.shown());
        for (method, path, allow) in [
            ("PUT", "/customers/x", "GET,HEAD,PATCH"),
            ("POST", "/customers/lookup", "GET,HEAD"),
            ("DELETE", "/tags/x", "GET,HEAD"),
            ("GET", "/test-clock/advance", "POST"),
            ("POST", "/openapi.json", "GET,HEAD"),
            ("POST", "/docs", "GET,HEAD"),
        ] {
            let refused = app.ask(method, path).send().await;
            refused.refused(405, "method_not_allowed");
            let mut allowed: Vec<_> = refused.header("allow").split(',').map(str::trim).collect();
            allowed.sort_unstable();
            assert_eq!(allowed.join(","), allow, "{method} {path}");
        }
        for path in ["/docs/nowhere", "/customers/a/nowhere", "/tags/a/b", "/", "/openapi.json/"] {
            app.get(path).await.refused(404, "no_such_path");
        }
    });
}

#[test]
fn a_body_must_be_json() {
    check(async |app| {
        let body =
            |bytes: &[u8]| app.ask("POST", "/customers").header("content-type", "application/json").bytes(bytes);
        assert_snapshot!("not_json", body(br#"{"name": "A","#).send().await.shown());
        let deep = format!("{{\"metadata\": {}1{}}}", "[".repeat(40), "]".repeat(40));
        let broken: [&[u8]; 12] = [
            b"",
            b" ",
            b"{}{}",
            b"{'name': 1}",
            b"nul",
            b"{\"a\": 01}",
            b"{\"a\": NaN}",
            b"\xff{}",
            b"\xef\xbb\xbf{}",
            b"{\"name\": \"A\", \"name\": \"B\", \"currency\": \"USD\"}",
            b"{\"name\": \"\\ud800\"}",
            deep.as_bytes(),
        ];
        for bytes in broken {
            body(bytes).send().await.refused(400, "invalid_json");
        }
        for other in ["[]", "null", "\"x\"", "1"] {
            body(other.as_bytes()).send().await.refused(400, "validation_failed");
        }
        assert_eq!(app.count("customers").await, 0);
    });
}

#[test]
fn a_body_must_say_what_it_is() {
    check(async |app| {
        let with =
            |kind: &str| app.ask("POST", "/customers").header("content-type", kind).bytes(customer().to_string());
        assert_snapshot!("not_a_media_type", with("text/xml").send().await.shown());
        // curl calls every body a form, and the vendor's samples send it so.
        for kind in [
            "application/json; charset=utf-8",
            "application/JSON;charset=\"UTF-8\"",
            "application/x-www-form-urlencoded",
        ] {
            with(kind).send().await.body(200);
        }
        for kind in [
            "",
            "text/plain",
            "application/json; charset=latin1",
            "application/json; version=2",
            "multipart/form-data; boundary=x",
        ] {
            with(kind).send().await.refused(415, "unsupported_media_type");
        }
        let form = app.ask("POST", "/customers").header("content-type", "application/x-www-form-urlencoded");
        for body in ["name=A&currency=USD", "[]", "\"x\""] {
            form.clone().bytes(body).send().await.refused(415, "unsupported_media_type");
        }
        let packed = create(app).header("content-encoding", "gzip").send().await;
        packed.refused(415, "unsupported_media_type");
        create(app).header("content-encoding", "identity").send().await.body(200);
        app.ask("POST", "/customers")
            .bytes(customer().to_string())
            .send()
            .await
            .refused(415, "unsupported_media_type");
    });
}

#[test]
fn what_an_operation_does_not_take_is_refused() {
    check(async |app| {
        let id = app.customer(&[]).await;
        let delete = app.ask("DELETE", &format!("/customers/{id}/connected-accounts/x"));
        delete.clone().bytes("{}").send().await.refused(400, "unexpected_body");
        delete.bytes(" \n").send().await.refused(404, "connected_account_not_found");
        for (method, path) in
            [("GET", "/customers/x?expand=all"), ("GET", "/tags/x?a"), ("GET", "/customers/x/entitlements?limit=1")]
        {
            app.ask(method, path).send().await.refused(400, "validation_failed");
        }
        app.ask("POST", "/customers?dry_run=true").json(&customer()).send().await.refused(400, "validation_failed");
        for query in ["alias=%ff", "alias=%2", "%zz=1"] {
            app.get(&format!("/customers?{query}")).await.refused(400, "invalid_query");
        }
        assert_eq!(app.count("customers").await, 1);
    });
}

/// The order of the checks (idempotency 11): each request here breaks a rule and all rules behind it.
#[test]
fn the_first_rule_that_is_broken_is_told() {
    check(async |app| {
        let broken = || {
            let ask = app.ask("POST", "/customers?unknown=1").without("authorization").without("alguna-version");
            ask.header("content-type", "text/xml").header("idempotency-key", "k".repeat(256)).bytes("{")
        };
        broken().header("x-odd", "\u{e9}").send().await.refused(400, "header_malformed");
        broken().send().await.refused(401, "unauthenticated");
        broken().key(&app.reader).send().await.refused(400, "unknown_version");
        let versioned = || broken().key(&app.reader).header("alguna-version", "2026-04-01");
        versioned().send().await.refused(400, "invalid_idempotency_key");
        let keyed = || versioned().without("idempotency-key").idempotent("k");
        keyed().send().await.refused(415, "unsupported_media_type");
        let typed = || keyed().without("content-type").header("content-type", "application/json");
        typed().send().await.refused(400, "invalid_json");
        typed().bytes("{}").send().await.refused(400, "validation_failed");
        let mut shaped = app.ask("POST", "/customers").key(&app.reader).idempotent("k").json(&customer());
        shaped.clone().send().await.refused(403, "insufficient_scope");
        shaped = shaped.key(&app.key);
        shaped.send().await.body(200);
    });
}

/// Requests that two readers could understand differently end their connection.
#[test]
fn an_ambiguous_request_is_refused_and_the_connection_ends() {
    check(async |app| {
        let requests = [
            (head(app, "POST /customers", &["Content-Length: 2", "Transfer-Encoding: chunked"]), "framing_ambiguous"),
            (head(app, "POST /customers", &["Transfer-Encoding: chunked, chunked"]), "transfer_encoding_malformed"),
            ("GET /customers HTTP/1.1\r\n\r\n".to_owned(), "host_missing"),
            ("GET /customers HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".to_owned(), "host_repeated"),
        ];
        for (request, code) in requests {
            let mut wire = Wire::open(app).await;
            wire.send(request.as_bytes()).await;
            let answer = wire.rest().await;
            assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains(code), "{code}: {answer}");
            assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "one answer: {answer}");
        }
    });
}
