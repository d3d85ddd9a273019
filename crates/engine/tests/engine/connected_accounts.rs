//! Connected accounts: who a customer is elsewhere (contract section 5, D-021, D-022).

use crate::customers::link;
use crate::{World, assert_refused, check, read};
use cuenta_engine::Kind::{Conflict, Refused};
use cuenta_engine::customers::{self, CreateConnectedAccount};
use serde_json::json;

async fn listed(world: &World, customer: &str) -> Option<Vec<(String, String)>> {
    let customer = customer.to_owned();
    let list = world.read(&world.here, move |scope| customers::list_connected_accounts(scope, &customer)).await?;
    Some(list.data.into_iter().map(|account| (account.id, account.external_id)).collect())
}

async fn delete(world: &World, customer: &str, id: &str) -> bool {
    let (customer, id) = (customer.to_owned(), id.to_owned());
    let deleted =
        world.write(&world.here, move |scope| customers::delete_connected_account(scope, &customer, &id)).await;
    deleted.unwrap().is_some()
}

#[test]
fn links_are_made_listed_and_removed() {
    check(async |world| {
        let made = world.customer(&world.here, "A", &["a"]).await;
        let integration = world.integration(&world.here, "stripe").await;
        assert_eq!(listed(world, "a").await.unwrap(), []);
        let first = link(world, "a", &integration, "cus_1").await.unwrap();
        assert_eq!((first.customer_id.as_str(), first.integration_id), (made.id.as_str(), integration.clone()));
        // An external id serves as the customer's name, and is kept as it was sent.
        let second = link(world, "cus_1", &integration, "e\u{301} ").await.unwrap();
        let newest_first = [(second.id.clone(), "e\u{301} ".to_owned()), (first.id.clone(), "cus_1".to_owned())];
        assert_eq!(listed(world, "\u{e9} ").await.unwrap(), newest_first);
        assert!(delete(world, "cus_1", &first.id).await);
        assert!(world.find(&world.here, "cus_1").await.is_none());
        assert!(!delete(world, "a", &first.id).await, "it is gone");
        assert_eq!(listed(world, &made.id).await.unwrap().len(), 1);
        world.customer(&world.here, "B", &["cus_1"]).await;
    });
}

#[test]
fn a_pair_belongs_to_one_customer() {
    check(async |world| {
        let (first, second) =
            (world.customer(&world.here, "A", &["a"]).await, world.customer(&world.here, "B", &[]).await);
        let (one, two) = (world.integration(&world.here, "one").await, world.integration(&world.here, "two").await);
        let linked = link(world, &first.id, &one, "\u{e9}").await.unwrap();
        for customer in [&first.id, &second.id] {
            let again = link(world, customer, &one, "e\u{301}").await;
            assert_refused(
                again,
                Conflict,
                "external_id_taken",
                "external_id",
                "belongs to a customer in this integration",
            );
        }
        // The same id in another system may be somebody else; the name goes on to mean the first.
        let other = link(world, &second.id, &two, "\u{e9}").await.unwrap();
        assert_eq!(world.find(&world.here, "\u{e9}").await.unwrap().id, first.id);
        assert!(delete(world, &first.id, &linked.id).await);
        assert_eq!(world.find(&world.here, "\u{e9}").await.unwrap().id, second.id);
        let refused = world.create(&world.here, json!({"name": "C", "currency": "USD", "aliases": ["\u{e9}"]})).await;
        assert_refused(refused, Conflict, "alias_taken", "aliases[0]", "already names a customer");
        assert!(delete(world, &second.id, &other.id).await);
        world.customer(&world.here, "C", &["\u{e9}"]).await;
    });
}

#[test]
fn an_external_id_is_no_alias_and_no_id_of_a_customer() {
    check(async |world| {
        let (first, second) =
            (world.customer(&world.here, "A", &["a"]).await, world.customer(&world.here, "B", &["\u{e9}"]).await);
        let integration = world.integration(&world.here, "one").await;
        for external_id in ["a", "e\u{301}", &first.id, &second.id] {
            let refused = link(world, &first.id, &integration, external_id).await;
            let words = format!("`{external_id}` already names a customer");
            assert_refused(refused, Conflict, "external_id_taken", "external_id", &words);
        }
        assert_eq!(listed(world, &first.id).await.unwrap(), []);
    });
}

#[test]
fn an_integration_must_be_known() {
    check(async |world| {
        let made = world.customer(&world.here, "A", &[]).await;
        let foreign = world.integration(&world.there, "one").await;
        for integration in [foreign.as_str(), "intg_0000000000000000000000", "stripe"] {
            let refused = link(world, &made.id, integration, "x").await;
            assert_refused(refused, Refused, "unknown_integration", "integration_id", "GET /integrations");
        }
    });
}

#[test]
fn who_is_not_there_has_no_links() {
    check(async |world| {
        let made = world.customer(&world.here, "A", &[]).await;
        let other = world.customer(&world.here, "B", &[]).await;
        let integration = world.integration(&world.here, "one").await;
        let linked = link(world, &made.id, &integration, "x").await.unwrap();
        assert!(listed(world, "nobody").await.is_none());
        let input = read(json!({"integration_id": integration, "external_id": "y"}), CreateConnectedAccount::read);
        let none =
            world.write(&world.here, move |scope| customers::create_connected_account(scope, "nobody", &input)).await;
        assert!(none.unwrap().is_none());
        for (customer, id) in
            [("nobody", linked.id.as_str()), (&other.id, &linked.id), (&made.id, "cacc_x"), (&made.id, "")]
        {
            assert!(!delete(world, customer, id).await, "{customer} {id}");
        }
        assert_eq!(listed(world, &made.id).await.unwrap().len(), 1);
    });
}

#[test]
fn a_customer_has_at_most_a_thousand_links() {
    check(async |world| {
        let made = world.customer(&world.here, "A", &["a"]).await;
        let integration = world.integration(&world.here, "one").await;
        let (id, known) = (made.id.clone(), integration.clone());
        let filled = world.write(&world.here, move |scope| {
            for at in 0..1_000 {
                let body = json!({"integration_id": known, "external_id": format!("x{at}")});
                customers::create_connected_account(scope, &id, &read(body, CreateConnectedAccount::read))?;
            }
            Ok(())
        });
        filled.await.unwrap();
        let refused = link(world, "a", &integration, "one more").await;
        assert_refused(refused, Refused, "too_many_connected_accounts", "", "1000 connected accounts");
        assert_eq!(listed(world, "a").await.unwrap().len(), 1_000);
    });
}
