//! What a closure may do with the database: five verbs, and the few promises around them.

use crate::value::{Parameter, Row, Value};
use crate::{Error, clock};

/// A connection inside a transaction, as the two databases implement it.
pub(crate) trait Session {
    /// Runs a statement whose rows nobody needs. It may be sent later, together with others: an error then ends the
    /// whole group, which runs again with this closure's statements sent one by one.
    fn execute(&mut self, sql: &str, parameters: &[Parameter]) -> Result<(), Error>;
    /// The same, and the statement has to touch exactly one row; else the error is the constraint `otherwise`.
    fn execute_one(&mut self, sql: &str, parameters: &[Parameter], otherwise: &'static str) -> Result<(), Error>;
    /// Runs a statement and gives its rows.
    fn query(&mut self, sql: &str, parameters: &[Parameter]) -> Result<Vec<Row>, Error>;
    /// Takes the name for this transaction or fails with [`Error::Claimed`].
    fn claim(&mut self, name: i64) -> Result<(), Error>;
    /// Remembers this point.
    fn mark(&mut self) -> Result<Mark, Error>;
    /// Undoes all since the mark; [`Error::Repeat`] when that is only possible after the closure ran again.
    fn undo(&mut self, mark: Mark) -> Result<(), Error>;
    /// Forgets the mark and keeps what was done since.
    fn keep(&mut self, mark: Mark) -> Result<(), Error>;
    /// The lane: a number that no other connection has had, and the next number in it.
    fn next_in_lane(&mut self) -> LanePosition;
}

/// A point in a transaction to which it can return.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mark {
    /// A savepoint of this depth exists in the database.
    Savepoint(usize),
    /// So many statements were waiting to be sent, and so often had some been sent.
    Waiting { statements: usize, sent: u64 },
}

/// A place in the order of commits of one connection: within a lane, positions become visible in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LanePosition {
    /// The connection: random, not negative, never used again.
    pub lane: i64,
    /// Ascending within the lane, with gaps where transactions were undone.
    pub position: i64,
}

/// A change of a counted set that is written when the group commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) scope: String,
    pub(crate) noun: &'static str,
    pub(crate) change: i64,
}

/// A transaction as a closure sees it. The first failed statement ends it: every later verb fails with the same error,
/// and nothing of the closure stays, except inside [`Transaction::attempt`].
pub struct Transaction<'session> {
    session: &'session mut dyn Session,
    failure: Option<Error>,
    /// What the closures before this one have counted in the same group, which is written with it.
    group: &'session [Tally],
    pub(crate) tallies: Vec<Tally>,
}

impl<'session> Transaction<'session> {
    pub(crate) fn new(session: &'session mut dyn Session, group: &'session [Tally]) -> Self {
        Transaction { session, failure: None, group, tallies: Vec::new() }
    }

    pub(crate) fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    fn run<T>(&mut self, verb: impl FnOnce(&mut dyn Session) -> Result<T, Error>) -> Result<T, Error> {
        if let Some(error) = &self.failure {
            return Err(error.clone());
        }
        verb(self.session).inspect_err(|error| self.failure = Some(error.clone()))
    }

    /// Writes, without asking for rows. On PostgreSQL the statement may travel later, with others.
    pub fn execute(&mut self, sql: &str, parameters: &[Parameter]) -> Result<(), Error> {
        self.run(|session| session.execute(sql, parameters))
    }

    /// Writes exactly one row; anything else is a violation of the constraint `otherwise`.
    pub fn execute_one(&mut self, sql: &str, parameters: &[Parameter], otherwise: &'static str) -> Result<(), Error> {
        self.run(|session| session.execute_one(sql, parameters, otherwise))
    }

    /// The one row that is certain to be there (an aggregate, say); its absence is [`Error::Internal`].
    pub fn one(&mut self, sql: &str, parameters: &[Parameter]) -> Result<Row, Error> {
        let row = self.optional(sql, parameters)?;
        row.ok_or_else(|| Error::Internal("the statement gave no row".to_owned()))
    }

