//! The audit log: an entry for every write, and no change of the past that does not show.

use crate::customers::link;
use crate::place::check_places;
use crate::test_clock::advance;
use crate::{World, check, world};
use cuenta_engine::{Access, Error, MIGRATIONS, audit, organizations};
use serde_json::json;

#[test]
fn every_write_leaves_an_entry() {
    check(async |world| {
        let before = world.audited().await.len();
        let tag = world.tag(&world.here, "t", &["customer"]).await;
        let integration = world.integration(&world.here, "i").await;
        let made = world.create(&world.here, json!({"currency": "USD", "name": "A", "aliases": null})).await.unwrap();
        world.update(&world.here, &made.id, json!({"csm_id": null, "name": "B"})).await.unwrap();
        let linked = link(world, &made.id, &integration, "x").await.unwrap();
        let (customer, account) = (made.id.clone(), linked.id.clone());
        let unlinked = world.write(&world.here, move |scope| {
            cuenta_engine::customers::delete_connected_account(scope, &customer, &account)
        });
        unlinked.await.unwrap().unwrap();
        advance(world, &world.sandbox, "2090-01-01T00:00:00Z").await.unwrap();
        let organization_id = world.there.organization_id.to_string();
        let key = world.database.write(move |transaction| {
            let key = organizations::create_key(transaction, &organization_id, Access::Full, "n")?;
            let id = key.split('.').next().unwrap_or_default().to_owned();
            organizations::revoke_key(transaction, &id)?;
            Ok::<_, Error>(id)
        });
        let key = key.await.unwrap();
        let written: Vec<_> = world.audited().await.split_off(before);
        let expected = [
            ("tags.create", &tag, "name,color,entity_types"),
            ("integrations.create", &integration, "provider,description"),
            ("customers.create", &made.id, "name,currency,aliases"),
            ("customers.update", &made.id, "name,csm_id"),
            ("customers.create_connected_account", &linked.id, "integration_id,external_id"),
            ("customers.delete_connected_account", &linked.id, ""),
            ("test_clock.advance", &world.sandbox.organization_id.to_string(), "to"),
            ("keys.create", &key, "name,scope"),
            ("keys.revoke", &key, ""),
        ];
        let expected =
            expected.map(|(operation, object, names)| (operation.to_owned(), object.clone(), names.to_owned()));
        assert_eq!(written, expected);
    });
}

#[test]
fn an_entry_says_who_and_when_and_a_refused_write_leaves_none() {
    check(async |world| {
        world.customer(&world.here, "A", &["a"]).await;
        let before = world.audited().await.len();
        world.create(&world.here, json!({"name": "B", "currency": "USD", "aliases": ["a"]})).await.unwrap_err();
        world.update(&world.here, "nobody", json!({"name": "B"})).await.unwrap();
        assert_eq!(world.audited().await.len(), before);
        let here = world.here.organization_id.to_string();
        let entries = world.database.read(move |transaction| {
            let sql = "SELECT COUNT(*) AS number FROM audit_entries WHERE organization_id = :here AND key_id = 'key_of_the_test' \
                       AND request_id = 'req_of_the_test' AND operation = 'customers.create' AND at > :hour_ago AND at <= :now";
            let now = transaction.wall_micros();
            let parameters = [("here", here.as_str().into()), ("hour_ago", (now - 3_600_000_000).into()), ("now", now.into())];
            transaction.one(sql, &parameters)?.integer("number")
        });
        assert_eq!(entries.await.unwrap(), 1);
    });
}

#[test]
fn seals_cover_every_entry_once() {
    check(async |world| {
        assert_eq!(world.seal_all().await, 3, "the organizations");
        assert_eq!(world.seal_all().await, 0);
        for _ in 0..5 {
            world.customer(&world.here, "A", &[]).await;
        }
        assert_eq!(world.database.write(audit::seal).await.unwrap(), 5);
        let report = world.verify().await;
        assert_eq!((report.seals, report.entries, report.head.len(), report.faults.len()), (2, 8, 64, 0));
        world.tag(&world.here, "t", &["customer"]).await;
        world.seal_all().await;
        assert_ne!(world.verify().await.head, report.head);
    });
}

