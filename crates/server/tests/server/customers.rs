//! `/customers` (contract section 5).

use crate::{App, check};
use insta::assert_snapshot;
use serde_json::{Value, json};

/// A body with every property there is.
fn whole(app_tag: &str) -> Value {
    json!({
        "name": "Acme Corp", "currency": "USD", "aliases": ["acme", "a b/c"], "tag_ids": [app_tag],
        "billing_address": {"line1": "1 Main St", "line2": "Floor 2", "city": "Springfield", "state": "IL", "postal_code": "62701",
            "country": "US"},
        "contacts": [
            {"id": "cont_placeholder", "email": "ann@example.com", "is_primary": true, "first_name": "Ann", "last_name": "Lee",
                "email_preferences": ["billing"]},
            {"email": "bob@example.com", "is_primary": false}],
        "csm_id": "u1", "sales_owner_id": "u2", "metadata": {"crm": {"stage": "won"}}, "tax_country": "USA", "tax_id": "12-3456789",
        "tax_rate": "0.0825", "tax_reason": "standard_rated", "tax_type": "sales_tax",
    })
}

async fn tag(app: &App) -> String {
    let body = json!({"name": "vip", "color": "#00ff00", "entity_types": ["customer"]});
    app.post("/tags", body).await.body(200)["id"].as_str().expect("an id").to_owned()
}

#[test]
fn create_get_update_and_list() {
    check(async |app| {
        let tag = tag(app).await;
        let created = app.post("/customers", whole(&tag)).await;
        assert_snapshot!("create", created.shown());
        let id = created.body(200)["id"].as_str().unwrap().to_owned();
        assert_eq!(app.get(&format!("/customers/{id}")).await.body(200), created.json());
        let body =
            json!({"name": "Acme", "aliases": ["acme"], "billing_address": null, "contacts": [], "tax_rate": "0"});
        assert_snapshot!("update", app.patch("/customers/acme", body).await.shown());
        app.customer(&[]).await;
        assert_snapshot!("list", app.get("/customers?limit=1&offset=1").await.shown());
        assert_snapshot!("list_of_nothing", app.get("/customers?alias=nobody").await.shown());
    });
}

#[test]
fn little_is_enough() {
    check(async |app| {
        let created = app.post("/customers", json!({"name": "A", "currency": "JPY"})).await;
        assert_snapshot!("create_little", created.shown());
        let same = app.patch(&format!("/customers/{}", created.json()["id"].as_str().unwrap()), json!({})).await;
        assert_eq!(same.body(200), created.json());
    });
}

#[test]
fn a_customer_is_found_by_whatever_names_it() {
    check(async |app| {
        let id = app.customer(&["plain", "a b", "a/b?c#d%e", "é+x", "lookup"]).await;
        let integration = app.integration().await;
        let link = json!({"integration_id": integration, "external_id": "cus_1"});
        app.post("/customers/plain/connected-accounts", link).await.body(200);
        let names =
            [id.as_str(), "plain", "a%20b", "a%2Fb%3Fc%23d%25e", "%C3%A9+x", "e%CC%81%2Bx", "cus_1", "pl%61in"];
        for name in names {
            let found = app.get(&format!("/customers/{name}")).await;
            assert_eq!(found.body(200)["id"], id.as_str(), "{name}");
            for list in ["connected-accounts", "entitlements", "payment-methods"] {
                app.get(&format!("/customers/{name}/{list}")).await.body(200);
            }
        }
        for alias in [id.as_str(), "plain", "a+b", "a%20b", "a/b?c%23d%25e", "%C3%A9%2Bx", "cus_1", "lookup"] {
            let found = app.get(&format!("/customers/lookup?alias={alias}")).await;
            assert_eq!(found.body(200), json!({"customer_id": id}), "{alias}");
        }
        // The fixed path wins over the alias, and wants its parameter.
        app.get("/customers/lookup").await.refused(400, "validation_failed");
        app.get("/customers/lookup?alias=nobody").await.refused(404, "customer_not_found");
    });
}

#[test]
fn what_names_nobody_is_404() {
    check(async |app| {
        app.customer(&["plain"]).await;
        let long = format!("/customers/{}", "x".repeat(1_021));
        let paths = [
            "/customers/nobody",
            "/customers/cust_0000000000000000000000",
            "/customers/Plain",
            "/customers/%00",
            "/customers/%ff",
            "/customers/%zz",
            "/customers/plain%20",
            "/customers/%2F",
            "/customers/%0a",
            &long,
        ];
        for path in paths {
            app.get(path).await.refused(404, "customer_not_found");
            app.patch(path, json!({"name": "B"})).await.refused(404, "customer_not_found");
        }
        // An empty id must not look like the list.
        for path in ["/customers/", "/customers//", "/customers//entitlements", "//customers", "/Customers"] {
            assert_eq!(app.get(path).await.status, 404, "{path}");
        }
    });
}

