//! Idempotency keys: one effect a key, whatever happens (contract, idempotency).

use crate::customers::all_at_once;
use crate::{World, assert_refused, check};
use cuenta_engine::Kind::{Conflict, Invalid, Refused, TooMany};
use cuenta_engine::idempotency::{self, Found, IdempotencyKey, StoredAnswer};
use cuenta_engine::{Caller, Error, Kind, Scope};
use cuenta_store::Database;

fn key(key: &str, request: u8) -> IdempotencyKey {
    IdempotencyKey { key: key.to_owned(), fingerprint: [request; 32], replaces_expired: false }
}

async fn look_up(world: &World, caller: &Caller, wanted: IdempotencyKey) -> Found {
    world.read(caller, move |scope| idempotency::look_up(scope, &wanted)).await
}

/// What a request does in these stories: a tag, and then its outcome.
type Outcome = Result<&'static str, (Kind, &'static str)>;

fn effect(scope: &mut Scope, outcome: Outcome) -> Result<String, Error> {
    let body = serde_json::json!({"name": "effect", "color": "#000000", "entity_types": ["plan"]});
    let made = cuenta_engine::tags::create(scope, &crate::read(body, cuenta_engine::tags::CreateTag::read))?;
    outcome.map(|body| format!("{body} {}", made.id)).map_err(|(kind, code)| Error::new(kind, code, "no"))
}

fn render(result: &Result<String, Error>) -> StoredAnswer {
    match result {
        Ok(body) => StoredAnswer { status: 200, body: body.clone().into_bytes() },
        Err(error) => StoredAnswer { status: 422, body: error.code().as_bytes().to_vec() },
    }
}

/// Runs a request under the key, as a server does that has looked it up.
async fn run(
    database: &Database,
    caller: &Caller,
    key: IdempotencyKey,
    outcome: Outcome,
) -> Result<StoredAnswer, Error> {
    let caller = caller.clone();
    let run = database.write(move |transaction| {
        let scope = &mut Scope::open(transaction, &caller)?;
        idempotency::run(scope, &key, |scope| effect(scope, outcome), render)
    });
    run.await
}

async fn effects(world: &World) -> i64 {
    world.number("SELECT COUNT(*) AS number FROM tags").await
}

#[test]
fn an_answer_is_stored_with_its_effect_and_replayed() {
    check(async |world| {
        assert_eq!(look_up(world, &world.here, key("k", 1)).await, Found::Nothing);
        let answer = run(&world.database, &world.here, key("k", 1), Ok("done")).await.unwrap();
        assert!(answer.status == 200 && answer.body.starts_with(b"done tag_"));
        assert_eq!(look_up(world, &world.here, key("k", 1)).await, Found::Replay(answer));
        assert_eq!(look_up(world, &world.here, key("k", 2)).await, Found::Mismatch);
        for other in ["K", "k ", "", "kk"] {
            assert_eq!(look_up(world, &world.here, key(other, 1)).await, Found::Nothing, "{other:?}");
        }
        for caller in [&world.there, &world.sandbox] {
            assert_eq!(
                look_up(world, caller, key("k", 1)).await,
                Found::Nothing,
                "a key belongs to its organization"
            );
        }
        run(&world.database, &world.there, key("k", 9), Ok("there")).await.unwrap();
        assert_eq!(effects(world).await, 2);
    });
}

#[test]
fn a_refusal_of_the_execution_is_stored_and_its_effects_are_undone() {
    check(async |world| {
        let refusals = [(Refused, "rule"), (Conflict, "taken"), (Kind::NotFound, "gone")];
        for (kind, code) in refusals {
            let answer = run(&world.database, &world.here, key(code, 1), Err((kind, code))).await.unwrap();
            assert_eq!((answer.status, answer.body.as_slice()), (422, code.as_bytes()));
            assert_eq!(look_up(world, &world.here, key(code, 1)).await, Found::Replay(answer));
        }
        assert_eq!(effects(world).await, 0);
        assert_eq!(world.audited().await.len(), 3, "only the organizations");
    });
}

