//! The schema is brought up to the program's, once, all or nothing, and never down.

use crate::place::{KINDS, Named, Place};
use crate::{MIGRATIONS, SCHEMA};
use cuenta_store::{Migration, SchemaVersions};

const SECOND: Migration = Migration {
    version: 2,
    name: "second",
    sql: "CREATE TABLE more (\n    id ID NOT NULL PRIMARY KEY\n);\nINSERT INTO parents (id) VALUES ('made by the second');\n",
};

fn check(story: impl Fn(&Place)) {
    for kind in KINDS {
        let (place, _named) = (Place::empty(kind), Named(kind));
        story(&place);
    }
}

fn both() -> [Migration; 2] {
    [MIGRATIONS[0], SECOND]
}

#[test]
fn an_empty_database_gets_everything_once() {
    check(|place| {
        let url = place.database_url();
        assert_eq!(url.versions(&both()).unwrap(), SchemaVersions { database: 0, program: 2 });
        assert_eq!(url.migrate(MIGRATIONS).unwrap(), [1]);
        assert_eq!(url.versions(&both()).unwrap(), SchemaVersions { database: 1, program: 2 });
        assert_eq!(url.migrate(&both()).unwrap(), [2]);
        assert!(url.migrate(&both()).unwrap().is_empty(), "nothing is left to do");
        assert_eq!(url.versions(&both()).unwrap(), SchemaVersions { database: 2, program: 2 });
    });
}

#[test]
fn looking_at_the_versions_changes_nothing() {
    check(|place| {
        place.database_url().versions(MIGRATIONS).unwrap();
        if let Some(path) = place.database_url().sqlite_path() {
            assert!(!path.exists(), "a look made the file");
        }
        assert_eq!(place.database_url().migrate(MIGRATIONS).unwrap(), [1]);
    });
}

#[test]
fn four_that_start_at_once_apply_each_migration_once() {
    check(|place| {
        let url = place.database_url();
        let applied: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| url.migrate(&both()))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut all: Vec<i64> =
            applied.into_iter().flat_map(|applied| applied.expect("none of them fails")).collect();
        all.sort_unstable();
        assert_eq!(all, [1, 2]);
    });
}

#[test]
fn a_newer_schema_is_refused_in_words() {
    check(|place| {
        let url = place.database_url();
        url.migrate(&both()).unwrap();
        for refused in [url.migrate(MIGRATIONS).map(|_| ()), url.versions(MIGRATIONS).map(|_| ())] {
            let words = refused.unwrap_err().to_string();
            assert!(words.contains("schema version 2") && words.contains("newer Cuenta"), "{words}");
        }
        assert!(url.migrate(&both()).unwrap().is_empty(), "the refusal changed nothing");
    });
}

#[test]
fn a_changed_migration_is_refused_in_words() {
    check(|place| {
        let url = place.database_url();
        url.migrate(MIGRATIONS).unwrap();
        let changed: &'static str = Box::leak(format!("{SCHEMA}\n-- a word more\n").into_boxed_str());
        let changed = [Migration { sql: changed, ..MIGRATIONS[0] }, SECOND];
        let words = url.migrate(&changed).unwrap_err().to_string();
        assert!(words.contains("migration 1") && words.contains("changed after it was applied"), "{words}");
        assert_eq!(url.versions(&both()).unwrap(), SchemaVersions { database: 1, program: 2 });
    });
}

#[test]
fn a_failing_migration_leaves_nothing() {
    check(|place| {
        let url = place.database_url();
        let broken = Migration { version: 3, name: "broken", sql: "CREATE TABLE third (\n    id ID\n);\nSELEC 1;\n" };
        let known = [MIGRATIONS[0], SECOND, broken];
        url.migrate(&known).expect_err("the third does not parse");
        assert_eq!(url.versions(&known).unwrap().database, 0);
        assert_eq!(url.migrate(&both()).unwrap(), [1, 2]);
    });
}
