//! `kill -9` at random moments under load.

use super::ledger::Ledger;
use super::{Bench, Outcome};
use crate::server::{Server, doctor, make_key};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// On an embedded database.
pub fn sqlite(bench: &Bench) -> anyhow::Result<Outcome> {
    run(bench, &format!("sqlite:{}", bench.directory.join("kill.db").display()))
}

/// On PostgreSQL.
pub fn postgres(bench: &Bench) -> anyhow::Result<Outcome> {
    run(bench, &bench.postgres.create_database("kill")?)
}

fn run(bench: &Bench, database: &str) -> anyhow::Result<Outcome> {
    let (_, key) = make_key(&bench.binary, database)?;
    let ledger = Arc::new(Ledger::default());
    let rounds = if bench.short { 15 } else { 300 };
    let mut settled = 0;
    for _ in 0..rounds {
        let server = Server::start(&bench.binary, database)?;
        settled += ledger.settle(&server.address, &key)?;
        let load = ledger.load(&[&server.address], &key, 8);
        std::thread::sleep(random_moment(20, 400));
        server.kill();
        load.stop();
    }
    let server = Server::start(&bench.binary, database)?;
    settled += ledger.settle(&server.address, &key)?;
    let outcome = ledger.compare(&server, &key, rounds, format!("{settled} requests without an answer repeated"))?;
    server.stop()?;
    doctor(&bench.binary, database)?;
    Ok(outcome)
}

/// A time between two bounds in milliseconds that nobody can foresee.
pub fn random_moment(least: u64, most: u64) -> Duration {
    #[expect(clippy::disallowed_methods, reason = "the low digits of the clock serve as randomness here")]
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mixed = u64::from(now.subsec_nanos()).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
    Duration::from_millis(least + mixed % (most - least))
}
