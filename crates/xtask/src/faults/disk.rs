//! A disk that is full, and then is not: writes are refused in words, reads go on, and nothing has to be restarted.

use super::ledger::Ledger;
use super::{Bench, Outcome};
use crate::client::Client;
use crate::postgres::run;
use crate::server::{Server, doctor, make_key};
use anyhow::{Context, ensure};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Fills a small disk under load, frees a part of it, and fills it again.
pub fn full(bench: &Bench) -> anyhow::Result<Outcome> {
    let disk = bench.directory.join("small");
    std::fs::create_dir_all(&disk)?;
    run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(&disk))?;
    let outcome = fill(bench, &disk);
    run(Command::new("umount").arg(&disk))?;
    outcome
}

fn fill(bench: &Bench, disk: &std::path::Path) -> anyhow::Result<Outcome> {
    let ballast = disk.join("ballast");
    std::fs::write(&ballast, vec![1_u8; 10 * 1024 * 1024])?;
    let database = format!("sqlite:{}", disk.join("disk.db").display());
    let (_, key) = make_key(&bench.binary, &database)?;
    let server = Server::start(&bench.binary, &database)?;
    let ledger = Arc::new(Ledger::default());
    let mut client = Client::new(&server.address, &key);
    let probe = r#"{"name":"probe","currency":"USD"}"#;
    let until = |client: &mut Client, wanted: u16| -> anyhow::Result<()> {
        let start = Instant::now();
        while client.request("POST", "/customers", None, probe).map_or(0, |answer| answer.status) != wanted {
            ensure!(start.elapsed() < Duration::from_secs(60), "no {wanted} within a minute");
        }
        Ok(())
    };
    let load = ledger.load(&[&server.address], &key, 4);
    until(&mut client, 503).context("the disk never was full")?;
    let list = client.request("GET", "/customers?limit=1", None, "")?;
    ensure!(list.status == 200, "a read on a full disk: {}", list.status);
    // A small write may still find a page; under load the next one does not.
    let start = Instant::now();
    while Client::new(&server.admin, "").request("GET", "/readyz", None, "")?.status != 503 {
        ensure!(start.elapsed() < Duration::from_secs(20), "ready on a full disk for 20 s");
    }
    load.stop();
    std::fs::remove_file(&ballast)?;
    until(&mut client, 200).context("writes did not come back")?;
    ledger.settle(&server.address, &key)?;
    let missing = ledger.missing(&server.address, &key, 0..usize::MAX)?;
    let acknowledged = ledger.count();
    server.stop()?;
    doctor(&bench.binary, &database)?;
    let note = "503, readable, not ready; well again without a restart".to_owned();
    Ok(Outcome { rounds: 1, acknowledged, lost: missing, doubled: 0, note })
}
