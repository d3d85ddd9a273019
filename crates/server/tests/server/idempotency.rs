//! `Idempotency-Key` (contract, idempotency): the numbers are those of its decision table.

use crate::app::{Ask, until_waiting};
use crate::wire::{Wire, head};
use crate::{Answer, App, Hold, check};
use insta::assert_snapshot;
use serde_json::json;

fn tag(app: &App) -> Ask<'_> {
    app.ask("POST", "/tags").json(&json!({"name": "a", "color": "#000000", "entity_types": ["plan"]}))
}

#[track_caller]
fn assert_replay(first: &Answer, again: &Answer) {
    assert_eq!((again.status, &again.body), (first.status, &first.body), "the same answer, byte for byte");
    assert_eq!(again.header("content-type"), first.header("content-type"));
    assert_eq!(first.header("idempotent-replayed"), "false");
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(again.header("idempotency-key"), first.header("idempotency-key"));
    assert_ne!(again.header("x-request-id"), first.header("x-request-id"));
}

/// 12, 13, 20, 27.
#[test]
fn a_repeat_is_answered_from_the_record() {
    check(async |app| {
        let first = tag(app).idempotent("k").send().await;
        first.body(200);
        for key in [&app.key, &app.second_key] {
            let again = tag(app).key(key).idempotent("k").send().await;
            assert_replay(&first, &again);
        }
        assert_eq!((app.count("tags").await, app.count("idempotency_keys").await), (1, 1));
        let other = tag(app).idempotent("K").send().await;
        assert_ne!(other.body(200)["id"], first.json()["id"], "keys are told apart by case");
    });
}

/// 4, 27.
#[test]
fn without_a_key_nothing_is_echoed_or_stored() {
    check(async |app| {
        for ask in [tag(app), tag(app).idempotent(""), tag(app).idempotent("   ")] {
            let answer = ask.send().await;
            answer.body(200);
            assert!(
                !answer.headers.contains_key("idempotency-key")
                    && !answer.headers.contains_key("idempotent-replayed")
            );
        }
        assert_eq!((app.count("tags").await, app.count("idempotency_keys").await), (3, 0));
    });
}

/// 3.
#[test]
fn a_read_ignores_the_key() {
    check(async |app| {
        for key in ["k", "caf\u{e9}", &"k".repeat(256)] {
            let ask = app.ask("GET", "/tags").idempotent(key);
            let answer = ask.send().await;
            // What is no visible ASCII is malformed in every header.
            let expected = if key.is_ascii() { 200 } else { 400 };
            assert_eq!(
                (answer.status, answer.headers.contains_key("idempotency-key")),
                (expected, false),
                "{answer:?}"
            );
        }
        assert_eq!(app.count("idempotency_keys").await, 0);
    });
}

/// 5, 6b.
#[test]
fn the_grammar_of_a_key() {
    check(async |app| {
        let longest = "k".repeat(255);
        for key in ["a b", "\"abc\"", "~!@#$%^&*()", longest.as_str()] {
            let answer = tag(app).idempotent(&format!(" {key} ")).send().await;
            answer.body(200);
            assert_eq!(answer.header("idempotency-key"), key);
        }
        tag(app).idempotent("abc").send().await.body(200);
        assert_eq!(app.count("idempotency_keys").await, 5, "quotes are part of the key");
        let refused = [
            tag(app).idempotent(&"k".repeat(256)),
            tag(app).idempotent("a\tb"),
            tag(app).header("idempotency-key", b"a\xffb"),
            tag(app).idempotent("k").idempotent("k"),
        ];
        for ask in refused {
            let answer = ask.send().await;
            assert_eq!((answer.status, answer.headers.contains_key("idempotency-key")), (400, false), "{answer:?}");
        }
        let detail = tag(app).idempotent(&"k".repeat(256)).send().await.refused(400, "invalid_idempotency_key");
        assert!(detail.contains("255"), "{detail}");
        assert_eq!(app.count("tags").await, 5);
    });
}

