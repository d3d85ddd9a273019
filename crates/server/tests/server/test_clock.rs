//! `/test-clock` (extension, D-019) and `/whoami`.

use crate::check;
use insta::assert_snapshot;
use serde_json::json;

#[test]
fn a_sandbox_moves_its_clock() {
    check(async |app| {
        let sandbox = |method, path| app.ask(method, path).key(&app.sandbox);
        let now = sandbox("GET", "/test-clock").send().await.body(200);
        assert_eq!(sandbox("GET", "/test-clock").send().await.body(200), now, "it stands still");
        let to = json!({"to": "2090-05-01T02:00:00+02:00"});
        let moved = sandbox("POST", "/test-clock/advance").json(&to).send().await;
        assert_eq!(moved.body(200), json!({"now": "2090-05-01T00:00:00Z"}));
        let customer = json!({"name": "A", "currency": "USD"});
        let made = sandbox("POST", "/customers").json(&customer).send().await.body(200);
        assert_eq!(made["created_at"], "2090-05-01T00:00:00Z");
        let back = sandbox("POST", "/test-clock/advance").json(&json!({"to": "2090-04-30T23:59:59Z"})).send().await;
        back.refused(422, "clock_cannot_go_there");
        let malformed = sandbox("POST", "/test-clock/advance").json(&json!({"to": "tomorrow"})).send().await;
        assert_snapshot!("advance_malformed", malformed.shown());
    });
}

#[test]
fn a_live_organization_has_no_clock() {
    check(async |app| {
        assert_snapshot!("get_in_a_live_organization", app.get("/test-clock").await.shown());
        app.post("/test-clock/advance", json!({"to": "2090-05-01T00:00:00Z"})).await.refused(422, "not_a_sandbox");
    });
}

#[test]
fn a_key_is_told_what_it_opens() {
    check(async |app| {
        for (key, scope, sandbox) in
            [(&app.key, "full", false), (&app.reader, "read", false), (&app.sandbox, "full", true)]
        {
            let told = app.ask("GET", "/whoami").key(key).send().await.body(200);
            assert_eq!((&told["scope"], &told["is_sandbox"]), (&json!(scope), &json!(sandbox)));
            assert_eq!(told["key_id"], key.split('.').next().unwrap());
            assert_eq!(told["organization_id"] == app.organization_id.as_str(), !sandbox);
        }
    });
}
