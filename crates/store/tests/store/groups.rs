//! Closures that are committed together: each stands for itself, whatever becomes of its neighbours.

use crate::{Failure, Work, check, ids, in_one_group, insert, work};
use cuenta_store::{Error, Transaction};

fn inserts(id: String) -> Work<()> {
    work(move |transaction| Ok(insert(transaction, &id)?))
}

fn refuses(id: String) -> Work<()> {
    work(move |transaction| {
        insert(transaction, &id)?;
        transaction.tally("s", "things", 1);
        Err(Failure::Own("no"))
    })
}

#[test]
fn a_refusal_takes_its_own_effects_away_and_no_others() {
    check(async |database, _| {
        let group = (0..200).map(|at| {
            let id = format!("{at:03}");
            if at % 10 == 3 { refuses(id) } else { inserts(id) }
        });
        let answers = in_one_group(&database, group.collect()).await;
        for (answer, at) in answers.iter().zip(0..) {
            match answer {
                Ok(()) => assert_ne!(at % 10, 3),
                Err(Failure::Own(_)) => assert_eq!(at % 10, 3),
                Err(Failure::Store(error)) => panic!("closure {at}: {error}"),
            }
        }
        let expected: Vec<_> = (0..200).filter(|at| at % 10 != 3).map(|at| format!("{at:03}")).collect();
        assert_eq!(ids(&database).await, expected);
        let counted = database.read(|transaction| transaction.tallied("s", "things")).await;
        assert_eq!(counted.unwrap(), 0);
    });
}

/// Refuses after the database was asked, when statements of the group have been sent already.
#[test]
fn a_late_refusal_is_as_clean_as_an_early_one() {
    check(async |database, _| {
        let group = (0..60).map(|at| {
            work(move |transaction| {
                insert(transaction, &format!("{at:02}"))?;
                let seen = transaction.one("SELECT COUNT(*) AS rows FROM things", &[])?.integer("rows")?;
                insert(transaction, &format!("{at:02}+"))?;
                if at % 7 == 0 { Err(Failure::Own("late")) } else { Ok(seen) }
            })
        });
        let answers = in_one_group(&database, group.collect()).await;
        // One after the other: each sees what the successful ones before it wrote, and its own first row.
        let mut rows = 0;
        for (answer, at) in answers.iter().zip(0..) {
            match answer {
                Ok(seen) => {
                    assert_eq!(*seen, rows + 1, "closure {at}");
                    rows += 2;
                }
                Err(failure) => assert!(matches!(failure, Failure::Own(_)) && at % 7 == 0, "{at}: {failure:?}"),
            }
        }
        assert_eq!(i64::try_from(ids(&database).await.len()), Ok(rows));
    });
}

#[test]
fn a_panic_is_internal_and_harms_nobody() {
    check(async |database, _| {
        let group = (0..60).map(|at| {
            work(move |transaction| {
                insert(transaction, &format!("{at:02}"))?;
                match at {
                    10 => panic!("before anything was asked"),
                    20 => {
                        transaction.one("SELECT COUNT(*) AS rows FROM things", &[])?;
                        panic!("after a question");
                    }
                    30 => {
                        let inner = |transaction: &mut Transaction| -> Result<(), Failure> {
                            insert(transaction, "inner")?;
                            panic!("inside an attempt");
                        };
                        transaction.attempt(inner)?
                    }
                    _ => Ok(()),
                }
            })
        });
        let answers = in_one_group(&database, group.collect()).await;
        let mut expected = Vec::new();
        for (answer, at) in answers.iter().zip(0..) {
            match answer {
                Ok(()) => expected.push(format!("{at:02}")),
                Err(failure) => {
                    assert!(matches!(failure, Failure::Store(Error::Internal(_))), "{failure:?}");
                    assert!([10, 20, 30].contains(&at), "closure {at} fell with a neighbour");
                }
            }
        }
        assert_eq!(expected.len(), 57);
        assert_eq!(ids(&database).await, expected);
    });
}

