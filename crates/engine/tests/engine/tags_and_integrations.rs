//! Tags and integrations (contract section 19, D-011).

use crate::{World, assert_refused, check, query, read, try_read};
use cuenta_engine::Kind::{Invalid, Refused};
use cuenta_engine::integrations::{self, CreateIntegration, ListIntegrations};
use cuenta_engine::tags::{self, CreateTag, ListTags};
use serde_json::{Value, json};

async fn tag_names(world: &World, text: &str) -> (Vec<String>, i64) {
    let input = ListTags::read(&query(text)).unwrap();
    let page = world.read(&world.here, move |scope| tags::list(scope, &input)).await;
    (page.data.into_iter().map(|tag| tag.name).collect(), page.pagination.total_pages)
}

async fn providers(world: &World, text: &str) -> Vec<String> {
    let input = ListIntegrations::read(&query(text)).unwrap();
    let list = world.read(&world.here, move |scope| integrations::list(scope, &input)).await;
    list.data.into_iter().map(|integration| integration.provider).collect()
}

#[test]
fn a_tag_is_what_was_sent() {
    check(async |world| {
        let all = ["product", "customer", "plan", "subscription", "metric", "invoice", "quote"];
        let sent = json!({"name": " VIP ", "color": "#A0b1C2", "entity_types": all});
        let input = read(sent.clone(), CreateTag::read);
        let made = world.write(&world.here, move |scope| tags::create(scope, &input)).await.unwrap();
        let id = made.id.clone();
        let stored = world.read(&world.here, move |scope| tags::get(scope, &id)).await.unwrap();
        for tag in [&made, &stored] {
            let answered = serde_json::to_value(tag).unwrap();
            for property in ["name", "color", "entity_types"] {
                assert_eq!(answered[property], sent[property]);
            }
            assert_eq!(answered["created_at"], answered["updated_at"]);
        }
        assert_eq!((made.id, made.created_at), (stored.id, stored.created_at));
    });
}

#[test]
fn tags_are_sorted_by_name() {
    check(async |world| {
        for name in ["b", "a", "B", "é", "a"] {
            world.tag(&world.here, name, &["customer"]).await;
        }
        world.tag(&world.there, "foreign", &["customer"]).await;
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(tag_names(world, "").await, (names(&["B", "a", "a", "b", "é"]), 1));
        assert_eq!(tag_names(world, "limit=2&offset=3").await, (names(&["b", "é"]), 3));
        assert_eq!(tag_names(world, "offset=5").await, (vec![], 1));
    });
}

#[test]
fn malformed_tags_and_queries_are_told() {
    let good = json!({"name": "a", "color": "#00ff00", "entity_types": ["customer"]});
    assert!(try_read(&good, CreateTag::read).is_ok());
    let wrong: [(&str, Value); 8] = [
        ("name", json!(" ")),
        ("color", json!("green")),
        ("color", json!("#00ff0")),
        ("color", json!("#00ff0g")),
        ("entity_types", json!([])),
        ("entity_types", json!(["customer", "customer"])),
        ("entity_types", json!(["Customer"])),
        ("entity_types", json!("customer")),
    ];
    for (property, value) in wrong {
        let mut body = good.clone();
        body[property] = value;
        let words = try_read(&body, CreateTag::read).expect_err(property);
        assert!(words.starts_with(&format!("Validation failed: {property}")), "{words}");
    }
    for text in ["sort=name:asc", "name=a", "limit=0"] {
        assert_eq!(ListTags::read(&query(text)).unwrap_err().kind(), Invalid, "{text}");
    }
    for text in ["limit=1", "provider=", "provider=a&provider=b"] {
        assert_eq!(ListIntegrations::read(&query(text)).unwrap_err().kind(), Invalid, "{text}");
    }
}

#[test]
fn integrations_are_listed_newest_first_and_by_provider() {
    check(async |world| {
        let input = read(json!({"provider": "stripe", "description": "two\nlines"}), CreateIntegration::read);
        let made = world.write(&world.here, move |scope| integrations::create(scope, &input)).await.unwrap();
        let id = made.id.clone();
        let stored = world.read(&world.here, move |scope| integrations::get(scope, &id)).await.unwrap();
        assert_eq!(serde_json::to_value(&stored).unwrap(), serde_json::to_value(&made).unwrap());
        assert_eq!(stored.description.as_deref(), Some("two\nlines"));
        for provider in ["hubspot", "stripe,hubspot", "Stripe"] {
            world.integration(&world.here, provider).await;
        }
        assert_eq!(providers(world, "").await, ["Stripe", "stripe,hubspot", "hubspot", "stripe"]);
        assert_eq!(providers(world, "provider=stripe").await, ["stripe"]);
        assert_eq!(providers(world, "provider=unknown").await, Vec::<String>::new());
    });
}

#[test]
fn an_organization_has_at_most_a_thousand_integrations() {
    check(async |world| {
        let input = read(json!({"provider": "x"}), CreateIntegration::read);
        let many = input.clone();
        let made = world.write(&world.here, move |scope| {
            (0..1_000).try_for_each(|_| integrations::create(scope, &many).map(|_| ()))
        });
        made.await.unwrap();
        let refused = world.write(&world.here, move |scope| integrations::create(scope, &input)).await;
        assert_refused(refused, Refused, "too_many_integrations", "", "1000 integrations");
        assert_eq!(providers(world, "").await.len(), 1_000);
        world.integration(&world.there, "the limit is the organization's").await;
    });
}

#[test]
fn what_is_not_there_is_nothing() {
    check(async |world| {
        let integration = world.integration(&world.here, "x").await;
        let tag = world.tag(&world.here, "x", &["customer"]).await;
        for id in ["", "tag_0000000000000000000000", "intg_0000000000000000000000", "x", "TAG_0000000000000000000000"]
        {
            assert!(world.read(&world.here, move |scope| tags::get(scope, id)).await.is_none(), "{id}");
            assert!(world.read(&world.here, move |scope| integrations::get(scope, id)).await.is_none(), "{id}");
        }
        // An id of one noun is none of another.
        assert!(world.read(&world.here, move |scope| tags::get(scope, &integration)).await.is_none());
        assert!(world.read(&world.here, move |scope| integrations::get(scope, &tag)).await.is_none());
    });
}
