//! The server as its callers see it, on SQLite and on PostgreSQL: every answer is checked against the document that the
//! server itself serves.

mod app;
mod commands;
mod customers;
mod documents;
mod errors;
mod idempotency;
mod integrations;
mod limits;
#[expect(dead_code, reason = "the tests of the other crates use the rest")]
#[path = "../../../store/tests/store/place.rs"]
mod place;
mod reference;
mod tags;
mod test_clock;
mod wire;

use app::{Answer, App, Hold, check, check_with};
