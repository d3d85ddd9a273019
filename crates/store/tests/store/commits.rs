//! What holds between commits: claims, conflicts of two servers, tallies, lanes, and full queues.

use crate::place::{Kind, Named, Place, runtime};
use crate::{Failure, Hold, MIGRATIONS, Queue, Work, check, ids, in_one_group, insert, patient, persistent, work};
use cuenta_store::{Database, Error, LanePosition, Options, Transaction};
use futures_util::future::join_all;
use std::collections::BTreeMap;

#[test]
fn a_name_is_claimed_by_one_server_at_a_time() {
    // SQLite serves one process, where nothing has to be claimed.
    let (place, _named) = (Place::migrated(Kind::Postgres, MIGRATIONS), Named(Kind::Postgres));
    runtime().block_on(async {
        let (here, there) = (place.open(), place.open());
        let (entered, open) = (std::sync::Arc::new(tokio::sync::Notify::new()), std::sync::mpsc::channel::<()>());
        let (told, (release, wait)) = (std::sync::Arc::clone(&entered), open);
        let claiming = here.clone();
        let holder = tokio::spawn(async move {
            let hold = claiming.write(move |transaction| {
                transaction.claim(7)?;
                // A claim travels with the next question.
                transaction.one("SELECT 1 AS one", &[])?;
                told.notify_one();
                wait.recv().map_err(|_| Error::Internal("the test ended early".to_owned()))
            });
            hold.await
        });
        patient(entered.notified()).await;
        // The answer comes while the other transaction goes on.
        let refused = patient(there.write(|transaction| transaction.claim(7))).await;
        assert!(matches!(refused, Err(Error::Claimed)), "{refused:?}");
        let group = (0..50).map(|at| -> Work<()> {
            work(move |transaction| {
                insert(transaction, &format!("{at:02}"))?;
                transaction.claim(at % 10)?;
                Ok(insert(transaction, &format!("{at:02}+"))?)
            })
        });
        let answers = in_one_group(&there, group.collect()).await;
        for (answer, at) in answers.iter().zip(0..) {
            let claimed = matches!(answer, Err(Failure::Store(Error::Claimed)));
            assert!(answer.is_ok() != claimed && claimed == (at % 10 == 7), "closure {at}: {answer:?}");
        }
        assert_eq!(ids(&there).await.len(), 90);
        release.send(()).unwrap();
        holder.await.unwrap().unwrap();
        there.write(|transaction| transaction.claim(7)).await.expect("the name is free again");
    });
}

#[test]
fn one_server_may_claim_as_it_likes() {
    check(async |database, _| {
        let claimed = database.write(|transaction| {
            transaction.claim(1)?;
            transaction.claim(i64::MIN)?;
            transaction.claim(1)
        });
        claimed.await.unwrap();
    });
}

fn increment(transaction: &mut Transaction) -> Result<(), Error> {
    let sql = "SELECT value FROM counters WHERE name = 'c' AND part = 0";
    let value = transaction.one(sql, &[])?.integer("value")?;
    let sql = "UPDATE counters SET value = :value WHERE name = 'c' AND part = 0";
    transaction.execute(sql, &[("value", (value + 1).into())])
}

#[test]
fn two_servers_lose_no_effect_on_one_row() {
    check(async |here, place| {
        let there = place.open();
        let sql = "INSERT INTO counters (name, part, value) VALUES ('c', 0, 0)";
        here.write(|transaction| transaction.execute(sql, &[])).await.unwrap();
        let tasks = (0..20).map(|at| {
            let database = if at % 2 == 0 { here.clone() } else { there.clone() };
            tokio::spawn(async move {
                for _ in 0..50 {
                    persistent(&database, increment).await;
                }
            })
        });
        for task in patient(join_all(tasks)).await {
            task.unwrap();
        }
        let sql = "SELECT value FROM counters WHERE name = 'c'";
        let value = here.read(|transaction| transaction.one(sql, &[])?.integer("value")).await;
        assert_eq!(value.unwrap(), 1_000);
    });
}

