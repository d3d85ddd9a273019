//! No organization sees, changes or is hindered by another (D-004).

use crate::customers::link;
use crate::{World, check, query, read};
use cuenta_engine::customers::{self, CreateConnectedAccount, ListCustomers};
use cuenta_engine::integrations::{self, ListIntegrations};
use cuenta_engine::tags::{self, ListTags};
use cuenta_engine::{entitlements, payment_methods};
use serde_json::json;

#[test]
fn another_organization_is_not_there() {
    check(async |world| {
        let tag = world.tag(&world.here, "t", &["customer"]).await;
        let integration = world.integration(&world.here, "i").await;
        let body = json!({"name": "A", "currency": "USD", "aliases": ["alias"], "tag_ids": [tag], "csm_id": "u",
            "contacts": [{"email": "a@b.c", "is_primary": true}]});
        let made = world.create(&world.here, body).await.unwrap();
        world.subscription(&made, "active").await;
        let linked = link(world, "alias", &integration, "external").await.unwrap();
        let before = serde_json::to_value(&made).unwrap();
        for name in [made.id.as_str(), "alias", "external"] {
            nothing_under(world, name, &linked.id, &integration).await;
        }
        lists_are_empty(world, &tag, &integration).await;
        assert_eq!(serde_json::to_value(world.find(&world.here, "alias").await.unwrap()).unwrap(), before);
        // The same names are free on the other side.
        let twin = world.customer(&world.there, "B", &["alias", "external"]).await;
        assert_eq!(world.find(&world.there, "alias").await.unwrap().id, twin.id);
        assert_eq!(world.find(&world.here, "alias").await.unwrap().id, made.id);
        let stranger = world.update(&world.there, "alias", json!({"csm_id": "v"})).await.unwrap().unwrap();
        assert_eq!(stranger.id, twin.id);
    });
}

async fn nothing_under(world: &World, name: &str, linked: &str, integration: &str) {
    assert!(world.find(&world.there, name).await.is_none());
    assert!(world.update(&world.there, name, json!({"name": "B"})).await.unwrap().is_none());
    let (asked, there) = (name.to_owned(), &world.there);
    let found = world.read(there, move |scope| {
        let accounts = customers::list_connected_accounts(scope, &asked)?.is_some();
        let entitlements = entitlements::list_of_customer(scope, &asked)?.is_some();
        let methods = payment_methods::list_of_customer(scope, &asked)?.is_some();
        Ok([accounts, entitlements, methods, customers::get(scope, &asked)?.is_some()])
    });
    assert_eq!(found.await, [false; 4], "{name}");
    let input = read(json!({"integration_id": integration, "external_id": "y"}), CreateConnectedAccount::read);
    let (asked, linked) = (name.to_owned(), linked.to_owned());
    let wrote = world.write(there, move |scope| {
        let made = customers::create_connected_account(scope, &asked, &input)?.is_some();
        Ok([made, customers::delete_connected_account(scope, &asked, &linked)?.is_some()])
    });
    assert_eq!(wrote.await.unwrap(), [false; 2], "{name}");
}

async fn lists_are_empty(world: &World, tag: &str, integration: &str) {
    let filters =
        ["", "alias=alias", "email=a@b.c", "csm_id=u", "integration_ids=external", "has_active_subscriptions=true"];
    let filters = filters.map(str::to_owned).into_iter();
    for text in filters.chain([format!("tag_ids={tag}"), format!("integration_ids={integration}")]) {
        let input = ListCustomers::read(&query(&text)).unwrap();
        let page = world.read(&world.there, move |scope| customers::list(scope, &input)).await;
        assert_eq!((page.data.len(), page.pagination.total_pages), (0, 0), "{text}");
    }
    let (tag, integration) = (tag.to_owned(), integration.to_owned());
    let seen = world.read(&world.there, move |scope| {
        let tags = tags::list(scope, &ListTags::read(&query(""))?)?;
        let integrations = integrations::list(scope, &ListIntegrations::read(&query(""))?)?;
        let types = tags::entity_types(scope, std::slice::from_ref(&tag))?;
        let single = [tags::get(scope, &tag)?.is_some(), integrations::get(scope, &integration)?.is_some()];
        Ok((tags.data.len(), tags.pagination.total_pages, integrations.data.len(), types.len(), single))
    });
    assert_eq!(seen.await, (0, 0, 0, 0, [false; 2]));
}
