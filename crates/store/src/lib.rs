//! The databases behind five verbs: this crate knows SQL and knows no billing.
//!
//! A write is a synchronous closure over a [`Transaction`]. It may run several times before its answer counts, and it
//! means the same on every database. Waiting closures are committed in groups: an answer is given only when the commit
//! that holds it is on disk.

mod clock;
mod error;
mod job;
mod migrate;
mod postgres;
mod sqlite;
mod statement;
mod transaction;
mod value;

pub use clock::{guarded_micros, wall_micros};
pub use error::Error;
pub use migrate::{Migration, SchemaVersions};
pub use transaction::{LanePosition, Transaction};
pub use value::{Parameter, Row, Value};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use job::{Health, Job, Waiting};
use sqlite::{Purpose, SqliteFile};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use transaction::Tally;

/// How many closures are committed together at most.
const GROUP: usize = 256;
/// Over how many rows a counted set is spread, so that servers on one database do not wait for each other.
const STRIPES: i64 = 16;
/// How long a command waits for a PostgreSQL server that is just starting.
const COMMAND_PATIENCE: Duration = Duration::from_secs(10);

/// How a database is used by this process.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Threads that answer reads, 1 to 64.
    pub readers: usize,
    /// Closures that may wait for the writer, and as many for the readers; one more is [`Error::Unavailable`].
    pub queue: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { readers: 2, queue: 4_096 }
    }
}

#[derive(Debug, Clone)]
enum Location {
    Sqlite(SqliteFile),
    Postgres(String),
}

/// Where a database is, before it is opened: `sqlite:PATH` or `postgres://…`.
#[derive(Debug, Clone)]
pub struct DatabaseUrl(Location);

impl DatabaseUrl {
    /// Reads a URL. `sqlite:PATH?synchronous=normal` gives up durability for fault tests that need a control.
    pub fn parse(url: &str) -> Result<Self, Error> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(DatabaseUrl(Location::Postgres(url.to_owned())));
        }
        let unknown =
            || Error::Internal("a database is `sqlite:PATH` or `postgres://USER@HOST:PORT/NAME`".to_owned());
        let rest = url.strip_prefix("sqlite:").filter(|rest| !rest.is_empty()).ok_or_else(unknown)?;
        let (path, synchronous) = match rest.split_once('?') {
            None => (rest, "FULL"),
            Some((path, "synchronous=full")) => (path, "FULL"),
            Some((path, "synchronous=normal")) => (path, "NORMAL"),
            Some(_) => return Err(unknown()),
        };
        Ok(DatabaseUrl(Location::Sqlite(SqliteFile { path: PathBuf::from(path), synchronous })))
    }

    /// The file of an embedded database.
    pub fn sqlite_path(&self) -> Option<&Path> {
        match &self.0 {
            Location::Sqlite(file) => Some(&file.path),
            Location::Postgres(_) => None,
        }
    }

    /// Applies the migrations that the database does not have, all or none, and gives their versions.
    pub fn migrate(&self, known: &[Migration]) -> Result<Vec<i64>, Error> {
        match &self.0 {
            Location::Sqlite(file) => {
                let connection = file.connect(Purpose::Write)?;
                let mut schema = SqliteSchema(&connection);
                migrate::Schema::batch(&mut schema, "BEGIN IMMEDIATE")?;
                let applied = migrate::apply(&mut schema, known);
                let end = if applied.is_ok() { "COMMIT" } else { "ROLLBACK" };
                migrate::Schema::batch(&mut schema, end)?;
                applied
            }
            Location::Postgres(url) => {
                let mut session = postgres::PostgresSession::connect(url, COMMAND_PATIENCE)?;
                session.batch("BEGIN; SELECT pg_advisory_xact_lock(7002026)")?;
                let applied = migrate::apply(&mut session, known);
                session.batch(if applied.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
                applied
            }
        }
    }

    /// Compares the schema with the program's, without changing anything. A newer one is refused.
    pub fn versions(&self, known: &[Migration]) -> Result<SchemaVersions, Error> {
        let history = match &self.0 {
            Location::Sqlite(file) if !file.path.exists() => Vec::new(),
            Location::Sqlite(file) => {
                let connection = file.connect(Purpose::Read)?;
                if connection.table_exists(None, "schema_migrations").map_err(|error| sqlite::failure(&error))? {
                    migrate::Schema::history(&mut SqliteSchema(&connection))?
                } else {
                    Vec::new()
                }
            }
            Location::Postgres(url) => {
                let mut session = postgres::PostgresSession::connect(url, COMMAND_PATIENCE)?;
                let table = transaction::Session::query(
                    &mut session,
                    "SELECT CAST(to_regclass('schema_migrations') AS TEXT) AS found",
                    &[],
                )?;
                let found = table.into_iter().next().map(|mut row| row.optional_text("found")).transpose()?.flatten();
                if found.is_some() { migrate::Schema::history(&mut session)? } else { Vec::new() }
            }
        };
        migrate::compare(&history, known)
    }

    /// Copies an embedded database into a new file while it is in use. `progress` hears of pages done and in all.
    /// Gives false for PostgreSQL, whose own tools do this.
    pub fn backup(&self, target: &Path, progress: &dyn Fn(i64, i64)) -> Result<bool, Error> {
        match &self.0 {
            Location::Sqlite(file) => sqlite::backup(file, target, progress).map(|()| true),
            Location::Postgres(_) => Ok(false),
        }
    }

    /// Asks an embedded database to check its own structure, and gives what it found wrong. PostgreSQL answers nothing:
    /// it checks its pages itself.
    pub fn integrity(&self) -> Result<Vec<String>, Error> {
        let Location::Sqlite(file) = &self.0 else { return Ok(Vec::new()) };
        let connection = file.connect(Purpose::Read)?;
        let mut found = Vec::new();
        for check in ["PRAGMA integrity_check", "PRAGMA foreign_key_check"] {
            let mut statement = connection.prepare(check).map_err(|error| sqlite::failure(&error))?;
            let mut rows = statement.query([]).map_err(|error| sqlite::failure(&error))?;
            while let Some(row) = rows.next().map_err(|error| sqlite::failure(&error))? {
                let text: String = row.get(0).map_err(|error| sqlite::failure(&error))?;
                if text != "ok" {
                    found.push(text);
                }
            }
        }
        Ok(found)
    }
}