/// Where in its group a closure with a broken statement stands must not matter, nor whether statements wait to be sent.
#[test]
fn a_statement_that_does_not_parse_harms_nobody() {
    check(async |database, _| {
        for at in 0..3 {
            for asks in [false, true] {
                let name = format!("{at}{asks}");
                let mut group: Vec<Work<()>> = ["x", "y"]
                    .map(|letter| {
                        let id = format!("{name}{letter}");
                        work(move |transaction: &mut Transaction| {
                            insert(transaction, &id)?;
                            if asks {
                                transaction.one("SELECT COUNT(*) AS rows FROM things", &[])?;
                            }
                            Ok(())
                        })
                    })
                    .into();
                // Each text is new, so that it cannot have been prepared before.
                let broken = format!("SELEC {name}");
                group.insert(at, work(move |transaction| Ok(transaction.execute(&broken, &[])?)));
                let answers = in_one_group(&database, group).await;
                let failed: Vec<_> = (0..3).filter(|at| answers[*at].is_err()).collect();
                assert_eq!(failed, [at], "{answers:?}");
                assert!(matches!(answers[at], Err(Failure::Store(Error::Internal(_)))), "{:?}", answers[at]);
                let stored = ids(&database).await;
                let stored = stored.iter().filter(|id| id.starts_with(&name)).count();
                assert_eq!(stored, 2, "closures that were told they succeeded: place {at}, asking {asks}");
            }
        }
    });
}

#[test]
fn violators_are_told_at_their_statement_and_all_others_commit() {
    check(async |database, _| {
        database.write(|transaction| insert(transaction, "000")).await.unwrap();
        let group = (0..200).map(|at| {
            work(move |transaction| {
                // Every fifth wants a row that is there; two of each ten want the same new one.
                let id = if at % 5 == 0 { "000".to_owned() } else { format!("{:03}", at - i32::from(at % 10 == 8)) };
                match insert(transaction, &id) {
                    Ok(()) => Ok(()),
                    Err(error) if error.is_constraint("things_pkey") => Err(Failure::Own("taken")),
                    Err(error) => Err(error.into()),
                }
            })
        });
        let answers = in_one_group(&database, group.collect()).await;
        for (answer, at) in answers.iter().zip(0..) {
            match answer {
                Ok(()) => assert!(at % 5 != 0 && at % 10 != 8, "closure {at} wanted what was taken"),
                Err(Failure::Own(_)) => assert!(at % 5 == 0 || at % 10 == 8, "closure {at} wanted a free row"),
                Err(Failure::Store(error)) => panic!("closure {at} did not see its violation: {error:?}"),
            }
        }
        let kept = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(ids(&database).await.len(), kept + 1);
    });
}

#[test]
fn each_kind_of_violation_stays_with_its_closure() {
    check(async |database, _| {
        const STATEMENTS: [(&str, &str); 3] = [
            ("INSERT INTO things (id, code) VALUES (:id, 'same')", "things_code"),
            ("INSERT INTO things (id, amount) VALUES (:id, -1)", "things_amount"),
            ("INSERT INTO things (id, parent_id) VALUES (:id, 'nobody')", "foreign_key"),
        ];
        database
            .write(|transaction| transaction.execute("INSERT INTO things (id, code) VALUES ('0', 'same')", &[]))
            .await
            .unwrap();
        let group = (0..40).map(|at| {
            let id = format!("t{at:02}");
            match STATEMENTS.get(at % 8) {
                Some((sql, _)) => work(move |transaction: &mut Transaction| {
                    Ok(transaction.execute(sql, &[("id", id.as_str().into())])?)
                }),
                None => inserts(id),
            }
        });
        let answers = in_one_group(&database, group.collect()).await;
        for (answer, at) in answers.into_iter().zip(0..) {
            match (answer, STATEMENTS.get(at % 8)) {
                (Ok(()), None) => {}
                (Err(Failure::Store(error)), Some((_, name))) if error.is_constraint(name) => {}
                (answer, expected) => panic!("closure {at}: {answer:?} instead of {expected:?}"),
            }
        }
        assert_eq!(ids(&database).await.len(), 26);
    });
}

