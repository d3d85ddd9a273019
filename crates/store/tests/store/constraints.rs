//! A violated constraint has one name on both databases, and ends its closure.

use crate::{Failure, check, ids, insert};
use cuenta_store::{Error, Transaction};
use std::sync::{Arc, Mutex};

type Violation = fn(&mut Transaction) -> Result<(), Error>;

fn run(transaction: &mut Transaction, sql: &str) -> Result<(), Error> {
    transaction.execute(sql, &[])
}

/// What refuses the row, and the name it is told by.
const VIOLATIONS: [(Violation, &str); 9] = [
    (|transaction| insert(transaction, "a"), "things_pkey"),
    (|transaction| run(transaction, "INSERT INTO things (id, code) VALUES ('x', 'taken')"), "things_code"),
    (|transaction| run(transaction, "UPDATE things SET code = 'taken' WHERE id = 'b'"), "things_code"),
    (
        |transaction| {
            run(
                transaction,
                "INSERT INTO things (id, amount, note, is_on) SELECT 'x', amount, note, is_on FROM things WHERE id = 'a'",
            )
        },
        "things_note_of_amount",
    ),
    (|transaction| run(transaction, "UPDATE things SET amount = -1 WHERE id = 'b'"), "things_amount"),
    (|transaction| run(transaction, "INSERT INTO things (id, amount) VALUES ('x', -1)"), "things_amount"),
    (|transaction| run(transaction, "INSERT INTO things (id, parent_id) VALUES ('x', 'nobody')"), "foreign_key"),
    (|transaction| run(transaction, "DELETE FROM parents WHERE id = 'p'"), "foreign_key"),
    (|transaction| run(transaction, "INSERT INTO counters (name, part, value) VALUES ('c', 1, 2)"), "counters_pkey"),
];

fn prepare(transaction: &mut Transaction) -> Result<(), Error> {
    run(transaction, "INSERT INTO parents (id) VALUES ('p')")?;
    let sql = "INSERT INTO things (id, code, amount, note, is_on, parent_id) VALUES ('a', 'taken', 5, 'n', :on, 'p')";
    transaction.execute(sql, &[("on", true.into())])?;
    insert(transaction, "b")?;
    run(transaction, "INSERT INTO counters (name, part, value) VALUES ('c', 1, 1)")
}

#[test]
fn every_constraint_has_one_name() {
    check(async |database, _| {
        database.write(prepare).await.unwrap();
        for (violation, name) in VIOLATIONS {
            let error = database.write(violation).await.unwrap_err();
            assert!(error.is_constraint(name), "{error:?} is not {name}");
            assert_eq!(error.to_string(), format!("constraint {name} refused the row"));
        }
        assert_eq!(ids(&database).await, ["a", "b"]);
    });
}

#[test]
fn a_missing_value_is_a_mistake_of_the_program() {
    check(async |database, _| {
        let sql = "INSERT INTO counters (name, part, value) VALUES ('c', 1, NULL)";
        let error = database.write(|transaction| run(transaction, sql)).await.unwrap_err();
        assert!(matches!(error, Error::Internal(_)), "{error:?}");
    });
}

/// On PostgreSQL a statement may travel late; the closure then runs again, and is told at the statement.
#[test]
fn a_failed_statement_ends_the_closure() {
    check(async |database, _| {
        database.write(prepare).await.unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let telling = Arc::clone(&told);
        let wrote = database.write(move |transaction| {
            insert(transaction, "before")?;
            let Err(first) = insert(transaction, "a") else { return Ok(()) };
            let later = [
                insert(transaction, "after").err(),
                transaction.all("SELECT id FROM things", &[]).err(),
                transaction.claim(1).err(),
                transaction.attempt(|_| Ok::<_, Error>(())).err(),
            ];
            *telling.lock().expect("the lock is sound") = later.into_iter().flatten().collect();
            Err(first)
        });
        let error = wrote.await.unwrap_err();
        assert!(error.is_constraint("things_pkey"), "{error:?}");
        let told = told.lock().unwrap().clone();
        assert!(told.len() == 4 && told.iter().all(|error| error.is_constraint("things_pkey")), "{told:?}");
        assert_eq!(ids(&database).await, ["a", "b"]);
    });
}

/// What a closure decides after a statement that fails, it decides on false premises: the failure is the answer.
#[test]
fn a_refusal_behind_a_failed_statement_is_not_the_answer() {
    check(async |database, _| {
        database.write(prepare).await.unwrap();
        let wrote = database.write(|transaction| {
            insert(transaction, "a")?;
            Err::<(), _>(Failure::Own("decided as if the row had been written"))
        });
        let failure = wrote.await.unwrap_err();
        let is_told = matches!(&failure, Failure::Store(error) if error.is_constraint("things_pkey"));
        assert!(is_told, "{failure:?}");
    });
}

#[test]
fn a_closure_cannot_hide_a_failed_statement() {
    check(async |database, _| {
        database.write(prepare).await.unwrap();
        let wrote = database.write(|transaction| {
            insert(transaction, "before")?;
            drop(insert(transaction, "a"));
            Ok::<_, Error>(())
        });
        let error = wrote.await.unwrap_err();
        assert!(error.is_constraint("things_pkey"), "{error:?}");
        assert_eq!(ids(&database).await, ["a", "b"]);
    });
}
