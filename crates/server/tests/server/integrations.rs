//! `/integrations` (contract section 19; creating is an extension).

use crate::check;
use insta::assert_snapshot;
use serde_json::json;

#[test]
fn create_get_and_list() {
    check(async |app| {
        assert_snapshot!("list_of_nothing", app.get("/integrations").await.shown());
        let created =
            app.post("/integrations", json!({"provider": "stripe", "description": "the European one"})).await;
        assert_snapshot!("create", created.shown());
        let id = created.body(200)["id"].as_str().unwrap().to_owned();
        assert_eq!(app.get(&format!("/integrations/{id}")).await.body(200), created.json());
        app.post("/integrations", json!({"provider": "hubspot"})).await.body(200);
        assert_snapshot!("list", app.get("/integrations").await.shown());
        let found = app.get("/integrations?provider=stripe").await.body(200);
        assert_eq!(found["data"], json!([created.json()]));
        let foreign = app.ask("GET", &format!("/integrations/{id}")).key(&app.stranger).send().await;
        foreign.refused(404, "integration_not_found");
        let list = app.ask("GET", "/integrations").key(&app.stranger).send().await;
        assert_eq!(list.body(200), json!({"data": []}));
    });
}

#[test]
fn refusals() {
    check(async |app| {
        let wrong = json!({"provider": " ", "description": "\u{7}"});
        assert_snapshot!("create_malformed", app.post("/integrations", wrong).await.shown());
        assert_snapshot!("get_unknown", app.get("/integrations/intg_x").await.shown());
        // This list has no pages.
        app.get("/integrations?limit=1").await.refused(400, "validation_failed");
        assert_eq!(app.count("integrations").await, 0);
    });
}