    /// The first row, or nothing.
    pub fn optional(&mut self, sql: &str, parameters: &[Parameter]) -> Result<Option<Row>, Error> {
        Ok(self.all(sql, parameters)?.into_iter().next())
    }

    /// All rows. The statement carries its own limit.
    pub fn all(&mut self, sql: &str, parameters: &[Parameter]) -> Result<Vec<Row>, Error> {
        self.run(|session| session.query(sql, parameters))
    }

    /// Whether there is a row.
    pub fn exists(&mut self, sql: &str, parameters: &[Parameter]) -> Result<bool, Error> {
        Ok(self.optional(sql, parameters)?.is_some())
    }

    /// Takes a name until the end of the transaction, against transactions of other servers on the same database; a
    /// name that is taken fails at once with [`Error::Claimed`]. On SQLite, where one process serves, it always succeeds.
    pub fn claim(&mut self, name: i64) -> Result<(), Error> {
        self.run(|session| session.claim(name))
    }

    /// Runs `work` so that its effects vanish if it fails, while the transaction goes on. The outer error is the
    /// transaction's own; the inner result is the closure's.
    pub fn attempt<T, E>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, E>) -> Result<Result<T, E>, Error> {
        let mark = self.run(|session| session.mark())?;
        let tallies = self.tallies.len();
        let result = work(self);
        if let Some(error @ (Error::Repeat | Error::Unknown(_) | Error::Unavailable(_) | Error::Conflict(_))) =
            &self.failure
        {
            return Err(error.clone());
        }
        if result.is_ok() && self.failure.is_none() {
            self.run(|session| session.keep(mark))?;
            return Ok(result);
        }
        self.tallies.truncate(tallies);
        let failure = self.failure.take();
        self.run(|session| session.undo(mark))?;
        match failure {
            // The closure hid the failure of a statement: its effects are gone all the same.
            Some(error) if result.is_ok() => Err(error),
            _ => Ok(result),
        }
    }

    /// Counts `change` more (or fewer) rows of `noun` in `scope`, for [`Transaction::tallied`]. Written once a group and
    /// in one of several stripes, so that it is no hot row.
    pub fn tally(&mut self, scope: &str, noun: &'static str, change: i64) {
        self.tallies.push(Tally { scope: scope.to_owned(), noun, change });
    }

    /// How many rows of `noun` there are in `scope`, as counted by [`Transaction::tally`].
    pub fn tallied(&mut self, scope: &str, noun: &'static str) -> Result<i64, Error> {
        let parameters = [("scope", scope.into()), ("noun", noun.into())];
        let sql = "SELECT CAST(COALESCE(SUM(counted), 0) AS BIGINT) AS counted FROM tallies \
                   WHERE scope = :scope AND noun = :noun";
        let counted = self.one(sql, &parameters)?.integer("counted")?;
        let waiting =
            self.group.iter().chain(&self.tallies).filter(|tally| tally.scope == scope && tally.noun == noun);
        Ok(waiting.fold(counted, |sum, tally| sum.saturating_add(tally.change)))
    }

    /// The next place in the order of commits of this connection.
    pub fn next_in_lane(&mut self) -> LanePosition {
        self.session.next_in_lane()
    }

    /// The wall clock of this machine in microseconds since 1970, UTC.
    pub fn wall_micros(&self) -> i64 {
        clock::wall_micros()
    }

    /// The moment for anything that expires: see [`clock::guarded_micros`].
    pub fn guarded_micros(&self) -> i64 {
        clock::guarded_micros()
    }
}

/// The value behind a name; a name that is not given is a mistake of the program.
pub(crate) fn parameter(name: &str, parameters: &[Parameter]) -> Result<Value, Error> {
    if let Some((_, value)) = parameters.iter().find(|(given, _)| *given == name) {
        return Ok(value.clone());
    }
    if name == crate::statement::DATABASE_NOW {
        return Ok(Value::Integer(clock::guarded_micros()));
    }
    Err(Error::Internal(format!("the statement needs the parameter :{name}")))
}
