//! The clock of a sandbox (D-019), and what is told by it.

use crate::{World, assert_refused, check, read, try_read};
use cuenta_engine::Kind::Refused;
use cuenta_engine::test_clock::{self, AdvanceTestClock};
use cuenta_engine::{Caller, Error};
use serde_json::json;

/// Moves the clock of the sandbox.
pub async fn advance(world: &World, caller: &Caller, to: &str) -> Result<String, Error> {
    let input = read(json!({"to": to}), AdvanceTestClock::read);
    let moved = world.write(caller, move |scope| test_clock::advance(scope, &input)).await?;
    Ok(moved.now.to_string())
}

async fn now(world: &World) -> String {
    world.read(&world.sandbox, test_clock::get).await.now.to_string()
}

#[test]
fn it_stands_still_and_moves_when_told() {
    check(async |world| {
        let started = now(world).await;
        let first = world.customer(&world.sandbox, "A", &["a"]).await;
        assert_eq!((now(world).await, first.created_at.to_string()), (started.clone(), started.clone()));
        assert_eq!(
            advance(world, &world.sandbox, "2090-02-28T23:59:59.123456+01:00").await.unwrap(),
            "2090-02-28T22:59:59.123456Z"
        );
        assert_eq!(now(world).await, "2090-02-28T22:59:59.123456Z");
        let changed = world.update(&world.sandbox, "a", json!({"name": "B"})).await.unwrap().unwrap();
        assert_eq!(changed.updated_at.to_string(), "2090-02-28T22:59:59.123456Z");
        assert_eq!(changed.created_at.to_string(), started);
        let second = world.customer(&world.sandbox, "C", &[]).await;
        assert!(second.id > first.id, "ids sort by the sandbox's time");
        let here = world.customer(&world.here, "D", &[]).await;
        assert!(here.created_at.to_string().as_str() < "2090", "no other organization's time moves");
        advance(world, &world.sandbox, "2090-02-28T22:59:59.123456Z").await.expect("standing still is no step back");
    });
}

#[test]
fn it_never_goes_back_nor_out_of_sight() {
    check(async |world| {
        advance(world, &world.sandbox, "2090-01-01T00:00:00Z").await.unwrap();
        for to in [
            "2089-12-31T23:59:59.999999Z",
            "1970-01-01T00:00:00Z",
            "2190-01-02T00:00:00.000001Z",
            "9999-01-01T00:00:00Z",
        ] {
            let refused = advance(world, &world.sandbox, to).await;
            assert_refused(refused, Refused, "clock_cannot_go_there", "to", "2090-01-01T00:00:00Z");
        }
        assert_eq!(now(world).await, "2090-01-01T00:00:00Z");
    });
}

#[test]
fn a_live_organization_has_none() {
    check(async |world| {
        let refused = advance(world, &world.here, "2090-01-01T00:00:00Z").await;
        assert_refused(refused, Refused, "not_a_sandbox", "", "--sandbox");
        let asked = world.write(&world.there, test_clock::get).await;
        assert_refused(asked, Refused, "not_a_sandbox", "", "--sandbox");
    });
}

#[test]
fn a_moment_is_rfc_3339() {
    for wrong in [json!("tomorrow"), json!("2026-01-01"), json!("2026-01-01T00:00:00"), json!(1), json!("")] {
        let words = try_read(&json!({"to": wrong}), AdvanceTestClock::read).expect_err("no moment");
        assert!(words.starts_with("Validation failed: to "), "{words}");
    }
}
