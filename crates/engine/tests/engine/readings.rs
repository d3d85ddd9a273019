//! What a customer may use and how it pays: rows that nothing here makes yet (contract sections 5 and 11).

use crate::{World, check};
use cuenta_engine::customers::Customer;
use cuenta_engine::{entitlements, payment_methods};
use cuenta_store::Value;
use serde_json::json;

const ENTITLEMENT: &str = "INSERT INTO entitlements (organization_id, id, subscription_id, version_id, key, type, mode, value, \
    allocation, timing) VALUES (:organization_id, :id, :subscription_id, 'subv_1', :key, :type, :mode, :value, :allocation, :timing)";

async fn entitle(
    world: &World,
    subscription_id: &str,
    key: &'static str,
    kind: &'static str,
    rest: [Option<&'static str>; 3],
) {
    let [value, allocation, timing] = rest.map(Value::from);
    let parameters = [
        ("organization_id", (&*world.here.organization_id).into()),
        ("id", format!("ent_{subscription_id}{key}").into()),
        ("subscription_id", subscription_id.into()),
        ("key", key.into()),
        ("type", kind.into()),
        ("mode", if rest[2].is_some() { "grant_based" } else { "static" }.into()),
        ("value", value),
        ("allocation", allocation),
        ("timing", timing),
    ];
    world.sql(ENTITLEMENT, &parameters).await;
}

#[test]
fn entitlements_come_from_active_subscriptions() {
    check(async |world| {
        let made = world.customer(&world.here, "A", &["a"]).await;
        let active = world.subscription(&made, "active").await;
        let draft = world.subscription(&made, "draft").await;
        let other = world.customer(&world.here, "B", &["b"]).await;
        let foreign = world.subscription(&other, "active").await;
        entitle(world, &active, "seats", "number", [Some("5"), None, None]).await;
        entitle(world, &active, "api", "boolean", [Some("true"), None, None]).await;
        let allocation = Some(r#"{"amount": "10.50"}"#);
        entitle(world, &active, "credits", "credit_allocation", [None, allocation, Some(r#"{"every":"month"}"#)])
            .await;
        entitle(world, &draft, "hidden", "string", [Some("x"), None, None]).await;
        entitle(world, &foreign, "others", "string", [Some("x"), None, None]).await;
        let list = world.read(&world.here, |scope| entitlements::list_of_customer(scope, "a")).await.unwrap();
        let expected = json!({"data": [
            {"key": "api", "type": "boolean", "mode": "static", "value": "true", "subscription_id": active, "version_id": "subv_1"},
            {"key": "credits", "type": "credit_allocation", "mode": "grant_based", "allocation": {"amount": "10.50"},
             "timing": {"every": "month"}, "subscription_id": active, "version_id": "subv_1"},
            {"key": "seats", "type": "number", "mode": "static", "value": "5", "subscription_id": active, "version_id": "subv_1"},
        ]});
        assert_eq!(serde_json::to_value(&list).unwrap(), expected);
        let none = world.read(&world.here, |scope| entitlements::list_of_customer(scope, "nobody")).await;
        assert!(none.is_none());
        world.customer(&world.here, "C", &["c"]).await;
        let empty = world.read(&world.here, |scope| entitlements::list_of_customer(scope, "c")).await.unwrap();
        assert!(empty.data.is_empty());
    });
}

const PAYMENT_METHOD: &str = "INSERT INTO payment_methods (organization_id, id, customer_id, provider, type, details, is_default, \
    is_active, created_at) VALUES (:organization_id, :id, :customer_id, 'stripe', :type, :details, :is_default, :is_active, 0)";

async fn save(
    world: &World,
    customer: &Customer,
    id: &'static str,
    kind: &'static str,
    [default, active]: [bool; 2],
) {
    let details =
        if kind == "payment_card" { r#"{"card":{"last4":"4242"}}"# } else { r#"{"bank_account":{"last4":"1"}}"# };
    let parameters = [
        ("organization_id", (&*world.here.organization_id).into()),
        ("id", id.into()),
        ("customer_id", customer.id.as_str().into()),
        ("type", kind.into()),
        ("details", details.into()),
        ("is_default", default.into()),
        ("is_active", active.into()),
    ];
    world.sql(PAYMENT_METHOD, &parameters).await;
}

#[test]
fn payment_methods_are_the_active_ones_newest_first() {
    check(async |world| {
        let made = world.customer(&world.here, "A", &["a"]).await;
        let other = world.customer(&world.here, "B", &[]).await;
        save(world, &made, "pm_1", "payment_card", [false, true]).await;
        save(world, &made, "pm_2", "bank_transfer", [true, true]).await;
        save(world, &made, "pm_3", "payment_card", [false, false]).await;
        save(world, &other, "pm_4", "payment_card", [true, true]).await;
        let list = world.read(&world.here, |scope| payment_methods::list_of_customer(scope, "a")).await.unwrap();
        let expected = json!({"data": [
            {"id": "pm_2", "customer_id": made.id, "provider": "stripe", "type": "bank_transfer",
             "details": {"bank_account": {"last4": "1"}}, "is_default": true, "created_at": "1970-01-01T00:00:00Z"},
            {"id": "pm_1", "customer_id": made.id, "provider": "stripe", "type": "payment_card",
             "details": {"card": {"last4": "4242"}}, "is_default": false, "created_at": "1970-01-01T00:00:00Z"},
        ]});
        assert_eq!(serde_json::to_value(&list).unwrap(), expected);
        let none = world.read(&world.here, |scope| payment_methods::list_of_customer(scope, "nobody")).await;
        assert!(none.is_none());
    });
}
