//! A server on a real socket for each test, and the client of the tests. Whatever a test does, nothing may be left over when
//! its server ends.

use crate::place::{KINDS, Kind, Named, Place, runtime};
use crate::reference;
use axum::body::Bytes;
use axum::http::{HeaderMap, Request, StatusCode};
use cuenta::config::{Config, Sources};
use cuenta::http::listener::{self, Drained, Page, Settings};
use cuenta::http::problem;
use cuenta::http::router::router;
use cuenta::http::state::{Server, Shared};
use cuenta_engine::organizations::{self, CreateOrganization, OrganizationKind};
use cuenta_engine::{Access, Error, MIGRATIONS, audit, consistency};
use cuenta_store::{Database, Options, Parameter, Transaction};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

/// The version of the API that the client asks for.
pub const VERSION: &str = "2026-04-01";
/// No answer of these tests takes longer.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A running server.
pub struct App {
    pub address: SocketAddr,
    pub database: Database,
    /// A key that may do everything.
    pub key: String,
    /// Another such key of the same organization.
    pub second_key: String,
    /// A key of the same organization that may only read.
    pub reader: String,
    /// A key of another organization.
    pub stranger: String,
    /// A key of a sandbox.
    pub sandbox: String,
    pub organization_id: String,
    server: Shared,
    /// Removed when the test is over.
    _place: Place,
    request_ids: Mutex<HashSet<String>>,
    idempotency_keys: Mutex<HashSet<String>>,
    running: Option<Running>,
}

struct Running {
    runtime: Runtime,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Drained>,
}

/// Runs a story against a fresh server on both databases.
pub fn check(story: impl AsyncFn(&App)) {
    check_with(&[], story);
}

/// The same, with settings as the environment gives them.
pub fn check_with(settings: &[(&str, &str)], story: impl AsyncFn(&App)) {
    for kind in KINDS {
        let named = Named(kind);
        let app = App::start(kind, settings);
        let handle = app.running.as_ref().expect("it runs").runtime.handle().clone();
        handle.block_on(story(&app));
        drop(app);
        drop(named);
    }
}

fn config(settings: &[(&str, &str)]) -> Config {
    let without_limit = [("CUENTA_RATE_LIMIT", "0")];
    let environment = without_limit.iter().chain(settings).map(|(name, value)| (name.into(), value.into()));
    let sources = Sources { environment: environment.collect(), directory: "/nowhere".into(), ..Sources::default() };
    Config::load(&sources).expect("the settings are good")
}

/// Two live organizations and a sandbox, and the keys of [`App`] in its order.
fn furnish(transaction: &mut Transaction) -> Result<(String, [String; 5]), Error> {
    let mut make = |kind| {
        let default_currency = cuenta_money::Currency::parse("USD").map_err(Error::internal)?;
        let (name, timezone) = ("Test".to_owned(), "UTC".to_owned());
        organizations::create(transaction, &CreateOrganization { name, kind, default_currency, timezone })
    };
    let here = make(OrganizationKind::Live)?.id;
    let (there, sandbox) = (make(OrganizationKind::Live)?.id, make(OrganizationKind::Sandbox)?.id);
    let mut key = |id: &str, access| organizations::create_key(transaction, id, access, "test");
    let own = [key(&here, Access::Full)?, key(&here, Access::Full)?, key(&here, Access::Read)?];
    let [first, second, reader] = own;
    Ok((here, [first, second, reader, key(&there, Access::Full)?, key(&sandbox, Access::Full)?]))
}

/// The answer to a request that HTTP itself refuses.
fn page(status: StatusCode) -> Page {
    let body = problem::body(status, "malformed_request", "The request is not well-formed", &[], "req_page");
    let headers =
        vec![("Content-Type", "application/problem+json".to_owned()), ("X-Request-Id", "req_page".to_owned())];
    Page { headers, body: String::from_utf8(body).expect("a page is text") }
}

impl App {
    fn start(kind: Kind, settings: &[(&str, &str)]) -> Self {
        let (place, config, runtime) = (Place::migrated(kind, MIGRATIONS), config(settings), runtime());
        let queue = config.database.queue;
        let database = place.open_with(Options { queue, ..Options::default() });
        let (organization_id, keys) = runtime.block_on(database.write(furnish)).expect("organizations are made");
        let [key, second_key, reader, stranger, sandbox] = keys;
        let server = Arc::new(Server::new(database.clone(), &config));
        let listener = runtime.block_on(listener::bind("127.0.0.1:0", "--listen")).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let until = async { drop(stopped.await) };
        let settings = Settings::new(&config.http, Arc::new(page));
        let serving = runtime.spawn(listener::serve(listener, router(Arc::clone(&server)), settings, until));
        let running = Some(Running { runtime, stop, serving });
        let (request_ids, idempotency_keys) = Default::default();
        App {
            address,
            database,
            key,
            second_key,
            reader,
            stranger,
            sandbox,
            organization_id,
            server,
            _place: place,
            request_ids,
            idempotency_keys,
            running,
        }
    }

