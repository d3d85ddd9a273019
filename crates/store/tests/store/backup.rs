//! A backup of a database in use is whole, sound, and one state.

use crate::place::{Kind, Named, Place, runtime};
use crate::{MIGRATIONS, patient};
use cuenta_store::{Database, DatabaseUrl, Error, Options};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// Moves an amount between two counters and writes it down: the sum stays, and so does the count of what was written.
async fn transfer(database: &Database, number: i64) -> Result<(), Error> {
    let write = database.write(move |transaction| {
        let move_by = "UPDATE counters SET value = value + :by WHERE name = :name AND part = 0";
        transaction.execute(move_by, &[("by", number.into()), ("name", "a".into())])?;
        transaction.execute(move_by, &[("by", (-number).into()), ("name", "b".into())])?;
        transaction.execute(move_by, &[("by", 1.into()), ("name", "transfers".into())])?;
        let filler = "x".repeat(400);
        let thing = [("id", format!("{number:08}").into()), ("note", filler.into()), ("amount", number.into())];
        transaction.execute("INSERT INTO things (id, note, amount) VALUES (:id, :note, :amount)", &thing)
    });
    write.await
}

/// The sum of the two, the transfers that were counted, the transfers that are there.
async fn state(database: &Database) -> (i64, i64, i64) {
    let read = database.read(|transaction| {
        let sql = "SELECT CAST(SUM(value) AS BIGINT) AS sum FROM counters WHERE name <> 'transfers'";
        let sum = transaction.one(sql, &[])?.integer("sum")?;
        let counted =
            transaction.one("SELECT value FROM counters WHERE name = 'transfers'", &[])?.integer("value")?;
        Ok::<_, Error>((sum, counted, transaction.one("SELECT COUNT(*) AS rows FROM things", &[])?.integer("rows")?))
    });
    read.await.expect("the state is readable")
}

#[test]
fn a_backup_under_load_is_one_state() {
    let (place, _named) = (Place::migrated(Kind::Sqlite, MIGRATIONS), Named(Kind::Sqlite));
    runtime().block_on(async {
        let database = place.open();
        let prepare = database.write(|transaction| {
            ["a", "b", "transfers"].iter().try_for_each(|name| {
                let sql = "INSERT INTO counters (name, part, value) VALUES (:name, 0, 0)";
                transaction.execute(sql, &[("name", (*name).into())])
            })
        });
        prepare.await.unwrap();
        for number in 0..3_000 {
            transfer(&database, number).await.unwrap();
        }
        let (stop, number) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(3_000)));
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let (database, stop, number) = (database.clone(), Arc::clone(&stop), Arc::clone(&number));
                tokio::spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        transfer(&database, number.fetch_add(1, Ordering::Relaxed)).await.unwrap();
                    }
                })
            })
            .collect();
        for copy in 0..3 {
            let target = place.directory().join(format!("copy-{copy}.db"));
            let (from, to) = (place.database_url(), target.clone());
            let before = state(&database).await.1;
            let copied = tokio::task::spawn_blocking(move || {
                let pages = AtomicI64::new(0);
                let done = from.backup(&to, &|done, total| {
                    assert!(done <= total);
                    pages.store(done, Ordering::Relaxed);
                });
                (done, pages.into_inner())
            });
            let (done, pages) = patient(copied).await.unwrap();
            assert!(done.unwrap() && pages > 100, "{pages} pages were reported");
            let url = DatabaseUrl::parse(&format!("sqlite:{}", target.display())).unwrap();
            assert_eq!(url.integrity().unwrap(), Vec::<String>::new());
            assert!(url.migrate(MIGRATIONS).unwrap().is_empty());
            let (sum, counted, there) = state(&Database::open(&url, Options::default()).unwrap()).await;
            assert_eq!((sum, counted), (0, there), "the copy mixes two states");
            assert!(counted >= before, "a write that was answered before the copy is not in it");
        }
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await.unwrap();
        }
        assert!(state(&database).await.1 > 3_000, "the writers went on meanwhile");
    });
}

#[test]
fn postgresql_is_backed_up_by_its_own_tools() {
    let place = Place::migrated(Kind::Postgres, MIGRATIONS);
    let target = place.directory().join("copy.db");
    assert!(!place.database_url().backup(&target, &|_, _| {}).unwrap());
    assert!(!target.exists());
}

#[test]
fn damage_is_found() {
    let place = Place::migrated(Kind::Sqlite, MIGRATIONS);
    runtime().block_on(async {
        let database = place.open();
        for number in 0..200 {
            let write = database.write(move |transaction| crate::insert(transaction, &format!("{number:0400}")));
            write.await.unwrap();
        }
        tokio::task::spawn_blocking(move || database.close()).await.unwrap();
    });
    let url = place.database_url();
    assert_eq!(url.integrity().unwrap(), Vec::<String>::new());
    let path = url.sqlite_path().unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2 / 4_096 * 4_096;
    bytes[middle..middle + 512].fill(0xAA);
    std::fs::write(path, bytes).unwrap();
    let found = url.integrity();
    assert!(found.as_ref().map_or(true, |found| !found.is_empty()), "{found:?}");
}