#[test]
fn connected_accounts() {
    check(async |app| {
        let id = app.customer(&["a"]).await;
        let integration = app.integration().await;
        let link = |external_id: &str| json!({"integration_id": integration, "external_id": external_id});
        let made = app.post("/customers/a/connected-accounts", link("cus_1")).await;
        assert_snapshot!("create_connected_account", made.shown());
        app.post("/customers/cus_1/connected-accounts", link("cus_2")).await.body(200);
        assert_snapshot!("list_connected_accounts", app.get("/customers/cus_2/connected-accounts").await.shown());
        let taken = app.post("/customers/a/connected-accounts", link("cus_1")).await;
        assert_snapshot!("connected_account_taken", taken.shown());
        app.post("/customers/a/connected-accounts", link("a")).await.refused(409, "external_id_taken");
        let unknown = json!({"integration_id": "intg_x", "external_id": "x"});
        app.post("/customers/a/connected-accounts", unknown).await.refused(422, "unknown_integration");
        app.post("/customers/nobody/connected-accounts", link("x")).await.refused(404, "customer_not_found");
        let path = format!("/customers/{id}/connected-accounts/{}", made.json()["id"].as_str().unwrap());
        let deleted = app.delete(&path).await;
        assert_eq!((deleted.status, deleted.body.len()), (204, 0));
        app.delete(&path).await.refused(404, "connected_account_not_found");
        assert_eq!(app.get("/customers/a/connected-accounts").await.body(200)["data"].as_array().unwrap().len(), 1);
    });
}

const SUBSCRIPTION: &str = "INSERT INTO subscriptions (organization_id, id, customer_id, status, created_at) \
    SELECT organization_id, 'sub_1', id, 'active', created_at FROM customers WHERE id = :id";
const ENTITLEMENTS: &str = "INSERT INTO entitlements (organization_id, id, subscription_id, version_id, key, type, mode, value, allocation, \
    timing) SELECT organization_id, key, id, 'subv_1', key, type, mode, value, allocation, timing FROM subscriptions, \
    (SELECT 'seats' AS key, 'number' AS type, 'static' AS mode, '5' AS value, NULL AS allocation, NULL AS timing UNION ALL \
     SELECT 'credits', 'credit_allocation', 'grant_based', NULL, '{\"amount\":\"10.50\",\"credit_type\":\"units\",\"rollover_enabled\":false}', \
     '{\"recurrence\":\"recurring\",\"interval\":\"month\"}') AS rows";
const PAYMENT_METHOD: &str = "INSERT INTO payment_methods (organization_id, id, customer_id, provider, type, details, is_default, is_active, \
    created_at) SELECT organization_id, :method, id, 'stripe', :type, :details, :is_default, :is_default, created_at FROM customers \
    WHERE id = :id";

#[test]
fn payment_methods() {
    check(async |app| {
        let id = app.customer(&["a"]).await;
        assert_snapshot!("list_no_payment_methods", app.get("/customers/a/payment-methods").await.shown());
        let card = r#"{"card":{"brand":"visa","last4":"4242","exp_month":12,"exp_year":2030}}"#;
        let account = r#"{"bank_account":{"account_holder_name":"A","last4":"1234","country":"DE"}}"#;
        for (method, kind, details, on) in
            [("pm_1", "payment_card", card, true), ("pm_2", "bank_transfer", account, false)]
        {
            let parameters = [
                ("method", method.into()),
                ("type", kind.into()),
                ("details", details.into()),
                ("is_default", on.into()),
                ("id", id.as_str().into()),
            ];
            app.sql(PAYMENT_METHOD, &parameters).await;
        }
        let listed = app.database_list(&format!("/customers/{id}/payment-methods")).await;
        assert_eq!(listed, ["pm_1"], "an inactive one is not listed");
    });
}

impl App {
    /// The ids of a list, whose items are rows that the test itself wrote.
    async fn database_list(&self, path: &str) -> Vec<String> {
        let answer = self.get(path).await.body(200);
        let ids = answer["data"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|item| item["id"].as_str().expect("an id").to_owned());
        ids.collect()
    }
}

