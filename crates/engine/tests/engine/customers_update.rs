//! Changing customers: only what is sent, and nothing when it is refused.

use crate::{assert_refused, check};
use cuenta_engine::Kind::{Conflict, Refused};
use serde_json::{Value, json};

fn whole() -> Value {
    json!({
        "name": "A", "currency": "USD", "aliases": ["one", "two"], "csm_id": "u1", "sales_owner_id": "u2",
        "billing_address": {"line1": "1", "city": "c", "state": "s", "postal_code": "p", "country": "USA"},
        "contacts": [{"email": "a@b.c", "is_primary": true, "first_name": "Ann"}, {"email": "d@b.c", "is_primary": false}],
        "metadata": {"a": 1}, "tax_country": "USA", "tax_id": "t", "tax_rate": "0.1", "tax_reason": "other", "tax_type": "vat",
    })
}

#[test]
fn only_what_is_sent_changes() {
    check(async |world| {
        let made = world.create(&world.here, whole()).await.unwrap();
        let before = serde_json::to_value(&made).unwrap();
        let changes = [
            ("name", json!("B")),
            ("currency", json!("EUR")),
            ("csm_id", json!("u3")),
            ("aliases", json!(["two", "three"])),
            ("metadata", json!({"b": {}})),
            ("tax_rate", json!("0")),
            (
                "billing_address",
                json!({"line1": "9", "city": "c", "state": "s", "postal_code": "p", "country": "FRA"}),
            ),
        ];
        let mut expected = before;
        for (property, value) in changes {
            let changed = world.update(&world.here, &made.id, json!({property: value})).await.unwrap().unwrap();
            let changed = serde_json::to_value(changed).unwrap();
            expected[property] = value;
            expected["updated_at"] = changed["updated_at"].clone();
            assert_eq!(changed, expected, "{property}");
            let stored = world.find(&world.here, &made.id).await.unwrap();
            assert_eq!(serde_json::to_value(stored).unwrap(), expected, "{property}");
        }
    });
}

#[test]
fn null_clears_what_may_be_absent() {
    check(async |world| {
        world.create(&world.here, whole()).await.unwrap();
        let names = [
            "csm_id",
            "sales_owner_id",
            "billing_address",
            "metadata",
            "tax_country",
            "tax_id",
            "tax_rate",
            "tax_reason",
            "tax_type",
            "aliases",
            "contacts",
            "tag_ids",
            "parent_customer_id",
        ];
        let nulls: serde_json::Map<_, _> = names.iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
        let cleared = world.update(&world.here, "one", Value::Object(nulls)).await.unwrap().unwrap();
        let stored = world.find(&world.here, &cleared.id).await.unwrap();
        for customer in [cleared, stored] {
            let customer = serde_json::to_value(customer).unwrap();
            let left: Vec<_> = customer.as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(
                left,
                ["aliases", "contacts", "created_at", "currency", "id", "name", "tag_ids", "updated_at"]
            );
            assert_eq!((&customer["aliases"], &customer["contacts"]), (&json!([]), &json!([])));
        }
        assert!(world.find(&world.here, "one").await.is_none(), "the alias is free");
        world.customer(&world.here, "B", &["one", "two"]).await;
    });
}

#[test]
fn an_empty_update_changes_nothing() {
    check(async |world| {
        let made = world.customer(&world.here, "A", &[]).await;
        let entries = world.audited().await.len();
        let same = world.update(&world.here, &made.id, json!({})).await.unwrap().unwrap();
        assert_eq!(same.updated_at, made.updated_at);
        assert_eq!(world.audited().await.len(), entries);
    });
}

#[test]
fn nobody_is_updated_by_an_unknown_name() {
    check(async |world| {
        for name in ["unknown", "cust_0000000000000000000000", ""] {
            assert!(world.update(&world.here, name, json!({"name": "B"})).await.unwrap().is_none());
        }
    });
}

