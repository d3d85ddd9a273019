//! The server: HTTP, background work, configuration and command line around the engine.

pub mod admin;
pub mod background;
pub mod cli;
pub mod commands;
pub mod config;
pub mod http;
pub mod logging;
pub mod numbers;
