//! The embedded database: one writer that commits waiting closures in groups, and several readers.

use crate::job::{Job, Outcome};
use crate::statement::{Dialect, rewrite};
use crate::transaction::{LanePosition, Mark, Session, Tally, Transaction, parameter};
use crate::value::{Parameter, Row, Value};
use crate::{Error, GROUP, group_tallies, random_lane, take_group};
use crossbeam_channel::Receiver;
use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a statement waits for another process (a command beside a running server) to finish its transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Versions before this one can lose a committed transaction when a checkpoint meets a writer.
const OLDEST_SAFE_VERSION: i32 = 3_051_003;

/// Where the file is and how it is opened.
#[derive(Debug, Clone)]
pub(crate) struct SqliteFile {
    pub(crate) path: PathBuf,
    /// `FULL`, or `NORMAL` where a fault test needs a control that loses acknowledged writes.
    pub(crate) synchronous: &'static str,
}

/// What a connection is for; it decides its cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Write,
    Read,
}

impl SqliteFile {
    /// Opens a connection with the settings that durability and the rules of the schema rest on.
    pub(crate) fn connect(&self, purpose: Purpose) -> Result<Connection, Error> {
        if rusqlite::version_number() < OLDEST_SAFE_VERSION {
            return Err(Error::Internal("this build of SQLite can lose committed transactions".to_owned()));
        }
        let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        if purpose == Purpose::Write {
            flags |= OpenFlags::SQLITE_OPEN_CREATE;
        }
        let connection = Connection::open_with_flags(&self.path, flags).map_err(|error| failure(&error))?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(|error| failure(&error))?;
        connection.set_prepared_statement_cache_capacity(256);
        // A statement keeps its plan whatever is bound to it: to plan anew for each name costs more than the name.
        let stable = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true);
        stable.map_err(|error| failure(&error))?;
        let cache_kib = if purpose == Purpose::Write { 16_000 } else { 8_000 };
        connection
            .execute_batch(&format!(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = {}; PRAGMA foreign_keys = ON; \
                 PRAGMA wal_autocheckpoint = 8000; PRAGMA journal_size_limit = 67108864; \
                 PRAGMA cache_size = -{cache_kib}; PRAGMA temp_store = MEMORY; PRAGMA query_only = {};",
                self.synchronous,
                if purpose == Purpose::Read { "ON" } else { "OFF" },
            ))
            .map_err(|error| failure(&error))?;
        Ok(connection)
    }
}

/// Translates an error, without the name of a constraint.
pub(crate) fn failure(error: &rusqlite::Error) -> Error {
    let text = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Conflict(text),
        Some(
            ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::ReadOnly
            | ErrorCode::CannotOpen
            | ErrorCode::OutOfMemory
            | ErrorCode::PermissionDenied,
        ) => Error::Unavailable(text),
        _ => Error::Internal(text),
    }
}

/// The names of unique constraints by the columns that SQLite names when they are violated.
fn constraint_names(connection: &Connection) -> Result<HashMap<String, String>, rusqlite::Error> {
    let mut names = HashMap::new();
    let sql = "SELECT t.name, i.name, i.origin, (SELECT group_concat(t.name || '.' || c.name, ', ') \
               FROM (SELECT name FROM pragma_index_info(i.name) ORDER BY seqno) AS c) \
               FROM sqlite_master AS t, pragma_index_list(t.name) AS i WHERE t.type = 'table' AND i.\"unique\"";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (table, index, origin): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let columns: Option<String> = row.get(3)?;
        let name = if origin == "pk" { format!("{table}_pkey") } else { index };
        names.insert(columns.unwrap_or_default(), name);
    }
    Ok(names)
}

struct SqliteSession<'connection> {
    connection: &'connection Connection,
    constraints: &'connection HashMap<String, String>,
    lane: LanePosition,
    depth: usize,
    /// Rewritten texts, kept per connection beside the prepared statements.
    texts: &'connection mut HashMap<String, (String, Vec<String>)>,
}