/// 8, 9, 10, 14.
#[test]
fn another_request_with_the_key_is_refused() {
    check(async |app| {
        let body = br##"{"name": "a", "color": "#000000", "entity_types": ["plan"]}"##;
        let post = |body: &[u8]| {
            app.ask("POST", "/tags").header("content-type", "application/json").bytes(body).idempotent("k")
        };
        let first = post(body).send().await;
        first.body(200);
        // The same content in another spelling is the same request.
        let spelled: [&[u8]; 2] = [
            br##"{"entity_types":["plan"],"color":"#000000","name":"a"}"##,
            b"{ \"name\" : \"\\u0061\", \"color\":\"#000000\",\r\n \"entity_types\": [\"plan\"]}",
        ];
        for body in spelled {
            assert_replay(&first, &post(body).send().await);
        }
        let other = post(br##"{"name": "b", "color": "#000000", "entity_types": ["plan"]}"##).send().await;
        assert_snapshot!("mismatch", other.shown());
        app.customer(&["a"]).await;
        let elsewhere = [
            app.ask("PATCH", "/customers/a").json(&json!({"name": "B"})),
            app.ask("POST", "/integrations").json(&json!({"provider": "x"})),
            app.ask("DELETE", "/customers/a/connected-accounts/x"),
        ];
        for ask in elsewhere {
            ask.idempotent("k").send().await.refused(422, "idempotency_key_reused");
        }
        // What cannot be read has no fingerprint, and leaves the record alone.
        post(b"{").send().await.refused(400, "invalid_json");
        assert_replay(&first, &post(body).send().await);
        assert_eq!((app.count("tags").await, app.count("integrations").await), (1, 0));
    });
}

/// 7.
#[test]
fn a_key_belongs_to_its_organization() {
    check(async |app| {
        let here = tag(app).idempotent("k").send().await.body(200);
        for key in [&app.stranger, &app.sandbox] {
            let there = tag(app).key(key).idempotent("k").send().await;
            assert_ne!(there.body(200)["id"], here["id"]);
            assert_eq!(there.header("idempotent-replayed"), "false");
        }
    });
}

/// 15, 16: the first request is kept inside the database.
#[test]
fn a_repeat_of_what_still_runs_is_409_at_once() {
    check(async |app| {
        let hold = Hold::begin(app).await;
        let first = tag(app).idempotent("k").send();
        let meanwhile = async {
            until_waiting(app, 1).await;
            let again = tag(app).idempotent("k").send().await;
            assert_snapshot!("in_flight", again.shown());
            let other = app.ask("POST", "/integrations").json(&json!({"provider": "x"})).idempotent("k").send().await;
            other.refused(409, "idempotency_key_in_flight");
            assert_eq!(app.database.waiting().0, 1, "nothing was queued behind the first");
            hold.release().await;
        };
        let (first, ()) = tokio::join!(first, meanwhile);
        first.body(200);
        assert_replay(&first, &tag(app).idempotent("k").send().await);
        assert_eq!(app.count("tags").await, 1);
    });
}

/// 12, 15: however many come at once, there is one effect and one answer.
#[test]
fn a_crowd_with_one_key_has_one_effect() {
    check(async |app| {
        let crowd = (0..30).map(|_| tag(app).idempotent("k").send());
        let answers = futures_util::future::join_all(crowd).await;
        let done: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
        assert!(!done.is_empty() && done.iter().all(|answer| answer.body == done[0].body));
        assert_eq!(done.iter().filter(|answer| answer.header("idempotent-replayed") == "false").count(), 1);
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            answer.refused(409, "idempotency_key_in_flight");
        }
        assert_eq!(app.count("tags").await, 1);
    });
}

/// 17.
#[test]
fn a_decision_is_remembered_also_when_things_have_changed() {
    check(async |app| {
        let link = json!({"integration_id": app.integration().await, "external_id": "x"});
        let customer = |alias: &str| json!({"name": "B", "currency": "USD", "aliases": [alias]});
        let decided = [
            (app.ask("PATCH", "/customers/later").json(&json!({"name": "B"})), 404),
            (
                app.ask("POST", "/customers")
                    .json(&json!({"name": "B", "currency": "USD", "parent_customer_id": "later"})),
                422,
            ),
            (app.ask("POST", "/customers/later/connected-accounts").json(&link), 404),
            (app.ask("DELETE", "/customers/later/connected-accounts/x"), 404),
        ];
        let mut first = Vec::new();
        for (ask, at) in decided.iter().map(|(ask, _)| ask).zip(0..) {
            first.push(ask.clone().idempotent(&format!("k{at}")).send().await);
        }
        app.customer(&["later"]).await;
        let taken = app.ask("POST", "/customers").json(&customer("later")).idempotent("taken");
        let conflict = taken.clone().send().await;
        conflict.refused(409, "alias_taken");
        app.patch("/customers/later", json!({"aliases": ["now"]})).await.body(200);
        assert_replay(&conflict, &taken.send().await);
        for (((ask, status), first), at) in decided.into_iter().zip(first).zip(0..) {
            assert_eq!(first.status, status);
            assert_replay(&first, &ask.idempotent(&format!("k{at}")).send().await);
        }
        assert_eq!(app.count("customers").await, 1);
    });
}

