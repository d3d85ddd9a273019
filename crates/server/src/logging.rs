//! Protects the log from what does not belong there: other programs' data. Lines go to stderr, so that stdout holds
//! results only.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::panic::PanicHookInfo;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::{Log, LogFormat};

/// Libraries whose finer lines repeat what passes through them.
const TALKATIVE: [&str; 6] = ["hyper", "hyper_util", "tokio_postgres", "postgres", "rustls", "mio"];

/// Why logging could not be set up.
#[derive(Debug)]
pub enum LoggingError {
    /// `log.level` is not a level; `config` refuses such a value.
    Level(String),
    /// The process already logs elsewhere.
    Taken(TryInitError),
}

impl fmt::Display for LoggingError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoggingError::Level(level) => write!(formatter, "{level:?} is not a log level"),
            LoggingError::Taken(_) => formatter.write_str("logging is already set up"),
        }
    }
}

impl std::error::Error for LoggingError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LoggingError::Level(_) => None,
            LoggingError::Taken(error) => Some(error),
        }
    }
}

/// Starts logging to stderr and makes every panic one log line. Once per process.
///
/// # Errors
/// The level is unknown or logging was started before.
pub fn start(log: &Log) -> Result<(), LoggingError> {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match log.format {
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).boxed(),
    };
    let lines = lines.with_filter(filter(&log.level)?);
    tracing_subscriber::registry().with(lines).try_init().map_err(LoggingError::Taken)?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

fn filter(level: &str) -> Result<Targets, LoggingError> {
    let level: LevelFilter = level.parse().map_err(|_| LoggingError::Level(level.to_owned()))?;
    let talkative = TALKATIVE.map(|target| (target, level.min(LevelFilter::WARN)));
    Ok(Targets::new().with_default(level).with_targets(talkative))
}

/// One line that says where. A message made at run time may quote a request, so only literal messages are logged.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map_or_else(|| "unknown".to_owned(), ToString::to_string);
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let message = literal(panic.payload()).unwrap_or("(message withheld: it may hold data)");
    // Captured only when RUST_BACKTRACE asks for it; holds names of functions, no values.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(%location, thread, reason = message, backtrace, "panic");
}

/// The message if it was in the source code as it is.
fn literal(payload: &(dyn std::any::Any + Send)) -> Option<&'static str> {
    payload.downcast_ref::<&'static str>().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn levels() {
        let debug = filter("debug").unwrap();
        assert!(debug.would_enable("cuenta::http", &Level::DEBUG));
        assert!(!debug.would_enable("cuenta::http", &Level::TRACE));
        assert!(!debug.would_enable("tokio_postgres::query", &Level::INFO));
        assert!(debug.would_enable("tokio_postgres::query", &Level::WARN));
        assert!(!filter("error").unwrap().would_enable("hyper", &Level::WARN));
        assert!(!filter("off").unwrap().would_enable("cuenta", &Level::ERROR));
        assert!(filter("loud").is_err());
    }

    #[test]
    fn only_literal_panic_messages_are_logged() {
        let caught = std::panic::catch_unwind(|| std::panic::panic_any("plain")).unwrap_err();
        assert_eq!(literal(caught.as_ref()), Some("plain"));
        let caught = std::panic::catch_unwind(|| std::panic::panic_any(String::from("secret"))).unwrap_err();
        assert_eq!(literal(caught.as_ref()), None);
    }
}
