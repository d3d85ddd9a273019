//! The table of settings: name, variable and what each allows.

use std::fmt;

/// One setting.
#[derive(Debug)]
pub(super) struct Setting {
    /// `section.name` in the file.
    pub(super) key: &'static str,
    /// The name in the environment.
    pub(super) variable: &'static str,
    pub(super) kind: Kind,
}

/// What a setting allows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// A whole number in a range, both ends included.
    Count(u64, u64),
    /// One of some words.
    Word(&'static [&'static str]),
    /// `HOST:PORT`.
    Address,
    /// `HOST:PORT` or empty.
    OptionalAddress,
    DatabaseUrl,
    EventsUrl,
}

/// A value that fits its setting. Its `Debug` is its `Display`, which never shows a password.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Value {
    Count(u64),
    Text(String),
}

/// A URL that may hold a password: its `Debug` and `Display` never show it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

const fn setting(key: &'static str, variable: &'static str, kind: Kind) -> Setting {
    Setting { key, variable, kind }
}

const TIMEOUT_MS: Kind = Kind::Count(100, 3_600_000);

/// Every setting, in the order of `default.toml`.
pub(super) static SETTINGS: &[Setting] = &[
    setting("database.url", "CUENTA_DATABASE_URL", Kind::DatabaseUrl),
    setting("database.readers", "CUENTA_DATABASE_READERS", Kind::Count(1, 256)),
    setting("database.queue", "CUENTA_DATABASE_QUEUE", Kind::Count(1, 1_000_000)),
    setting("events.url", "CUENTA_EVENTS_URL", Kind::EventsUrl),
    setting("http.listen", "CUENTA_LISTEN", Kind::Address),
    setting("http.admin_listen", "CUENTA_ADMIN_LISTEN", Kind::OptionalAddress),
    setting("http.max_connections", "CUENTA_MAX_CONNECTIONS", Kind::Count(1, 1_000_000)),
    setting("http.header_timeout_ms", "CUENTA_HEADER_TIMEOUT_MS", TIMEOUT_MS),
    setting("http.body_timeout_ms", "CUENTA_BODY_TIMEOUT_MS", TIMEOUT_MS),
    setting("http.idle_timeout_ms", "CUENTA_IDLE_TIMEOUT_MS", TIMEOUT_MS),
    setting("http.request_timeout_ms", "CUENTA_REQUEST_TIMEOUT_MS", TIMEOUT_MS),
    setting("http.drain_timeout_ms", "CUENTA_DRAIN_TIMEOUT_MS", Kind::Count(0, 3_600_000)),
    setting("http.max_body_bytes", "CUENTA_MAX_BODY_BYTES", Kind::Count(1_024, 67_108_864)),
    setting("http.max_header_bytes", "CUENTA_MAX_HEADER_BYTES", Kind::Count(1_024, 1_048_576)),
    setting("http.max_uri_bytes", "CUENTA_MAX_URI_BYTES", Kind::Count(256, 65_534)),
    setting("api.rate_limit", "CUENTA_RATE_LIMIT", Kind::Count(0, 1_000_000)),
    setting("api.unknown_properties", "CUENTA_UNKNOWN_PROPERTIES", Kind::Word(&["refuse", "ignore"])),
    setting("log.format", "CUENTA_LOG_FORMAT", Kind::Word(&["json", "text"])),
    setting("log.level", "CUENTA_LOG_LEVEL", Kind::Word(&["error", "warn", "info", "debug", "trace", "off"])),
    setting("log.requests", "CUENTA_LOG_REQUESTS", Kind::Word(&["errors", "all", "none"])),
];

impl Setting {
    pub(super) fn is_in(&self, section: &str) -> bool {
        self.key.split_once('.').is_some_and(|(known, _)| known == section)
    }

    /// A refused value for a message; a URL is not repeated, because a mistyped one hides its password from
    /// [`SecretUrl`].
    pub(super) fn quote(&self, given: String) -> String {
        match self.kind {
            Kind::DatabaseUrl | Kind::EventsUrl => "what was given".to_owned(),
            _ => given,
        }
    }
}

impl Kind {
    pub(super) fn read_toml(self, value: &toml::Value) -> Option<Value> {
        match (self, value) {
            (Kind::Count(..), toml::Value::Integer(count)) => self.read_count(u64::try_from(*count).ok()?),
            (Kind::Count(..), _) => None,
            (_, toml::Value::String(text)) => self.read_text(text),
            _ => None,
        }
    }

    pub(super) fn read_text(self, text: &str) -> Option<Value> {
        let fits = match self {
            // `parse` takes a leading plus, which no file would.
            Kind::Count(..) if text.starts_with('+') => return None,
            Kind::Count(..) => return self.read_count(text.parse().ok()?),
            Kind::Word(words) => words.contains(&text),
            Kind::Address => is_address(text),
            Kind::OptionalAddress => text.is_empty() || is_address(text),
            Kind::DatabaseUrl => has_scheme(text, &["sqlite:", "postgres://", "postgresql://"]),
            Kind::EventsUrl => {
                text.is_empty() || has_scheme(text, &["embedded:", "postgres://", "postgresql://", "clickhouse://"])
            }
        };
        fits.then(|| Value::Text(text.to_owned()))
    }

    fn read_count(self, count: u64) -> Option<Value> {
        match self {
            Kind::Count(least, most) if (least..=most).contains(&count) => Some(Value::Count(count)),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    /// Completes "must be …".
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Count(least, most) => write!(formatter, "a whole number from {least} to {most}"),
            Kind::Word(words) => write!(formatter, "one of \"{}\"", words.join("\", \"")),
            Kind::Address => formatter.write_str("HOST:PORT, like \"127.0.0.1:8080\""),
            Kind::OptionalAddress => formatter.write_str("HOST:PORT, like \"127.0.0.1:8081\", or empty"),
            Kind::DatabaseUrl => formatter.write_str("\"sqlite:PATH\" or \"postgres://…\""),
            Kind::EventsUrl => {
                formatter.write_str("\"embedded:PATH\", \"postgres://…\", \"clickhouse://…\" or empty")
            }
        }
    }
}

impl fmt::Display for Value {
    /// As in the file, without passwords.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Count(count) => write!(formatter, "{count}"),
            Value::Text(text) => write!(formatter, "{}", toml::Value::String(redact(text))),
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

impl SecretUrl {
    /// Wraps a URL.
    #[must_use]
    pub fn new(url: &str) -> Self {
        SecretUrl(url.to_owned())
    }

    /// The URL with its password, for the database client and nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&redact(&self.0))
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", redact(&self.0))
    }
}

fn has_scheme(text: &str, schemes: &[&str]) -> bool {
    schemes.iter().any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()))
}

fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let plain = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host_fits = match plain {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)),
    };
    host_fits && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

/// Replaces the password before the host, and every parameter that names one, by `***`.
fn redact(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    // A password may hold an unescaped `/`, `?` or `@`, so everything up to the last `@` belongs to the user.
    let (user, place) = match rest.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, rest),
    };
    let user = match user {
        Some(user) => match user.split_once(':') {
            Some((name, _)) => format!("{name}:***@"),
            None => format!("{user}@"),
        },
        None => String::new(),
    };
    let (path, query) = match place.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (place, None),
    };
    let query = query.map_or_else(String::new, |query| format!("?{}", redact_query(query)));
    format!("{scheme}://{user}{path}{query}")
}

fn redact_query(query: &str) -> String {
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if name.to_ascii_lowercase().contains("pass") => format!("{name}=***"),
        _ => pair.to_owned(),
    });
    pairs.collect::<Vec<_>>().join("&")
}
