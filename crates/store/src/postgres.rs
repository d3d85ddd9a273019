//! PostgreSQL: threads that own one connection each. A writer runs waiting closures in one serializable transaction a
//! group; statements whose rows nobody needs travel together.
//!
//! A group is tried in up to three ways, each surer and slower than the one before:
//!
//! 1. *Merged*: plain inserts of the same text become one statement with arrays.
//! 2. *Pipelined*: every statement travels alone, all in one go, so that a failing one names its closure.
//! 3. *Immediate*, for the closures that failed: a savepoint each, every statement answered before the next.
//!
//! A closure that fails is therefore always told so at the statement that failed, in an immediate run.
//!
//! A reader lets the closures that wait run up to their first question, asks all these questions in one go, and runs the
//! closures again with the answers: most reads ask one.

use crate::job::{Job, Outcome};
use crate::statement::{Dialect, many_rows, rewrite};
use crate::transaction::{LanePosition, Mark, Session, Tally, Transaction, parameter};
use crate::value::{Parameter, Row, Value};
use crate::{Error, GROUP, group_tallies, random_lane, take_group};
use crossbeam_channel::Receiver;
use futures_util::future::LocalBoxFuture;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Config, NoTls};

/// How often a group that lost against another transaction is repeated before its callers are told.
const TRIES: u32 = 4;
/// How long waiting closures wait for a server that cannot be reached.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// How many reads share one snapshot.
const READ_GROUP: usize = 32;
/// The code of a write in a transaction that only reads.
const WRITES_IN_A_READ: &str = "(25006)";
/// A frozen server must not hold its locks for ever, nor a lost one its backend.
const SESSION_SETTINGS: &str = "SET lock_timeout = '2s'; SET statement_timeout = '60s'; \
    SET idle_in_transaction_session_timeout = '15s'; SET client_min_messages = 'warning'; \
    SET synchronous_commit = 'on'; SET TimeZone = 'UTC'";

type BoxError = Box<dyn std::error::Error + Sync + Send>;

impl ToSql for Value {
    fn to_sql(&self, kind: &Type, out: &mut tokio_postgres::types::private::BytesMut) -> Result<IsNull, BoxError> {
        match self {
            Value::Null => Ok(IsNull::Yes),
            Value::Integer(number) if *kind == Type::INT4 => i32::try_from(*number)?.to_sql(kind, out),
            Value::Integer(number) => number.to_sql(kind, out),
            Value::Text(text) => text.as_str().to_sql(kind, out),
            Value::Bytes(bytes) => bytes.as_slice().to_sql(kind, out),
            Value::Flag(flag) => flag.to_sql(kind, out),
            Value::List(texts) => texts.to_sql(kind, out),
        }
    }

