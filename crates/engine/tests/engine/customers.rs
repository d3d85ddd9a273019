//! Making customers and finding them again (contract section 5, D-020 to D-023).

use crate::{assert_refused, check, try_read};
use cuenta_engine::Kind::{Conflict, Refused};
use cuenta_engine::customers::{self, CreateCustomer};
use cuenta_engine::ids::{Prefix, is_id};
use serde_json::{Value, json};

#[test]
fn what_was_sent_is_what_is_answered_and_stored() {
    check(async |world| {
        let tag = world.tag(&world.here, "vip", &["customer", "invoice"]).await;
        let parent = world.customer(&world.here, "Parent", &[]).await;
        let sent = json!({
            "name": "  Ünïcode & Söhne 😀 ", "currency": "JPY", "aliases": ["a/b", "é"], "tag_ids": [tag],
            "billing_address": {"line1": "1", "line2": "2", "city": "c", "state": "s", "postal_code": "p", "country": "DE"},
            "contacts": [{"id": "placeholder", "email": "Ann@Example.com", "is_primary": true, "first_name": "Ann",
                "last_name": "Lee", "email_preferences": ["billing", "own"]}],
            "csm_id": "u1", "sales_owner_id": "u2", "parent_customer_id": parent.id, "metadata": {"n": 1, "deep": {"a": [null]}},
            "tax_country": "DEU", "tax_id": "DE1", "tax_rate": "0.190", "tax_reason": "standard_rated", "tax_type": "vat",
        });
        let made = world.create(&world.here, sent.clone()).await.unwrap();
        let mut expected = sent;
        expected["billing_address"]["country"] = json!("DEU");
        let answered = serde_json::to_value(&made).unwrap();
        assert!(is_id(Prefix::Contact, &made.contacts[0].id), "a placeholder is no id");
        expected["contacts"][0]["id"] = json!(made.contacts[0].id);
        expected["id"] = json!(made.id);
        expected["created_at"] = answered["created_at"].clone();
        expected["updated_at"] = answered["created_at"].clone();
        assert_eq!(answered, expected);
        let stored = world.find(&world.here, &made.id).await.unwrap();
        assert_eq!(serde_json::to_value(stored).unwrap(), expected);
    });
}

#[test]
fn little_is_enough_and_null_is_nothing() {
    check(async |world| {
        let nulls = [
            "aliases",
            "billing_address",
            "contacts",
            "tag_ids",
            "csm_id",
            "metadata",
            "parent_customer_id",
            "tax_rate",
        ];
        let mut body = json!({"name": "A", "currency": "USD"});
        for name in nulls {
            body[name] = Value::Null;
        }
        let made = serde_json::to_value(world.create(&world.here, body).await.unwrap()).unwrap();
        let names: Vec<_> = made.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["aliases", "contacts", "created_at", "currency", "id", "name", "tag_ids", "updated_at"]);
        assert_eq!((&made["aliases"], &made["contacts"], &made["tag_ids"]), (&json!([]), &json!([]), &json!([])));
    });
}

