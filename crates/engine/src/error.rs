//! The one error of the engine: what a caller is told, and what the log keeps.

use std::fmt;

use crate::input::{Problem, Problems};
use crate::json::JsonError;

/// The code of the one conflict that a repeat cures: the first request with the same Idempotency-Key still runs.
pub const IN_FLIGHT: &str = "idempotency_key_in_flight";

/// What kind of answer an error is. Closed: one table maps it to a status, and nothing else decides a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// 400: the request is not well-formed against the schema (D-002).
    Invalid,
    /// 403: the caller is known and may not do this.
    Forbidden,
    /// 404: the thing that the request addresses is not there, or belongs to another organization (D-002).
    NotFound,
    /// 409: a unique value is taken, or other work holds it (D-002).
    Conflict,
    /// 422: well-formed and refused: wrong state, unknown referenced id, exclusive properties together (D-002).
    Refused,
    /// 429: too much in too short a time, or a limit of concurrent work is reached (D-015).
    TooMany,
    /// 503: cannot be done now; the same request may succeed later.
    Unavailable,
    /// 500: our mistake. The caller is told nothing more, the source goes to the log.
    Internal,
}

/// An error of any verb of the engine.
///
/// The message is for the caller and holds no SQL, no secret and no file name; the source is for the log alone.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    code: &'static str,
    message: String,
    fields: Vec<Problem>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of any kind without a property at fault. `code` is snake_case and never changes once released.
    pub fn new(kind: Kind, code: &'static str, message: impl Into<String>) -> Self {
        Self { kind, code, message: message.into(), fields: Vec::new(), source: None }
    }

    /// An error with one property at fault; the message becomes `Validation failed: field message` (D-002), so
    /// `message` is a phrase that begins with a verb.
    pub fn at(kind: Kind, code: &'static str, field: impl Into<String>, message: impl Into<String>) -> Self {
        let problems = Problems::from(Problem { field: field.into(), message: message.into() });
        Self::of_problems(kind, code, problems)
    }

    /// 422 because of one property: `Validation failed: field message`.
    pub fn refused(code: &'static str, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::at(Kind::Refused, code, field, message)
    }

    /// 422 because of a state, with no property at fault; `message` is a whole sentence.
    pub fn refused_state(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Refused, code, message)
    }

    /// 409 because a unique value of one property is taken: `Validation failed: field message`.
    pub fn conflict(code: &'static str, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::at(Kind::Conflict, code, field, message)
    }

    /// 403; `message` is a whole sentence.
    pub fn forbidden(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Forbidden, code, message)
    }

    /// 404; the message must not tell whether another organization has the thing (D-002).
    pub fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, code, message)
    }

    /// 429; `message` is a whole sentence.
    pub fn too_many(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::TooMany, code, message)
    }

    /// 503: the same request may succeed later. Also for an outcome that is not known.
    pub fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, code, message)
    }

    /// 500, code `internal`, with a fixed message; what happened is in the source.
    pub fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(Kind::Internal, "internal", "An internal error occurred").with_source(source)
    }

    /// Adds what the log should know.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of answer this is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The stable snake_case name of the cause.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The explanation for the caller; the `detail` of the response.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The properties at fault, in the order they were read; empty when no property is. The `errors` of the response.
    pub fn fields(&self) -> &[Problem] {
        &self.fields
    }

    /// Whether the database refused a row because of the constraint with this name.
    pub fn is_constraint(&self, name: &str) -> bool {
        let source = self.source.as_ref().and_then(|source| source.downcast_ref::<cuenta_store::Error>());
        source.is_some_and(|source| source.is_constraint(name))
    }

    fn of_problems(kind: Kind, code: &'static str, problems: Problems) -> Self {
        let message = problems.detail();
        Self { kind, code, message, fields: problems.into_vec(), source: None }
    }
}

/// 400, code `validation_failed`: every problem of a request body at once.
impl From<Problems> for Error {
    fn from(problems: Problems) -> Self {
        Self::of_problems(Kind::Invalid, "validation_failed", problems)
    }
}

/// 400, code `invalid_json`.
impl From<JsonError> for Error {
    fn from(error: JsonError) -> Self {
        Self::new(Kind::Invalid, "invalid_json", error.to_string())
    }
}

/// What the database says, for a caller: a lost race or an unreachable database can be cured by a repeat (503, idempotency
/// 23 and 24); a constraint that no rule expected is our mistake.
impl From<cuenta_store::Error> for Error {
    fn from(error: cuenta_store::Error) -> Self {
        use cuenta_store::Error as Store;
        let made = match &error {
            Store::Conflict(_) => {
                Self::unavailable("conflict_retry", "Too many requests change the same things; repeat this one")
            }
            Store::Unknown(_) => Self::unavailable(
                "outcome_unknown",
                "The database was lost before it confirmed the write; repeat the request with the same Idempotency-Key",
            ),
            Store::Unavailable(_) => Self::unavailable(
                "database_unavailable",
                "The database cannot be used at the moment; repeat the request",
            ),
            Store::Claimed => Self::new(
                Kind::Conflict,
                IN_FLIGHT,
                "A request with this Idempotency-Key is still running; repeat it in a moment",
            ),
            Store::Constraint(_) | Store::Internal(_) | Store::Repeat => return Self::internal(error),
        };
        made.with_source(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.source {
            Some(source) => Some(source.as_ref()),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn one_field_reads_like_many() {
        let error = Error::refused("primary_contact_twice", "contacts[1].is_primary", "is set on a second contact");
        assert_eq!(error.kind(), Kind::Refused);
        assert_eq!(error.code(), "primary_contact_twice");
        assert_eq!(error.to_string(), "Validation failed: contacts[1].is_primary is set on a second contact");
        assert_eq!(error.fields().len(), 1);
        assert!(error.source().is_none());
    }

    #[test]
    fn the_caller_never_sees_the_source() {
        let error = Error::internal("disk on fire");
        assert_eq!((error.kind(), error.code()), (Kind::Internal, "internal"));
        assert!(!error.to_string().contains("fire"));
        assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("disk on fire"));
    }

    #[test]
    fn a_body_that_is_not_json_is_invalid() {
        let error = Error::from(crate::json::parse(b"{").unwrap_err());
        assert_eq!((error.kind(), error.code()), (Kind::Invalid, "invalid_json"));
        assert_eq!(error.message(), "the body is not JSON: expected a name in quotation marks at byte 1");
    }
}
