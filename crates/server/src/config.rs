//! Protects the rest of the server from settings nobody meant: every value is known, in range and of one source,
//! and whatever is not is refused with a sentence that names the place and what is allowed.

mod setting;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use setting::{SETTINGS, Setting, Value};

pub use setting::SecretUrl;

/// The defaults, commented line by line; what `cuenta config` prints.
pub const DEFAULT_TOML: &str = include_str!("default.toml");

/// The file that is read when it exists and no other is named.
const WORKING_DIRECTORY_FILE: &str = "cuenta.toml";

/// The variable that names the file.
const CONFIG_VARIABLE: &str = "CUENTA_CONFIG";

/// Where settings come from besides the defaults.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config`; outweighs `CUENTA_CONFIG`.
    pub file: Option<PathBuf>,
    /// Where `cuenta.toml` is looked for.
    pub directory: PathBuf,
    /// The whole environment; other programs' variables are left alone.
    pub environment: Vec<(OsString, OsString)>,
    /// The options that were given.
    pub flags: Vec<Flag>,
}

/// An option of the command line that is a setting.
#[derive(Clone, Debug)]
pub struct Flag {
    /// As typed: `--listen`.
    pub name: &'static str,
    /// The setting it stands for: `http.listen`.
    pub key: &'static str,
    /// What was given.
    pub value: String,
}

/// Every setting in force.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[database]`
    pub database: Database,
    /// `events.url`; `None`: beside the database.
    pub events_url: Option<SecretUrl>,
    /// `[http]`
    pub http: Http,
    /// `[api]`
    pub api: Api,
    /// `[log]`
    pub log: Log,
    /// Sentences to log at the start: variables that look like settings and are none.
    pub warnings: Vec<String>,
    effective: Vec<Effective>,
}

/// Where everything is kept.
#[derive(Clone, Debug)]
pub struct Database {
    /// `sqlite:PATH` or `postgres://…`.
    pub url: SecretUrl,
    /// Threads or connections that read.
    pub readers: usize,
    /// Writes that may wait.
    pub queue: usize,
}

/// What the API listener grants.
#[derive(Clone, Debug)]
pub struct Http {
    /// `HOST:PORT`.
    pub listen: String,
    /// `HOST:PORT` of the admin listener; `None`: off.
    pub admin_listen: Option<String>,
    /// Connections at the same time, before the limit of open files.
    pub max_connections: usize,
    /// For the head of a request.
    pub header_timeout_ms: u64,
    /// For the body of a request, and for the peer to take an answer.
    pub body_timeout_ms: u64,
    /// Between two requests.
    pub idle_timeout_ms: u64,
    /// For the answer.
    pub request_timeout_ms: u64,
    /// For requests in flight at the end.
    pub drain_timeout_ms: u64,
    /// Of a request body.
    pub max_body_bytes: usize,
    /// Of all header lines.
    pub max_header_bytes: usize,
    /// Of the request target.
    pub max_uri_bytes: usize,
}

/// What the API grants.
#[derive(Clone, Debug)]
pub struct Api {
    /// Requests per second and key; 0: no limit.
    pub rate_limit: u32,
    /// What happens to properties the API does not know.
    pub unknown_properties: UnknownProperties,
}

/// What happens to properties the API does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownProperties {
    /// 400 with the nearest known name (D-005).
    Refuse,
    /// They are lost in silence.
    Ignore,
}

