//! The list of customers: every filter, every order, every page (contract section 2 and 5, D-008, D-009).

use crate::customers::link;
use crate::{World, check, query};
use cuenta_engine::Kind::Invalid;
use cuenta_engine::customers::{self, Customer, ListCustomers};
use cuenta_engine::pages::List;
use serde_json::json;

async fn list(world: &World, text: &str) -> List<Customer> {
    let input = ListCustomers::read(&query(text)).unwrap_or_else(|error| panic!("{text}: {error}"));
    world.read(&world.here, move |scope| customers::list(scope, &input)).await
}

/// The names of a list, in its order.
pub async fn names(world: &World, text: &str) -> Vec<String> {
    list(world, text).await.data.into_iter().map(|customer| customer.name).collect()
}

#[test]
fn each_filter_finds_its_customers() {
    check(async |world| {
        let tags =
            [world.tag(&world.here, "a", &["customer"]).await, world.tag(&world.here, "b", &["customer"]).await];
        let integrations = [world.integration(&world.here, "a").await, world.integration(&world.here, "b").await];
        let mail =
            |email: &str| json!([{"email": "same@b.c", "is_primary": false}, {"email": email, "is_primary": true}]);
        let bodies = [
            json!({"name": "one", "currency": "USD", "aliases": ["e\u{301}", "x"], "csm_id": "u1", "tag_ids": [tags[0], tags[1]]}),
            json!({"name": "two", "currency": "USD", "csm_id": "u2", "sales_owner_id": "u1", "contacts": mail("Two@b.c"), "tag_ids": [tags[1]]}),
            json!({"name": "three", "currency": "USD", "csm_id": "u1,u2", "contacts": mail("three@b.c")}),
        ];
        let mut made = Vec::new();
        for body in bodies {
            made.push(world.create(&world.here, body).await.unwrap());
        }
        link(world, &made[0].id, &integrations[0], "ext").await.unwrap();
        link(world, &made[0].id, &integrations[1], "ext").await.unwrap();
        link(world, &made[2].id, &integrations[1], "\u{e9}xt").await.unwrap();
        let (tag_a, tag_b) = (&tags[0], &tags[1]);
        let [a, b] = &integrations;
        let expected: [(String, &[&str]); 20] = [
            (String::new(), &["three", "two", "one"]),
            ("alias=x".to_owned(), &["one"]),
            ("alias=\u{e9}".to_owned(), &["one"]),
            ("alias=X".to_owned(), &[]),
            ("alias=ext".to_owned(), &[]),
            ("email=same@B.C".to_owned(), &["three", "two"]),
            ("email=two@b.c".to_owned(), &["two"]),
            ("email=b.c".to_owned(), &[]),
            ("csm_id=u1".to_owned(), &["one"]),
            ("csm_id=u1,u2,u9".to_owned(), &["two", "one"]),
            ("sales_owner_id=u1".to_owned(), &["two"]),
            ("sales_owner_id=u2".to_owned(), &[]),
            (format!("tag_ids={tag_b}"), &["two", "one"]),
            (format!("tag_ids={tag_a},{tag_b}"), &["two", "one"]),
            (format!("integration_ids={a}"), &["one"]),
            (format!("integration_ids={a},{b}"), &["three", "one"]),
            ("integration_ids=ext".to_owned(), &["one"]),
            ("integration_ids=e\u{301}xt,none".to_owned(), &["three"]),
            (format!("tag_ids={tag_b}&csm_id=u2"), &["two"]),
            (format!("tag_ids={tag_b}&csm_id=u2&email=three@b.c"), &[]),
        ];
        for (text, found) in expected {
            let page = list(world, &text).await;
            assert_eq!(page.data.iter().map(|customer| customer.name.as_str()).collect::<Vec<_>>(), found, "{text}");
            assert_eq!(page.pagination.total_pages, i64::from(!found.is_empty()), "{text}");
        }
    });
}

#[test]
fn active_subscriptions_are_a_filter() {
    check(async |world| {
        for (name, statuses) in [("none", &[][..]), ("draft", &["draft", "canceled"]), ("live", &["active", "draft"])]
        {
            let made = world.customer(&world.here, name, &[]).await;
            for status in statuses {
                world.subscription(&made, status).await;
            }
        }
        let foreign = world.customer(&world.there, "foreign", &[]).await;
        world.subscription(&foreign, "active").await;
        assert_eq!(names(world, "has_active_subscriptions=true").await, ["live"]);
        assert_eq!(names(world, "has_active_subscriptions=false").await, ["draft", "none"]);
        assert_eq!(list(world, "has_active_subscriptions=false&limit=1").await.pagination.total_pages, 2);
    });
}

