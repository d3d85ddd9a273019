//! The real program: what it prints, and its exit status.

use crate::place::{KINDS, Kind, Named, Place};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// The program on this database, without any setting of the machine it runs on.
fn cuenta(place: &Place, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cuenta"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CUENTA_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).env("CUENTA_DATABASE_URL", place.url()).current_dir(place.directory());
    command
}

fn run(place: &Place, arguments: &[&str]) -> Output {
    cuenta(place, arguments).output().expect("the program starts")
}

/// What a command prints when it succeeds.
#[track_caller]
fn succeed(place: &Place, arguments: &[&str]) -> String {
    let output = run(place, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// What a command says when it fails: one sentence on stderr.
#[track_caller]
fn fail(place: &Place, arguments: &[&str]) -> String {
    let output = run(place, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let words = String::from_utf8(output.stderr).expect("text");
    assert!(words.lines().last().is_some_and(|line| line.starts_with("cuenta: ")), "{words}");
    words
}

fn check(story: impl Fn(&Place)) {
    for kind in KINDS {
        let (place, _named) = (Place::empty(kind), Named(kind));
        story(&place);
    }
}

/// A running `cuenta serve`.
struct Serving {
    child: Child,
    address: String,
    admin: Option<String>,
    /// What it prints after its addresses, known when it has ended.
    printed: Option<JoinHandle<String>>,
}

impl Serving {
    fn start(place: &Place, more: &[&str]) -> Self {
        let arguments = [&["serve", "--listen", "127.0.0.1:0"], more].concat();
        let mut child =
            cuenta(place, &arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines().map_while(Result::ok);
        let mut next = |prefix: &str| {
            let line = lines.next().expect("it says where it listens");
            line.strip_prefix(prefix).unwrap_or_else(|| panic!("{line}")).to_owned()
        };
        let address = next("listening on http://");
        let admin = more.contains(&"--admin-listen").then(|| next("admin on http://"));
        let printed = Some(std::thread::spawn(move || lines.map(|line| format!("{line}\n")).collect()));
        let serving = Serving { child, address, admin, printed };
        assert_eq!(get(&serving.address, "/openapi.json", "").0, 200);
        serving
    }

    /// Ends it as an operator would, asserts that it ended well, and gives what it printed.
    fn stop(mut self) -> String {
        let told = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill starts");
        assert!(told.success());
        assert_eq!(self.child.wait().expect("it ends").code(), Some(0));
        self.printed.take().expect("it ends once").join().expect("stdout is read")
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Only where a test failed in between is it still there.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The status and body of a request by hand.
fn ask(address: &str, head: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let length = body.len();
    let request = format!("{head}\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let status =
        answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer}"));
    (status, answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned())
}

fn get(address: &str, path: &str, key: &str) -> (u16, String) {
    ask(address, &format!("GET {path} HTTP/1.1\r\nAuthorization: Bearer {key}\r\nAlguna-Version: 2026-04-01"), "")
}

fn key_of(printed: &str) -> String {
    let line = printed.lines().map(str::trim).find(|line| line.starts_with("key_"));
    line.unwrap_or_else(|| panic!("no key in {printed}")).to_owned()
}

#[test]
fn the_first_start_shows_a_key_and_how_to_use_it() {
    check(|place| {
        let first = Serving::start(place, &[]);
        let address = first.address.clone();
        let printed = first.stop();
        let key = key_of(&printed);
        assert!(printed.contains(&format!("curl http://{address}/customers")), "{printed}");
        assert!(printed.contains(&format!("http://{address}/docs")), "{printed}");
        let second = Serving::start(place, &[]);
        // The request that was shown, as it was shown.
        let shown: Vec<_> = printed.split('\'').skip(1).step_by(2).collect();
        let [authorization, version, kind, body] = shown[..] else { panic!("another curl: {printed}") };
        let head = format!("POST /customers HTTP/1.1\r\n{authorization}\r\n{version}\r\n{kind}");
        let (status, answer) = ask(&second.address, &head, body);
        assert_eq!(status, 200, "{answer}");
        assert_eq!(get(&second.address, "/customers", &key).0, 200);
        assert_eq!(second.stop(), "", "the second start shows no key");
    });
}

/// Whoever reads that it listens may tell it to stop at once.
#[test]
fn it_can_be_told_to_stop_from_the_first_line_on() {
    check(|place| {
        succeed(place, &["migrate"]);
        for _ in 0..5 {
            let arguments = ["serve", "--listen", "127.0.0.1:0"];
            let mut child =
                cuenta(place, &arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
            let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
            lines.next().expect("a line").expect("text");
            assert!(Command::new("kill").arg(child.id().to_string()).status().expect("kill starts").success());
            lines.for_each(drop);
            let status = child.wait().expect("it ends");
            assert_eq!(status.code(), Some(0), "it was killed by the signal instead of ending: {status}");
        }
    });
}

#[test]
fn a_second_server_on_one_file_is_refused_in_words() {
    let (place, _named) = (Place::empty(Kind::Sqlite), Named(Kind::Sqlite));
    let first = Serving::start(&place, &[]);
    let words = fail(&place, &["serve", "--listen", "127.0.0.1:0"]);
    assert!(words.contains("another server uses") && words.contains("PostgreSQL"), "{words}");
    first.stop();
    Serving::start(&place, &[]).stop();
}

#[test]
fn several_servers_share_a_postgresql_database() {
    let (place, _named) = (Place::empty(Kind::Postgres), Named(Kind::Postgres));
    let (first, second) = (Serving::start(&place, &[]), Serving::start(&place, &[]));
    let key = succeed(&place, &["keys", "create"]);
    for server in [&first, &second] {
        assert_eq!(get(&server.address, "/whoami", key.trim()).0, 200);
    }
    first.stop();
    assert_eq!(get(&second.address, "/customers", key.trim()).0, 200);
    second.stop();
}

#[test]
fn an_address_in_use_is_told_with_the_flag_that_helps() {
    check(|place| {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let words = fail(place, &["serve", "--listen", &address]);
        assert!(words.contains(&format!("{address} is in use; choose another with --listen")), "{words}");
    });
}

#[test]
fn operators_have_a_listener_of_their_own() {
    check(|place| {
        let serving = Serving::start(place, &["--admin-listen", "127.0.0.1:0"]);
        let admin = serving.admin.clone().expect("an address");
        for path in ["/healthz", "/readyz"] {
            assert_eq!(ask(&admin, &format!("GET {path} HTTP/1.1"), ""), (200, "ok\n".to_owned()));
        }
        assert_eq!(get(&serving.address, "/nowhere", "key_x.y").0, 401);
        let (status, numbers) = ask(&admin, "GET /metrics HTTP/1.1", "");
        assert!(status == 200 && numbers.contains("cuenta_http_requests_total{"), "{numbers}");
        assert_eq!(get(&serving.address, "/metrics", "key_x.y").0, 401, "not on the API's own");
        serving.stop();
    });
}

#[test]
fn keys_are_made_listed_and_revoked_beside_a_running_server() {
    check(|place| {
        let serving = Serving::start(place, &[]);
        let printed = succeed(place, &["keys", "create", "--scope", "read", "--name", "report"]);
        let key = printed.trim_end_matches('\n');
        assert!(!key.contains(char::is_whitespace) && key.starts_with("key_"), "the key alone: {printed:?}");
        let (status, answer) = get(&serving.address, "/whoami", key);
        let told: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((status, &told["scope"]), (200, &Value::from("read")));
        let (id, secret) = key.split_once('.').unwrap();
        let list = succeed(place, &["keys", "list"]);
        assert!(
            list.lines().any(|line| line.starts_with(id) && line.contains("live") && line.ends_with("report")),
            "{list}"
        );
        assert!(!list.contains(secret));
        assert_eq!(succeed(place, &["keys", "revoke", id]), "");
        assert_eq!(get(&serving.address, "/whoami", key).0, 401, "from the moment the command returns");
        let list = succeed(place, &["keys", "list"]);
        assert!(list.lines().any(|line| line.starts_with(id) && line.contains("revoked")), "{list}");
        assert!(fail(place, &["keys", "revoke", "key_none"]).contains("cuenta keys list"));
        serving.stop();
    });
}

#[test]
fn organizations_are_made_and_named() {
    check(|place| {
        assert!(fail(place, &["keys", "create"]).contains("cuenta organizations create"));
        let id = succeed(
            place,
            &[
                "organizations",
                "create",
                "--name",
                "Ünïcode GmbH",
                "--currency",
                "EUR",
                "--timezone",
                "Europe/Berlin",
            ],
        );
        let id = id.trim_end_matches('\n');
        assert!(id.starts_with("org_") && id.len() == 26, "the id alone: {id:?}");
        succeed(place, &["keys", "create"]);
        let sandbox = succeed(place, &["organizations", "create", "--name", "Trial", "--sandbox"]);
        let list = succeed(place, &["organizations", "list"]);
        assert_eq!(
            list,
            format!(
                "{id}  live     EUR  Europe/Berlin  Ünïcode GmbH\n{}  sandbox  USD  UTC  Trial\n",
                sandbox.trim()
            )
        );
        assert!(fail(place, &["keys", "create"]).contains("--organization"));
        succeed(place, &["keys", "create", "--organization", sandbox.trim()]);
        for (wrong, word) in [
            (&["organizations", "create", "--name", " "][..], "--name"),
            (&["organizations", "create", "--name", "A", "--currency", "usd"], "USD"),
            (&["organizations", "create", "--name", "A", "--timezone", "Berlin"], "Europe/Berlin"),
            (&["keys", "create", "--organization", "org_none"], "org_none"),
        ] {
            let words = fail(place, wrong);
            assert!(words.contains(word), "{words}");
        }
    });
}

#[test]
fn migrate_prepares_and_has_nothing_to_do_twice() {
    check(|place| {
        let missing = run(place, &["doctor"]);
        let report = String::from_utf8(missing.stdout).unwrap();
        assert!(!missing.status.success() && report.contains("cuenta migrate"), "{report}");
        assert!(place.database_url().sqlite_path().is_none_or(|path| !path.exists()), "doctor changes nothing");
        assert!(succeed(place, &["migrate"]).starts_with("applied "));
        assert!(succeed(place, &["migrate"]).starts_with("nothing to do: the schema has version "));
    });
}

#[test]
fn doctor_finds_nothing_or_says_what() {
    check(|place| {
        succeed(place, &["organizations", "create", "--name", "A"]);
        let report = succeed(place, &["doctor"]);
        assert!(report.lines().all(|line| line.starts_with("ok ")), "{report}");
        for check in cuenta_engine::consistency::CHECKS {
            assert!(report.contains(&format!("{}: {}", check.name, check.holds)), "{report}");
        }
        crate::place::runtime().block_on(async {
            let database = place.open();
            let sql = "INSERT INTO tallies (scope, noun, stripe, counted) SELECT id, 'tags', 0, 7 FROM organizations";
            database.write(|transaction| transaction.execute(sql, &[])).await.unwrap();
        });
        let output = run(place, &["doctor"]);
        let report = String::from_utf8(output.stdout).unwrap();
        let faults: Vec<_> = report.lines().filter(|line| line.starts_with("FAULT")).collect();
        assert!(
            output.status.code() == Some(1) && faults.len() == 1 && faults[0].contains("count of tags: org_"),
            "{report}"
        );
    });
}

#[test]
fn a_backup_is_whole_or_not_there() {
    check(|place| {
        let target = place.directory().join("copy");
        let file = target.display().to_string();
        if place.kind == Kind::Sqlite {
            assert!(fail(place, &["backup", &file]).contains("there is no database"));
        }
        let organization = succeed(place, &["organizations", "create", "--name", "A"]);
        let serving = Serving::start(place, &[]);
        let report = succeed(place, &["backup", &file]);
        serving.stop();
        let size = std::fs::metadata(&target).unwrap().len();
        assert_eq!(report, format!("{file} ({size} bytes)\n"));
        assert!(fail(place, &["backup", &file]).contains("never overwrites"));
        assert!(!target.with_extension("unfinished").exists());
        if place.kind == Kind::Sqlite {
            let url = format!("sqlite:{file}");
            assert!(succeed(place, &["doctor", "--database", &url]).contains("ok"));
            assert!(succeed(place, &["organizations", "list", "--database", &url]).starts_with(organization.trim()));
        }
    });
}

#[test]
fn config_and_openapi_need_no_database() {
    let place = Place::empty(Kind::Sqlite);
    let config = succeed(&place, &["config"]);
    std::fs::write(place.directory().join("cuenta.toml"), &config).unwrap();
    let effective = succeed(&place, &["config", "--effective"]);
    assert!(effective.contains("listen = \"127.0.0.1:8080\"  # file "), "what is printed can be used: {effective}");
    assert!(effective.contains("# environment CUENTA_DATABASE_URL"), "{effective}");
    let secret = succeed(&place, &["config", "--effective", "--database", "postgres://u:secret@h/d"]);
    assert!(secret.contains("postgres://u:***@h/d") && !secret.contains("secret"), "{secret}");
    let document: Value = serde_json::from_str(&succeed(&place, &["openapi"])).unwrap();
    assert_eq!(document, *crate::reference::DOCUMENT);
    assert!(place.database_url().sqlite_path().is_some_and(|path| !path.exists()));
}

#[test]
fn a_wrong_setting_is_refused_with_a_sentence() {
    let place = Place::empty(Kind::Sqlite);
    let with = |name: &str, value: &str| {
        let output = cuenta(&place, &["config", "--effective"]).env(name, value).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}={value}: {output:?}");
        let words = String::from_utf8(output.stderr).unwrap();
        assert_eq!(words.lines().count(), 1, "{words}");
        words
    };
    let refused = [
        (
            "CUENTA_RATE_LIMIT",
            "many",
            "CUENTA_RATE_LIMIT: api.rate_limit must be a whole number from 0 to 1000000, not \"many\"",
        ),
        ("CUENTA_LISTEN", "here", "http.listen must be HOST:PORT"),
        (
            "CUENTA_DATABASE_URL",
            "mysql://u:secret@h/d",
            "database.url must be \"sqlite:PATH\" or \"postgres://…\", not what was given",
        ),
        ("CUENTA_LOG_LEVEL", "loud", "log.level must be one of"),
        ("CUENTA_CONFIG", "nowhere.toml", "nowhere.toml: cannot be read"),
    ];
    for (name, value, sentence) in refused {
        let words = with(name, value);
        assert!(words.contains(sentence) && !words.contains("secret"), "{words}");
    }
    std::fs::write(place.directory().join("cuenta.toml"), "[http]\nlissten = \"x\"\n").unwrap();
    let words = fail(&place, &["config"]);
    assert!(words.contains("http.lissten is not a setting; did you mean http.listen?"), "{words}");
}

#[test]
fn the_command_line_is_refused_by_what_it_lacks() {
    let place = Place::empty(Kind::Sqlite);
    for (arguments, word) in [
        (&[][..], "Usage"),
        (&["serv"], "serve"),
        (&["backup"], "FILE"),
        (&["keys", "create", "--scope", "all"], "full"),
    ] {
        let output = run(&place, arguments);
        let words = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && words.contains(word), "{arguments:?}: {words}");
    }
    assert!(succeed(&place, &["--version"]).starts_with("cuenta "));
    assert!(succeed(&place, &["--help"]).contains("cuenta serve"));
}

/// What happens to the background work of a server: the audit log is sealed soon after a write.
#[test]
fn a_running_server_seals_its_audit_log() {
    check(|place| {
        succeed(place, &["organizations", "create", "--name", "A"]);
        let serving = Serving::start(place, &[]);
        let start = Instant::now();
        loop {
            let report = succeed(place, &["doctor"]);
            if report.contains("audit log: 1 sealed entries under 1 seals") {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "{report}");
        }
        serving.stop();
    });
}