#[test]
fn what_is_no_decision_is_not_stored() {
    check(async |world| {
        for kind in [Invalid, Kind::Forbidden, TooMany, Kind::Unavailable, Kind::Internal] {
            let error = run(&world.database, &world.here, key("k", 1), Err((kind, "code"))).await.unwrap_err();
            assert_eq!((error.kind(), error.code()), (kind, "code"));
            assert_eq!(look_up(world, &world.here, key("k", 1)).await, Found::Nothing, "the key stays free");
        }
        assert_eq!(effects(world).await, 0);
        run(&world.database, &world.here, key("k", 1), Ok("done")).await.expect("the key is free");
    });
}

#[test]
fn an_answer_that_is_too_large_undoes_the_effect() {
    check(async |world| {
        let too_large: &'static str = Box::leak("x".repeat(262_144).into_boxed_str());
        let error = run(&world.database, &world.here, key("k", 1), Ok(too_large)).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (Refused, "answer_too_large"));
        assert_eq!((effects(world).await, look_up(world, &world.here, key("k", 1)).await), (0, Found::Nothing));
    });
}

/// Another server stored an answer under the key after this one had looked: the record refuses the second, whole.
#[test]
fn a_key_has_one_effect_whoever_was_first() {
    check(async |world| {
        run(&world.database, &world.here, key("k", 1), Ok("first")).await.unwrap();
        for outcome in [Ok("second"), Err((Refused, "second"))] {
            let error = run(&world.database, &world.here, key("k", 1), outcome).await.unwrap_err();
            assert!(error.is_constraint(idempotency::RECORD), "{error:?}");
        }
        assert_eq!(effects(world).await, 1);
    });
}

#[test]
fn a_crowd_with_one_key_has_one_effect() {
    crate::place::check_places(cuenta_engine::MIGRATIONS, async |place| {
        let world = World::new(place).await;
        let other = place.open();
        let crowd = (0..40).map(|at| {
            let database = if at % 2 == 0 { &world.database } else { &other };
            run(database, &world.here, key("k", 1), Ok("done"))
        });
        let answers = all_at_once(crowd).await;
        let done = answers.iter().filter(|answer| answer.is_ok()).count();
        for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
            // Taken, running elsewhere, or lost against the one that did it.
            let expected = error.is_constraint(idempotency::RECORD)
                || matches!(error.code(), cuenta_engine::error::IN_FLIGHT | "conflict_retry");
            assert!(expected, "{error:?}");
        }
        assert_eq!((done, effects(&world).await), (1, 1));
        world.assert_consistent().await;
    });
}

const EXPIRE: &str = "UPDATE idempotency_keys SET expires_at = :at WHERE idempotency_key = :key";

async fn expire(world: &World, key: &'static str, seconds_ago: i64) {
    let at = cuenta_store::wall_micros() - seconds_ago * 1_000_000;
    world.sql(EXPIRE, &[("at", at.into()), ("key", key.into())]).await;
}

#[test]
fn a_record_lives_a_day_and_its_key_is_new_afterwards() {
    check(async |world| {
        run(&world.database, &world.here, key("k", 1), Ok("first")).await.unwrap();
        let lives =
            world.number("SELECT expires_at AS number FROM idempotency_keys").await - cuenta_store::wall_micros();
        let hour = 3_600_000_000;
        assert!((24 * hour - 60_000_000..=24 * hour).contains(&lives), "{lives}");
        expire(world, "k", -60).await;
        assert!(matches!(look_up(world, &world.here, key("k", 1)).await, Found::Replay(_)));
        expire(world, "k", 60).await;
        assert_eq!(look_up(world, &world.here, key("k", 1)).await, Found::Expired);
        assert_eq!(look_up(world, &world.here, key("k", 2)).await, Found::Expired, "whatever the request was");
        let renewed = IdempotencyKey { replaces_expired: true, ..key("k", 2) };
        let answer = run(&world.database, &world.here, renewed.clone(), Ok("second")).await.unwrap();
        assert_eq!(look_up(world, &world.here, key("k", 2)).await, Found::Replay(answer));
        // Whoever saw the expired record too comes late.
        let error = run(&world.database, &world.here, renewed, Ok("third")).await.unwrap_err();
        assert!(error.is_constraint(idempotency::RECORD), "{error:?}");
        assert_eq!(effects(world).await, 2);
    });
}

