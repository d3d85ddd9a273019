//! Contract, document, router and files say the same.

use crate::check;
use crate::reference::{DOCUMENT, Side, assert_fits};
use cuenta::http::document::contract_operations;
use cuenta::http::router::OPERATIONS;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Operations of the contract that this server does not have yet. Whoever serves one takes it off the list.
const NOT_SERVED_YET: &[&str] = &[
    "bundles.create",
    "bundles.get",
    "bundles.list",
    "bundles.update",
    "checkout_sessions.create",
    "checkout_sessions.get",
    "credit_notes.apply",
    "credit_notes.create",
    "credit_notes.create_from_invoice",
    "credit_notes.get",
    "credit_notes.list",
    "credits.check",
    "credits.get_reservation",
    "credits.track",
    "events.ingest",
    "insights.ar_aging",
    "insights.ar_aging_by_customer",
    "insights.billings_by_customer",
    "insights.billings_by_product",
    "insights.billings_over_time",
    "insights.customers",
    "insights.customers_over_time",
    "insights.revenue",
    "insights.revenue_breakdown_over_time",
    "insights.revenue_by_customer",
    "insights.revenue_by_product",
    "insights.revenue_by_subscription",
    "insights.revenue_over_time",
    "invoices.add_line_item",
    "invoices.create",
    "invoices.delete_line_item",
    "invoices.generate_pdf",
    "invoices.get",
    "invoices.list",
    "invoices.mark_as_paid",
    "invoices.update",
    "invoices.update_line_item",
    "invoices.void",
    "merchants.create",
    "merchants.delete",
    "merchants.get",
    "merchants.list",
    "merchants.unarchive",
    "merchants.update",
    "metrics.create",
    "metrics.get",
    "metrics.list",
    "payments.get",
    "payments.list",
    "plans.create",
    "plans.get",
    "plans.list",
    "portal.create_session",
    "products.create",
    "products.delete",
    "products.get",
    "products.list",
    "products.update",
    "quotes.activate",
    "quotes.create",
    "quotes.create_phase",
    "quotes.delete_phase",
    "quotes.discard",
    "quotes.get",
    "quotes.get_pdf",
    "quotes.get_phase",
    "quotes.list",
    "quotes.list_phase_items",
    "quotes.list_phases",
    "quotes.mark_signed_offline",
    "quotes.replace_phase",
    "quotes.send_for_signature",
    "quotes.update",
    "quotes.withdraw",
    "refunds.create",
    "refunds.get",
    "refunds.list",
    "revenue_schedules.get",
    "revenue_schedules.get_by_customer",
    "revenue_schedules.get_by_legal_entity",
    "revenue_schedules.get_by_subscription",
    "subscription_changes.create",
    "subscription_changes.preview",
    "subscription_versions.create",
    "subscription_versions.delete",
    "subscription_versions.get",
    "subscription_versions.get_current",
    "subscription_versions.get_item",
    "subscription_versions.get_revenue",
    "subscription_versions.list",
    "subscription_versions.publish",
    "subscription_versions.replace",
    "subscriptions.activate",
    "subscriptions.cancel",
    "subscriptions.create",
    "subscriptions.create_credit_grant",
    "subscriptions.delete",
    "subscriptions.download_pdf",
    "subscriptions.get",
    "subscriptions.get_billing_dates",
    "subscriptions.get_credit_balance",
    "subscriptions.get_entitlement",
    "subscriptions.get_revenue",
    "subscriptions.list",
    "subscriptions.list_entitlements",
    "subscriptions.update",
    "tax.create_calculation",
    "tax.get_calculation",
    "tax.list_calculations",
    "wallet_grants.create",
    "wallet_grants.get",
    "wallet_grants.list",
    "wallets.create",
    "wallets.credit",
    "wallets.debit",
    "wallets.delete",
    "wallets.get",
    "wallets.get_balance",
    "wallets.list",
    "wallets.list_grants",
    "wallets.update",
];

/// Every operation of the document: its method, path and id.
fn described() -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    for (path, item) in DOCUMENT["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("an item") {
            let id = operation["operationId"].as_str().expect("an id");
            found.push((method.to_uppercase(), path.clone(), id.to_owned()));
        }
    }
    found
}

#[test]
fn the_document_describes_what_is_served_and_nothing_else() {
    let described: BTreeSet<_> = described().into_iter().map(|(method, path, _)| (method, path)).collect();
    let served = OPERATIONS.iter().map(|(method, path)| ((*method).to_owned(), (*path).to_owned()));
    assert_eq!(served.collect::<BTreeSet<_>>(), described);
}

#[test]
fn every_operation_of_the_contract_is_served_or_known_to_be_missing() {
    let is_served = |method: &str, path: &str| OPERATIONS.contains(&(method, path));
    let contract = contract_operations();
    assert_eq!(contract.len(), 135);
    let missing = contract.iter().filter(|(method, path, _)| !is_served(method, path)).map(|(_, _, id)| id.as_str());
    assert_eq!(missing.collect::<BTreeSet<_>>(), NOT_SERVED_YET.iter().copied().collect());
    let known: BTreeMap<_, _> = described().into_iter().map(|(method, path, id)| ((method, path), id)).collect();
    for (method, path, id) in contract {
        if let Some(known) = known.get(&(method, path)) {
            assert_eq!(known, &id, "the document renames an operation of the contract");
        }
    }
}

