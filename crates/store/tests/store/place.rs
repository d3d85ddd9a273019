//! A database of its own for each test, on SQLite and on PostgreSQL, gone when the test ends. The tests of the other crates
//! use this file too.

use cuenta_store::{Database, DatabaseUrl, Migration, Options};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio_postgres::NoTls;

/// Where the PostgreSQL server of the tests is: a superuser's URL.
const VARIABLE: &str = "CUENTA_TEST_POSTGRES";
const MISSING: &str = "set CUENTA_TEST_POSTGRES, or run `cargo xtask test`, which starts PostgreSQL";

/// Which database a story runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

/// Both.
pub const KINDS: [Kind; 2] = [Kind::Sqlite, Kind::Postgres];

/// An empty database, or a migrated one; dropping it removes it.
pub struct Place {
    pub kind: Kind,
    url: String,
    directory: TempDir,
}

impl Place {
    /// A database without tables.
    pub fn empty(kind: Kind) -> Self {
        Self::new(kind, None)
    }

    /// A database with these migrations.
    pub fn migrated(kind: Kind, migrations: &[Migration]) -> Self {
        Self::new(kind, Some(migrations))
    }

    fn new(kind: Kind, migrations: Option<&[Migration]>) -> Self {
        let directory = TempDir::new().expect("a directory for the test");
        let url = match kind {
            Kind::Sqlite => format!("sqlite:{}", directory.path().join("test.db").display()),
            Kind::Postgres => postgres_database(migrations),
        };
        let place = Place { kind, url, directory };
        if let (Kind::Sqlite, Some(migrations)) = (kind, migrations) {
            place.database_url().migrate(migrations).expect("the migrations fit");
        }
        place
    }

    /// As the command line takes it.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn database_url(&self) -> DatabaseUrl {
        DatabaseUrl::parse(self.url()).expect("a good URL")
    }

    /// A directory that lives as long as the place.
    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    pub fn open(&self) -> Database {
        self.open_with(Options::default())
    }

    pub fn open_with(&self, options: Options) -> Database {
        Database::open(&self.database_url(), options).expect("the database opens")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((_, name)) = self.url.rsplit_once('/').filter(|_| self.kind == Kind::Postgres) {
            administrate(&[&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")]);
        }
    }
}

/// Runs a story on a fresh database of each kind. The kind that failed stands in the output.
pub fn check_places(migrations: &[Migration], story: impl AsyncFn(&Place)) {
    for kind in KINDS {
        let place = Place::migrated(kind, migrations);
        let named = Named(kind);
        runtime().block_on(story(&place));
        drop(named);
    }
}

/// A runtime with several threads, so that closures really wait beside each other.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// Says on which database a test failed.
pub struct Named(pub Kind);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the story failed on {:?}", self.0);
        }
    }
}

/// Makes a database: a copy of a template that has the migrations, which is kept for later runs.
fn postgres_database(migrations: Option<&[Migration]>) -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    static TEMPLATES: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("cuenta_test_{}_{number}", std::process::id());
    // What a killed process of the same number left behind goes first.
    let clear = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
    let Some(migrations) = migrations else {
        administrate(&[&clear, &format!("CREATE DATABASE {name}")]);
        return url_of(&name);
    };
    let template = template_name(migrations);
    let mut known = TEMPLATES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !known.contains(&template) {
        make_template(&template, migrations);
        known.push(template.clone());
    }
    drop(known);
    administrate(&[&clear, &format!("CREATE DATABASE {name} TEMPLATE {template}")]);
    url_of(&name)
}

fn template_name(migrations: &[Migration]) -> String {
    let mut hasher = DefaultHasher::new();
    migrations.iter().for_each(|migration| migration.sql.hash(&mut hasher));
    // How words are translated is part of what a template is.
    include_str!("../../src/migrate.rs").hash(&mut hasher);
    format!("cuenta_template_{:016x}", hasher.finish())
}

/// Two test programs may want the same template at once: the name appears only when it is whole.
fn make_template(template: &str, migrations: &[Migration]) {
    let unfinished = format!("{template}_{}", std::process::id());
    let drop = format!("DROP DATABASE IF EXISTS {unfinished} WITH (FORCE)");
    administrate(&[&drop, &format!("CREATE DATABASE {unfinished}")]);
    let url = DatabaseUrl::parse(&url_of(&unfinished)).expect("a good URL");
    url.migrate(migrations).expect("the migrations fit");
    // Where the name is taken, another program was faster, and its template is as good.
    let rename = format!(
        "DO $$ BEGIN IF NOT EXISTS (SELECT 1 FROM pg_database WHERE datname = '{template}') THEN \
         ALTER DATABASE {unfinished} RENAME TO {template}; END IF; \
         EXCEPTION WHEN duplicate_database OR unique_violation THEN NULL; END $$"
    );
    administrate(&[&rename, &drop]);
}

fn server() -> String {
    std::env::var(VARIABLE).unwrap_or_else(|_| panic!("{MISSING}"))
}

fn url_of(name: &str) -> String {
    let server = server();
    let (base, _) = server.rsplit_once('/').expect("the URL names a database");
    format!("{base}/{name}")
}

/// Runs statements on the server, one by one, on a thread of its own: the caller may be inside a runtime.
pub fn administrate(statements: &[&str]) {
    sql_on(&server(), statements);
}

/// Runs statements on a PostgreSQL database beside the code under test.
pub fn sql_on(url: &str, statements: &[&str]) {
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("PostgreSQL answers");
            let connection = tokio::spawn(connection);
            for statement in statements {
                // Another test may be copying the template at this moment, or a connection may just be closing.
                let mut tries = 0;
                while let Err(error) = client.batch_execute(statement).await {
                    tries += 1;
                    let busy = error.code().is_some_and(|code| code.code() == "55006");
                    assert!(busy && tries < 200, "{statement}: {error:?}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            drop(client);
            drop(connection.await);
        });
    };
    std::thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}
