use super::setting::Kind;
use super::*;

fn environment(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect()
}

/// A directory of its own that goes away with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cuenta-config-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn load(directory: &Directory, pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let sources = Sources { directory: directory.0.clone(), environment: environment(pairs), ..Sources::default() };
    Config::load(&sources)
}

#[test]
fn the_defaults_hold_every_setting_in_order() {
    let directory = Directory::new("defaults");
    let config = load(&directory, &[("PATH", "/bin"), ("CUENTA_LISTEN", "")]).unwrap();
    assert_eq!(config.http.listen, "127.0.0.1:8080");
    assert_eq!(config.http.admin_listen, None);
    assert_eq!(config.http.max_connections, 4_096);
    assert_eq!(config.http.max_body_bytes, 1_048_576);
    assert_eq!(config.database.url.expose(), "sqlite:cuenta.db");
    assert_eq!(config.events_url, None);
    assert_eq!(config.api.unknown_properties, UnknownProperties::Refuse);
    assert_eq!((config.log.format, config.log.requests), (LogFormat::Json, LogRequests::Errors));
    assert!(config.warnings.is_empty());
    let mut rest = DEFAULT_TOML;
    for setting in SETTINGS {
        let (_, name) = setting.key.split_once('.').unwrap();
        let at = rest.find(&format!("\n{name} = ")).unwrap_or_else(|| panic!("{} out of order", setting.key));
        assert!(rest[..at].contains(setting.variable), "{} is not explained", setting.variable);
        if let Kind::Count(least, most) = setting.kind {
            assert!(rest[..at].contains(&format!("{least} to {most}")), "range of {}", setting.key);
        }
        rest = &rest[at + 1..];
    }
}

#[test]
fn later_sources_win() {
    let directory = Directory::new("order");
    directory.write("cuenta.toml", "[http]\nlisten = \"a:1\"\nidle_timeout_ms = 100\nmax_uri_bytes = 256\n");
    let config = load(&directory, &[]).unwrap();
    assert_eq!(config.http.listen, "a:1");

    let named = directory.write("other.toml", "[http]\nlisten = \"b:1\"\n");
    let pairs = [("CUENTA_CONFIG", named.to_str().unwrap()), ("CUENTA_IDLE_TIMEOUT_MS", "200")];
    let config = load(&directory, &pairs).unwrap();
    assert_eq!((config.http.listen.as_str(), config.http.idle_timeout_ms), ("b:1", 200));
    assert_eq!(config.http.max_uri_bytes, 8_192, "one file is read, not two");

    let sources = Sources {
        file: Some(directory.0.join("cuenta.toml")),
        directory: directory.0.clone(),
        environment: environment(&pairs),
        flags: vec![Flag { name: "--listen", key: "http.listen", value: "[::1]:0".to_owned() }],
    };
    let config = Config::load(&sources).unwrap();
    assert_eq!((config.http.listen.as_str(), config.http.max_uri_bytes), ("[::1]:0", 256));
    let effective = config.effective();
    assert!(effective.contains("listen = \"[::1]:0\"  # flag --listen\n"), "{effective}");
    assert!(effective.contains("idle_timeout_ms = 200  # environment CUENTA_IDLE_TIMEOUT_MS\n"), "{effective}");
    assert!(effective.contains("max_uri_bytes = 256  # file "), "{effective}");
    assert!(effective.contains("rate_limit = 100  # default\n"), "{effective}");
    assert!(effective.parse::<toml::Table>().is_ok(), "{effective}");
}

#[test]
fn mistakes_are_named() {
    let directory = Directory::new("mistakes");
    let cases = [
        ("[http]\nlissten = \"a:1\"", "http.lissten is not a setting; did you mean http.listen?"),
        ("[nothing]", "nothing is not a setting"),
        ("listen = \"a:1\"", "listen is not a setting"),
        (
            "[http]\nmax_connections = \"many\"",
            "http.max_connections must be a whole number from 1 to 1000000, not \"many\"",
        ),
        ("[http]\nmax_connections = 0", "http.max_connections must be a whole number from 1 to 1000000, not 0"),
        ("[http]\nidle_timeout_ms = 1.5", "http.idle_timeout_ms must be a whole number from 100 to 3600000, not 1.5"),
        ("[http]\nlisten = \"8080\"", "http.listen must be HOST:PORT"),
        ("[log]\nformat = \"xml\"", "log.format must be one of \"json\", \"text\", not \"xml\""),
        ("[http]\n\nlisten = ", "line 3 is not TOML"),
    ];
    for (text, expected) in cases {
        let path = directory.write("cuenta.toml", text);
        let message = load(&directory, &[]).unwrap_err().to_string();
        assert!(message.starts_with(&path.display().to_string()), "{message}");
        assert!(message.contains(expected), "{message} lacks {expected}");
    }
    directory.write("cuenta.toml", "");
    let message = load(&directory, &[("CUENTA_RATE_LIMIT", "-1")]).unwrap_err().to_string();
    assert_eq!(message, "CUENTA_RATE_LIMIT: api.rate_limit must be a whole number from 0 to 1000000, not \"-1\"");
    assert!(load(&directory, &[("CUENTA_RATE_LIMIT", "+1")]).is_err());
    let message = load(&directory, &[("CUENTA_CONFIG", "/does/not/exist.toml")]).unwrap_err().to_string();
    assert!(message.starts_with("/does/not/exist.toml: cannot be read"), "{message}");
}

#[test]
fn unknown_variables_are_warned_of() {
    let directory = Directory::new("warnings");
    let config = load(&directory, &[("CUENTA_LISTN", "a:1"), ("CUENTA_Q", "")]).unwrap();
    assert_eq!(
        config.warnings,
        [
            "the environment variable CUENTA_LISTN is not a setting; did you mean CUENTA_LISTEN?",
            "the environment variable CUENTA_Q is not a setting",
        ]
    );
}

#[test]
fn passwords_are_never_shown() {
    let directory = Directory::new("secrets");
    for url in [
        "postgres://ana:hidden@db:5432/cuenta",
        "postgres://ana:hid@hidden/hid?den@db/cuenta",
        "postgres://db/cuenta?user=ana&password=hidden&sslmode=require",
    ] {
        let config = load(&directory, &[("CUENTA_DATABASE_URL", url), ("CUENTA_EVENTS_URL", url)]).unwrap();
        let shown = format!("{} {config:?} {}", config.effective(), config.database.url);
        assert!(!shown.contains("hid") && shown.contains("***"), "{shown}");
        assert_eq!(config.database.url.expose(), url);
    }
    let message = load(&directory, &[("CUENTA_DATABASE_URL", "mysql://ana:hidden@db")]).unwrap_err().to_string();
    assert!(!message.contains("hidden"), "{message}");
    directory.write("cuenta.toml", "[database]\nurl = \"postgres://ana:hidden@db\" x");
    let message = load(&directory, &[]).unwrap_err().to_string();
    assert!(!message.contains("hidden"), "{message}");
}