/// Whether two closures share a group is chance: a limit that rests on a count must hold either way.
#[test]
fn a_count_holds_what_the_neighbours_before_counted() {
    check(async |database, _| {
        let group = (0..20).map(|at| {
            work(move |transaction| {
                if transaction.tallied("s", "things")? >= 10 {
                    return Err(Failure::Own("enough"));
                }
                transaction.tally("s", "things", 1);
                Ok(insert(transaction, &format!("{at:02}"))?)
            })
        });
        let answers = in_one_group(&database, group.collect()).await;
        let kept = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!((kept, ids(&database).await.len()), (10, 10), "ten were allowed");
    });
}

/// PostgreSQL joins inserts of one text; a row must not come before the row it refers to.
#[test]
fn rows_that_refer_to_each_other_may_be_written_in_any_mixture() {
    check(async |database, _| {
        let group = (0..40).map(|at| {
            work(move |transaction| {
                let (id, parent) = (format!("t{at}"), format!("p{at}"));
                let thing = "INSERT INTO things (id, parent_id, amount, is_on, body) \
                             VALUES (:id, :parent_id, :amount, :is_on, :body)";
                let row = |id: &str, parent: Option<&str>| {
                    let amount = (at % 3 > 0).then_some(at);
                    let flag = (at % 4 > 0).then_some(at % 4 == 1);
                    let body = (at % 5 > 0).then(|| vec![0, 255]);
                    let (id, parent) = (id.into(), parent.map(str::to_owned).into());
                    [
                        ("id", id),
                        ("parent_id", parent),
                        ("amount", amount.into()),
                        ("is_on", flag.into()),
                        ("body", body.into()),
                    ]
                };
                transaction.execute(thing, &row(&id, None))?;
                transaction.execute("INSERT INTO parents (id) VALUES (:id)", &[("id", parent.as_str().into())])?;
                transaction.execute(thing, &row(&format!("{id}+"), Some(&parent)))?;
                Ok(())
            })
        });
        let answers = in_one_group::<()>(&database, group.collect()).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        let sums = database.read(|transaction| {
            let sql = "SELECT COUNT(*) AS rows, COUNT(parent_id) AS parents, CAST(SUM(amount) AS BIGINT) AS amount, \
                       COUNT(amount) AS amounts, COUNT(is_on) AS flags, COUNT(body) AS bodies FROM things";
            let mut row = transaction.one(sql, &[])?;
            let columns = ["rows", "parents", "amount", "amounts", "flags", "bodies"];
            columns.map(|column| row.integer(column)).into_iter().collect::<Result<Vec<_>, Error>>()
        });
        let amounts: Vec<i64> = (0..40).filter(|at| at % 3 > 0).collect();
        let amount = 2 * amounts.iter().sum::<i64>();
        let amounts = 2 * i64::try_from(amounts.len()).unwrap();
        assert_eq!(sums.await.unwrap(), [80, 40, amount, amounts, 60, 64]);
    });
}

/// An update of a closure must see the inserts before it, also those of its neighbours.
#[test]
fn statements_of_a_group_take_effect_in_order() {
    check(async |database, _| {
        let group = (0..50).map(|at| {
            work(move |transaction| {
                insert(transaction, &format!("{at:02}"))?;
                transaction.execute("UPDATE things SET amount = COALESCE(amount, 0) + 1", &[])?;
                Ok(())
            })
        });
        let answers = in_one_group::<()>(&database, group.collect()).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        let amounts = database.read(|transaction| {
            let rows = transaction.all("SELECT amount FROM things ORDER BY id", &[])?;
            rows.into_iter().map(|mut row| row.integer("amount")).collect::<Result<Vec<_>, Error>>()
        });
        assert_eq!(amounts.await.unwrap(), (1..=50).rev().collect::<Vec<_>>());
    });
}