#[test]
fn a_seal_covers_a_thousand_entries_at_most() {
    check(async |world| {
        let many = world.database.write(|transaction| {
            for at in 0..2_500_i64 {
                let text = |name: &str| format!("{name}{at}");
                let entry = audit::Entry {
                    organization_id: text("o"),
                    key_id: text("k"),
                    operation: text("op"),
                    object_id: text("id"),
                    properties: String::new(),
                    request_id: text("r"),
                    at,
                };
                audit::append(transaction, entry)?;
            }
            Ok::<_, Error>(())
        });
        many.await.unwrap();
        let sealed = [1_000, 1_000, 503];
        for entries in sealed {
            assert_eq!(world.database.write(audit::seal).await.unwrap(), entries);
        }
        let report = world.verify().await;
        assert_eq!((report.seals, report.entries, report.faults.len()), (3, 2_503, 0));
    });
}

/// Two servers write and seal at once: no entry is sealed twice or left out.
#[test]
fn two_servers_may_seal_at_once() {
    check_places(MIGRATIONS, async |place| {
        let world = World::new(place).await;
        let other = place.open();
        let crowd = (0..60).map(|at| {
            let (world, other) = (&world, other.clone());
            async move {
                let database = if at % 2 == 0 { world.database.clone() } else { other };
                if at % 3 > 0 {
                    // A loser tries again later.
                    database.write(audit::seal).await.ok();
                    return;
                }
                let entry = move |transaction: &mut cuenta_store::Transaction| {
                    let text = || format!("x{at}");
                    let entry = audit::Entry {
                        organization_id: text(),
                        key_id: text(),
                        operation: text(),
                        object_id: text(),
                        properties: text(),
                        request_id: text(),
                        at: 0,
                    };
                    audit::append(transaction, entry)
                };
                while database.write(entry).await.is_err() {}
            }
        });
        crate::customers::all_at_once(crowd).await;
        world.seal_all().await;
        let report = world.verify().await;
        assert_eq!((report.entries, report.faults), (23, vec![]));
    });
}

/// Changes of sealed entries and of seals past the engine. The log has three seals in one lane when they happen: of three,
/// four and two entries.
const TAMPERINGS: &[&str] = &[
    "UPDATE audit_entries SET organization_id = 'x' WHERE position = 5",
    "UPDATE audit_entries SET key_id = 'x' WHERE position = 5",
    "UPDATE audit_entries SET operation = 'x' WHERE position = 5",
    "UPDATE audit_entries SET object_id = 'x' WHERE position = 5",
    "UPDATE audit_entries SET properties = 'x' WHERE position = 5",
    "UPDATE audit_entries SET request_id = 'x' WHERE position = 5",
    "UPDATE audit_entries SET at = at + 1 WHERE position = 5",
    "UPDATE audit_entries SET at = -at WHERE position = 1",
    "UPDATE audit_entries SET position = 105 WHERE position = 5",
    "UPDATE audit_entries SET position = position + 100 WHERE position > 3",
    "UPDATE audit_entries SET lane = 7 WHERE position = 5",
    "UPDATE audit_entries SET lane = 7",
    // Text moved from one column to the next leaves the joined text as it was.
    "UPDATE audit_entries SET key_id = key_id || 'customers', operation = '.create' WHERE position = 5",
    "DELETE FROM audit_entries WHERE position = 1",
    "DELETE FROM audit_entries WHERE position = 5",
    "DELETE FROM audit_entries WHERE position = 9",
    "DELETE FROM audit_entries WHERE position BETWEEN 4 AND 7",
    "DELETE FROM audit_entries",
    "INSERT INTO audit_entries SELECT lane, 0, organization_id, key_id, operation, object_id, properties, request_id, at \
     FROM audit_entries WHERE position = 5",
    "INSERT INTO audit_entries SELECT lane, -3, organization_id, key_id, operation, object_id, properties, request_id, at \
     FROM audit_entries WHERE position = 5",
    "INSERT INTO audit_entries SELECT -lane, position, organization_id, key_id, operation, object_id, properties, request_id, at \
     FROM audit_entries WHERE position = 5",
    "UPDATE audit_seals SET hash = previous_hash WHERE number = 2",
    "UPDATE audit_seals SET previous_hash = hash WHERE number = 2",
    "UPDATE audit_seals SET previous_hash = hash WHERE number = 1",
    "UPDATE audit_seals SET entries = entries + 1 WHERE number = 2",
    "UPDATE audit_seals SET first_position = first_position + 1 WHERE number = 2",
    "UPDATE audit_seals SET last_position = last_position - 1 WHERE number = 2",
    "UPDATE audit_seals SET lane = 7 WHERE number = 2",
    "UPDATE audit_seals SET sealed_at = sealed_at + 1 WHERE number = 2",
    "UPDATE audit_seals SET number = 4 WHERE number = 3",
    "UPDATE audit_seals SET number = 0 WHERE number = 1",
    "DELETE FROM audit_seals WHERE number = 1",
    "DELETE FROM audit_seals WHERE number = 2",
    "DELETE FROM audit_seals WHERE number < 3",
];

