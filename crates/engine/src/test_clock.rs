//! The clock of a sandbox (D-019): it stands still until it is advanced. A live organization has none (422).

use crate::error::{Error, Kind};
use crate::input::{Fields, text};
use crate::scope::Scope;
use jiff::{Span, Timestamp};
use serde::Serialize;

/// How far one step may lead: 100 years, in hours.
const LONGEST_STEP_HOURS: i64 = 876_600;

/// What time it is in the sandbox.
#[derive(Clone, Debug, Serialize)]
pub struct TestClock {
    /// The present moment of every request to this organization.
    pub now: Timestamp,
}

/// Where the clock is to be set.
#[derive(Clone, Debug)]
pub struct AdvanceTestClock {
    /// Not before the present moment of the sandbox.
    pub to: Timestamp,
}

impl AdvanceTestClock {
    /// Reads `{to}`.
    pub fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let to = fields.required("to", text(64))?;
        match to.parse() {
            Ok(to) => Some(AdvanceTestClock { to }),
            Err(_) => {
                fields.problem("to", "must be a date-time such as `2026-05-01T00:00:00Z` (RFC 3339)");
                None
            }
        }
    }
}

/// The sandbox's present moment.
pub fn get(scope: &mut Scope) -> Result<TestClock, Error> {
    sandbox_only(scope)?;
    Ok(TestClock { now: scope.now() })
}

/// Moves the clock forward. A moment before the present one is 422.
pub fn advance(scope: &mut Scope, input: &AdvanceTestClock) -> Result<TestClock, Error> {
    sandbox_only(scope)?;
    let latest = scope.now().checked_add(Span::new().hours(LONGEST_STEP_HOURS)).unwrap_or(Timestamp::MAX);
    if input.to < scope.now() || input.to > latest {
        let message = format!("must be between the clock's present moment, {}, and 100 years later", scope.now());
        return Err(Error::refused("clock_cannot_go_there", "to", message));
    }
    let sql = "UPDATE organizations SET test_clock = :to WHERE id = :id AND test_clock <= :to";
    let parameters = [("to", input.to.as_microsecond().into()), ("id", scope.organization_id().into())];
    scope.transaction.execute(sql, &parameters)?;
    let organization_id = scope.organization_id();
    scope.audit("test_clock.advance", organization_id, &["to"])?;
    let now = Timestamp::from_microsecond(input.to.as_microsecond()).map_err(Error::internal)?;
    Ok(TestClock { now })
}

fn sandbox_only(scope: &Scope) -> Result<(), Error> {
    if scope.caller().is_sandbox {
        return Ok(());
    }
    let message = "Only a sandbox organization has a test clock; `cuenta organizations create --sandbox` makes one";
    Err(Error::new(Kind::Refused, "not_a_sandbox", message))
}