#[test]
fn tallies_are_exact_whoever_counts() {
    check(async |here, place| {
        let there = place.open();
        let tasks = (0..400).map(|at| {
            let database = if at % 2 == 0 { here.clone() } else { there.clone() };
            tokio::spawn(async move {
                loop {
                    let wrote = database.write(move |transaction| {
                        insert(transaction, &format!("{at:03}"))?;
                        transaction.tally("s", "things", 1);
                        transaction.tally("other", "things", 5);
                        if at % 9 == 0 {
                            // Made and removed in one closure: counted as nothing.
                            transaction
                                .execute("DELETE FROM things WHERE id = :id", &[("id", format!("{at:03}").into())])?;
                            transaction.tally("s", "things", -1);
                        }
                        if at % 11 == 0 { Err(Failure::Own("no")) } else { Ok(()) }
                    });
                    match wrote.await {
                        Err(Failure::Store(Error::Conflict(_))) => {}
                        answer => break answer.is_ok(),
                    }
                }
            })
        });
        let mut done = 0;
        for task in patient(join_all(tasks)).await {
            done += i64::from(task.unwrap());
        }
        assert_eq!(done, (0..400).filter(|at| at % 11 != 0).count() as i64);
        let counted = there.read(|transaction| {
            let rows = transaction.one("SELECT COUNT(*) AS rows FROM things", &[])?.integer("rows")?;
            let counted = (transaction.tallied("s", "things")?, transaction.tallied("other", "things")?);
            Ok::<_, Error>((rows, counted, transaction.tallied("nobody", "things")?))
        });
        let (rows, (things, others), none) = counted.await.unwrap();
        assert_eq!((things, others, none), (rows, 5 * done, 0));
    });
}

#[test]
fn a_closure_sees_what_it_counted_itself() {
    check(async |database, _| {
        let seen = database.write(|transaction| {
            transaction.tally("s", "things", 2);
            transaction.tally("s", "others", 7);
            let first = transaction.tallied("s", "things")?;
            transaction.tally("s", "things", -3);
            Ok::<_, Error>((first, transaction.tallied("s", "things")?))
        });
        assert_eq!(seen.await.unwrap(), (2, -1));
        let stored = database.read(|transaction| transaction.tallied("s", "things")).await;
        assert_eq!(stored.unwrap(), -1);
    });
}

fn take_place(transaction: &mut Transaction) -> Result<(), Error> {
    let LanePosition { lane, position } = transaction.next_in_lane();
    let parameters = [("lane", lane.into()), ("position", position.into())];
    transaction.execute("INSERT INTO places (lane, position) VALUES (:lane, :position)", &parameters)
}

/// The highest position of each lane, and how many there are.
async fn lanes(database: &Database) -> BTreeMap<i64, (i64, i64)> {
    let read = database.read(|transaction| {
        let sql = "SELECT lane, MAX(position) AS last, COUNT(*) AS rows FROM places GROUP BY lane";
        let rows = transaction.all(sql, &[])?;
        let read =
            |mut row: cuenta_store::Row| Ok((row.integer("lane")?, (row.integer("last")?, row.integer("rows")?)));
        rows.into_iter().map(read).collect::<Result<_, Error>>()
    });
    read.await.expect("lanes are readable")
}

/// How many places of the lane are at or below the position.
async fn below(database: &Database, lane: i64, position: i64) -> i64 {
    let read = database.read(move |transaction| {
        let sql = "SELECT COUNT(*) AS rows FROM places WHERE lane = :lane AND position <= :position";
        transaction.one(sql, &[("lane", lane.into()), ("position", position.into())])?.integer("rows")
    });
    read.await.expect("lanes are readable")
}

/// Whoever has seen a position of a lane has seen all below it: nothing appears there later.
#[test]
fn positions_appear_in_ascending_order() {
    check(async |here, place| {
        let there = place.open();
        let writers = (0..8).map(|at| {
            let database = if at % 2 == 0 { here.clone() } else { there.clone() };
            tokio::spawn(async move {
                for step in 0..40 {
                    if (at + step) % 5 == 0 {
                        let refused = database.write(|transaction| {
                            take_place(transaction)?;
                            Err::<(), _>(Failure::Own("leaves a gap"))
                        });
                        assert!(refused.await.is_err());
                    } else {
                        persistent(&database, take_place).await;
                    }
                }
            })
        });
        let writers: Vec<_> = writers.collect();
        let mut seen: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
        while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
            let now = lanes(&there).await;
            for (lane, (last, rows)) in &seen {
                assert_eq!(below(&there, *lane, *last).await, *rows, "something appeared below position {last}");
            }
            seen = now;
        }
        for writer in writers {
            writer.await.unwrap();
        }
        let rows: i64 = lanes(&here).await.values().map(|(_, rows)| rows).sum();
        assert_eq!(rows, 8 * 32);
        assert!(lanes(&here).await.len() >= 2, "two servers never share a lane");
    });
}