#[test]
fn entitlements() {
    check(async |app| {
        let id = app.customer(&["a"]).await;
        assert_snapshot!("list_no_entitlements", app.get("/customers/a/entitlements").await.shown());
        app.sql(SUBSCRIPTION, &[("id", id.as_str().into())]).await;
        app.sql(ENTITLEMENTS, &[]).await;
        assert_snapshot!("list_entitlements", app.get("/customers/a/entitlements").await.shown());
        let live = app.get("/customers?has_active_subscriptions=true").await.body(200);
        assert_eq!(live["data"][0]["id"], id.as_str());
        let refused = app.patch("/customers/a", json!({"currency": "EUR"})).await;
        assert_snapshot!("update_currency_in_use", refused.shown());
    });
}

#[test]
fn filters_and_orders_reach_the_list() {
    check(async |app| {
        let tag = tag(app).await;
        app.post("/customers", whole(&tag)).await.body(200);
        let other = json!({"name": "Zeta", "currency": "USD", "csm_id": "u9"});
        app.post("/customers", other).await.body(200);
        let found = [
            ("alias=a+b/c".to_owned(), &["Acme Corp"][..]),
            ("email=ANN%40example.com".to_owned(), &["Acme Corp"]),
            ("csm_id=u1,u9".to_owned(), &["Zeta", "Acme Corp"]),
            ("sales_owner_id=u2&csm_id=u9".to_owned(), &[]),
            (format!("tag_ids={tag}"), &["Acme Corp"]),
            ("has_active_subscriptions=false&sort=name:desc".to_owned(), &["Zeta", "Acme Corp"]),
            ("sort=created_at:asc".to_owned(), &["Acme Corp", "Zeta"]),
        ];
        for (query, names) in found {
            let list = app.get(&format!("/customers?{query}")).await.body(200);
            let listed: Vec<_> =
                list["data"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect();
            assert_eq!(listed, names, "{query}");
        }
        let refused = app.get("/customers?limit=0&offset=-1&sort=price:asc&csmid=x&alias=").await;
        assert_snapshot!("list_with_a_bad_query", refused.shown());
    });
}

#[test]
fn refusals_name_what_is_wrong() {
    check(async |app| {
        app.customer(&["taken"]).await;
        let malformed =
            json!({"name": 5, "currency": "usd", "contacts": [{"email": "no"}], "aliasses": ["x"], "tax_rate": 0.2});
        assert_snapshot!("create_malformed", app.post("/customers", malformed).await.shown());
        let taken = json!({"name": "B", "currency": "USD", "aliases": ["free", "taken"]});
        assert_snapshot!("create_with_a_taken_alias", app.post("/customers", taken).await.shown());
        let contact = |email: &str| json!({"email": email, "is_primary": true});
        let two = json!({"name": "B", "currency": "USD", "contacts": [contact("a@b.c"), contact("b@b.c")]});
        assert_snapshot!("create_with_two_primary_contacts", app.post("/customers", two).await.shown());
        let unknown = json!({"parent_customer_id": "cust_x"});
        assert_snapshot!("update_with_an_unknown_parent", app.patch("/customers/taken", unknown).await.shown());
        app.patch("/customers/taken", json!({"name": null})).await.refused(400, "validation_failed");
        assert_eq!(app.count("customers").await, 1);
    });
}

#[test]
fn organizations_see_nothing_of_each_other() {
    check(async |app| {
        let id = app.customer(&["a"]).await;
        let integration = app.integration().await;
        let link = json!({"integration_id": integration, "external_id": "cus_1"});
        let linked = app.post("/customers/a/connected-accounts", link.clone()).await.body(200);
        let stranger = |method, path: String| app.ask(method, &path).key(&app.stranger);
        for name in [id.as_str(), "a", "cus_1"] {
            for rest in ["", "/connected-accounts", "/entitlements", "/payment-methods"] {
                stranger("GET", format!("/customers/{name}{rest}")).send().await.refused(404, "customer_not_found");
            }
            stranger("GET", format!("/customers/lookup?alias={name}"))
                .send()
                .await
                .refused(404, "customer_not_found");
            let update = stranger("PATCH", format!("/customers/{name}")).json(&json!({"name": "B"}));
            update.send().await.refused(404, "customer_not_found");
            let create = stranger("POST", format!("/customers/{name}/connected-accounts")).json(&link);
            create.send().await.refused(404, "customer_not_found");
            let account = linked["id"].as_str().unwrap();
            let delete = stranger("DELETE", format!("/customers/{name}/connected-accounts/{account}"));
            delete.send().await.refused(404, "connected_account_not_found");
        }
        let list = stranger("GET", "/customers".to_owned()).send().await.body(200);
        assert_eq!(list, json!({"data": [], "pagination": {"per_page": 20, "total_pages": 0}}));
    });
}