#[test]
fn a_contact_keeps_its_id_as_long_as_it_is_sent() {
    check(async |world| {
        let made = world.create(&world.here, whole()).await.unwrap();
        let other = world
            .create(
                &world.here,
                json!({"name": "B", "currency": "USD", "contacts": [{"email": "x@y.z", "is_primary": true}]}),
            )
            .await;
        let (first, foreign) = (made.contacts[0].id.clone(), other.unwrap().contacts[0].id.clone());
        let body = json!({"contacts": [{"email": "new@b.c", "is_primary": true}, {"id": first, "email": "a@b.c", "is_primary": false}]});
        let changed = world.update(&world.here, &made.id, body).await.unwrap().unwrap();
        assert_eq!(changed.contacts[1].id, first);
        assert_eq!(changed.contacts[1].first_name, None, "a contact is replaced whole");
        assert!(!made.contacts.iter().any(|known| known.id == changed.contacts[0].id));
        for (ids, field, words) in [
            (json!([foreign]), "contacts[0].id", "is not a contact of this customer"),
            (json!([first, "placeholder"]), "contacts[1].id", "is not a contact of this customer"),
            (json!([first, first]), "contacts[1].id", "is sent for two contacts"),
        ] {
            let ids = ids.as_array().unwrap().clone().into_iter().zip(0..);
            let contacts: Vec<_> =
                ids.map(|(id, at)| json!({"id": id, "email": format!("{at}@b.c"), "is_primary": false})).collect();
            let refused = world.update(&world.here, &made.id, json!({"contacts": contacts})).await;
            assert_refused(refused, Refused, "unknown_contact", field, words);
        }
    });
}

#[test]
fn aliases_move_from_one_customer_to_another() {
    check(async |world| {
        let first = world.customer(&world.here, "A", &["one", "two"]).await;
        let second = world.customer(&world.here, "B", &["three"]).await;
        let refused = world.update(&world.here, "three", json!({"name": "C", "aliases": ["three", "two"]})).await;
        assert_refused(refused, Conflict, "alias_taken", "aliases[1]", "`two` already names a customer");
        assert_eq!(world.find(&world.here, "three").await.unwrap().name, "B", "nothing of a refused update stays");
        world.update(&world.here, &first.id, json!({"aliases": ["one"]})).await.unwrap();
        world.update(&world.here, "three", json!({"aliases": ["two", "three"]})).await.unwrap();
        assert_eq!(world.find(&world.here, "two").await.unwrap().id, second.id);
        // Its own names, in another order and another form, are no conflict.
        world.update(&world.here, "three", json!({"aliases": ["three", "e\u{301}", "two"]})).await.unwrap();
        let changed =
            world.update(&world.here, "three", json!({"aliases": ["\u{e9}", "three"]})).await.unwrap().unwrap();
        assert_eq!(changed.aliases, ["\u{e9}", "three"]);
        let own_id = world.update(&world.here, "three", json!({"aliases": [second.id]})).await;
        assert_refused(own_id, Conflict, "alias_taken", "aliases[0]", "already names a customer");
    });
}

#[test]
fn the_currency_stays_while_a_subscription_is_live() {
    check(async |world| {
        let made = world.customer(&world.here, "A", &["a"]).await;
        let other = world.customer(&world.here, "B", &[]).await;
        world.subscription(&other, "active").await;
        for status in ["draft", "canceled"] {
            world.subscription(&made, status).await;
        }
        let currency = |code: &str| json!({"currency": code, "name": code});
        world.update(&world.here, "a", currency("EUR")).await.unwrap();
        world.subscription(&made, "active").await;
        let refused = world.update(&world.here, "a", currency("JPY")).await;
        assert_refused(
            refused,
            Refused,
            "currency_in_use",
            "currency",
            "while a subscription of the customer is live",
        );
        assert_eq!(world.find(&world.here, "a").await.unwrap().name, "EUR");
        world.update(&world.here, "a", currency("EUR")).await.expect("the same currency is no change");
    });
}

#[test]
fn emails_and_tags_are_found_by_what_is_there_now() {
    check(async |world| {
        let tags =
            [world.tag(&world.here, "a", &["customer"]).await, world.tag(&world.here, "b", &["customer"]).await];
        let body = json!({"name": "A", "currency": "USD", "tag_ids": [tags[0]], "contacts": [{"email": "Old@b.c", "is_primary": true}]});
        let made = world.create(&world.here, body).await.unwrap();
        let body = json!({"tag_ids": [tags[1]], "contacts": [{"email": "new@b.c", "is_primary": true}]});
        world.update(&world.here, &made.id, body).await.unwrap();
        let found = [("email=old@b.c", 0), ("email=NEW@B.C", 1)].map(|(query, count)| (query.to_owned(), count));
        let tagged = [(format!("tag_ids={}", tags[0]), 0), (format!("tag_ids={}", tags[1]), 1)];
        for (query, count) in found.into_iter().chain(tagged) {
            assert_eq!(crate::customers_list::names(world, &query).await.len(), count, "{query}");
        }
    });
}
