//! What the crate promises, as short stories on SQLite and on PostgreSQL.

mod backup;
mod commits;
mod constraints;
mod groups;
mod migrations;
mod model;
mod place;
mod reads;
mod values;

use cuenta_store::{Database, Error, Migration, Transaction};
use futures_util::future::join_all;
use place::{Place, check_places};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

/// A schema with one of everything.
pub const MIGRATIONS: &[Migration] = &[Migration { version: 1, name: "test", sql: SCHEMA }];

const SCHEMA: &str = "
CREATE TABLE tallies (
    scope ID NOT NULL,
    noun TEXT NOT NULL,
    stripe COUNT NOT NULL,
    counted COUNT NOT NULL,
    PRIMARY KEY (scope, noun, stripe)
) CLUSTERED;
CREATE TABLE parents (
    id ID NOT NULL PRIMARY KEY
);
CREATE TABLE things (
    id ID NOT NULL PRIMARY KEY,
    code TEXT,
    amount MONEY CONSTRAINT things_amount CHECK (amount >= 0),
    note TEXT,
    body BYTES,
    is_on FLAG,
    parent_id ID REFERENCES parents (id)
);
CREATE UNIQUE INDEX things_code ON things (code);
CREATE UNIQUE INDEX things_note_of_amount ON things (amount, note) WHERE is_on;
CREATE TABLE counters (
    name ID NOT NULL,
    part COUNT NOT NULL,
    value COUNT NOT NULL,
    PRIMARY KEY (name, part)
) CLUSTERED;
CREATE TABLE places (
    lane COUNT NOT NULL,
    position COUNT NOT NULL,
    PRIMARY KEY (lane, position)
) CLUSTERED;
";

/// What a closure of these tests ends with.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The database's.
    Store(Error),
    /// The closure's own.
    Own(&'static str),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Store(error)
    }
}

/// Runs a story with an open database of each kind.
fn check(story: impl AsyncFn(Database, &Place)) {
    check_places(MIGRATIONS, async |place| story(place.open(), place).await);
}

/// Inserts a thing that has nothing but an id.
fn insert(transaction: &mut Transaction, id: &str) -> Result<(), Error> {
    transaction.execute("INSERT INTO things (id) VALUES (:id)", &[("id", id.into())])
}

/// The ids of all things, in order.
async fn ids(database: &Database) -> Vec<String> {
    let read = database.read(|transaction| {
        let rows = transaction.all("SELECT id FROM things ORDER BY id", &[])?;
        rows.into_iter().map(|mut row| row.text("id")).collect::<Result<Vec<_>, Error>>()
    });
    read.await.expect("things are readable")
}

/// Keeps a thread of the store busy until it is released, so that what is asked for meanwhile waits and becomes a group.
struct Hold {
    open: Arc<(Mutex<bool>, Condvar)>,
    held: tokio::task::JoinHandle<Result<(), Error>>,
}

/// Which queue is held.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Queue {
    Writes,
    Reads,
}

impl Hold {
    async fn begin(database: &Database, queue: Queue) -> Self {
        let open = Arc::new((Mutex::new(false), Condvar::new()));
        let entered = Arc::new(Notify::new());
        let (waiting, told, database) = (Arc::clone(&open), Arc::clone(&entered), database.clone());
        let work = move |_: &mut Transaction| {
            told.notify_one();
            let (lock, changed) = &*waiting;
            let mut open = lock.lock().expect("the lock is sound");
            while !*open {
                open = changed.wait(open).expect("the lock is sound");
            }
            Ok::<(), Error>(())
        };
        let held = tokio::spawn(async move {
            match queue {
                Queue::Writes => database.write(work).await,
                Queue::Reads => database.read(work).await,
            }
        });
        entered.notified().await;
        Hold { open, held }
    }

    async fn release(self) {
        let (lock, changed) = &*self.open;
        *lock.lock().expect("the lock is sound") = true;
        changed.notify_all();
        self.held.await.expect("the holder ends").expect("the holder succeeds");
    }
}

/// What a write of a group is: boxed, so that a group may hold different ones.
type Work<T> = Box<dyn FnMut(&mut Transaction) -> Result<T, Failure> + Send>;

fn work<T>(work: impl FnMut(&mut Transaction) -> Result<T, Failure> + Send + 'static) -> Work<T> {
    Box::new(work)
}

/// Runs the closures as one group, in this order, and gives their answers.
async fn in_one_group<T: Send + 'static>(database: &Database, group: Vec<Work<T>>) -> Vec<Result<T, Failure>> {
    let hold = Hold::begin(database, Queue::Writes).await;
    let wanted = group.len();
    let answers = join_all(group.into_iter().map(|work| database.write(work)));
    let release = async {
        while database.waiting().0 < wanted {
            tokio::task::yield_now().await;
        }
        hold.release().await;
    };
    patient(async { tokio::join!(answers, release).0 }).await
}

/// A test that would wait for ever fails instead.
async fn patient<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("an answer comes")
}

/// Repeats a write that lost against another server as often as it may be repeated, as a caller would.
async fn persistent<T, F>(database: &Database, work: F) -> T
where
    T: Send + 'static,
    F: FnMut(&mut Transaction) -> Result<T, Error> + Clone + Send + 'static,
{
    loop {
        match database.write(work.clone()).await {
            Ok(answer) => return answer,
            Err(Error::Conflict(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