#[test]
fn numbers_of_metadata_keep_their_form() {
    check(async |world| {
        let body = br#"{"name": "A", "currency": "USD", "metadata": {"price": 1.50, "big": 12345678901234567890123, "e": 1E2}}"#;
        let parsed = cuenta_engine::json::parse(body).unwrap();
        let unknown = cuenta_engine::input::UnknownProperties::Refuse;
        let input = cuenta_engine::input::read(&parsed, unknown, CreateCustomer::read).unwrap();
        let made = world.write(&world.here, move |scope| customers::create(scope, &input)).await.unwrap();
        let stored = world.find(&world.here, &made.id).await.unwrap();
        for customer in [made, stored] {
            let metadata = customer.metadata.unwrap();
            assert_eq!(metadata.get(), r#"{"price":1.50,"big":12345678901234567890123,"e":1E2}"#);
        }
    });
}

#[test]
fn a_customer_is_found_by_id_alias_and_external_id() {
    check(async |world| {
        let made = world.customer(&world.here, "A", &["plain", "with/slash?#", "e\u{301}"]).await;
        let integration = world.integration(&world.here, "stripe").await;
        link(world, &made.id, &integration, "cus_\u{e9}1").await.unwrap();
        // Composed and decomposed letters are one name (NFC); letters of another case are another.
        for name in [made.id.as_str(), "plain", "with/slash?#", "e\u{301}", "\u{e9}", "cus_\u{e9}1", "cus_e\u{301}1"]
        {
            assert_eq!(world.find(&world.here, name).await.map(|found| found.id), Some(made.id.clone()), "{name}");
        }
        for name in ["Plain", "plain ", "", "%", "cus_e1", &made.id.to_uppercase(), &format!("{}0", made.id)] {
            assert!(world.find(&world.here, name).await.is_none(), "{name:?}");
        }
        let stored = world.find(&world.here, "plain").await.unwrap();
        assert_eq!(stored.aliases, ["plain", "with/slash?#", "e\u{301}"], "kept as sent");
    });
}

pub async fn link(
    world: &crate::World,
    customer: &str,
    integration: &str,
    external_id: &str,
) -> Result<customers::ConnectedAccount, cuenta_engine::Error> {
    let body = json!({"integration_id": integration, "external_id": external_id});
    let (input, customer) = (crate::read(body, customers::CreateConnectedAccount::read), customer.to_owned());
    let linked =
        world.write(&world.here, move |scope| customers::create_connected_account(scope, &customer, &input)).await?;
    Ok(linked.expect("the customer is there"))
}

#[test]
fn an_alias_belongs_to_one_customer() {
    check(async |world| {
        let first = world.customer(&world.here, "A", &["one", "\u{e9}"]).await;
        let integration = world.integration(&world.here, "stripe").await;
        link(world, &first.id, &integration, "external").await.unwrap();
        let customers = world.number("SELECT COUNT(*) AS number FROM customers").await;
        let taken =
            [("one", "one"), ("e\u{301}", "\u{e9}"), (first.id.as_str(), "its id"), ("external", "an external id")];
        for (alias, why) in taken {
            let body = json!({"name": "B", "currency": "USD", "aliases": ["free", alias]});
            let refused = world.create(&world.here, body).await;
            assert_refused(
                refused,
                Conflict,
                "alias_taken",
                "aliases[1]",
                &format!("`{alias}` already names a customer"),
            );
            assert!(world.find(&world.here, "free").await.is_none(), "{why}: nothing of a refused customer stays");
        }
        assert_eq!(world.number("SELECT COUNT(*) AS number FROM customers").await, customers);
        world.customer(&world.here, "C", &["One", "free"]).await;
        world.customer(&world.there, "D", &["one", "external"]).await;
    });
}

/// Many at once want the same alias: one has it, the others are told.
#[test]
fn an_alias_belongs_to_one_customer_also_in_a_crowd() {
    check(async |world| {
        let crowd = (0..40).map(|at| {
            let aliases = [format!("own {at}"), format!("shared {}", at % 4)];
            world.create(&world.here, json!({"name": "A", "currency": "USD", "aliases": aliases}))
        });
        let mut made = 0;
        for result in all_at_once(crowd).await {
            match result {
                Ok(_) => made += 1,
                Err(error) => assert_eq!((error.kind(), error.code()), (Conflict, "alias_taken"), "{error:?}"),
            }
        }
        assert_eq!(made, 4);
        assert_eq!(world.number("SELECT COUNT(*) AS number FROM customer_identifiers").await, 8);
    });
}

/// All of them at once, answers in their order.
pub async fn all_at_once<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        for (future, answer) in &mut waiting {
            if answer.is_none()
                && let std::task::Poll::Ready(ready) = future.as_mut().poll(context)
            {
                *answer = Some(ready);
            }
        }
        let done = waiting.iter().all(|(_, answer)| answer.is_some());
        if done { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    waiting.into_iter().filter_map(|(_, answer)| answer).collect()
}

#[test]
fn rules_between_properties_are_422() {
    let contact = |email: &str, primary: bool| json!({"email": email, "is_primary": primary});
    let refusals = [
        (
            "contacts",
            json!([contact("a@b.c", true), contact("d@b.c", true)]),
            "two_primary_contacts",
            "contacts[1].is_primary",
        ),
        ("contacts", json!([contact("a@b.c", true), contact("A@B.c", false)]), "repeated_value", "contacts[1].email"),
        ("aliases", json!(["x", "y", "x"]), "repeated_value", "aliases[2]"),
        ("aliases", json!(["\u{e9}", "e\u{301}"]), "repeated_value", "aliases[1]"),
        ("tag_ids", json!(["tag_1", "tag_1"]), "repeated_value", "tag_ids[1]"),
        ("tag_ids", json!(["tag_1"]), "unknown_tag", "tag_ids[0]"),
        ("parent_customer_id", json!("cust_none"), "unknown_parent_customer", "parent_customer_id"),
        ("tax_rate", json!("1.01"), "tax_rate_out_of_range", "tax_rate"),
        ("tax_rate", json!("-0.1"), "tax_rate_out_of_range", "tax_rate"),
    ];
    check(async |world| {
        let there = world.customer(&world.here, "A", &["there"]).await;
        for (property, value, code, field) in &refusals {
            let mut body = json!({"name": "B", "currency": "USD"});
            body[*property] = value.clone();
            assert_refused(world.create(&world.here, body).await, Refused, code, field, "Validation failed: ");
            let update = world.update(&world.here, "there", json!({*property: value})).await;
            assert_refused(update, Refused, code, field, "Validation failed: ");
        }
        let all_of_it = world.find(&world.here, &there.id).await.unwrap();
        assert_eq!(serde_json::to_value(all_of_it).unwrap(), serde_json::to_value(there).unwrap());
    });
}

#[test]
fn tags_must_be_for_customers_and_of_the_organization() {
    check(async |world| {
        let fitting = world.tag(&world.here, "a", &["plan", "customer"]).await;
        let unfit = world.tag(&world.here, "b", &["plan"]).await;
        let foreign = world.tag(&world.there, "c", &["customer"]).await;
        let with = |tags: &[&String]| json!({"name": "A", "currency": "USD", "tag_ids": tags});
        let refused = world.create(&world.here, with(&[&fitting, &unfit])).await;
        assert_refused(refused, Refused, "tag_not_for_customers", "tag_ids[1]", "cannot be attached to customers");
        let refused = world.create(&world.here, with(&[&foreign])).await;
        assert_refused(refused, Refused, "unknown_tag", "tag_ids[0]", "is not a tag of this organization");
        assert_eq!(world.create(&world.here, with(&[&fitting])).await.unwrap().tag_ids, [fitting]);
    });
}

#[test]
fn a_family_has_no_circle_and_an_end() {
    check(async |world| {
        let foreign = world.customer(&world.there, "A", &[]).await;
        let refused = world
            .create(&world.here, json!({"name": "B", "currency": "USD", "parent_customer_id": foreign.id}))
            .await;
        assert_refused(
            refused,
            Refused,
            "unknown_parent_customer",
            "parent_customer_id",
            "is not the id of a customer",
        );
        let mut family = vec![world.customer(&world.here, "0", &[]).await.id];
        for generation in 1..=32 {
            let body = json!({"name": generation.to_string(), "currency": "USD", "parent_customer_id": family[generation - 1]});
            let made = world.create(&world.here, body).await;
            if generation < 32 {
                family.push(made.unwrap().id);
                continue;
            }
            assert_refused(made, Refused, "unknown_parent_customer", "parent_customer_id", "at most 32");
        }
        for (child, parent) in [(0, 0), (0, 1), (0, 5), (3, 31)] {
            let refused =
                world.update(&world.here, &family[child], json!({"parent_customer_id": family[parent]})).await;
            assert_refused(
                refused,
                Refused,
                "unknown_parent_customer",
                "parent_customer_id",
                "back to the customer itself",
            );
        }
        world.update(&world.here, &family[5], json!({"parent_customer_id": null})).await.unwrap();
        world.update(&world.here, &family[0], json!({"parent_customer_id": family[31]})).await.unwrap();
    });
}

#[test]
fn malformed_bodies_are_told_all_at_once() {
    let body =
        json!({"currency": "usd", "contacts": [{"email": "no", "is_primary": 1}], "aliasses": [], "name": "\t"});
    let words = try_read(&body, CreateCustomer::read).unwrap_err();
    for part in ["name ", "USD", "contacts[0].email ", "contacts[0].is_primary ", "did you mean `aliases`?"] {
        assert!(words.contains(part), "{part}: {words}");
    }
    let too_much = [
        ("name", json!("x".repeat(256))),
        ("aliases", json!((0..101).map(|at| at.to_string()).collect::<Vec<_>>())),
        ("aliases", json!(["x".repeat(256)])),
        ("aliases", json!([""])),
        ("csm_id", json!("x".repeat(256))),
        ("metadata", json!({"k": "x".repeat(16_384)})),
        ("metadata", json!((0..51).map(|at| (at.to_string(), json!(1))).collect::<serde_json::Map<_, _>>())),
        ("tax_rate", json!(0.2)),
        ("tax_country", json!("XXX")),
        ("currency", json!("XAU")),
    ];
    for (property, value) in too_much {
        let mut body = json!({"name": "A", "currency": "USD"});
        body[property] = value;
        let words = try_read(&body, CreateCustomer::read).expect_err(property);
        assert!(words.starts_with(&format!("Validation failed: {property}")), "{words}");
    }
}