impl SqliteSession<'_> {
    fn named(&self, error: &rusqlite::Error) -> Error {
        let rusqlite::Error::SqliteFailure(code, Some(message)) = error else {
            return failure(error);
        };
        if code.code != ErrorCode::ConstraintViolation {
            return failure(error);
        }
        let detail = message.split_once(": ").map_or("", |(_, detail)| detail);
        match code.extended_code {
            ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY => {
                Error::Constraint(self.constraints.get(detail).cloned().unwrap_or_else(|| detail.to_owned()))
            }
            ffi::SQLITE_CONSTRAINT_CHECK => Error::Constraint(detail.to_owned()),
            ffi::SQLITE_CONSTRAINT_FOREIGNKEY => Error::Constraint("foreign_key".to_owned()),
            _ => Error::Internal(message.clone()),
        }
    }

    fn with_statement<T>(
        &mut self,
        sql: &str,
        parameters: &[Parameter],
        run: impl FnOnce(&mut rusqlite::Statement) -> Result<T, rusqlite::Error>,
    ) -> Result<T, Error> {
        if !self.texts.contains_key(sql) {
            if self.texts.len() >= 1_000 {
                self.texts.clear();
            }
            let rewritten = rewrite(sql, Dialect::Sqlite);
            self.texts.insert(sql.to_owned(), (rewritten.sql, rewritten.names));
        }
        let Some((text, names)) = self.texts.get(sql) else {
            return Err(Error::Internal("a statement vanished".to_owned()));
        };
        let mut statement = self.connection.prepare_cached(text).map_err(|error| self.named(&error))?;
        for (name, number) in names.iter().zip(1..) {
            let bound = match parameter(name, parameters)? {
                Value::Null => statement.raw_bind_parameter(number, rusqlite::types::Null),
                Value::Integer(value) => statement.raw_bind_parameter(number, value),
                Value::Text(value) => statement.raw_bind_parameter(number, value),
                Value::Bytes(value) => statement.raw_bind_parameter(number, value),
                Value::Flag(value) => statement.raw_bind_parameter(number, value),
                Value::List(values) => statement.raw_bind_parameter(number, json_list(&values)),
            };
            bound.map_err(|error| failure(&error))?;
        }
        run(&mut statement).map_err(|error| self.named(&error))
    }

    fn control(&mut self, sql: &str) -> Result<(), Error> {
        self.with_statement(sql, &[], |statement| statement.raw_execute()).map(|_| ())
    }
}

/// A JSON array of texts, for `json_each`.
fn json_list(texts: &[String]) -> String {
    let mut out = String::from("[");
    for (text, at) in texts.iter().zip(0..) {
        out.push_str(if at == 0 { "\"" } else { ",\"" });
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
                c => out.push(c),
            }
        }
        out.push('"');
    }
    out.push(']');
    out
}

fn read_value(value: ValueRef) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        // No column is a float; one that is shows up as text and fails at the first look.
        ValueRef::Real(number) => Value::Text(number.to_string()),
        ValueRef::Text(bytes) => Value::Text(String::from_utf8_lossy(bytes).into_owned()),
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
    }
}

