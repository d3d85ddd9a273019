//! Reads: one unchanging state, with every write in it that was answered before.

use crate::place::check_places;
use crate::{Hold, MIGRATIONS, Queue, check, ids, insert, patient};
use cuenta_store::{Error, Options, Transaction};
use futures_util::future::join_all;

fn count(transaction: &mut Transaction) -> Result<i64, Error> {
    transaction.one("SELECT COUNT(*) AS rows FROM things", &[])?.integer("rows")
}

#[test]
fn a_read_sees_every_write_that_was_answered() {
    check(async |database, _| {
        let tasks = (0..16).map(|at| {
            let database = database.clone();
            tokio::spawn(async move {
                for step in 0..30 {
                    let id = format!("{at}-{step}");
                    let wanted = id.clone();
                    database.write(move |transaction| insert(transaction, &id)).await.unwrap();
                    let read = database.read(move |transaction| {
                        let sql = "SELECT id FROM things WHERE id = :id";
                        transaction.exists(sql, &[("id", wanted.as_str().into())])
                    });
                    assert!(read.await.unwrap(), "step {step} of task {at} is not there");
                }
            })
        });
        for task in patient(join_all(tasks)).await {
            task.unwrap();
        }
    });
}

#[test]
fn a_read_looks_at_one_state() {
    check(async |database, _| {
        database.write(|transaction| insert(transaction, "a")).await.unwrap();
        let (first, second) = (std::sync::mpsc::channel::<()>(), tokio::sync::oneshot::channel());
        let (reading, (resume, wait)) = (database.clone(), first);
        let (seen, was_seen) = second;
        let mut seen = Some(seen);
        let reader = tokio::spawn(async move {
            let read = reading.read(move |transaction| {
                let before = count(transaction)?;
                if let Some(seen) = seen.take() {
                    seen.send(()).ok();
                    wait.recv().map_err(|_| Error::Internal("the test ended early".to_owned()))?;
                }
                Ok::<_, Error>((before, count(transaction)?))
            });
            read.await
        });
        was_seen.await.unwrap();
        database.write(|transaction| insert(transaction, "b")).await.unwrap();
        resume.send(()).unwrap();
        assert_eq!(reader.await.unwrap().unwrap(), (1, 1));
        assert_eq!(database.read(count).await.unwrap(), 2);
    });
}

#[test]
fn a_group_of_reads_answers_each_its_own_question() {
    check_places(MIGRATIONS, async |place| {
        let database = place.open_with(Options { readers: 1, queue: 4_096 });
        database
            .write(|transaction| (0..100).try_for_each(|at| insert(transaction, &format!("{at:03}"))))
            .await
            .unwrap();
        let hold = Hold::begin(&database, Queue::Reads).await;
        let reads = join_all((0..100).map(|at| {
            database.read(move |transaction| {
                let id = format!("{at:03}");
                match at % 5 {
                    // A closure that asks nothing, one that refuses, one that panics, one that asks twice.
                    0 => Ok(format!("nothing {at}")),
                    1 => {
                        count(transaction)?;
                        Err(Error::Internal(format!("refused {at}")))
                    }
                    2 => {
                        count(transaction)?;
                        panic!("a read panicked")
                    }
                    _ => {
                        let sql = "SELECT id FROM things WHERE id >= :id ORDER BY id LIMIT 1";
                        let first = transaction.one(sql, &[("id", id.as_str().into())])?.text("id")?;
                        let second = transaction.one(sql, &[("id", "050".into())])?.text("id")?;
                        Ok(format!("{first} {second}"))
                    }
                }
            })
        }));
        let release = async {
            while database.waiting().1 < 100 {
                tokio::task::yield_now().await;
            }
            hold.release().await;
        };
        let (answers, ()) = patient(async { tokio::join!(reads, release) }).await;
        for (answer, at) in answers.into_iter().zip(0..) {
            let text = answer.unwrap_or_else(|error| error.to_string());
            let expected = match at % 5 {
                0 => format!("nothing {at}"),
                1 => format!("refused {at}"),
                2 => "a closure panicked".to_owned(),
                _ => format!("{at:03} 050"),
            };
            assert_eq!(text, expected);
        }
    });
}

/// A read that writes is a mistake of the program: it fails, and only it.
#[test]
fn a_read_cannot_write() {
    check_places(MIGRATIONS, async |place| {
        let database = place.open_with(Options { readers: 1, queue: 4_096 });
        database.write(|transaction| insert(transaction, "a")).await.unwrap();
        let hold = Hold::begin(&database, Queue::Reads).await;
        let reads = join_all((0..10).map(|at| {
            database.read(move |transaction| {
                if at == 5 {
                    insert(transaction, "b")?;
                }
                count(transaction)
            })
        }));
        let release = async {
            while database.waiting().1 < 10 {
                tokio::task::yield_now().await;
            }
            hold.release().await;
        };
        let (answers, ()) = patient(async { tokio::join!(reads, release) }).await;
        let failed: Vec<_> = (0..10).filter(|at| answers[*at].is_err()).collect();
        assert_eq!(failed, [5], "{answers:?}");
        assert_eq!(ids(&database).await, ["a"]);
    });
}

/// A broken question of one read is its own fault, wherever it stands in the group.
#[test]
fn a_broken_question_harms_no_other_read() {
    check_places(MIGRATIONS, async |place| {
        let database = place.open_with(Options { readers: 1, queue: 4_096 });
        database.write(|transaction| insert(transaction, "a")).await.unwrap();
        for bad in [0, 4, 9] {
            let hold = Hold::begin(&database, Queue::Reads).await;
            let reads = join_all((0..10).map(|at| {
                database.read(move |transaction| {
                    if at == bad {
                        return transaction.one(&format!("SELECT nothing_{bad} FROM things"), &[])?.integer("rows");
                    }
                    count(transaction)
                })
            }));
            let release = async {
                while database.waiting().1 < 10 {
                    tokio::task::yield_now().await;
                }
                hold.release().await;
            };
            let (answers, ()) = patient(async { tokio::join!(reads, release) }).await;
            let failed: Vec<_> = (0..10).filter(|at| answers[*at].is_err()).collect();
            assert_eq!(failed, [bad], "{answers:?}");
        }
    });
}
