//! Each rule between tables finds the fault that it is for, and no other rule does.

use crate::place::check_places;
use crate::{World, customers::link, world};
use cuenta_engine::{MIGRATIONS, consistency};
use serde_json::json;

/// A fault past the engine, and the rules that must see it.
const FAULTS: &[(&str, &[&str])] = &[
    (
        "INSERT INTO customer_identifiers (organization_id, identifier, customer_id) VALUES ('o', 'lost', NULL)",
        &["identifiers"],
    ),
    (
        "INSERT INTO customer_identifiers (organization_id, identifier, customer_id) VALUES ('o', 'of nobody', 'cust_x')",
        &["identifiers"],
    ),
    ("UPDATE customer_identifiers SET customer_id = 'cust_x' WHERE identifier = 'alias'", &["identifiers"]),
    ("DELETE FROM customer_identifiers WHERE identifier = 'external'", &["external ids"]),
    (
        "UPDATE customer_identifiers SET customer_id = (SELECT MIN(id) FROM customers) WHERE identifier = 'external'",
        &["external ids"],
    ),
    ("DELETE FROM connected_accounts", &["identifiers"]),
    ("UPDATE customer_emails SET customer_id = 'cust_x'", &["e-mail addresses"]),
    (
        "INSERT INTO customers (organization_id, id, name, currency, aliases, contacts, tag_ids, created_at, updated_at) \
      VALUES ('org_x', 'cust_x', 'x', 'USD', '[]', '[]', '[]', 0, 0)",
        &["customers"],
    ),
    ("UPDATE tallies SET counted = counted + 1 WHERE noun = 'customers'", &["count of customers"]),
    ("DELETE FROM tallies WHERE noun = 'tags'", &["count of tags"]),
    ("DELETE FROM integrations WHERE provider = 'unused'", &["count of integrations"]),
    (
        "INSERT INTO idempotency_keys (organization_id, idempotency_key, fingerprint, status, body, expires_at) \
      SELECT MIN(id), 'k', secret, 200, secret, 0 FROM organizations, \
      (SELECT hash AS secret FROM audit_seals WHERE number = 1) AS bytes GROUP BY secret",
        &["count of idempotency keys"],
    ),
];

async fn furnish(world: &World) {
    let tag = world.tag(&world.here, "t", &["customer"]).await;
    let body = json!({"name": "A", "currency": "USD", "aliases": ["alias"], "tag_ids": [tag],
        "contacts": [{"email": "a@b.c", "is_primary": true}]});
    let made = world.create(&world.here, body).await.unwrap();
    let integration = world.integration(&world.here, "used").await;
    world.integration(&world.here, "unused").await;
    link(world, &made.id, &integration, "external").await.unwrap();
    world.seal_all().await;
}

#[test]
fn each_planted_fault_is_found_by_its_rule() {
    check_places(MIGRATIONS, async |place| {
        let world = World::new(place).await;
        furnish(&world).await;
        for (plant, rules) in FAULTS {
            world.assert_consistent().await;
            let faults = world.as_if(plant, world::faults).await;
            assert_eq!(faults.iter().map(|(name, _)| *name).collect::<Vec<_>>(), *rules, "{plant}: {faults:?}");
            assert!(faults.iter().all(|(_, found)| found.len() == 1), "{faults:?}");
        }
    });
    let covered: Vec<_> = FAULTS.iter().flat_map(|(_, rules)| *rules).collect();
    let missing: Vec<_> = consistency::CHECKS.iter().filter(|check| !covered.contains(&&check.name)).collect();
    assert!(missing.is_empty(), "a rule that no fault here breaks: {missing:?}");
}

#[test]
fn at_most_ten_faults_of_a_kind_are_named() {
    check_places(MIGRATIONS, async |place| {
        let world = World::new(place).await;
        for identifier in 'a'..'n' {
            let sql = "INSERT INTO customer_identifiers (organization_id, identifier) VALUES ('o', :identifier)";
            world.sql(sql, &[("identifier", identifier.to_string().into())]).await;
        }
        assert_eq!(world.faults().await[0].1.len(), 10);
    });
}
