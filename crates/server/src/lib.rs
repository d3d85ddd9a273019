//! The server: HTTP, background work, configuration and command line around the engine.

pub mod admin;
pub mod cli;
pub mod config;
pub mod http;
pub mod logging;