impl Session for SqliteSession<'_> {
    fn execute(&mut self, sql: &str, parameters: &[Parameter]) -> Result<(), Error> {
        self.with_statement(sql, parameters, |statement| statement.raw_execute()).map(|_| ())
    }

    fn execute_one(&mut self, sql: &str, parameters: &[Parameter], otherwise: &'static str) -> Result<(), Error> {
        match self.with_statement(sql, parameters, |statement| statement.raw_execute())? {
            1 => Ok(()),
            _ => Err(Error::Constraint(otherwise.to_owned())),
        }
    }

    fn query(&mut self, sql: &str, parameters: &[Parameter]) -> Result<Vec<Row>, Error> {
        self.with_statement(sql, parameters, |statement| {
            let columns: Arc<[String]> = statement.column_names().map(str::to_owned).collect();
            let mut answer = Vec::new();
            let mut rows = statement.raw_query();
            while let Some(row) = rows.next()? {
                let values = (0..columns.len()).map(|at| row.get_ref(at).map(read_value));
                answer.push(Row::new(Arc::clone(&columns), values.collect::<Result<_, _>>()?));
            }
            Ok(answer)
        })
    }

    fn claim(&mut self, _name: i64) -> Result<(), Error> {
        Ok(())
    }

    fn mark(&mut self) -> Result<Mark, Error> {
        self.depth += 1;
        self.control(&format!("SAVEPOINT s{}", self.depth))?;
        Ok(Mark::Savepoint(self.depth))
    }

    fn undo(&mut self, mark: Mark) -> Result<(), Error> {
        if let Mark::Savepoint(depth) = mark {
            self.control(&format!("ROLLBACK TO s{depth}"))?;
        }
        self.keep(mark)
    }

    fn keep(&mut self, mark: Mark) -> Result<(), Error> {
        if let Mark::Savepoint(depth) = mark {
            self.control(&format!("RELEASE s{depth}"))?;
            self.depth = depth.saturating_sub(1);
        }
        Ok(())
    }

    fn next_in_lane(&mut self) -> LanePosition {
        self.lane.position += 1;
        self.lane
    }
}

/// A thread's connection; it is opened again after an error that may have damaged it.
struct Connected {
    connection: Connection,
    constraints: HashMap<String, String>,
    texts: HashMap<String, (String, Vec<String>)>,
    lane: LanePosition,
}

impl Connected {
    fn open(file: &SqliteFile, purpose: Purpose) -> Result<Self, Error> {
        let connection = file.connect(purpose)?;
        let constraints = constraint_names(&connection).map_err(|error| failure(&error))?;
        Ok(Connected { connection, constraints, texts: HashMap::new(), lane: random_lane() })
    }

    fn session(&mut self) -> SqliteSession<'_> {
        SqliteSession {
            connection: &self.connection,
            constraints: &self.constraints,
            lane: self.lane,
            depth: 0,
            texts: &mut self.texts,
        }
    }
}