    /// A request with key and version.
    pub fn ask(&self, method: &'static str, path: &str) -> Ask<'_> {
        let headers = vec![
            ("host".to_owned(), self.address.to_string().into_bytes()),
            ("authorization".to_owned(), format!("Bearer {}", self.key).into_bytes()),
            ("alguna-version".to_owned(), VERSION.into()),
        ];
        Ask { app: self, method, path: path.to_owned(), headers, body: Vec::new() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path).send().await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask("POST", path).json(&body).send().await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.ask("PATCH", path).json(&body).send().await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.ask("DELETE", path).send().await
    }

    /// The id of a new customer with these aliases.
    pub async fn customer(&self, aliases: &[&str]) -> String {
        let body = serde_json::json!({"name": "A", "currency": "USD", "aliases": aliases});
        self.post("/customers", body).await.body(200)["id"].as_str().expect("an id").to_owned()
    }

    /// The id of a new integration.
    pub async fn integration(&self) -> String {
        let made = self.post("/integrations", serde_json::json!({"provider": "stripe"})).await;
        made.body(200)["id"].as_str().expect("an id").to_owned()
    }

    /// A statement past the server.
    pub async fn sql(&self, sql: &'static str, parameters: &[Parameter<'static>]) {
        let parameters = parameters.to_vec();
        let wrote = self.database.write(move |transaction| transaction.execute(sql, &parameters)).await;
        wrote.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// How many rows a table has.
    pub async fn count(&self, table: &str) -> i64 {
        let sql = format!("SELECT COUNT(*) AS rows FROM {table}");
        let counted = self.database.read(move |transaction| transaction.one(&sql, &[])?.integer("rows")).await;
        counted.expect("it can be counted")
    }

    fn remember(&self, request: &Ask, answer: &Answer) {
        let mut seen = self.request_ids.lock().expect("the lock is sound");
        assert!(seen.insert(answer.header("x-request-id").to_owned()), "a request id came twice: {answer:?}");
        let keys = request.headers.iter().filter(|(name, _)| name == "idempotency-key");
        let keys = keys.map(|(_, key)| String::from_utf8_lossy(key).trim().to_owned());
        self.idempotency_keys.lock().expect("the lock is sound").extend(keys);
    }

    /// What must hold when a test is over.
    async fn assert_nothing_is_left(&self) {
        assert_eq!(self.database.waiting(), (0, 0), "closures wait for the database");
        let (organization_id, mut held) = (Arc::<str>::from(self.organization_id.as_str()), Vec::new());
        for key in self.idempotency_keys.lock().expect("the lock is sound").iter() {
            held.extend(self.server.in_flight.enter(&organization_id, key).is_none().then(|| key.clone()));
        }
        assert_eq!(held, Vec::<String>::new(), "keys are still in flight");
        while self.database.write(audit::seal).await.expect("sealing succeeds") > 0 {}
        let report = self.database.read(|transaction| {
            let (mut report, mut number) = (audit::Report::default(), 0);
            while let Some(next) = audit::verify(transaction, number, &mut report)? {
                number = next;
            }
            Ok::<_, Error>(report)
        });
        let report = report.await.expect("the audit log is readable");
        assert_eq!((report.faults, report.entries), (vec![], self.count("audit_entries").await), "the audit log");
        for check in consistency::CHECKS {
            let found = self.database.read(move |transaction| consistency::run(transaction, check)).await;
            assert_eq!(found.expect("the check runs"), Vec::<String>::new(), "{}", check.name);
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let Some(Running { runtime, stop, serving }) = self.running.take() else { return };
        if std::thread::panicking() {
            return runtime.shutdown_background();
        }
        stop.send(()).expect("the server still serves");
        let drained = runtime.block_on(serving).expect("the server ends");
        assert_eq!(drained.aborted, 0, "connections had to be cut");
        runtime.block_on(self.assert_nothing_is_left());
    }
}

/// A request on its way.
#[derive(Clone)]
pub struct Ask<'app> {
    app: &'app App,
    method: &'static str,
    path: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Ask<'_> {
    /// Asks with another key.
    pub fn key(self, key: &str) -> Self {
        self.without("authorization").header("authorization", format!("Bearer {key}"))
    }

    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    /// Adds a header, also a second one of the name.
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn idempotent(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }

    pub fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").bytes(body.to_string())
    }

