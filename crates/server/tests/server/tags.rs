//! `/tags` (contract section 19; creating is an extension).

use crate::check;
use insta::assert_snapshot;
use serde_json::json;

#[test]
fn create_get_and_list() {
    check(async |app| {
        let body = json!({"name": "Zeta", "color": "#A0B1C2", "entity_types": ["customer", "invoice"]});
        let created = app.post("/tags", body).await;
        assert_snapshot!("create", created.shown());
        let id = created.body(200)["id"].as_str().unwrap().to_owned();
        assert_eq!(app.get(&format!("/tags/{id}")).await.body(200), created.json());
        for name in ["alpha", "Alpha"] {
            app.post("/tags", json!({"name": name, "color": "#000000", "entity_types": ["plan"]})).await.body(200);
        }
        assert_snapshot!("list", app.get("/tags?limit=2").await.shown());
        assert_eq!(app.get("/tags?offset=2").await.body(200)["data"][0]["name"], "alpha");
        let foreign = app.ask("GET", &format!("/tags/{id}")).key(&app.stranger).send().await;
        foreign.refused(404, "tag_not_found");
        let list = app.ask("GET", "/tags").key(&app.stranger).send().await;
        assert_eq!(list.body(200)["pagination"]["total_pages"], 0);
    });
}

#[test]
fn refusals() {
    check(async |app| {
        let wrong = json!({"name": "", "color": "red", "entity_types": ["customer", "customers"], "colour": 1});
        assert_snapshot!("create_malformed", app.post("/tags", wrong).await.shown());
        assert_snapshot!("get_unknown", app.get("/tags/tag_x").await.shown());
        app.get("/tags?sort=name:asc").await.refused(400, "validation_failed");
        app.get("/tags/tag_x?limit=1").await.refused(400, "validation_failed");
        assert_eq!(app.count("tags").await, 0);
    });
}
