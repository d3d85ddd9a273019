//! The floor of writes: the rows of customers, written to the bare database in groups, without a server in front of it.
//!
//! It is meant to be as fast as the database lets one connection be: prepared statements, only the columns that have a
//! value, on PostgreSQL one statement a table with arrays and all statements of a group on the wire at once.

use super::customers::Customer;
use anyhow::Context;
use rusqlite::{Connection, params};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, NoTls, Statement};

/// What a floor measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    /// Customers written.
    pub written: u64,
    /// Time inside the database alone: making up the rows is not counted.
    pub elapsed: Duration,
}

impl Rate {
    /// Customers in a second.
    pub fn per_second(&self) -> u64 {
        let micros = self.elapsed.as_micros().max(1);
        u64::try_from(u128::from(self.written) * 1_000_000 / micros).unwrap_or(u64::MAX)
    }
}

/// A bare database.
pub enum Bare {
    /// A file.
    Sqlite(Box<BareSqlite>),
    /// A connection.
    Postgres(Box<BarePostgres>),
}

/// Whose rows are written, and where in the audit log.
#[derive(Clone, Debug)]
pub struct Owner {
    pub organization: String,
    pub key: String,
    /// A lane of the audit log that nobody else has.
    pub lane: i64,
}

impl Bare {
    /// Opens the database behind a URL as the server would.
    pub fn open(url: &str, owner: Owner) -> anyhow::Result<Self> {
        match url.strip_prefix("sqlite:") {
            Some(path) => Ok(Bare::Sqlite(Box::new(BareSqlite::open(Path::new(path), owner)?))),
            None => Ok(Bare::Postgres(Box::new(BarePostgres::open(url, owner)?))),
        }
    }

    /// Writes one group in one transaction.
    pub fn write(&mut self, group: &[Customer], keyed: bool) -> anyhow::Result<()> {
        match self {
            Bare::Sqlite(bare) => bare.write(group, keyed),
            Bare::Postgres(bare) => bare.write(group, keyed),
        }
    }

    /// Writes groups until the time is over, with the customers from `next` on.
    pub fn run(&mut self, next: &mut u64, group: u64, keyed: bool, duration: Duration) -> anyhow::Result<Rate> {
        let mut rate = Rate::default();
        let started = Instant::now();
        while started.elapsed() < duration {
            let customers: Vec<Customer> = (*next..*next + group).map(Customer::new).collect();
            *next += group;
            let begun = Instant::now();
            self.write(&customers, keyed)?;
            rate.elapsed += begun.elapsed();
            rate.written += group;
        }
        Ok(rate)
    }

    /// Leaves the database as one that has been in use for long: the log in the file, the statistics true.
    pub fn settle(&mut self) -> anyhow::Result<()> {
        match self {
            Bare::Sqlite(bare) => Ok(bare.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?),
            Bare::Postgres(bare) => {
                for sql in ["VACUUM (ANALYZE)", "CHECKPOINT"] {
                    bare.runtime.block_on(bare.client.batch_execute(sql))?;
                }
                Ok(())
            }
        }
    }
}

pub struct BareSqlite {
    connection: Connection,
    owner: Owner,
    position: i64,
}

const SQLITE_CUSTOMER: &str = "INSERT INTO customers (organization_id, id, name, currency, aliases, billing_address, \
    contacts, tag_ids, created_at, updated_at) VALUES (?1, ?2, ?3, 'EUR', ?4, ?5, ?6, '[]', ?7, ?7)";
const SQLITE_IDENTIFIER: &str =
    "INSERT INTO customer_identifiers (organization_id, identifier, customer_id) VALUES (?1, ?2, ?3)";
const SQLITE_EMAIL: &str = "INSERT INTO customer_emails (organization_id, email, customer_id) VALUES (?1, ?2, ?3)";
const SQLITE_AUDIT: &str = "INSERT INTO audit_entries (lane, position, organization_id, key_id, operation, object_id, \
    properties, request_id, at) VALUES (?1, ?2, ?3, ?4, 'customers.create', ?5, ?6, ?7, ?8)";
const SQLITE_KEY: &str = "INSERT INTO idempotency_keys (organization_id, idempotency_key, fingerprint, status, body, \
    expires_at) VALUES (?1, ?2, ?3, 200, ?4, ?5)";
const SQLITE_TALLY: &str = "INSERT INTO tallies (scope, noun, stripe, counted) VALUES (?1, ?2, 0, ?3) \
    ON CONFLICT (scope, noun, stripe) DO UPDATE SET counted = counted + excluded.counted";
/// How long a record of the floor would live: until 2286.
const EXPIRES_AT: i64 = 9_999_999_999_000_000;