    fn accepts(_kind: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl<'row> FromSql<'row> for Value {
    fn from_sql(kind: &Type, raw: &'row [u8]) -> Result<Self, BoxError> {
        match *kind {
            Type::INT8 => i64::from_sql(kind, raw).map(Value::Integer),
            Type::INT4 => i32::from_sql(kind, raw).map(|number| Value::Integer(number.into())),
            Type::BOOL => bool::from_sql(kind, raw).map(Value::Flag),
            Type::BYTEA => Vec::from_sql(kind, raw).map(Value::Bytes),
            _ => String::from_sql(kind, raw).map(Value::Text),
        }
    }

    fn from_sql_null(_kind: &Type) -> Result<Self, BoxError> {
        Ok(Value::Null)
    }

    fn accepts(kind: &Type) -> bool {
        matches!(*kind, Type::INT8 | Type::INT4 | Type::BOOL | Type::BYTEA | Type::TEXT | Type::VARCHAR | Type::NAME)
    }
}

/// Translates an error of the server or of the connection to it.
pub(crate) fn failure(error: &tokio_postgres::Error) -> Error {
    let Some(detail) = error.as_db_error() else {
        return if error.is_closed() || std::error::Error::source(error).is_some_and(|s| s.is::<std::io::Error>()) {
            Error::Unavailable(format!("the connection to PostgreSQL was lost: {error}"))
        } else {
            Error::Internal(error.to_string())
        };
    };
    let text = format!("{} ({})", detail.message(), detail.code().code());
    match detail.code().code() {
        "23505" | "23514" | "23P01" => Error::Constraint(detail.constraint().unwrap_or("unnamed").to_owned()),
        "23503" => Error::Constraint("foreign_key".to_owned()),
        "40001" | "40P01" | "55P03" => Error::Conflict(text),
        // An operator ended it, resources are used up, the disk is full, or the server only reads.
        code if ["57P", "53", "58", "08", "25006", "57014", "XX001"].iter().any(|start| code.starts_with(start)) => {
            Error::Unavailable(text)
        }
        _ => Error::Internal(text),
    }
}

struct Prepared {
    statement: tokio_postgres::Statement,
    names: Vec<String>,
    columns: Arc<[String]>,
    /// The same statement for many rows at once, where its form allows it.
    many: Option<tokio_postgres::Statement>,
}

/// What waits to be sent.
enum Pending {
    Control(&'static str),
    Claim { job: usize, name: i64 },
    Statement { job: usize, prepared: Arc<Prepared>, values: Vec<Value>, otherwise: Option<&'static str> },
}

/// How the group is being tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Merged,
    Pipelined,
    Immediate,
    /// Nothing is asked: the first question of a reading closure is noted and ends its run.
    Noting,
}

/// A statement with its values.
struct Question {
    prepared: Arc<Prepared>,
    values: Vec<Value>,
}

impl Question {
    fn ask<'q>(&'q self, client: &'q Client) -> Started<'q, Result<Vec<tokio_postgres::Row>, tokio_postgres::Error>> {
        let values: Vec<&(dyn ToSql + Sync)> = self.values.iter().map(|value| value as _).collect();
        Started::Waiting(Box::pin(async move { client.query(&self.prepared.statement, &values).await }))
    }

    fn rows(&self, rows: &[tokio_postgres::Row]) -> Result<Vec<Row>, Error> {
        rows.iter().map(|row| read_row(row, &self.prepared.columns)).collect()
    }
}

pub(crate) struct PostgresSession {
    runtime: Runtime,
    client: Client,
    statements: HashMap<String, Arc<Prepared>>,
    pending: Vec<Pending>,
    sent: u64,
    job: usize,
    mode: Mode,
    depth: usize,
    /// The first error of a statement that was sent after its closure had gone on, and the closure where it is known.
    broken: Option<(Error, Option<usize>)>,
    /// The first question of the closure that runs, where questions are noted.
    noted: Option<Question>,
    /// The answer to the first question of the closure that runs, where it was asked ahead.
    foreseen: Option<(Question, Vec<Row>)>,
    lane: LanePosition,
    stripe_shift: i64,
}

impl PostgresSession {
    /// Connects within `patience`, trying again while the server starts or restarts.
    pub(crate) fn connect(url: &str, patience: Duration) -> Result<Self, Error> {
        let internal = |error: &dyn std::fmt::Display| Error::Internal(error.to_string());
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| internal(&error))?;
        let mut config: Config = url.parse().map_err(|error: tokio_postgres::Error| internal(&error))?;
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(patience.max(Duration::from_secs(1)));
        }
        if config.get_application_name().is_none() {
            config.application_name("cuenta");
        }
        config.keepalives_idle(Duration::from_secs(30));
        let start = Instant::now();
        let client = loop {
            match runtime.block_on(config.connect(NoTls)) {
                Ok((client, connection)) => {
                    // Its errors reach the callers through the client.
                    runtime.spawn(async move { drop(connection.await) });
                    break client;
                }
                Err(error) if start.elapsed() > patience => {
                    return Err(Error::Unavailable(format!("PostgreSQL cannot be reached: {}", plain(&error))));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        };
        runtime.block_on(client.batch_execute(SESSION_SETTINGS)).map_err(|error| failure(&error))?;
        Ok(PostgresSession {
            runtime,
            client,
            statements: HashMap::new(),
            pending: Vec::new(),
            sent: 0,
            job: 0,
            mode: Mode::Immediate,
            depth: 0,
            broken: None,
            noted: None,
            foreseen: None,
            lane: random_lane(),
            stripe_shift: 0,
        })
    }

    /// Runs statements separated by semicolons, at once.
    pub(crate) fn batch(&mut self, sql: &str) -> Result<(), Error> {
        self.runtime.block_on(self.client.batch_execute(sql)).map_err(|error| failure(&error))
    }

    fn prepared(&mut self, sql: &str) -> Result<Arc<Prepared>, Error> {
        if let Some(prepared) = self.statements.get(sql) {
            return Ok(Arc::clone(prepared));
        }
        let rewritten = rewrite(sql, Dialect::Postgres);
        // A statement that is prepared for the first time must find the transaction as its closure sees it.
        self.flush(&[])?;
        // A text that cannot be prepared fails the transaction that is under way.
        let prepared = self.prepare(&rewritten.sql, &rewritten.names);
        let (statement, many) = prepared.inspect_err(|error| self.broken = Some((error.clone(), Some(self.job))))?;
        let columns = statement.columns().iter().map(|column| column.name().to_owned()).collect();
        let prepared = Arc::new(Prepared { statement, names: rewritten.names, columns, many });
        if self.statements.len() >= 1_000 {
            self.statements.clear();
        }
        self.statements.insert(sql.to_owned(), Arc::clone(&prepared));
        Ok(prepared)
    }

    fn prepare(
        &self,
        sql: &str,
        names: &[String],
    ) -> Result<(tokio_postgres::Statement, Option<tokio_postgres::Statement>), Error> {
        let prepare = |text: &str| self.runtime.block_on(self.client.prepare(text)).map_err(|error| failure(&error));
        let statement = prepare(sql)?;
        let types: Vec<&str> = statement.params().iter().map(Type::name).collect();
        let many = many_rows(sql, names, &types).map(|text| prepare(&text)).transpose()?;
        Ok((statement, many))
    }

    fn values(prepared: &Prepared, parameters: &[Parameter]) -> Result<Vec<Value>, Error> {
        prepared.names.iter().map(|name| parameter(name, parameters)).collect()
    }

    fn defer(&mut self, pending: Pending) -> Result<(), Error> {
        if self.mode == Mode::Noting {
            return Err(Error::Repeat);
        }
        self.pending.push(pending);
        if self.mode == Mode::Immediate { self.flush(&[]).map(|_| ()) } else { Ok(()) }
    }

    /// Sends all that waits, and questions behind it, in one go; gives the rows of each question.
    fn flush(&mut self, questions: &[&Question]) -> Result<Vec<Vec<Row>>, Error> {
        if let Some((error, _)) = &self.broken {
            return Err(if self.mode == Mode::Immediate { error.clone() } else { Error::Repeat });
        }
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() && questions.is_empty() {
            return Ok(Vec::new());
        }
        self.sent += 1;
        let parcels =
            if self.mode == Mode::Merged { merge(pending) } else { pending.into_iter().map(alone).collect() };
        let client = &self.client;
        let (failed, rows) = self.runtime.block_on(async move {
            let mut answers: Vec<_> = parcels.iter().map(|parcel| parcel.send(client)).collect();
            let mut asked: Vec<_> = questions.iter().map(|question| question.ask(client)).collect();
            // The first poll of each puts its request on the wire, in this order; the answers come in the same order.
            std::future::poll_fn(|context| {
                answers.iter_mut().for_each(|answer| answer.poll_once(context));
                asked.iter_mut().for_each(|answer| answer.poll_once(context));
                std::task::Poll::Ready(())
            })
            .await;
            let mut failed: Option<(Error, Option<usize>)> = None;
            for (answer, parcel) in answers.into_iter().zip(&parcels) {
                if let (Err(error), None) = (answer.finish().await, &failed) {
                    failed = Some((error, parcel.job));
                }
            }
            let mut rows: Result<Vec<Vec<Row>>, Error> = Ok(Vec::with_capacity(asked.len()));
            for (answer, question) in asked.into_iter().zip(questions) {
                let found = answer.finish().await.map_err(|error| failure(&error));
                let found = found.and_then(|found| question.rows(&found));
                match (&mut rows, found) {
                    (Ok(rows), Ok(found)) => rows.push(found),
                    (Ok(_), Err(error)) => rows = Err(error),
                    (Err(_), _) => {}
                }
            }
            (failed, rows)
        });
        if let Some((error, job)) = failed {
            self.broken = Some((error.clone(), job));
            return Err(if self.mode == Mode::Immediate { error } else { Error::Repeat });
        }
        rows.inspect_err(|error: &Error| self.broken = Some((error.clone(), Some(self.job))))
    }

    /// Leaves the transaction, whatever its state, and says whether the connection is still of use.
    fn rollback(&mut self) -> bool {
        self.pending.clear();
        self.broken = None;
        self.depth = 0;
        self.batch("ROLLBACK").is_ok()
    }
}

/// The message of an error with its causes, for people.
fn plain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

fn read_row(row: &tokio_postgres::Row, columns: &Arc<[String]>) -> Result<Row, Error> {
    let values = (0..row.len()).map(|at| row.try_get::<_, Value>(at).map_err(|error| Error::Internal(plain(&error))));
    Ok(Row::new(Arc::clone(columns), values.collect::<Result<_, _>>()?))
}

/// One message to the server, and the closure it belongs to where that is one alone.
struct Parcel {
    job: Option<usize>,
    content: Content,
}

enum Content {
    Control(&'static str),
    Claims(Vec<i64>),
    One { prepared: Arc<Prepared>, values: Vec<Value>, otherwise: Option<&'static str> },
    Many { prepared: Arc<Prepared>, columns: Vec<Vec<Value>> },
}

fn alone(pending: Pending) -> Parcel {
    match pending {
        Pending::Control(sql) => Parcel { job: None, content: Content::Control(sql) },
        Pending::Claim { job, name } => Parcel { job: Some(job), content: Content::Claims(vec![name]) },
        Pending::Statement { job, prepared, values, otherwise } => {
            Parcel { job: Some(job), content: Content::One { prepared, values, otherwise } }
        }
    }
}

/// Joins plain inserts of the same text, and claims. An insert may move ahead of inserts into other tables, never
/// across a statement of another kind.
fn merge(pending: Vec<Pending>) -> Vec<Parcel> {
    let mut parcels: Vec<Parcel> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut claims: Option<usize> = None;
    for item in pending {
        match item {
            Pending::Claim { name, .. } if claims.is_some() => {
                if let Some(Content::Claims(names)) =
                    claims.and_then(|at| parcels.get_mut(at)).map(|parcel| &mut parcel.content)
                {
                    names.push(name);
                }
            }
            Pending::Claim { .. } => {
                claims = Some(parcels.len());
                parcels.push(Parcel { job: None, ..alone(item) });
            }
            Pending::Statement { prepared, values, otherwise: None, .. } if prepared.many.is_some() => {
                let joined = open.iter().copied().find(|at| is_same(parcels.get(*at), &prepared));
                match joined.and_then(|at| parcels.get_mut(at)).map(|parcel| &mut parcel.content) {
                    Some(Content::Many { columns, .. }) => {
                        columns.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
                    }
                    _ => {
                        open.push(parcels.len());
                        let columns = values.into_iter().map(|value| vec![value]).collect();
                        parcels.push(Parcel { job: None, content: Content::Many { prepared, columns } });
                    }
                }
            }
            other => {
                open.clear();
                parcels.push(alone(other));
            }
        }
    }
    parcels
}

fn is_same(parcel: Option<&Parcel>, wanted: &Arc<Prepared>) -> bool {
    matches!(parcel, Some(Parcel { content: Content::Many { prepared, .. }, .. }) if Arc::ptr_eq(prepared, wanted))
}

/// A request under way: polled once it is on the wire, and its answer may be there already.
enum Started<'parcel, T> {
    Waiting(LocalBoxFuture<'parcel, T>),
    Ready(T),
}

impl<T> Started<'_, T> {
    /// Puts the request on the wire.
    fn poll_once(&mut self, context: &mut std::task::Context) {
        if let Started::Waiting(future) = self
            && let std::task::Poll::Ready(answer) = future.as_mut().poll(context)
        {
            *self = Started::Ready(answer);
        }
    }

    async fn finish(self) -> T {
        match self {
            Started::Waiting(future) => future.await,
            Started::Ready(answer) => answer,
        }
    }
}

impl Parcel {
    fn send<'parcel>(&'parcel self, client: &'parcel Client) -> Started<'parcel, Result<(), Error>> {
        Started::Waiting(match &self.content {
            Content::Control(sql) => {
                Box::pin(async move { client.batch_execute(sql).await.map_err(|error| failure(&error)) })
            }
            Content::Claims(names) => Box::pin(take_claims(client, names)),
            Content::One { prepared, values, otherwise } => Box::pin(async move {
                let values = values.iter().map(|value| value as &(dyn ToSql + Sync));
                let rows = client.execute_raw(&prepared.statement, values).await.map_err(|error| failure(&error))?;
                match otherwise {
                    Some(name) if rows != 1 => Err(Error::Constraint((*name).to_owned())),
                    _ => Ok(()),
                }
            }),
            Content::Many { prepared, columns } => Box::pin(async move {
                let statement = prepared.many.as_ref().unwrap_or(&prepared.statement);
                let columns = columns.iter().map(|column| column as &(dyn ToSql + Sync));
                client.execute_raw(statement, columns).await.map(|_| ()).map_err(|error| failure(&error))
            }),
        })
    }
}

/// Takes all names or fails the transaction: what is sent behind it must not run, it could wait for the one that holds
/// a name.
async fn take_claims(client: &Client, names: &[i64]) -> Result<(), Error> {
    let sql = "SELECT 1 / CASE WHEN bool_and(pg_try_advisory_xact_lock(name)) THEN 1 ELSE 0 END \
               FROM UNNEST($1::bigint[]) AS name";
    match client.query_typed(sql, &[(&names, Type::INT8_ARRAY)]).await {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some(&SqlState::DIVISION_BY_ZERO) => Err(Error::Claimed),
        Err(error) => Err(failure(&error)),
    }
}

impl Session for PostgresSession {
    fn execute(&mut self, sql: &str, parameters: &[Parameter]) -> Result<(), Error> {
        let prepared = self.prepared(sql)?;
        let values = Self::values(&prepared, parameters)?;
        self.defer(Pending::Statement { job: self.job, prepared, values, otherwise: None })
    }

    fn execute_one(&mut self, sql: &str, parameters: &[Parameter], otherwise: &'static str) -> Result<(), Error> {
        let prepared = self.prepared(sql)?;
        let values = Self::values(&prepared, parameters)?;
        self.defer(Pending::Statement { job: self.job, prepared, values, otherwise: Some(otherwise) })
    }

    fn query(&mut self, sql: &str, parameters: &[Parameter]) -> Result<Vec<Row>, Error> {
        let prepared = self.prepared(sql)?;
        let values = Self::values(&prepared, parameters)?;
        let question = Question { prepared, values };
        if self.mode == Mode::Noting {
            self.noted = Some(question);
            return Err(Error::Repeat);
        }
        if let Some((foreseen, rows)) = self.foreseen.take()
            && Arc::ptr_eq(&foreseen.prepared, &question.prepared)
            && foreseen.values == question.values
        {
            return Ok(rows);
        }
        Ok(self.flush(&[&question])?.pop().unwrap_or_default())
    }

    fn claim(&mut self, name: i64) -> Result<(), Error> {
        self.defer(Pending::Claim { job: self.job, name })
    }

    fn mark(&mut self) -> Result<Mark, Error> {
        if self.mode != Mode::Immediate {
            return Ok(Mark::Waiting { statements: self.pending.len(), sent: self.sent });
        }
        self.depth += 1;
        self.batch(&format!("SAVEPOINT s{}", self.depth))?;
        Ok(Mark::Savepoint(self.depth))
    }

    fn undo(&mut self, mark: Mark) -> Result<(), Error> {
        match mark {
            Mark::Savepoint(depth) => {
                self.pending.clear();
                self.broken = None;
                self.batch(&format!("ROLLBACK TO s{depth}"))?;
                self.keep(mark)
            }
            Mark::Waiting { statements, sent }
                if sent == self.sent && self.broken.is_none() && self.pending.len() == statements =>
            {
                Ok(())
            }
            // Some of it was sent, and only a savepoint could take it back; or it still waits, and nobody knows whether
            // the closure would have come to its decision had it been told of a failure.
            Mark::Waiting { .. } => {
                self.broken.get_or_insert((Error::Repeat, Some(self.job)));
                Err(Error::Repeat)
            }
        }
    }

    fn keep(&mut self, mark: Mark) -> Result<(), Error> {
        if let Mark::Savepoint(depth) = mark {
            self.batch(&format!("RELEASE s{depth}"))?;
            self.depth = depth.saturating_sub(1);
        }
        Ok(())
    }

    fn next_in_lane(&mut self) -> LanePosition {
        self.lane.position += 1;
        self.lane
    }
}

/// A closure of a group and what became of it.
struct Entry {
    job: Box<dyn Job>,
    immediate: bool,
    failure: Option<Error>,
}

/// How one try of a group ended.
enum Try {
    Committed,
    /// Nothing was written; this closure has to run immediately, or, where it is unknown which, the mode changes.
    Again(Option<usize>),
    /// Nothing was written, through no fault of a closure.
    Lost(Error),
    /// It may have been written.
    Unknown(Error),
}

/// The writer's life: it ends when nobody can send it anything any more.
pub(crate) fn write_loop(url: &str, jobs: &Receiver<Box<dyn Job>>) {
    let mut session: Option<PostgresSession> = None;
    while let Some(group) = take_group(jobs, GROUP) {
        write_group(url, &mut session, group);
    }
}

fn write_group(url: &str, slot: &mut Option<PostgresSession>, group: Vec<Box<dyn Job>>) {
    let mut entries: Vec<Entry> =
        group.into_iter().map(|job| Entry { job, immediate: false, failure: None }).collect();
    let mut mode = if entries.len() > 1 { Mode::Merged } else { Mode::Pipelined };
    let mut losses = 0;
    let refusal = loop {
        let mut session = match slot.take().map_or_else(|| PostgresSession::connect(url, CONNECT_PATIENCE), Ok) {
            Ok(session) => session,
            Err(error) => break Some(error),
        };
        let result = try_group(&mut session, &mut entries, mode);
        if !matches!(result, Try::Unknown(_)) && (matches!(result, Try::Committed) || session.rollback()) {
            *slot = Some(session);
        }
        match result {
            Try::Committed => break None,
            Try::Unknown(error) => break Some(error),
            Try::Again(_) if entries.iter().all(|entry| entry.immediate) => {
                break Some(Error::Internal("a statement of no closure failed".to_owned()));
            }
            Try::Again(None) if mode == Mode::Merged => mode = Mode::Pipelined,
            Try::Again(culprit) => match culprit.and_then(|at| entries.get_mut(at)) {
                Some(entry) if !entry.immediate => entry.immediate = true,
                _ => entries.iter_mut().for_each(|entry| entry.immediate = true),
            },
            Try::Lost(error) => {
                losses += 1;
                if losses >= TRIES {
                    break Some(error);
                }
                // Another server may hold what this group wants: two that repeat at once would meet again.
                let spread = u64::try_from(random_lane().lane % 8).unwrap_or(0);
                std::thread::sleep(Duration::from_millis(u64::from(losses) * spread));
            }
        }
    };
    for entry in entries {
        match refusal.as_ref().or(entry.failure.as_ref()) {
            Some(error) => entry.job.fail(error.clone()),
            None => entry.job.answer(),
        }
    }
}

fn try_group(session: &mut PostgresSession, entries: &mut [Entry], mode: Mode) -> Try {
    session.mode = mode;
    session.pending.push(Pending::Control("BEGIN ISOLATION LEVEL SERIALIZABLE"));
    let mut tallies: Vec<Tally> = Vec::new();
    for (at, entry) in entries.iter_mut().enumerate() {
        session.job = at;
        session.mode = if entry.immediate { Mode::Immediate } else { mode };
        entry.failure = None;
        let ran = if entry.immediate {
            run_immediate(session, entry, &mut tallies)
        } else {
            run_deferred(session, entry, &mut tallies)
        };
        if let Err(error) = ran {
            return ended(session, error, at);
        }
    }
    session.mode = mode;
    // Beyond every closure: an error of these statements is nobody's.
    session.job = usize::MAX;
    for (sql, parameters) in group_tallies(tallies, session.lane.lane.wrapping_add(session.stripe_shift)) {
        if let Err(error) = session.execute(sql, &parameters) {
            return ended(session, error, usize::MAX);
        }
    }
    // PostgreSQL answers COMMIT with success even where it rolls an aborted transaction back; a statement tells.
    session.pending.push(Pending::Control("SELECT 1"));
    if let Err(error) = session.flush(&[]) {
        return ended(session, error, usize::MAX);
    }
    match session.batch("COMMIT") {
        Ok(()) => Try::Committed,
        // The server has answered that the transaction lost: it is certain that nothing was written.
        Err(error @ Error::Conflict(_)) => conflict(session, error),
        Err(error) => Try::Unknown(Error::Unknown(error.to_string())),
    }
}

fn conflict(session: &mut PostgresSession, error: Error) -> Try {
    session.stripe_shift = session.stripe_shift.wrapping_add(1);
    Try::Lost(error)
}

/// What an error in the midst of a group means for it.
fn ended(session: &mut PostgresSession, error: Error, at: usize) -> Try {
    let (cause, job) = session.broken.take().unwrap_or((error, Some(at)));
    match cause {
        Error::Conflict(_) => conflict(session, cause),
        Error::Unavailable(_) => Try::Lost(cause),
        _ => Try::Again(job.filter(|job| *job != usize::MAX)),
    }
}

fn run_deferred(session: &mut PostgresSession, entry: &mut Entry, tallies: &mut Vec<Tally>) -> Result<(), Error> {
    let mark = session.mark()?;
    let outcome = entry.job.run(&mut Transaction::new(session, tallies));
    if session.broken.is_some() {
        return Err(Error::Repeat);
    }
    match outcome {
        Outcome::Done(counted) => tallies.extend(counted),
        Outcome::Refused => session.undo(mark)?,
        Outcome::Failed(error) => {
            session.undo(mark)?;
            entry.failure = Some(error);
        }
    }
    Ok(())
}

fn run_immediate(session: &mut PostgresSession, entry: &mut Entry, tallies: &mut Vec<Tally>) -> Result<(), Error> {
    session.flush(&[])?;
    let mark = session.mark()?;
    match entry.job.run(&mut Transaction::new(session, tallies)) {
        Outcome::Done(counted) => {
            tallies.extend(counted);
            session.keep(mark)
        }
        Outcome::Refused => session.undo(mark),
        Outcome::Failed(error @ (Error::Unavailable(_) | Error::Conflict(_))) => Err(error),
        Outcome::Failed(error) => {
            entry.failure = Some(error);
            session.undo(mark)
        }
    }
}

/// A reader's life.
pub(crate) fn read_loop(url: &str, jobs: &Receiver<Box<dyn Job>>) {
    let mut slot: Option<PostgresSession> = None;
    while let Some(group) = take_group(jobs, READ_GROUP) {
        let mut waiting: VecDeque<_> = group.into();
        let mut losses = 0;
        while !waiting.is_empty() {
            let session = slot.take().map_or_else(|| PostgresSession::connect(url, CONNECT_PATIENCE), Ok);
            let error = match session {
                Ok(mut session) => match read_group(&mut session, &mut waiting) {
                    Ok(()) => {
                        slot = Some(session);
                        continue;
                    }
                    Err(error) => error,
                },
                Err(error) => error,
            };
            losses += 1;
            if losses >= 2 {
                waiting.drain(..).for_each(|job| job.fail(error.clone()));
            }
        }
    }
}

/// Runs reads in one snapshot, each answered as soon as it is done. An error means a lost connection: the reads that
/// are left may run again on another one.
fn read_group(session: &mut PostgresSession, waiting: &mut VecDeque<Box<dyn Job>>) -> Result<(), Error> {
    session.pending.push(Pending::Control("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"));
    let mut foreseen = if waiting.len() > 1 { foresee(session, waiting)? } else { VecDeque::new() };
    session.mode = Mode::Immediate;
    while let Some(mut job) = waiting.pop_front() {
        session.foreseen = foreseen.pop_front().flatten();
        let outcome = job.run(&mut Transaction::new(session, &[]));
        match outcome {
            Outcome::Failed(Error::Unavailable(text)) if text.contains(WRITES_IN_A_READ) => {
                job.fail(Error::Internal(text));
                break;
            }
            Outcome::Failed(error @ Error::Unavailable(_)) => {
                waiting.push_front(job);
                return Err(error);
            }
            Outcome::Failed(error) => {
                job.fail(error);
                break;
            }
            Outcome::Done(_) | Outcome::Refused => job.answer(),
        }
        if session.broken.is_some() {
            break;
        }
    }
    session.foreseen = None;
    if session.rollback() { Ok(()) } else { Err(Error::Unavailable("the connection was lost".to_owned())) }
}

/// What is known ahead of each waiting closure: its first question with the answer.
type Foreseen = VecDeque<Option<(Question, Vec<Row>)>>;

/// Notes the first question of each closure and asks them all in one go. When that fails for any reason but the
/// connection, nothing is foreseen, and each closure will find its own fault.
fn foresee(session: &mut PostgresSession, waiting: &mut VecDeque<Box<dyn Job>>) -> Result<Foreseen, Error> {
    session.mode = Mode::Noting;
    let mut noted = Vec::with_capacity(waiting.len());
    for job in waiting.iter_mut() {
        // What the run returns is of no account: it ends at its first question and runs again.
        drop(job.run(&mut Transaction::new(session, &[])));
        noted.push(session.noted.take());
    }
    session.mode = Mode::Immediate;
    let questions: Vec<&Question> = noted.iter().flatten().collect();
    match session.flush(&questions) {
        Ok(rows) => {
            let mut rows = rows.into_iter();
            Ok(noted
                .into_iter()
                .map(|question| question.and_then(|question| Some((question, rows.next()?))))
                .collect())
        }
        Err(error @ Error::Unavailable(_)) => Err(error),
        Err(_) if session.rollback() => {
            session.pending.push(Pending::Control("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"));
            Ok(VecDeque::new())
        }
        Err(error) => Err(Error::Unavailable(error.to_string())),
    }
}