struct SqliteSchema<'connection>(&'connection rusqlite::Connection);

impl migrate::Schema for SqliteSchema<'_> {
    fn dialect(&self) -> statement::Dialect {
        statement::Dialect::Sqlite
    }

    fn batch(&mut self, sql: &str) -> Result<(), Error> {
        self.0.execute_batch(sql).map_err(|error| sqlite::failure(&error))
    }

    fn history(&mut self) -> Result<Vec<(i64, Vec<u8>)>, Error> {
        let read = || {
            let mut statement = self.0.prepare("SELECT version, checksum FROM schema_migrations ORDER BY version")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<Result<Vec<_>, _>>()
        };
        read().map_err(|error: rusqlite::Error| sqlite::failure(&error))
    }

    fn record(&mut self, version: i64, name: &str, checksum: Vec<u8>, applied_at: i64) -> Result<(), Error> {
        let sql = "INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES (?1, ?2, ?3, ?4)";
        let row = (version, name, checksum, applied_at);
        self.0.execute(sql, row).map(|_| ()).map_err(|error| sqlite::failure(&error))
    }
}

impl migrate::Schema for postgres::PostgresSession {
    fn dialect(&self) -> statement::Dialect {
        statement::Dialect::Postgres
    }

    fn batch(&mut self, sql: &str) -> Result<(), Error> {
        postgres::PostgresSession::batch(self, sql)
    }

    fn history(&mut self) -> Result<Vec<(i64, Vec<u8>)>, Error> {
        let sql = "SELECT version, checksum FROM schema_migrations ORDER BY version";
        let rows = transaction::Session::query(self, sql, &[])?;
        rows.into_iter().map(|mut row| Ok((row.integer("version")?, row.bytes("checksum")?))).collect()
    }

    fn record(&mut self, version: i64, name: &str, checksum: Vec<u8>, applied_at: i64) -> Result<(), Error> {
        let parameters =
            [("v", version.into()), ("n", name.into()), ("c", checksum.into()), ("a", applied_at.into())];
        let sql = "INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES (:v, :n, :c, :a)";
        transaction::Session::execute(self, sql, &parameters)
    }
}

/// An open database: the threads that own its connections, and the two queues that lead to them. Clones share them; when
/// the last clone is gone the threads finish what waits and end.
#[derive(Clone)]
pub struct Database {
    queues: Queues,
    health: Arc<Health>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

#[derive(Clone)]
struct Queues {
    writes: Sender<Box<dyn Job>>,
    reads: Sender<Box<dyn Job>>,
}

impl Database {
    /// Opens a database whose schema is the program's. Connections are made when the first closure comes.
    pub fn open(url: &DatabaseUrl, options: Options) -> Result<Self, Error> {
        let (writes, waiting_writes) = bounded(options.queue.max(1));
        let (reads, waiting_reads) = bounded(options.queue.max(1));
        let mut threads = vec![spawn("writer", url.0.clone(), waiting_writes, write_loop)?];
        for _ in 0..options.readers.clamp(1, 64) {
            threads.push(spawn("reader", url.0.clone(), waiting_reads.clone(), read_loop)?);
        }
        let health = Arc::new(Health::default());
        Ok(Database { queues: Queues { writes, reads }, health, threads: Arc::new(Mutex::new(threads)) })
    }