impl BareSqlite {
    fn open(path: &Path, owner: Owner) -> anyhow::Result<Self> {
        let connection = Connection::open(path)?;
        connection.set_prepared_statement_cache_capacity(64);
        // The settings of the server's own writer.
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
             PRAGMA wal_autocheckpoint = 8000; PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -16000",
        )?;
        connection.busy_timeout(Duration::from_secs(5))?;
        Ok(BareSqlite { connection, owner, position: 0 })
    }

    fn write(&mut self, group: &[Customer], keyed: bool) -> anyhow::Result<()> {
        let Owner { organization, key, lane } = &self.owner;
        let transaction =
            rusqlite::Transaction::new_unchecked(&self.connection, rusqlite::TransactionBehavior::Immediate)?;
        let count = i64::try_from(group.len())?;
        {
            let mut customer = transaction.prepare_cached(SQLITE_CUSTOMER)?;
            let mut identifier = transaction.prepare_cached(SQLITE_IDENTIFIER)?;
            let mut email = transaction.prepare_cached(SQLITE_EMAIL)?;
            let mut audit = transaction.prepare_cached(SQLITE_AUDIT)?;
            let mut record = transaction.prepare_cached(SQLITE_KEY)?;
            let mut tally = transaction.prepare_cached(SQLITE_TALLY)?;
            for c in group {
                self.position += 1;
                customer.execute(params![organization, c.id, c.name, c.aliases, c.address, c.contacts, c.at])?;
                identifier.execute(params![organization, c.alias, c.id])?;
                email.execute(params![organization, c.email, c.id])?;
                let row = params![lane, self.position, organization, key, c.id, c.properties, c.request_id, c.at];
                audit.execute(row)?;
                if keyed {
                    record.execute(params![organization, c.key, c.fingerprint, c.answer, EXPIRES_AT])?;
                }
            }
            tally.execute(params![organization, "customers", count])?;
            if keyed {
                tally.execute(params![organization, "idempotency_keys", count])?;
            }
        }
        Ok(transaction.commit()?)
    }
}

pub struct BarePostgres {
    runtime: tokio::runtime::Runtime,
    client: Client,
    statements: Statements,
    owner: Owner,
    position: i64,
}

struct Statements {
    customers: Statement,
    identifiers: Statement,
    emails: Statement,
    audit: Statement,
    records: Statement,
    tally: Statement,
}

const POSTGRES_CUSTOMERS: &str = "INSERT INTO customers (organization_id, id, name, currency, aliases, billing_address, \
    contacts, tag_ids, created_at, updated_at) SELECT $1, id, name, 'EUR', aliases, address, contacts, '[]', at, at \
    FROM UNNEST($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[]) \
    AS row (id, name, aliases, address, contacts, at)";
const POSTGRES_IDENTIFIERS: &str = "INSERT INTO customer_identifiers (organization_id, identifier, customer_id) \
    SELECT $1, * FROM UNNEST($2::text[], $3::text[])";
const POSTGRES_EMAILS: &str = "INSERT INTO customer_emails (organization_id, email, customer_id) \
    SELECT $1, * FROM UNNEST($2::text[], $3::text[])";
const POSTGRES_AUDIT: &str = "INSERT INTO audit_entries (lane, position, organization_id, key_id, operation, object_id, \
    properties, request_id, at) SELECT $1, position, $2, $3, 'customers.create', object_id, properties, request_id, at \
    FROM UNNEST($4::bigint[], $5::text[], $6::text[], $7::text[], $8::bigint[]) \
    AS row (position, object_id, properties, request_id, at)";
const POSTGRES_RECORDS: &str = "INSERT INTO idempotency_keys (organization_id, idempotency_key, fingerprint, status, \
    body, expires_at) SELECT $1, key, fingerprint, 200, body, $2 \
    FROM UNNEST($3::text[], $4::bytea[], $5::bytea[]) AS row (key, fingerprint, body)";
const POSTGRES_TALLY: &str = "INSERT INTO tallies (scope, noun, stripe, counted) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (scope, noun, stripe) DO UPDATE SET counted = tallies.counted + excluded.counted";