/// The writer's life: it ends when nobody can send it anything any more.
pub(crate) fn write_loop(file: &SqliteFile, jobs: &Receiver<Box<dyn Job>>) {
    let mut connected: Option<Connected> = None;
    while let Some(group) = take_group(jobs, GROUP) {
        let mut ready = match connected.take().map_or_else(|| Connected::open(file, Purpose::Write), Ok) {
            Ok(ready) => ready,
            Err(error) => {
                group.into_iter().for_each(|job| job.fail(as_unavailable(error.clone())));
                continue;
            }
        };
        if write_group(&mut ready, group) {
            connected = Some(ready);
        }
    }
    if let Some(ready) = connected {
        // Leaves one tidy file behind on a clean stop; the next start works with the log as well.
        drop(ready.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA optimize;"));
    }
}

fn as_unavailable(error: Error) -> Error {
    match error {
        Error::Internal(text) => Error::Unavailable(text),
        other => other,
    }
}

/// Runs and commits one group, and says whether the connection may be used again.
fn write_group(ready: &mut Connected, group: Vec<Box<dyn Job>>) -> bool {
    let mut session = ready.session();
    if let Err(error) = session.control("BEGIN IMMEDIATE") {
        let healthy = matches!(error, Error::Conflict(_));
        group.into_iter().for_each(|job| job.fail(as_unavailable(error.clone())));
        return healthy;
    }
    let mut answers: Vec<(Box<dyn Job>, Option<Error>)> = Vec::with_capacity(group.len());
    let mut tallies: Vec<Tally> = Vec::new();
    let mut broken: Option<Error> = None;
    for mut job in group {
        let failure = match &broken {
            Some(error) => Some(error.clone()),
            None => run_one(&mut session, job.as_mut(), &mut tallies).unwrap_or_else(|error| {
                broken = Some(error.clone());
                Some(error)
            }),
        };
        answers.push((job, failure));
    }
    if broken.is_none() {
        let commit = write_tallies(&mut session, tallies).and_then(|()| session.control("COMMIT"));
        // After a failed commit the log may or may not hold it: only a new look at the file can tell.
        broken = commit.err().map(|error| Error::Unknown(error.to_string()));
    }
    ready.lane = session.lane;
    for (job, failure) in answers {
        match broken.as_ref().or(failure.as_ref()) {
            Some(error) => job.fail(error.clone()),
            None => job.answer(),
        }
    }
    if broken.is_some() && !ready.connection.is_autocommit() {
        drop(ready.connection.execute_batch("ROLLBACK"));
    }
    broken.is_none()
}

/// Runs one closure inside its savepoint. The outer error means that the whole transaction is lost.
fn run_one(session: &mut SqliteSession, job: &mut dyn Job, tallies: &mut Vec<Tally>) -> Result<Option<Error>, Error> {
    let mark = session.mark()?;
    match job.run(&mut Transaction::new(session, tallies)) {
        Outcome::Done(counted) => {
            tallies.extend(counted);
            session.keep(mark)?;
            Ok(None)
        }
        Outcome::Refused => {
            session.undo(mark)?;
            Ok(None)
        }
        Outcome::Failed(error @ (Error::Unavailable(_) | Error::Conflict(_))) => Err(error),
        Outcome::Failed(error) => {
            // A closure that panicked inside an attempt leaves its savepoints open; this one lies below them all.
            session.undo(mark)?;
            Ok(Some(error))
        }
    }
}

fn write_tallies(session: &mut SqliteSession, tallies: Vec<Tally>) -> Result<(), Error> {
    for (sql, parameters) in group_tallies(tallies, 0) {
        session.execute(sql, &parameters)?;
    }
    Ok(())
}

/// A reader's life.
pub(crate) fn read_loop(file: &SqliteFile, jobs: &Receiver<Box<dyn Job>>) {
    let mut connected: Option<Connected> = None;
    while let Some(group) = take_group(jobs, 1) {
        let mut ready = match connected.take().map_or_else(|| Connected::open(file, Purpose::Read), Ok) {
            Ok(ready) => ready,
            Err(error) => {
                group.into_iter().for_each(|job| job.fail(as_unavailable(error.clone())));
                continue;
            }
        };
        let mut healthy = true;
        for job in group {
            healthy = read_one(&mut ready, job) && healthy;
        }
        if healthy {
            connected = Some(ready);
        }
    }
}

fn read_one(ready: &mut Connected, mut job: Box<dyn Job>) -> bool {
    let mut session = ready.session();
    if let Err(error) = session.control("BEGIN") {
        job.fail(as_unavailable(error));
        return false;
    }
    let outcome = job.run(&mut Transaction::new(&mut session, &[]));
    let ended = session.control("ROLLBACK").is_ok();
    let sound = !matches!(outcome, Outcome::Failed(Error::Unavailable(_)));
    match outcome {
        Outcome::Done(_) | Outcome::Refused => job.answer(),
        Outcome::Failed(error) => job.fail(error),
    }
    ended && sound
}

/// Copies the database into a new file while it is in use, and reports pages done and in all.
pub(crate) fn backup(file: &SqliteFile, target: &Path, progress: &dyn Fn(i64, i64)) -> Result<(), Error> {
    let source = file.connect(Purpose::Read)?;
    let mut copy = Connection::open(target).map_err(|error| failure(&error))?;
    // A read transaction that stays open pins one state of the log, so that writers beside it never restart the copy.
    source.execute_batch("BEGIN; SELECT count(*) FROM sqlite_master").map_err(|error| failure(&error))?;
    let backup = rusqlite::backup::Backup::new(&source, &mut copy).map_err(|error| failure(&error))?;
    loop {
        let step = backup.step(2_000).map_err(|error| failure(&error))?;
        let state = backup.progress();
        let total = i64::from(state.pagecount);
        progress(total - i64::from(state.remaining), total);
        if step == rusqlite::backup::StepResult::Done {
            return Ok(());
        }
    }
}