async fn sealed_world(place: &crate::place::Place) -> World {
    let world = World::new(place).await;
    for batch in [0, 4, 2] {
        for _ in 0..batch {
            world.customer(&world.here, "A", &[]).await;
        }
        world.seal_all().await;
    }
    let report = world.verify().await;
    assert_eq!((report.seals, report.entries, report.faults), (3, 9, vec![]));
    world
}

#[test]
fn every_tampering_is_found() {
    check_places(MIGRATIONS, async |place| {
        let world = sealed_world(place).await;
        let mut unseen = Vec::new();
        for tampering in TAMPERINGS {
            let faults = world.as_if(tampering, |transaction| Ok(world::verify(transaction)?.faults)).await;
            if faults.is_empty() {
                unseen.push(*tampering);
            }
        }
        assert_eq!(world.verify().await.faults, Vec::<String>::new(), "every change was undone");
        assert!(unseen.is_empty(), "not found:\n{}", unseen.join("\n"));
    });
}

#[test]
fn an_entry_slipped_between_two_seals_is_found() {
    check_places(MIGRATIONS, async |place| {
        let world = sealed_world(place).await;
        // A refused write leaves a gap in the lane; what is slipped in there was never sealed.
        world
            .database
            .write(|transaction| {
                transaction.next_in_lane();
                Err::<(), _>(Error::internal("refused"))
            })
            .await
            .unwrap_err();
        world.customer(&world.here, "A", &[]).await;
        world.seal_all().await;
        assert_eq!(world.verify().await.faults, Vec::<String>::new());
        let gap = world.number("SELECT MAX(position) - 1 AS number FROM audit_entries").await;
        assert_eq!(gap, 10);
        world.sql("INSERT INTO audit_entries SELECT lane, 10, organization_id, key_id, operation, object_id, properties, request_id, \
            at FROM audit_entries WHERE position = 5", &[]).await;
        assert_eq!(world.verify().await.faults.len(), 1);
    });
}

#[test]
fn seals_in_another_order_are_found() {
    check_places(MIGRATIONS, async |place| {
        let world = sealed_world(place).await;
        for (from, to) in [(1, 100), (2, 1), (100, 2)] {
            let parameters = [("from", from.into()), ("to", to.into())];
            world.sql("UPDATE audit_seals SET number = :to WHERE number = :from", &parameters).await;
        }
        assert!(world.verify().await.faults.len() >= 2);
    });
}

/// Whoever can write the database can forge a log from its beginning; the head, noted elsewhere, tells.
#[test]
fn a_forged_log_has_another_head() {
    check_places(MIGRATIONS, async |place| {
        let world = sealed_world(place).await;
        let head = world.verify().await.head;
        for forgery in ["DELETE FROM audit_seals", "UPDATE audit_entries SET key_id = 'somebody else'"] {
            world.sql(forgery, &[]).await;
        }
        world.seal_all().await;
        let report = world.verify().await;
        assert!(report.faults.is_empty() && report.head != head, "{report:?}");
    });
}
