//! What can go wrong in a database, in the few words the layers above need.

/// Why a statement or a transaction did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A constraint refused a row. The name is the same on every database: that of the unique index or check as the
    /// migration gives it, `<table>_pkey` for a primary key, `foreign_key` for any reference.
    #[error("constraint {0} refused the row")]
    Constraint(String),
    /// A name that [`crate::Transaction::claim`] wanted is held by a transaction of another server.
    #[error("the claim is held by another transaction")]
    Claimed,
    /// The transaction lost against another one as often as it may be repeated; nothing was written.
    #[error("too many conflicting transactions: {0}")]
    Conflict(String),
    /// The connection was lost inside COMMIT: the transaction may or may not have happened.
    #[error("the outcome of the commit is unknown: {0}")]
    Unknown(String),
    /// The database cannot be used now (not reachable, disk full, read-only, queue full); nothing was written.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// A mistake of the program: a statement that does not parse, a column of another type, a panic in a closure.
    #[error("{0}")]
    Internal(String),
    /// The group of transactions that this one was part of starts anew; the closure will run again.
    #[error("the transaction runs again")]
    Repeat,
}

impl Error {
    /// Whether the constraint with this name refused the row.
    pub fn is_constraint(&self, name: &str) -> bool {
        matches!(self, Error::Constraint(violated) if violated == name)
    }
}