/// 18.
#[test]
fn what_was_never_executed_leaves_the_key_free() {
    check(async |app| {
        let refused = [
            (tag(app).bytes("{"), 400),
            (tag(app).bytes("{}"), 400),
            (tag(app).without("content-type").header("content-type", "text/xml"), 415),
            (tag(app).key("key_x.y"), 401),
            (tag(app).without("alguna-version"), 400),
            (tag(app).key(&app.reader), 403),
            (app.ask("PUT", "/tags"), 405),
            (app.ask("POST", "/nowhere"), 404),
            (
                app.ask("POST", "/tags?x=1")
                    .json(&json!({"name": "a", "color": "#000000", "entity_types": ["plan"]})),
                400,
            ),
        ];
        for (ask, status) in refused {
            assert_eq!(ask.idempotent("k").send().await.status, status);
            assert_eq!(app.count("idempotency_keys").await, 0);
        }
        let done = tag(app).idempotent("k").send().await;
        assert_eq!((done.status, done.header("idempotent-replayed")), (200, "false"));
    });
}

/// 27: a valid key is echoed on every answer of a route that takes one.
#[test]
fn a_key_is_echoed_where_it_counts() {
    check(async |app| {
        let echoed = |answer: &Answer| {
            (answer.header("idempotency-key") == "k", answer.headers.contains_key("idempotent-replayed"))
        };
        for ask in [tag(app).bytes("{"), tag(app).key(&app.reader), tag(app).without("content-type"), tag(app)] {
            let answer = ask.idempotent("k").send().await;
            assert_eq!(echoed(&answer), (true, true), "{answer:?}");
        }
        for ask in [app.ask("POST", "/nowhere"), app.ask("PUT", "/tags"), app.ask("GET", "/tags")] {
            let answer = ask.idempotent("k").send().await;
            assert_eq!(echoed(&answer), (false, false), "{answer:?}");
        }
    });
}

/// 19, 34.
#[test]
fn a_deletion_is_replayed_until_its_record_expires() {
    check(async |app| {
        let id = app.customer(&["a"]).await;
        let link = json!({"integration_id": app.integration().await, "external_id": "x"});
        let account = app.post("/customers/a/connected-accounts", link).await.body(200);
        let path = format!("/customers/{id}/connected-accounts/{}", account["id"].as_str().unwrap());
        let first = app.ask("DELETE", &path).idempotent("k").send().await;
        assert_eq!(first.status, 204);
        assert_replay(&first, &app.ask("DELETE", &path).idempotent("k").send().await);
        app.sql("UPDATE idempotency_keys SET expires_at = 1", &[]).await;
        let late = app.ask("DELETE", &path).idempotent("k").send().await;
        late.refused(404, "connected_account_not_found");
        assert_eq!(late.header("idempotent-replayed"), "false");
        assert_replay(&late, &app.ask("DELETE", &path).idempotent("k").send().await);
    });
}

/// 25: the caller hangs up while its request is kept inside the database.
#[test]
fn a_request_goes_on_when_its_caller_is_gone() {
    check(async |app| {
        let hold = Hold::begin(app).await;
        let body = br##"{"name": "a", "color": "#000000", "entity_types": ["plan"]}"##;
        let length = format!("Content-Length: {}", body.len());
        let head = head(app, "POST /tags", &["Content-Type: application/json", "Idempotency-Key: k", &length]);
        let mut wire = Wire::open(app).await;
        wire.send(&[head.as_bytes(), body].concat()).await;
        until_waiting(app, 1).await;
        drop(wire);
        hold.release().await;
        // It is done when the key is no longer in flight.
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