    /// Runs the closure in a transaction and gives its answer when the commit is on disk. It may run more than once; its
    /// effects count once. It goes on to the end even if nobody waits for the answer any more.
    pub async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: FnMut(&mut Transaction) -> Result<T, E> + Send + 'static,
    {
        submit(&self.queues.writes, &self.health, work).await
    }

    /// Runs the closure on one unchanging state of the database, which holds every write that was answered before.
    pub async fn read<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: FnMut(&mut Transaction) -> Result<T, E> + Send + 'static,
    {
        submit(&self.queues.reads, &self.health, work).await
    }

    /// Whether the database could not do something in this span: it was away, its disk full or its queue too long.
    pub fn failed_within(&self, span: Duration) -> bool {
        self.health.failed_within(span)
    }

    /// How many closures wait for the writer and for the readers.
    pub fn waiting(&self) -> (usize, usize) {
        (self.queues.writes.len(), self.queues.reads.len())
    }

    /// Waits until everything that was asked for is done and the connections are closed. Other clones must be gone.
    pub fn close(self) {
        let Database { queues, threads, .. } = self;
        drop(queues);
        let threads = std::mem::take(&mut *threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            drop(thread.join());
        }
    }
}

async fn submit<T, E, F>(queue: &Sender<Box<dyn Job>>, health: &Arc<Health>, work: F) -> Result<T, E>
where
    T: Send + 'static,
    E: From<Error> + Send + 'static,
    F: FnMut(&mut Transaction) -> Result<T, E> + Send + 'static,
{
    let (job, answer) = Waiting::boxed(work, Arc::clone(health));
    if let Err(error) = queue.try_send(job) {
        let reason = match error {
            TrySendError::Full(_) => "too much is waiting for it",
            TrySendError::Disconnected(_) => "it is closed",
        };
        return Err(Error::Unavailable(reason.to_owned()).into());
    }
    answer.await.unwrap_or_else(|_| Err(Error::Unknown("the database stopped".to_owned()).into()))
}

fn spawn(
    name: &str,
    location: Location,
    jobs: Receiver<Box<dyn Job>>,
    life: fn(&Location, &Receiver<Box<dyn Job>>),
) -> Result<JoinHandle<()>, Error> {
    let builder = std::thread::Builder::new().name(format!("store-{name}"));
    builder.spawn(move || life(&location, &jobs)).map_err(|error| Error::Unavailable(error.to_string()))
}

fn write_loop(location: &Location, jobs: &Receiver<Box<dyn Job>>) {
    match location {
        Location::Sqlite(file) => sqlite::write_loop(file, jobs),
        Location::Postgres(url) => postgres::write_loop(url, jobs),
    }
}

fn read_loop(location: &Location, jobs: &Receiver<Box<dyn Job>>) {
    match location {
        Location::Sqlite(file) => sqlite::read_loop(file, jobs),
        Location::Postgres(url) => postgres::read_loop(url, jobs),
    }
}

/// Waits for a closure and takes those that wait behind it, up to `most`. Nothing when nobody can send any more.
fn take_group(jobs: &Receiver<Box<dyn Job>>, most: usize) -> Option<Vec<Box<dyn Job>>> {
    let mut group = vec![jobs.recv().ok()?];
    group.extend(jobs.try_iter().take(most.saturating_sub(1)));
    Some(group)
}

/// The statements that write what a group counted, one for each set.
fn group_tallies(tallies: Vec<Tally>, seed: i64) -> Vec<(&'static str, [Parameter<'static>; 4])> {
    let mut sums: Vec<Tally> = Vec::new();
    for tally in tallies {
        match sums.iter_mut().find(|sum| sum.scope == tally.scope && sum.noun == tally.noun) {
            Some(sum) => sum.change = sum.change.saturating_add(tally.change),
            None => sums.push(tally),
        }
    }
    let sql = "INSERT INTO tallies (scope, noun, stripe, counted) VALUES (:scope, :noun, :stripe, :change) \
               ON CONFLICT (scope, noun, stripe) DO UPDATE SET counted = tallies.counted + excluded.counted";
    let stripe = seed.rem_euclid(STRIPES);
    let parameters = sums.into_iter().map(|sum| {
        [
            ("scope", sum.scope.into()),
            ("noun", sum.noun.into()),
            ("stripe", stripe.into()),
            ("change", sum.change.into()),
        ]
    });
    parameters.map(|parameters| (sql, parameters)).collect()
}

/// A lane that no other connection has had.
#[expect(clippy::disallowed_methods, reason = "a lane names a connection, and nothing is decided by it")]
fn random_lane() -> LanePosition {
    let mut bytes = [0_u8; 8];
    // Without randomness the moment still tells two connections apart.
    if getrandom::fill(&mut bytes).is_err() {
        bytes = wall_micros().to_be_bytes();
    }
    LanePosition { lane: i64::from_be_bytes(bytes) & i64::MAX, position: 0 }
}
