//! A closure that waits for its transaction, and the way its answer goes back.

use crate::Error;
use crate::transaction::{Tally, Transaction};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How a run of a closure ended, before its group has committed.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It succeeded; the rows it counted wait for the commit.
    Done(Vec<Tally>),
    /// It refused: its effects must vanish, and its own error is the answer.
    Refused,
    /// A statement failed: its effects must vanish.
    Failed(Error),
}

/// A waiting closure, whatever it returns.
pub(crate) trait Job: Send {
    /// Runs the closure. It may run again until it is answered.
    fn run(&mut self, transaction: &mut Transaction) -> Outcome;
    /// Sends what the last run returned.
    fn answer(self: Box<Self>);
    /// Sends an error of the database instead.
    fn fail(self: Box<Self>, error: Error);
}

/// When the database last could not do what it was asked: a disk that is nearly full takes a small write and refuses
/// the next.
#[derive(Default)]
pub(crate) struct Health(Mutex<Option<Instant>>);

impl Health {
    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    pub(crate) fn failed_within(&self, span: Duration) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|moment| moment.elapsed() < span)
    }
}

pub(crate) struct Waiting<T, E, F> {
    work: F,
    health: Arc<Health>,
    result: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<T, E, F> Waiting<T, E, F>
where
    T: Send + 'static,
    E: From<Error> + Send + 'static,
    F: FnMut(&mut Transaction) -> Result<T, E> + Send + 'static,
{
    pub(crate) fn boxed(work: F, health: Arc<Health>) -> (Box<dyn Job>, oneshot::Receiver<Result<T, E>>) {
        let (reply, answer) = oneshot::channel();
        (Box::new(Waiting { work, health, result: None, reply }), answer)
    }
}

impl<T, E, F> Job for Waiting<T, E, F>
where
    T: Send + 'static,
    E: From<Error> + Send + 'static,
    F: FnMut(&mut Transaction) -> Result<T, E> + Send + 'static,
{
    fn run(&mut self, transaction: &mut Transaction) -> Outcome {
        // A panic must not take the writer with it, and the group that runs beside it must not notice.
        let result = catch_unwind(AssertUnwindSafe(|| (self.work)(transaction)));
        let Ok(result) = result else {
            return Outcome::Failed(Error::Internal("a closure panicked".to_owned()));
        };
        let succeeded = result.is_ok();
        self.result = Some(result);
        match transaction.failure() {
            // The closure's own error says more than the statement's, which it was made from.
            Some(Error::Repeat) => Outcome::Failed(Error::Repeat),
            Some(Error::Constraint(_) | Error::Internal(_) | Error::Claimed) if !succeeded => Outcome::Refused,
            Some(error) => Outcome::Failed(error.clone()),
            None if succeeded => Outcome::Done(std::mem::take(&mut transaction.tallies)),
            None => Outcome::Refused,
        }
    }

    fn answer(self: Box<Self>) {
        let Waiting { work, result, reply, .. } = *self;
        // What the closure owns is released before its caller can act on the answer.
        drop(work);
        let result = result.unwrap_or_else(|| Err(Error::Internal("the closure never ran".to_owned()).into()));
        // A caller that has gone does not need its answer; what was committed stays.
        drop(reply.send(result));
    }

    fn fail(self: Box<Self>, error: Error) {
        let Waiting { work, health, reply, .. } = *self;
        if let Error::Unavailable(_) | Error::Unknown(_) = error {
            health.note();
        }
        drop(work);
        drop(reply.send(Err(error.into())));
    }
}