#[test]
fn orders_and_pages() {
    check(async |world| {
        for name in ["b", "a", "B", "a", "é"] {
            world.customer(&world.here, name, &[]).await;
        }
        let all = list(world, "").await;
        let id = |at: usize| all.data[at].id.clone();
        let sorted = [
            ("sort=name:asc", ["B", "a", "a", "b", "é"]),
            ("sort=name:desc", ["é", "b", "a", "a", "B"]),
            ("sort=created_at:asc", ["b", "a", "B", "a", "é"]),
            ("sort=created_at:desc", ["é", "a", "B", "a", "b"]),
        ];
        for (text, expected) in sorted {
            assert_eq!(names(world, text).await, expected, "{text}");
        }
        let ascending = list(world, "sort=name:asc").await;
        assert_eq!((&ascending.data[1].id, &ascending.data[2].id), (&id(3), &id(1)), "ties go by id");
        let descending = list(world, "sort=name:desc").await;
        assert_eq!((&descending.data[2].id, &descending.data[3].id), (&id(1), &id(3)));
        let pages = [
            ("limit=2", 2, 3),
            ("limit=2&offset=4", 1, 3),
            ("limit=5", 5, 1),
            ("limit=2&offset=5", 0, 3),
            ("limit=100&offset=9223372036854775807", 0, 1),
        ];
        for (text, items, total) in pages {
            let page = list(world, text).await;
            let limit = text.split(['=', '&']).nth(1).unwrap().parse().unwrap();
            let pagination = (page.data.len(), page.pagination.per_page, page.pagination.total_pages);
            assert_eq!(pagination, (items, limit, total), "{text}");
        }
        let mut walked = Vec::new();
        for offset in 0..5 {
            walked.extend(names(world, &format!("sort=name:asc&limit=1&offset={offset}")).await);
        }
        assert_eq!(walked, ["B", "a", "a", "b", "é"], "no page repeats or loses an item");
        assert_eq!(list(world, "alias=none").await.pagination.total_pages, 0);
        assert_eq!(list(world, "").await.pagination.per_page, 20);
    });
}

#[test]
fn a_query_that_nobody_could_mean_is_400() {
    let wrong = [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("limit=+5", "limit"),
        ("limit=1&limit=2", "limit"),
        ("offset=-1", "offset"),
        ("offset=9223372036854775808", "offset"),
        ("sort=name", "sort"),
        ("sort=currency:asc", "sort"),
        ("sort=name:up", "sort"),
        ("has_active_subscriptions=yes", "has_active_subscriptions"),
        ("alias=", "alias"),
        ("csm_id=a,,b", "csm_id"),
        ("tag_ids=,", "tag_ids"),
        ("emial=a@b.c", "emial"),
        ("Alias=x", "Alias"),
    ];
    for (text, field) in wrong {
        let error = ListCustomers::read(&query(text)).expect_err(text);
        assert_eq!(
            (error.kind(), error.fields().len(), error.fields()[0].field.as_str()),
            (Invalid, 1, field),
            "{text}"
        );
    }
    let many = vec!["x"; 101].join(",");
    assert!(ListCustomers::read(&query(&format!("csm_id={many}"))).is_err());
    let sorts = ListCustomers::read(&query("sort=x:asc")).unwrap_err();
    assert!(sorts.message().contains("name, created_at"), "{}", sorts.message());
    let all = ListCustomers::read(&query("limit=0&offset=-1&sort=x&unknown=1")).unwrap_err();
    assert_eq!(all.fields().len(), 4, "every problem at once: {}", all.message());
}

#[test]
fn the_count_follows_what_happens() {
    check(async |world| {
        for (text, pages) in [("limit=1", 0), ("limit=1&alias=a", 0)] {
            assert_eq!(list(world, text).await.pagination.total_pages, pages);
        }
        for at in 0..3 {
            world.customer(&world.here, "A", &[&at.to_string()]).await;
            let taken = json!({"name": "B", "currency": "USD", "aliases": ["0"]});
            world.create(&world.here, taken).await.expect_err("the alias is taken");
            assert_eq!(list(world, "limit=1").await.pagination.total_pages, at + 1);
        }
    });
}