/// The plan of a closure with attempts: what is inside may fail in three ways, and may have asked before.
fn attempts(at: i32) -> Work<i64> {
    work(move |transaction| {
        let id = |name: &str| format!("{at:02}{name}");
        insert(transaction, &id("first"))?;
        transaction.tally("s", "kept", 1);
        let inner = transaction.attempt(|transaction| {
            insert(transaction, &id("inner"))?;
            transaction.tally("s", "lost", 1);
            let nested = transaction.attempt(|transaction| {
                insert(transaction, &id("nested"))?;
                transaction.tally("s", "lost", 1);
                if at % 2 == 0 {
                    transaction.one("SELECT COUNT(*) AS rows FROM things", &[])?;
                }
                insert(transaction, &id("first"))?;
                Ok::<_, Failure>(())
            })?;
            if let Err(Failure::Store(error)) = nested {
                assert!(error.is_constraint("things_pkey"), "{error}");
            }
            insert(transaction, &id("beside"))?;
            if at % 3 == 0 { Ok(()) } else { Err(Failure::Own("inner")) }
        })?;
        assert_eq!(inner.is_ok(), at % 3 == 0);
        insert(transaction, &id("last"))?;
        Ok(transaction.tallied("s", "kept")?)
    })
}

#[test]
fn an_attempt_takes_back_what_was_inside_and_no_more() {
    check(async |database, _| {
        // Alone, and among neighbours.
        let alone = database.write(attempts(99)).await;
        assert_eq!(alone.expect("the rest succeeds"), 1);
        let answers = in_one_group(&database, (0..30).map(attempts).collect()).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        let mut expected = Vec::new();
        for at in (0..30).chain([99]) {
            let names: &[&str] = if at % 3 == 0 { &["beside", "first", "inner", "last"] } else { &["first", "last"] };
            expected.extend(names.iter().map(|name| format!("{at:02}{name}")));
        }
        assert_eq!(ids(&database).await, expected);
        let tallies = database.read(|transaction| {
            Ok::<_, Error>((transaction.tallied("s", "kept")?, transaction.tallied("s", "lost")?))
        });
        let kept_inside = i64::try_from((0..30).chain([99]).filter(|at| at % 3 == 0).count()).unwrap();
        assert_eq!(tallies.await.unwrap(), (31, kept_inside));
    });
}

#[test]
fn an_attempt_that_hides_a_failed_statement_has_not_succeeded() {
    check(async |database, _| {
        let wrote = database.write(|transaction| {
            insert(transaction, "a")?;
            let inner = transaction.attempt(|transaction| {
                insert(transaction, "b")?;
                drop(insert(transaction, "a"));
                Ok::<_, Error>(())
            });
            // Its effects are gone, so it must not be told as done.
            Ok::<_, Error>(matches!(inner, Ok(Ok(()))))
        });
        let told_as_done = wrote.await.is_ok_and(|done| done);
        let stored = ids(&database).await;
        assert_eq!(told_as_done, stored.contains(&"b".to_owned()), "{stored:?}");
    });
}

#[test]
fn what_a_closure_owns_is_gone_before_its_answer() {
    check(async |database, _| {
        let owned = std::sync::Arc::new(());
        for at in 0..50 {
            let inside = std::sync::Arc::clone(&owned);
            let wrote = database.write(move |transaction| {
                let _inside = &inside;
                insert(transaction, &at.to_string())
            });
            wrote.await.unwrap();
            assert_eq!(std::sync::Arc::strong_count(&owned), 1);
        }
    });
}

#[test]
fn a_write_goes_on_when_nobody_waits() {
    check(async |database, _| {
        let hold = crate::Hold::begin(&database, crate::Queue::Writes).await;
        let writing = database.clone();
        let abandoned = tokio::spawn(async move { writing.write(|transaction| insert(transaction, "a")).await });
        crate::patient(async {
            while database.waiting().0 == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        abandoned.abort();
        assert!(abandoned.await.unwrap_err().is_cancelled());
        hold.release().await;
        database.write(|transaction| insert(transaction, "b")).await.unwrap();
        assert_eq!(ids(&database).await, ["a", "b"]);
    });
}