impl BarePostgres {
    fn open(url: &str, owner: Owner) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (client, connection) = runtime.block_on(tokio_postgres::connect(url, NoTls))?;
        runtime.spawn(async move { drop(connection.await) });
        let prepare = |sql: &str, types: &[Type]| {
            runtime.block_on(client.prepare_typed(sql, types)).with_context(|| sql.to_owned())
        };
        let statements = Statements {
            customers: prepare(POSTGRES_CUSTOMERS, &[])?,
            identifiers: prepare(POSTGRES_IDENTIFIERS, &[])?,
            emails: prepare(POSTGRES_EMAILS, &[])?,
            audit: prepare(POSTGRES_AUDIT, &[])?,
            records: prepare(POSTGRES_RECORDS, &[])?,
            tally: prepare(POSTGRES_TALLY, &[])?,
        };
        Ok(BarePostgres { runtime, client, statements, owner, position: 0 })
    }

    fn write(&mut self, group: &[Customer], keyed: bool) -> anyhow::Result<()> {
        let Owner { organization, key, lane } = &self.owner;
        let column = |pick: fn(&Customer) -> &str| -> Vec<&str> { group.iter().map(pick).collect() };
        let (ids, names, aliases) = (column(|c| &c.id), column(|c| &c.name), column(|c| &c.aliases));
        let (addresses, contacts) = (column(|c| c.address), column(|c| &c.contacts));
        let (alias, email) = (column(|c| &c.alias), column(|c| &c.email));
        let (properties, requests) = (column(|c| c.properties), column(|c| &c.request_id));
        let at: Vec<i64> = group.iter().map(|c| c.at).collect();
        let count = i64::try_from(group.len())?;
        let positions: Vec<i64> = (1..=count).map(|step| self.position + step).collect();
        self.position += count;
        let stripe = lane.rem_euclid(16);
        let (client, made) = (&self.client, &self.statements);
        let rows: [&(dyn ToSql + Sync); 7] = [organization, &ids, &names, &aliases, &addresses, &contacts, &at];
        let identifiers: [&(dyn ToSql + Sync); 3] = [organization, &alias, &ids];
        let emails: [&(dyn ToSql + Sync); 3] = [organization, &email, &ids];
        let entries: [&(dyn ToSql + Sync); 8] =
            [lane, organization, key, &positions, &ids, &properties, &requests, &at];
        let tally: [&(dyn ToSql + Sync); 4] = [organization, &"customers", &stripe, &count];
        let records = async { if keyed { self.records(group, count, stripe).await } else { Ok(()) } };
        // The first poll of each puts it on the wire, in this order.
        self.runtime.block_on(async {
            tokio::try_join!(
                biased;
                async { client.batch_execute("BEGIN").await },
                async { client.execute(&made.customers, &rows).await.map(drop) },
                async { client.execute(&made.identifiers, &identifiers).await.map(drop) },
                async { client.execute(&made.emails, &emails).await.map(drop) },
                async { client.execute(&made.audit, &entries).await.map(drop) },
                records,
                async { client.execute(&made.tally, &tally).await.map(drop) },
                async { client.batch_execute("COMMIT").await },
            )
        })?;
        Ok(())
    }

    async fn records(&self, group: &[Customer], count: i64, stripe: i64) -> Result<(), tokio_postgres::Error> {
        let keys: Vec<&str> = group.iter().map(|c| c.key.as_str()).collect();
        let fingerprints: Vec<&[u8]> = group.iter().map(|c| c.fingerprint.as_slice()).collect();
        let answers: Vec<&[u8]> = group.iter().map(|c| c.answer.as_slice()).collect();
        let organization = &self.owner.organization;
        let records: [&(dyn ToSql + Sync); 5] = [organization, &EXPIRES_AT, &keys, &fingerprints, &answers];
        let tally: [&(dyn ToSql + Sync); 4] = [organization, &"idempotency_keys", &stripe, &count];
        tokio::try_join!(
            biased;
            async { self.client.execute(&self.statements.records, &records).await.map(drop) },
            async { self.client.execute(&self.statements.tally, &tally).await.map(drop) },
        )?;
        Ok(())
    }
}

/// Several connections at once, each with its own customers; for PostgreSQL.
pub fn run_side_by_side(
    bare: &mut [Bare],
    next: &mut u64,
    group: u64,
    keyed: bool,
    duration: Duration,
) -> anyhow::Result<Rate> {
    const APART: u64 = 10_000_000;
    let start = *next;
    let rates: Vec<anyhow::Result<(Rate, u64)>> = std::thread::scope(|threads| {
        let running: Vec<_> = bare
            .iter_mut()
            .zip(0..)
            .map(|(one, place)| {
                threads.spawn(move || {
                    let mut number = start + place * APART;
                    let rate = one.run(&mut number, group, keyed, duration)?;
                    Ok((rate, number))
                })
            })
            .collect();
        let ended = running.into_iter().map(|thread| thread.join());
        ended.map(|ended| ended.unwrap_or_else(|_| anyhow::bail!("a writer panicked"))).collect()
    });
    let mut sum = Rate::default();
    for rate in rates {
        let (rate, last) = rate?;
        sum.written += rate.written;
        // The slowest of them bounds the time; making up rows is inside it for the others.
        sum.elapsed = sum.elapsed.max(rate.elapsed);
        *next = (*next).max(last);
    }
    Ok(sum)
}
