//! What the engine promises, as short stories on SQLite and on PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test that meets an error fails there")]

mod audit;
mod connected_accounts;
mod consistency;
mod customers;
mod customers_list;
mod customers_update;
mod idempotency;
mod ids;
mod isolation;
mod organizations;
#[expect(dead_code, reason = "the tests of the other crates use the rest")]
#[path = "../../../store/tests/store/place.rs"]
mod place;
mod readings;
mod tags_and_integrations;
mod test_clock;
mod world;

use world::{World, assert_refused, check, organization, query, read, try_read};