    pub fn bytes(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends the request on a connection of its own and checks the answer against the document.
    pub async fn send(self) -> Answer {
        let answer = tokio::time::timeout(PATIENCE, self.exchange()).await.expect("an answer comes");
        self.app.remember(&self, &answer);
        reference::check(self.method, &self.path, &self.body, &answer);
        answer
    }

    async fn exchange(&self) -> Answer {
        let stream = TcpStream::connect(self.app.address).await.expect("the server listens");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("the server speaks");
        let connection = tokio::spawn(connection);
        let mut request = Request::builder().method(self.method).uri(&self.path);
        for (name, value) in &self.headers {
            request = request.header(name, value.as_slice());
        }
        let request = request.body(Full::new(Bytes::from(self.body.clone()))).expect("a request");
        let (head, body) = sender.send_request(request).await.expect("the server answers").into_parts();
        let body = body.collect().await.expect("the answer has an end").to_bytes().to_vec();
        drop(sender);
        drop(connection.await);
        Answer {
            request: format!("{} {}", self.method, self.path),
            status: head.status.as_u16(),
            headers: head.headers,
            body,
        }
    }
}

/// An answer.
#[derive(Clone)]
pub struct Answer {
    request: String,
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {:?} {}", self.status, self.headers, String::from_utf8_lossy(&self.body))
    }
}

/// Headers that a snapshot shows: those that say something about the answer.
const SHOWN: [&str; 9] = [
    "content-type",
    "allow",
    "connection",
    "retry-after",
    "transient-error",
    "www-authenticate",
    "idempotency-key",
    "idempotent-replayed",
    "ratelimit-policy",
];

impl Answer {
    /// The value of a header, empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body of an answer with this status.
    #[track_caller]
    pub fn body(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.json()
    }

    /// Asserts a refusal and gives its `detail`.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) -> String {
        let body = self.json();
        assert_eq!((self.status, body["code"].as_str()), (status, Some(code)), "{self:?}");
        body["detail"].as_str().expect("a detail").to_owned()
    }

    /// The answer as a snapshot keeps it: ids are numbered in the order they appear, and moments are left out.
    pub fn shown(&self) -> String {
        let mut names = Names::default();
        let mut text = format!("{}\n{}\n", names.replace(&self.request), self.status);
        for name in SHOWN.iter().filter(|name| self.headers.contains_key(**name)) {
            text.push_str(&format!("{name}: {}\n", self.header(name)));
        }
        if !self.body.is_empty() {
            let body = names.hide(&self.json());
            text.push_str(&format!("\n{}", serde_json::to_string_pretty(&body).expect("JSON")));
        }
        text
    }
}

/// Numbers for what differs between two runs.
#[derive(Default)]
struct Names(HashMap<String, String>);

impl Names {
    fn hide(&mut self, value: &Value) -> Value {
        match value {
            Value::String(text) if text.parse::<jiff::Timestamp>().is_ok() => "<moment>".into(),
            Value::String(text) => self.replace(text).into(),
            Value::Array(values) => values.iter().map(|value| self.hide(value)).collect(),
            Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), self.hide(value))).collect(),
            other => other.clone(),
        }
    }

    /// Replaces every id inside a text.
    fn replace(&mut self, text: &str) -> String {
        let pieces = text.split_inclusive(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        pieces
            .map(|piece| {
                let word = piece.trim_end_matches(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
                let digits = word.split_once('_').map_or("", |(_, digits)| digits);
                let is_id = digits.len() >= 18 && digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
                if is_id { piece.replace(word, &self.number(word)) } else { piece.to_owned() }
            })
            .collect()
    }

    fn number(&mut self, id: &str) -> String {
        let prefix = id.split('_').next().unwrap_or_default();
        let next = self.0.values().filter(|name| name.starts_with(&format!("<{prefix} "))).count() + 1;
        self.0.entry(id.to_owned()).or_insert_with(|| format!("<{prefix} {next}>")).clone()
    }
}

/// Keeps the writer of the database busy until it is released.
pub struct Hold {
    open: Arc<(Mutex<bool>, Condvar)>,
    held: JoinHandle<Result<(), cuenta_store::Error>>,
}

impl Hold {
    pub async fn begin(app: &App) -> Self {
        let open = Arc::new((Mutex::new(false), Condvar::new()));
        let entered = Arc::new(Notify::new());
        let (waiting, told, database) = (Arc::clone(&open), Arc::clone(&entered), app.database.clone());
        let held = tokio::spawn(async move {
            let hold = database.write(move |_| {
                told.notify_one();
                let (lock, changed) = &*waiting;
                let mut open = lock.lock().expect("the lock is sound");
                while !*open {
                    open = changed.wait(open).expect("the lock is sound");
                }
                Ok(())
            });
            hold.await
        });
        entered.notified().await;
        Hold { open, held }
    }

    pub async fn release(self) {
        let (lock, changed) = &*self.open;
        *lock.lock().expect("the lock is sound") = true;
        changed.notify_all();
        self.held.await.expect("the holder ends").expect("the holder succeeds");
    }
}

/// Waits until so many writes wait for the writer.
pub async fn until_waiting(app: &App, writes: usize) {
    let reached = async {
        while app.database.waiting().0 < writes {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect("the writes arrive");
}
