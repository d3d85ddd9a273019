//! Ids sort by creation, also where the clock stands still, leaps, or is shared by many (D-007).

use crate::check;
use crate::customers::all_at_once;
use crate::test_clock::advance;
use serde_json::json;

#[test]
fn ids_ascend_in_a_sandbox_whose_clock_stands_or_leaps() {
    check(async |world| {
        let mut made = Vec::new();
        for step in 0..5 {
            for _ in 0..10 {
                made.push(world.customer(&world.sandbox, "A", &[]).await.id);
            }
            let to = format!("20{}-01-01T00:00:00.00000{step}Z", 40 + step);
            advance(world, &world.sandbox, &to).await.unwrap();
        }
        assert!(made.windows(2).all(|pair| pair[0] < pair[1]), "{made:?}");
    });
}

#[test]
fn ids_of_a_crowd_are_different_and_their_order_is_that_of_the_list() {
    check(async |world| {
        let crowd = (0..100).map(|at| world.create(&world.here, json!({"name": at.to_string(), "currency": "USD"})));
        let mut ids: Vec<_> = all_at_once(crowd).await.into_iter().map(|made| made.unwrap().id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 100);
        let later = world.customer(&world.here, "later", &[]).await;
        assert!(ids.iter().all(|id| *id < later.id), "what is made after an answer sorts after it");
        assert_eq!(crate::customers_list::names(world, "limit=1").await, ["later"]);
    });
}
