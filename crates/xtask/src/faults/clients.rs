//! Clients hang up in the middle of a request or right behind it, and come back with the same key.

use super::ledger::{Connections, Ledger, Outcome};
use super::{Rig, random, random_moment};
use crate::client::Client;
use crate::server::{Server, doctor, make_key};
use std::sync::Arc;

const CLIENTS: usize = 8;

/// On an embedded database.
pub fn sqlite(rig: &Rig) -> anyhow::Result<Outcome> {
    run(rig, &format!("sqlite:{}", rig.directory.join("clients.db").display()))
}

/// On PostgreSQL.
pub fn postgres(rig: &Rig) -> anyhow::Result<Outcome> {
    run(rig, &rig.postgres()?.create_database("clients")?)
}

fn run(rig: &Rig, database: &str) -> anyhow::Result<Outcome> {
    let (_, key) = make_key(&rig.binary, database)?;
    let server = Server::start(&rig.binary, database)?;
    let ledger = Ledger::new("hung-up", Connections::Hold);
    let rounds = rig.rounds(400, 8_000);
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (ledger, server, key) = (Arc::clone(&ledger), &server, &key);
            scope.spawn(move || {
                for round in (number..rounds).step_by(CLIENTS) {
                    hang_up_and_return(&ledger, &server.address, key, &format!("keyed-hung-up-{round}"));
                    rig.progress.inc(1);
                }
            });
        }
    });
    ledger.settle(&server.address, &key)?;
    ledger.served(&server.address, &key)?;
    server.stop()?;
    doctor(&rig.binary, database)?;
    ledger.compare_all(database, rounds, format!("{} requests repeated under their key", ledger.repeated()))
}

/// Hangs up one to three times: half the time behind the whole request, so that it runs and nobody hears of it.
fn hang_up_and_return(ledger: &Ledger, address: &str, key: &str, name: &str) {
    let mut client = Client::new(address, key);
    let body = format!(r#"{{"name":"{name}","currency":"USD"}}"#);
    let bytes = client.bytes("POST", "/customers", Some(name), &body);
    let length = u64::try_from(bytes.len()).unwrap_or(0);
    for _ in 0..random(1, 4) {
        let part = if random(0, 2) == 0 { length } else { random(0, length) };
        let part = usize::try_from(part).ok().and_then(|part| bytes.get(..part)).unwrap_or(&bytes);
        drop(client.hang_up(part));
        std::thread::sleep(random_moment(0, 3));
    }
    ledger.create(&mut client, name);
}