#[test]
fn a_sweep_removes_what_is_over_and_nothing_else() {
    check(async |world| {
        for name in ["over", "over too", "live"] {
            run(&world.database, &world.here, key(name, 1), Ok("done")).await.unwrap();
        }
        run(&world.database, &world.there, key("over", 1), Ok("done")).await.unwrap();
        expire(world, "over", 60).await;
        expire(world, "over too", 1).await;
        assert_eq!(world.database.write(idempotency::sweep).await.unwrap(), 3);
        assert_eq!(world.database.write(idempotency::sweep).await.unwrap(), 0);
        assert_eq!(look_up(world, &world.here, key("over", 1)).await, Found::Nothing);
        assert!(matches!(look_up(world, &world.here, key("live", 1)).await, Found::Replay(_)));
        assert_eq!(effects(world).await, 4, "effects stay");
    });
}

#[test]
fn two_servers_that_sweep_at_once_count_each_record_once() {
    crate::place::check_places(cuenta_engine::MIGRATIONS, async |place| {
        let world = World::new(place).await;
        let other = place.open();
        let made =
            all_at_once((0..50).map(|at| run(&world.database, &world.here, key(&format!("k{at}"), 1), Ok("done"))));
        assert!(made.await.iter().all(Result::is_ok));
        world.sql("UPDATE idempotency_keys SET expires_at = 1", &[]).await;
        loop {
            let sweeps = [&world.database, &other, &world.database, &other];
            let swept = all_at_once(sweeps.into_iter().map(|database| database.write(idempotency::sweep))).await;
            // One that lost against another tries again later; all is done when one finds nothing.
            if swept.iter().any(|swept| matches!(swept, Ok(0))) {
                break;
            }
        }
        assert_eq!(world.number("SELECT COUNT(*) AS number FROM idempotency_keys").await, 0);
        world.assert_consistent().await;
    });
}

#[test]
fn an_organization_has_a_limited_number_of_live_keys() {
    crate::place::check_places(cuenta_engine::MIGRATIONS, async |place| {
        let world = World::new(place).await;
        run(&world.database, &world.here, key("known", 1), Ok("done")).await.unwrap();
        let organization_id = world.here.organization_id.to_string();
        let filled = world.database.write(move |transaction| {
            transaction.tally(&organization_id, "idempotency_keys", 999_999);
            Ok::<_, Error>(())
        });
        filled.await.unwrap();
        let wanted = key("new", 1);
        let refused = world.write(&world.here, move |scope| idempotency::look_up(scope, &wanted)).await;
        assert_refused(refused, TooMany, "too_many_idempotency_keys", "", "within a day");
        assert!(matches!(look_up(&world, &world.here, key("known", 1)).await, Found::Replay(_)));
        assert_eq!(look_up(&world, &world.there, key("new", 1)).await, Found::Nothing);
    });
}

/// The time of a sandbox has no say in how long an answer is kept.
#[test]
fn a_sandbox_clock_expires_nothing() {
    check(async |world| {
        let answer = run(&world.database, &world.sandbox, key("k", 1), Ok("done")).await.unwrap();
        crate::test_clock::advance(world, &world.sandbox, "2090-01-01T00:00:00Z").await.unwrap();
        assert_eq!(look_up(world, &world.sandbox, key("k", 1)).await, Found::Replay(answer));
        assert_eq!(world.database.write(idempotency::sweep).await.unwrap(), 0);
    });
}
