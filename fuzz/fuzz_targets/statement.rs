//! The rewriting of SQL: never panics, numbers are dense, and quoted text stays as it is.

#![no_main]

use libfuzzer_sys::fuzz_target;

// The module itself: what it gives out is for its crate alone.
#[path = "../../crates/store/src/statement.rs"]
mod statement;

use statement::{DATABASE_NOW, Dialect, many_rows, rewrite};

fuzz_target!(|sql: &str| {
    let (sqlite, postgres) = (rewrite(sql, Dialect::Sqlite), rewrite(sql, Dialect::Postgres));
    for rewritten in [&sqlite, &postgres] {
        let mut names = rewritten.names.clone();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), rewritten.names.len(), "a name has two numbers");
        assert!(names.iter().all(|name| sql.contains(&format!(":{name}"))), "a name out of nothing");
    }
    let without_clock: Vec<_> = sqlite.names.iter().filter(|name| *name != DATABASE_NOW).collect();
    assert_eq!(without_clock, postgres.names.iter().collect::<Vec<_>>(), "the databases want different parameters");
    if !sql.contains(':') {
        assert_eq!((sqlite.sql.as_str(), postgres.sql.as_str()), (sql, sql));
    }
    if sql.chars().all(|c| c != '\'') || sql.matches('\'').count() % 2 == 1 {
        let types = vec!["text"; postgres.names.len()];
        let many = many_rows(&postgres.sql, &postgres.names, &types);
        assert!(many.is_none_or(|many| many.trim_start().starts_with("INSERT INTO ")));
    }
});
