//! Organizations and their keys (D-004): a secret is shown once, and opens its own organization only.

use crate::{assert_refused, check, organization};
use cuenta_engine::Kind::NotFound;
use cuenta_engine::organizations::{self, OrganizationKind};
use cuenta_engine::{Access, Error};

#[test]
fn an_organization_is_what_was_asked_for() {
    check(async |world| {
        let made = world
            .database
            .write(|transaction| {
                let mut input = organization(OrganizationKind::Sandbox);
                input.name = "Ünïcode".to_owned();
                input.timezone = "Europe/Berlin".to_owned();
                input.default_currency = cuenta_money::Currency::parse("EUR").map_err(Error::internal)?;
                organizations::create(transaction, &input)
            })
            .await
            .unwrap();
        let id = made.id.clone();
        let stored =
            world.database.read(move |transaction| organizations::get(transaction, &id)).await.unwrap().unwrap();
        assert_eq!(serde_json::to_value(&stored).unwrap(), serde_json::to_value(&made).unwrap());
        let facts = (stored.name.as_str(), stored.timezone.as_str(), stored.default_currency.as_str(), stored.kind);
        assert_eq!(facts, ("Ünïcode", "Europe/Berlin", "EUR", OrganizationKind::Sandbox));
        let all = world.database.read(organizations::list).await.unwrap();
        let ids: Vec<_> = all.iter().map(|organization| organization.id.as_str()).collect();
        let expected =
            [&*world.here.organization_id, &world.there.organization_id, &world.sandbox.organization_id, &made.id];
        assert_eq!(ids, expected, "oldest first");
        let none = world.database.read(|transaction| organizations::get(transaction, "org_none")).await;
        assert!(none.unwrap().is_none());
    });
}

#[test]
fn a_key_opens_its_organization_until_it_is_revoked() {
    check(async |world| {
        for (caller, access) in
            [(&world.here, Access::Full), (&world.there, Access::Read), (&world.sandbox, Access::Full)]
        {
            let organization_id = caller.organization_id.to_string();
            let key = world
                .database
                .write(move |transaction| organizations::create_key(transaction, &organization_id, access, "till"))
                .await
                .unwrap();
            let (id, secret) = key.split_once('.').unwrap();
            assert!(secret.len() >= 43, "256 bits");
            let wanted = id.to_owned();
            let record = world.database.read(move |transaction| organizations::find_key(transaction, &wanted)).await;
            let record = record.unwrap().unwrap();
            let found = record.verify(secret).expect("the secret fits");
            assert_eq!(
                (&*found.organization_id, &*found.key_id, found.access),
                (&*caller.organization_id, id, access)
            );
            assert_eq!(found.is_sandbox, caller.is_sandbox);
            for wrong in ["", "x", &secret[1..], &format!("{secret}0"), &secret.to_uppercase()] {
                assert!(record.verify(wrong).is_none());
            }
            for _ in 0..2 {
                let revoked = id.to_owned();
                world
                    .database
                    .write(move |transaction| organizations::revoke_key(transaction, &revoked))
                    .await
                    .unwrap();
            }
            let wanted = id.to_owned();
            let gone = world.database.read(move |transaction| organizations::find_key(transaction, &wanted)).await;
            assert!(gone.unwrap().is_none());
        }
    });
}

#[test]
fn no_secret_is_stored() {
    check(async |world| {
        let organization_id = world.here.organization_id.to_string();
        let key = world
            .database
            .write(move |transaction| organizations::create_key(transaction, &organization_id, Access::Full, "n"))
            .await
            .unwrap();
        let (id, secret) = key.split_once('.').unwrap();
        let (id, secret) = (id.to_owned(), secret.as_bytes().to_vec());
        let hash = world
            .database
            .read(move |transaction| {
                let sql = "SELECT secret_hash FROM api_keys WHERE id = :id";
                Ok::<_, Error>(transaction.one(sql, &[("id", id.as_str().into())])?.bytes("secret_hash")?)
            })
            .await
            .unwrap();
        assert_eq!(hash.len(), 32);
        assert!(!hash.windows(8).any(|part| secret.windows(8).any(|secret| secret == part)));
    });
}

#[test]
fn keys_are_listed_without_secrets() {
    check(async |world| {
        for (caller, name) in [(&world.here, "one"), (&world.here, "two"), (&world.there, "three")] {
            let organization_id = caller.organization_id.to_string();
            let made = world.database.write(move |transaction| {
                organizations::create_key(transaction, &organization_id, Access::Read, name)
            });
            made.await.unwrap();
        }
        let all = world.database.read(|transaction| organizations::list_keys(transaction, None)).await.unwrap();
        assert_eq!(all.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["one", "two", "three"]);
        let (revoked, here) = (all[1].id.clone(), world.here.organization_id.to_string());
        world.database.write(move |transaction| organizations::revoke_key(transaction, &revoked)).await.unwrap();
        let own =
            world.database.read(move |transaction| organizations::list_keys(transaction, Some(&here))).await.unwrap();
        let facts: Vec<_> =
            own.iter().map(|key| (key.name.as_str(), key.scope.as_str(), key.revoked_at.is_some())).collect();
        assert_eq!(facts, [("one", "read", false), ("two", "read", true)]);
    });
}

#[test]
fn what_does_not_exist_has_no_keys() {
    check(async |world| {
        let made = world
            .database
            .write(|transaction| organizations::create_key(transaction, "org_none", Access::Full, "n"))
            .await;
        assert_refused(made, NotFound, "organization_not_found", "", "cuenta organizations list");
        let revoked = world.database.write(|transaction| organizations::revoke_key(transaction, "key_none")).await;
        assert_refused(revoked, NotFound, "key_not_found", "", "cuenta keys list");
        for id in ["", "key_none", "cust_0000000000000000000000", "key_0000000000000000000000"] {
            let found = world.database.read(move |transaction| organizations::find_key(transaction, id)).await;
            assert!(found.unwrap().is_none(), "{id}");
        }
    });
}
