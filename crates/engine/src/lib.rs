//! The business: nouns, verbs and their SQL. It knows no HTTP and no async.
//!
//! Rooms look only at earlier lines of this list.

pub mod error;
pub mod input;
pub mod json;
pub mod pages;

pub mod audit;
pub mod ids;
pub mod scope;

pub mod idempotency;
pub mod organizations;
pub mod test_clock;

pub mod integrations;
pub mod tags;

pub mod customers;

pub mod entitlements;
pub mod payment_methods;

pub mod consistency;

pub use error::{Error, Kind};
pub use scope::{Access, Caller, Scope};

use cuenta_store::Migration;

/// The schema, step by step.
pub const MIGRATIONS: &[Migration] =
    &[Migration { version: 1, name: "foundation", sql: include_str!("../migrations/0001_foundation.sql") }];
