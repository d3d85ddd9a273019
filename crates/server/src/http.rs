//! Everything that speaks HTTP.

pub mod docs;
pub mod document;
pub mod framing;
pub mod listener;

mod call;
mod customers;
mod gate;
mod idempotency;
mod integrations;
pub mod keys;
pub mod problem;
pub mod router;
pub mod state;
mod tags;
mod test_clock;
mod whoami;
