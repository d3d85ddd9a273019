//! The lives of the threads: closures are taken in groups, tried, and answered.

use super::wire::{Pending, Question};
use super::{Mode, PostgresSession};
use crate::job::{Job, Outcome};
use crate::transaction::{Session, Tally, Transaction};
use crate::value::Row;
use crate::{Error, GROUP, group_tallies, random_lane, take_group};
use crossbeam_channel::Receiver;
use std::collections::VecDeque;
use std::time::Duration;

/// How often a group that lost against another transaction is repeated before its callers are told.
const TRIES: u32 = 4;
/// How many reads share one snapshot.
const READ_GROUP: usize = 32;
/// The code of a write in a transaction that only reads.
const WRITES_IN_A_READ: &str = "(25006)";
/// How long waiting closures wait for a server that cannot be reached.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);

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
