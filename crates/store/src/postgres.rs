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

mod groups;
mod wire;

pub(crate) use groups::{read_loop, write_loop};

use crate::statement::{Dialect, many_rows, rewrite};
use crate::transaction::{LanePosition, Mark, Session, parameter};
use crate::value::{Parameter, Row, Value};
use crate::{Error, random_lane};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Config, NoTls};
use wire::{Pending, Prepared, Question, alone, failure, merge, plain};

/// A frozen server must not hold its locks for ever, nor a lost one its backend.
const SESSION_SETTINGS: &str = "SET lock_timeout = '2s'; SET statement_timeout = '60s'; \
    SET idle_in_transaction_session_timeout = '15s'; SET client_min_messages = 'warning'; \
    SET synchronous_commit = 'on'; SET TimeZone = 'UTC'";

/// How the group is being tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Merged,
    Pipelined,
    Immediate,
    /// Nothing is asked: the first question of a reading closure is noted and ends its run.
    Noting,
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
