//! Everything that speaks HTTP.

pub mod framing;
pub mod listener;