#[test]
fn positions_of_one_lane_are_unique_and_in_the_order_of_the_closures() {
    check(async |database, _| {
        let group = (0..100).map(|at| {
            work(move |transaction| {
                let place = transaction.next_in_lane();
                insert(transaction, &format!("{:020}", place.position))?;
                if at % 9 == 0 { Err(Failure::Own("no")) } else { Ok(place) }
            })
        });
        let answers = in_one_group(&database, group.collect()).await;
        let places: Vec<LanePosition> = answers.into_iter().flatten().collect();
        assert_eq!(places.len(), 88);
        assert!(places.iter().all(|place| place.lane >= 0 && place.lane == places[0].lane));
        assert!(places.windows(2).all(|pair| pair[0].position < pair[1].position), "{places:?}");
        let later = database.write(|transaction| Ok::<_, Error>(transaction.next_in_lane())).await.unwrap();
        assert!(later > places[87], "{later:?}");
    });
}

#[test]
fn a_full_queue_refuses_at_once() {
    crate::place::check_places(MIGRATIONS, async |place| {
        let database = place.open_with(Options { readers: 1, queue: 2 });
        for queue in [Queue::Writes, Queue::Reads] {
            let hold = Hold::begin(&database, queue).await;
            let ask = |database: Database| async move {
                match queue {
                    Queue::Writes => database.write(|_| Ok::<_, Error>(())).await,
                    Queue::Reads => database.read(|_| Ok::<_, Error>(())).await,
                }
            };
            let waiting = join_all((0..2).map(|_| ask(database.clone())));
            let crowd = async {
                let full = || if queue == Queue::Writes { database.waiting().0 } else { database.waiting().1 };
                while full() < 2 {
                    tokio::task::yield_now().await;
                }
                let refused = ask(database.clone()).await;
                assert!(matches!(&refused, Err(Error::Unavailable(_))), "{refused:?}");
                hold.release().await;
            };
            let (answers, ()) = patient(async { tokio::join!(waiting, crowd) }).await;
            assert!(answers.iter().all(Result::is_ok), "those that waited are answered: {answers:?}");
            ask(database.clone()).await.expect("there is room again");
        }
    });
}

#[test]
fn closing_finishes_what_waits() {
    crate::place::check_places(MIGRATIONS, async |place| {
        let database = place.open();
        let hold = Hold::begin(&database, Queue::Writes).await;
        let writes: Vec<_> = (0..100)
            .map(|at| {
                let database = database.clone();
                tokio::spawn(
                    async move { database.write(move |transaction| insert(transaction, &at.to_string())).await },
                )
            })
            .collect();
        patient(async {
            while database.waiting().0 < 100 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        hold.release().await;
        for write in writes {
            write.await.unwrap().unwrap();
        }
        tokio::task::spawn_blocking(move || database.close()).await.unwrap();
        assert_eq!(ids(&place.open()).await.len(), 100, "all of it is there after the last connection closed");
    });
}

#[test]
fn a_database_that_cannot_be_reached_is_unavailable() {
    let (place, _named) = (Place::empty(Kind::Sqlite), Named(Kind::Sqlite));
    let nowhere = format!("sqlite:{}/no/such/directory.db", place.directory().display());
    // Port 9 of this machine is the discard service, which nobody runs.
    for url in [nowhere.as_str(), "postgres://postgres@127.0.0.1:9/none"] {
        let url = cuenta_store::DatabaseUrl::parse(url).unwrap();
        let database = Database::open(&url, Options::default()).unwrap();
        runtime().block_on(async {
            let wrote = patient(database.write(|_| Ok::<_, Error>(()))).await;
            assert!(matches!(wrote, Err(Error::Unavailable(_))), "{wrote:?}");
            let read = patient(database.read(|_| Ok::<_, Error>(()))).await;
            assert!(matches!(read, Err(Error::Unavailable(_))), "{read:?}");
        });
    }
}

#[test]
fn a_url_is_understood_or_refused() {
    for good in ["sqlite:x.db", "sqlite:/a/b.db?synchronous=full", "sqlite:x?synchronous=normal", "postgres://h/d"] {
        cuenta_store::DatabaseUrl::parse(good).expect(good);
    }
    for bad in ["", "sqlite:", "mysql://h/d", "x.db", "sqlite:x?synchronous=off", "sqlite:x?cache=shared"] {
        let refused = cuenta_store::DatabaseUrl::parse(bad).expect_err(bad);
        assert!(refused.to_string().contains("sqlite:PATH"), "{refused}");
    }
}