/// What is written to stderr.
#[derive(Clone, Debug)]
pub struct Log {
    /// How a line looks.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace` or `off`.
    pub level: String,
    /// Which requests get a line.
    pub requests: LogRequests,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Which requests get a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogRequests {
    /// Answers of 500 and more.
    Errors,
    /// Every request.
    All,
    /// None.
    None,
}

/// Why the settings cannot be used: one sentence for the person who made them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

#[derive(Clone, Debug)]
struct Effective {
    setting: &'static Setting,
    value: Value,
    source: String,
}

/// The settings while sources are laid over each other.
struct Layers(BTreeMap<&'static str, (Value, String)>);

impl Config {
    /// Lays defaults, file, environment and flags over each other.
    ///
    /// # Errors
    /// A named file that cannot be read; an unknown key; a value of the wrong type or out of range.
    pub fn load(sources: &Sources) -> Result<Config, ConfigError> {
        let mut layers = Layers(BTreeMap::new());
        layers.lay_toml(DEFAULT_TOML, "default", "the defaults")?;
        if let Some((path, text)) = read_file(sources)? {
            let name = path.display().to_string();
            layers.lay_toml(&text, &format!("file {name}"), &name)?;
        }
        let warnings = layers.lay_environment(&sources.environment)?;
        for flag in &sources.flags {
            let setting = setting_of(flag.key).ok_or_else(|| unknown_key("the command line", flag.key))?;
            layers.lay_text(setting, &flag.value, &format!("flag {}", flag.name), flag.name)?;
        }
        layers.finish(warnings)
    }

    /// The settings in force as TOML, each with where it came from; passwords are replaced by `***`.
    #[must_use]
    pub fn effective(&self) -> String {
        let mut text = String::new();
        let mut table = "";
        for Effective { setting, value, source } in &self.effective {
            let (section, name) = setting.key.split_once('.').unwrap_or(("", setting.key));
            if section != table {
                let gap = if table.is_empty() { "" } else { "\n" };
                text.push_str(&format!("{gap}[{section}]\n"));
                table = section;
            }
            text.push_str(&format!("{name} = {value}  # {source}\n"));
        }
        text
    }
}

impl Layers {
    fn lay_toml(&mut self, text: &str, source: &str, place: &str) -> Result<(), ConfigError> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            // The error's own text repeats the line, which may hold a password.
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            ConfigError(format!("{place}: line {line} is not TOML: {}", error.message()))
        })?;
        for (section, content) in &table {
            let Some(content) = content.as_table() else {
                return Err(unknown_key(place, section));
            };
            for (name, value) in content {
                let key = format!("{section}.{name}");
                let setting = setting_of(&key).ok_or_else(|| unknown_key(place, &key))?;
                let value = setting.kind.read_toml(value).ok_or_else(|| {
                    let given = setting.quote(value.to_string());
                    ConfigError(format!("{place}: {key} must be {}, not {given}", setting.kind))
                })?;
                self.0.insert(setting.key, (value, source.to_owned()));
            }
            if content.is_empty() && !SETTINGS.iter().any(|setting| setting.is_in(section)) {
                return Err(unknown_key(place, section));
            }
        }
        Ok(())
    }

    fn lay_text(
        &mut self,
        setting: &'static Setting,
        text: &str,
        source: &str,
        place: &str,
    ) -> Result<(), ConfigError> {
        let value = setting.kind.read_text(text).ok_or_else(|| {
            let given = setting.quote(format!("{text:?}"));
            ConfigError(format!("{place}: {} must be {}, not {given}", setting.key, setting.kind))
        })?;
        self.0.insert(setting.key, (value, source.to_owned()));
        Ok(())
    }

    /// Answers the warnings.
    fn lay_environment(&mut self, environment: &[(OsString, OsString)]) -> Result<Vec<String>, ConfigError> {
        let mut warnings = Vec::new();
        for (name, value) in environment {
            let Some(name) = name.to_str().filter(|name| name.starts_with("CUENTA_") && *name != CONFIG_VARIABLE)
            else {
                continue;
            };
            let Some(setting) = SETTINGS.iter().find(|setting| setting.variable == name) else {
                let known = SETTINGS.iter().map(|setting| setting.variable).chain([CONFIG_VARIABLE]);
                warnings.push(format!("the environment variable {name} is not a setting{}", nearest(name, known)));
                continue;
            };
            let text = value
                .to_str()
                .ok_or_else(|| ConfigError(format!("{name}: {} must be {}", setting.key, setting.kind)))?;
            if !text.is_empty() {
                self.lay_text(setting, text, &format!("environment {name}"), name)?;
            }
        }
        warnings.sort();
        Ok(warnings)
    }

    fn finish(self, warnings: Vec<String>) -> Result<Config, ConfigError> {
        let mut effective = Vec::new();
        for setting in SETTINGS {
            let (value, source) = self
                .0
                .get(setting.key)
                .cloned()
                .ok_or_else(|| ConfigError(format!("{} has no default", setting.key)))?;
            effective.push(Effective { setting, value, source });
        }
        Ok(Config {
            database: Database {
                url: SecretUrl::new(self.text("database.url")),
                readers: self.size("database.readers"),
                queue: self.size("database.queue"),
            },
            events_url: self.optional("events.url").map(|url| SecretUrl::new(&url)),
            http: self.http(),
            api: Api {
                rate_limit: u32::try_from(self.count("api.rate_limit")).unwrap_or(u32::MAX),
                unknown_properties: match self.text("api.unknown_properties") {
                    "ignore" => UnknownProperties::Ignore,
                    _ => UnknownProperties::Refuse,
                },
            },
            log: Log {
                format: match self.text("log.format") {
                    "text" => LogFormat::Text,
                    _ => LogFormat::Json,
                },
                level: self.text("log.level").to_owned(),
                requests: match self.text("log.requests") {
                    "all" => LogRequests::All,
                    "none" => LogRequests::None,
                    _ => LogRequests::Errors,
                },
            },
            warnings,
            effective,
        })
    }

    fn http(&self) -> Http {
        Http {
            listen: self.text("http.listen").to_owned(),
            admin_listen: self.optional("http.admin_listen"),
            max_connections: self.size("http.max_connections"),
            header_timeout_ms: self.count("http.header_timeout_ms"),
            body_timeout_ms: self.count("http.body_timeout_ms"),
            idle_timeout_ms: self.count("http.idle_timeout_ms"),
            request_timeout_ms: self.count("http.request_timeout_ms"),
            drain_timeout_ms: self.count("http.drain_timeout_ms"),
            max_body_bytes: self.size("http.max_body_bytes"),
            max_header_bytes: self.size("http.max_header_bytes"),
            max_uri_bytes: self.size("http.max_uri_bytes"),
        }
    }

    /// The text of a setting; `finish` has seen that every setting is there.
    fn text(&self, key: &str) -> &str {
        match self.0.get(key) {
            Some((Value::Text(text), _)) => text,
            _ => "",
        }
    }

    fn optional(&self, key: &str) -> Option<String> {
        Some(self.text(key)).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    fn count(&self, key: &str) -> u64 {
        match self.0.get(key) {
            Some((Value::Count(count), _)) => *count,
            _ => 0,
        }
    }

    fn size(&self, key: &str) -> usize {
        usize::try_from(self.count(key)).unwrap_or(usize::MAX)
    }
}

/// The named file, or the one in the working directory when there is one.
fn read_file(sources: &Sources) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let variable = sources.environment.iter().find(|(name, value)| name == CONFIG_VARIABLE && !value.is_empty());
    let named = sources.file.clone().or_else(|| variable.map(|(_, value)| PathBuf::from(value)));
    let is_named = named.is_some();
    let path = named.unwrap_or_else(|| Path::new(&sources.directory).join(WORKING_DIRECTORY_FILE));
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some((path, text))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !is_named => Ok(None),
        Err(error) => Err(ConfigError(format!("{}: cannot be read: {error}", path.display()))),
    }
}

fn setting_of(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

fn unknown_key(place: &str, key: &str) -> ConfigError {
    let near = nearest(key, SETTINGS.iter().map(|setting| setting.key));
    ConfigError(format!("{place}: {key} is not a setting{near} (`cuenta config` lists all settings)"))
}

/// A hint when a known name is close.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let best = known.map(|known| (strsim::damerau_levenshtein(name, known), known)).min();
    match best {
        Some((distance, known)) if distance <= name.len() / 3 => format!("; did you mean {known}?"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
