//! A database with a server in front of it, and beside it a bare one with the same schema.

use super::customers::Customer;
use super::floor::{Bare, Owner};
use super::measure::{Cluster, settle};
use super::{Bench, Kind};
use crate::postgres::run;
use crate::server::{Server, make_key};
use anyhow::{Context, bail};
use std::process::Command;
use std::time::Duration;

/// How many customers are written in one transaction before anything is measured.
const SEED_GROUP: u64 = 5_000;
/// The numbers of new customers start behind those of all that were there before.
const FIRST_NEW: u64 = 100_000_000;

/// A server on a database, and the bare database.
pub struct Place {
    pub kind: Kind,
    pub server: Server,
    pub key: String,
    pub bare: Bare,
    /// A second and a third connection to the bare database, for PostgreSQL.
    pub pair: Vec<Bare>,
    pub cluster: Option<Cluster>,
    /// The number of the next customer of the server, and of the bare database.
    pub next: u64,
    pub bare_next: u64,
}

/// An empty database with its schema, an organization and a key.
struct Made {
    name: String,
    url: String,
    organization: String,
    key: String,
}

impl Made {
    fn owner(&self, lane: i64) -> Owner {
        let key = self.key.split('.').next().unwrap_or_default().to_owned();
        Owner { organization: self.organization.clone(), key, lane }
    }
}

impl Place {
    /// On databases that are empty at first.
    pub fn empty(bench: &Bench, kind: Kind) -> anyhow::Result<Self> {
        let made = make(bench, kind, "empty")?;
        let bare = make(bench, kind, "empty_bare")?;
        Place::open(bench, kind, &made, &bare)
    }

    /// On databases that hold all customers.
    pub fn filled(bench: &Bench, kind: Kind) -> anyhow::Result<Self> {
        let made = make(bench, kind, "filled")?;
        let mut writer = Bare::open(&made.url, made.owner(1))?;
        for first in (0..bench.customers).step_by(usize::try_from(SEED_GROUP)?) {
            let last = (first + SEED_GROUP).min(bench.customers);
            let group: Vec<Customer> = (first..last).map(Customer::new).collect();
            writer.write(&group, false)?;
            if first % 50_000 == 0 {
                bench.progress.set_message(format!("{}: {first} customers are there", kind.name()));
            }
        }
        writer.settle()?;
        drop(writer);
        let bare = copy(bench, kind, &made)?;
        let place = Place::open(bench, kind, &made, &bare)?;
        bench.progress.set_message(format!("{}: waiting until the audit log is sealed", kind.name()));
        settle(&place.server, place.cluster.as_ref(), Duration::from_secs(300));
        Ok(place)
    }

    fn open(bench: &Bench, kind: Kind, made: &Made, bare: &Made) -> anyhow::Result<Self> {
        let server = Server::start(&bench.binary, &made.url)?;
        let mut pair = Vec::new();
        if kind == Kind::Postgres {
            pair = vec![Bare::open(&bare.url, bare.owner(3))?, Bare::open(&bare.url, bare.owner(4))?];
        }
        Ok(Place {
            kind,
            server,
            key: made.key.clone(),
            bare: Bare::open(&bare.url, bare.owner(2))?,
            pair,
            cluster: bench.cluster(kind).cloned(),
            next: FIRST_NEW,
            bare_next: FIRST_NEW,
        })
    }

    /// CPU of the database's own processes so far, in milliseconds.
    pub fn cluster_cpu_ms(&self) -> Option<u64> {
        self.cluster.as_ref().map(Cluster::cpu_ms)
    }
}

/// Makes a database with the schema of the binary.
fn make(bench: &Bench, kind: Kind, name: &str) -> anyhow::Result<Made> {
    let url = url(bench, kind, name, true)?;
    run(Command::new(&bench.binary).args(["migrate", "--database", &url]))?;
    let (organization, key) = make_key(&bench.binary, &url)?;
    Ok(Made { name: name.to_owned(), url, organization, key })
}

/// A database for a single server, and a key of it.
pub fn make_one(bench: &Bench, kind: Kind, name: &str) -> anyhow::Result<(String, String)> {
    let made = make(bench, kind, name)?;
    Ok((made.url, made.key))
}

fn url(bench: &Bench, kind: Kind, name: &str, create: bool) -> anyhow::Result<String> {
    match (kind, &bench.postgres) {
        (Kind::Sqlite, _) => Ok(format!("sqlite:{}", bench.directory.0.join(format!("{name}.db")).display())),
        (Kind::Postgres, None) => bail!("PostgreSQL is not running"),
        (Kind::Postgres, Some((postgres, _))) if create => postgres.create_database(name),
        (Kind::Postgres, Some((postgres, _))) => {
            Ok(postgres.url().trim_end_matches("/postgres").to_owned() + "/" + name)
        }
    }
}

/// A copy of a database that nobody uses at the moment.
fn copy(bench: &Bench, kind: Kind, made: &Made) -> anyhow::Result<Made> {
    let name = format!("{}_bare", made.name);
    let target = url(bench, kind, &name, false)?;
    match (kind, &bench.postgres) {
        (Kind::Postgres, Some((postgres, _))) => {
            let sql = format!("CREATE DATABASE {name} TEMPLATE {} STRATEGY file_copy", made.name);
            ask(&postgres.url(), &sql)?;
        }
        _ => {
            let path = |url: &str| url.trim_start_matches("sqlite:").to_owned();
            std::fs::copy(path(&made.url), path(&target))?;
        }
    }
    Ok(Made { name, url: target, organization: made.organization.clone(), key: made.key.clone() })
}

/// Runs a statement on PostgreSQL and gives the first column of its first row, where there is one.
fn ask(url: &str, sql: &str) -> anyhow::Result<Option<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
        tokio::spawn(async move { drop(connection.await) });
        for message in client.simple_query(sql).await? {
            if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
                return Ok(row.get(0).map(str::to_owned));
            }
        }
        Ok(None)
    })
}

/// What a PostgreSQL server calls itself.
pub fn version(url: &str) -> anyhow::Result<String> {
    let version = ask(url, "SHOW server_version")?.context("no version")?;
    Ok(format!("PostgreSQL {version}"))
}
