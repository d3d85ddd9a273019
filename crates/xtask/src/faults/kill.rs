//! `kill -9` at random moments under load, and now and then before the server has even started.

use super::ledger::{Connections, Ledger, Outcome};
use super::{Rig, random_moment};
use crate::server::{Server, doctor, make_key};

/// Every so many rounds the server is killed while it starts, and the whole database looked through.
const THOROUGH: usize = 25;

/// On an embedded database.
pub fn sqlite(rig: &Rig) -> anyhow::Result<Outcome> {
    run(rig, &format!("sqlite:{}", rig.directory.join("kill.db").display()))
}

/// On PostgreSQL.
pub fn postgres(rig: &Rig) -> anyhow::Result<Outcome> {
    run(rig, &rig.postgres()?.create_database("kill")?)
}

fn run(rig: &Rig, database: &str) -> anyhow::Result<Outcome> {
    let (_, key) = make_key(&rig.binary, database)?;
    let ledger = Ledger::new("kill", Connections::MayBreak);
    let rounds = rig.rounds(15, 300);
    for round in 0..rounds {
        if round % THOROUGH == 5 {
            Server::start_and_kill(&rig.binary, database, random_moment(0, 30))?;
            doctor(&rig.binary, database)?;
        }
        let server = Server::start(&rig.binary, database)?;
        let load = ledger.load(&server.address, &key, 8);
        std::thread::sleep(random_moment(20, 400));
        server.kill();
        load.stop();
        rig.progress.inc(1);
    }
    let server = Server::start(&rig.binary, database)?;
    ledger.settle(&server.address, &key)?;
    ledger.served(&server.address, &key)?;
    server.stop()?;
    doctor(&rig.binary, database)?;
    ledger.compare_all(database, rounds, format!("{} requests repeated under their key", ledger.repeated()))
}
