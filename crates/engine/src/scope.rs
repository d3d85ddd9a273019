//! The scope of one request: its transaction, who asks, and what time it is for them.

use crate::audit::{self, Entry};
use crate::error::Error;
use crate::ids::{self, Prefix};
use cuenta_store::Transaction;
use jiff::Timestamp;
use std::sync::Arc;

/// What a key may do (D-004).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everything.
    Full,
    /// Reads only; a write is 403.
    Read,
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The organization whose things, and nobody else's, the request sees.
    pub organization_id: Arc<str>,
    /// The public half of the key, or `cli` for a command on the machine itself.
    pub key_id: Arc<str>,
    /// What the key may do.
    pub access: Access,
    /// Whether the organization is a sandbox with a clock of its own.
    pub is_sandbox: bool,
    /// The id of the request, as the answer's `X-Request-Id`.
    pub request_id: Arc<str>,
}

/// A request inside its transaction.
pub struct Scope<'scope, 'session> {
    /// The five verbs.
    pub transaction: &'scope mut Transaction<'session>,
    caller: &'scope Caller,
    now: Timestamp,
}

impl<'scope, 'session> Scope<'scope, 'session> {
    /// Opens the scope; in a sandbox it reads the sandbox's clock.
    pub fn open(transaction: &'scope mut Transaction<'session>, caller: &'scope Caller) -> Result<Self, Error> {
        let micros = if caller.is_sandbox {
            let sql = "SELECT test_clock FROM organizations WHERE id = :id";
            transaction.one(sql, &[("id", (&*caller.organization_id).into())])?.integer("test_clock")?
        } else {
            transaction.wall_micros()
        };
        Ok(Scope { transaction, caller, now: instant(micros)? })
    }

    /// Runs `work` in the same scope; its effects vanish if it fails, and the transaction goes on.
    pub fn attempt<T>(
        &mut self,
        work: impl FnOnce(&mut Scope<'_, 'session>) -> Result<T, Error>,
    ) -> Result<Result<T, Error>, Error> {
        let (caller, now) = (self.caller, self.now);
        Ok(self.transaction.attempt(|transaction| work(&mut Scope { transaction, caller, now }))?)
    }

    /// Who asks.
    pub fn caller(&self) -> &'scope Caller {
        self.caller
    }

    /// The organization, for the `organization_id` of every statement.
    pub fn organization_id(&self) -> &'scope str {
        &self.caller.organization_id
    }

    /// The present moment of the organization, to the microsecond. It does not change within a scope.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// A new id.
    pub fn id(&self, prefix: Prefix) -> String {
        ids::next(prefix, self.organization_id(), self.now.as_microsecond())
    }

    /// Writes into the audit log that `operation` changed the object; `properties` are the names of what was set.
    pub fn audit(&mut self, operation: &str, object_id: &str, properties: &[&str]) -> Result<(), Error> {
        let at = self.transaction.wall_micros();
        let entry = Entry {
            organization_id: self.organization_id().to_owned(),
            key_id: self.caller.key_id.to_string(),
            operation: operation.to_owned(),
            object_id: object_id.to_owned(),
            properties: properties.join(","),
            request_id: self.caller.request_id.to_string(),
            at,
        };
        audit::append(self.transaction, entry)
    }
}

/// Microseconds since 1970 as a moment.
pub fn instant(micros: i64) -> Result<Timestamp, Error> {
    Timestamp::from_microsecond(micros).map_err(Error::internal)
}