/// The router has exactly these paths, and behind each exactly these methods.
#[test]
fn the_router_has_these_routes() {
    let source = include_str!("../../src/http/router.rs");
    let (routes, _) = source.split_once(".fallback(").expect("a fallback");
    let (_, routes) = routes.split_once("Router::new()").expect("a router");
    let calls = routes.split(".route(").skip(1);
    let mut routed: BTreeSet<&str> = calls.filter_map(|call| call.split('"').nth(1)).collect();
    // The pages of the reference are merged in.
    assert!(routes.contains("docs::routes()"));
    routed.insert("/docs");
    assert_eq!(routed, OPERATIONS.iter().map(|(_, path)| *path).collect());
    check(async |app| {
        let paths: BTreeSet<&str> = OPERATIONS.iter().map(|(_, path)| *path).collect();
        for path in paths {
            let filled = path.replace("{id}", "x").replace("{connected_account_id}", "x");
            for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
                let is_served = OPERATIONS.contains(&(method, path));
                let answer = app.ask(method, &filled).send().await;
                assert_eq!(answer.status != 405, is_served, "{method} {path}: {answer:?}");
                let is_path = answer.header("content-type") != "application/problem+json"
                    || answer.json()["code"] != "no_such_path";
                assert!(is_path, "{method} {path} leads nowhere");
            }
        }
    });
}

/// A name is an address: `customers.create` is `create` in `http/customers.rs`, and the router leads there.
#[test]
fn an_operation_is_found_by_its_name() {
    let http = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
    let router = include_str!("../../src/http/router.rs");
    for (method, path, id) in described() {
        let (file, function) = id.split_once('.').expect("an id has two parts");
        if matches!(id.as_str(), "openapi.get" | "docs.get") {
            continue;
        }
        let source = std::fs::read_to_string(http.join(format!("{file}.rs"))).unwrap_or_default();
        assert!(
            source.contains(&format!("async fn {function}(call: Call)")),
            "{method} {path}: no {function} in {file}.rs"
        );
        assert!(
            router.contains(&format!("{file}::{function})")),
            "{method} {path}: the router does not lead to {id}"
        );
    }
}

#[test]
fn what_is_served_is_the_document() {
    check(async |app| {
        let public = app.ask("GET", "/openapi.json").without("authorization").without("alguna-version");
        let served = public.clone().send().await;
        assert_eq!(served.header("content-type"), "application/json");
        assert_eq!(served.body, cuenta::http::router::document());
        for path in ["/docs", "/docs/init.js", "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js"] {
            // Files of the page are no operations, so they are not in the document.
            let mut wire = crate::wire::Wire::open(app).await;
            wire.send(
                format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", app.address).as_bytes(),
            )
            .await;
            let answer = wire.rest().await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {}", &answer[..answer.len().min(300)]);
        }
    });
}

/// Examples are what people copy: each fits the schema beside it.
#[test]
fn examples_fit_their_schemas() {
    let mut checked = 0;
    for (path, item) in DOCUMENT["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("an item") {
            let what = format!("the example of {method} {path}");
            checked += check_examples(&operation["requestBody"]["content"], &what);
            for response in operation["responses"].as_object().into_iter().flat_map(|responses| responses.values()) {
                checked += check_examples(&response["content"], &what);
            }
        }
    }
    for (name, response) in DOCUMENT["components"]["responses"].as_object().expect("responses") {
        checked += check_examples(&response["content"], name);
    }
    assert!(checked > 20, "{checked} examples");
}

fn check_examples(content: &Value, what: &str) -> usize {
    let media = content.as_object().into_iter().flat_map(|content| content.values());
    let with_example = media.filter(|media| media["example"].is_object());
    with_example.map(|media| assert_fits(Side::Answer, &media["schema"], &media["example"], what)).count()
}

/// The examples of requests are accepted as they stand, each after the other.
#[test]
fn examples_of_requests_are_shaped_as_the_server_wants_them() {
    check(async |app| {
        for (method, path, id) in described() {
            let operation = &DOCUMENT["paths"][&path][method.to_lowercase()];
            let example = &operation["requestBody"]["content"]["application/json"]["example"];
            if !example.is_object() {
                continue;
            }
            let method = if method == "POST" { "POST" } else { "PATCH" };
            let key = if id.starts_with("test_clock") { &app.sandbox } else { &app.key };
            let answer = app.ask(method, &path.replace("{id}", "x")).key(key).json(example).send().await;
            // Ids in examples name nothing here; the shape is right.
            assert!(matches!(answer.status, 200 | 404 | 422), "{id}: {answer:?}");
        }
    });
}
