//! A disk that is full, and then is not; a disk that turns read-only. Writes are refused in words, reads go on, and what
//! can be cured without a restart is.

use super::ledger::{Connections, Ledger, Outcome};
use super::mounts::{Mounted, make_image};
use super::{Rig, random_moment};
use crate::client::Client;
use crate::server::{Server, doctor, make_key};
use anyhow::{Context, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const PROBE: &str = r#"{"name":"probe","currency":"USD"}"#;
const PATIENCE: Duration = Duration::from_secs(60);
const ON_ERROR: &str = "errors=remount-ro";

/// A full memory filesystem.
pub fn tmpfs(rig: &Rig) -> anyhow::Result<Outcome> {
    let disk = Mounted::memory(&rig.directory.join("memory"), 96)?;
    fill(rig, disk.path())
}

/// A full disk.
pub fn ext4(rig: &Rig) -> anyhow::Result<Outcome> {
    let image = rig.directory.join("small.img");
    make_image(&image, 96, "ext4")?;
    let disk = Mounted::image(&image, &rig.directory.join("small"), "noatime")?;
    fill(rig, disk.path())
}

/// Fills a small disk under load, and frees it again.
fn fill(rig: &Rig, disk: &Path) -> anyhow::Result<Outcome> {
    let database = format!("sqlite:{}", disk.join("disk.db").display());
    let (_, key) = make_key(&rig.binary, &database)?;
    let server = Server::start(&rig.binary, &database)?;
    let ledger = Ledger::new("disk", Connections::Hold);
    let rounds = rig.rounds(2, 10);
    for _ in 0..rounds {
        let load = ledger.load(&server.address, &key, 4);
        std::thread::sleep(random_moment(50, 300));
        let ballast = Ballast::take_all(disk)?;
        refused(&server, &key).context("on a full disk")?;
        drop(ballast);
        wait_for(&mut Client::new(&server.address, &key), "POST", "/customers", 200)?;
        load.stop();
        wait_for(&mut Client::new(&server.admin, ""), "GET", "/readyz", 200)?;
        rig.progress.inc(1);
    }
    ledger.settle(&server.address, &key)?;
    ledger.served(&server.address, &key)?;
    server.stop()?;
    doctor(&rig.binary, &database)?;
    let note = "503, readable, not ready; well again without a restart".to_owned();
    ledger.compare_all(&database, rounds, note)
}

/// A filesystem that finds an error in itself and goes read-only, as one with a dying disk does.
pub fn read_only(rig: &Rig) -> anyhow::Result<Outcome> {
    let (image, at) = (rig.directory.join("dying.img"), rig.directory.join("dying"));
    make_image(&image, 256, "ext4")?;
    let database = format!("sqlite:{}", at.join("disk.db").display());
    let ledger = Ledger::new("disk", Connections::Hold);
    let disk = Mounted::image(&image, &at, ON_ERROR)?;
    let (_, key) = make_key(&rig.binary, &database)?;
    drop(disk);
    let rounds = rig.rounds(3, 60);
    for _ in 0..rounds {
        let disk = Mounted::image(&image, &at, ON_ERROR)?;
        let server = Server::start(&rig.binary, &database)?;
        ledger.settle(&server.address, &key)?;
        let load = ledger.load(&server.address, &key, 4);
        std::thread::sleep(random_moment(50, 300));
        // Frozen for the moment itself: an fsync that is under way while ext4 gives up its journal can report success for
        // what is then not there, as a plain file in a loop of write and fsync shows. No program can see through that.
        server.freeze()?;
        let trigger = format!("/sys/fs/ext4/{}/trigger_fs_error", disk.device()?);
        std::fs::write(&trigger, "1").context(trigger)?;
        server.signal("CONT")?;
        refused(&server, &key).context("on a read-only disk")?;
        load.stop();
        server.stop()?;
        drop(disk);
        // Status 1: errors were found, and all of them put right.
        let status = Command::new("e2fsck").args(["-f", "-y"]).arg(&image).output()?.status;
        ensure!(status.code().is_some_and(|code| code <= 1), "e2fsck: {status}");
        rig.progress.inc(1);
    }
    let _disk = Mounted::image(&image, &at, ON_ERROR)?;
    let server = Server::start(&rig.binary, &database)?;
    ledger.settle(&server.address, &key)?;
    ledger.served(&server.address, &key)?;
    server.stop()?;
    doctor(&rig.binary, &database)?;
    ledger.compare_all(&database, rounds, "503, readable, not ready; well again on the checked disk".to_owned())
}

/// What a server owes its callers when the disk takes nothing more.
fn refused(server: &Server, key: &str) -> anyhow::Result<()> {
    let mut client = Client::new(&server.address, key);
    let start = Instant::now();
    // A small write may still find a page; under load the next one does not.
    let refusal = loop {
        let answer = client.request("POST", "/customers", None, PROBE)?;
        match answer.status {
            200 if start.elapsed() < PATIENCE => {}
            200 => bail!("writes went on for a minute"),
            _ => break answer,
        }
    };
    let text = String::from_utf8_lossy(&refusal.body).into_owned();
    ensure!(refusal.status == 503 && refusal.transient, "a write answers {}: {text}", refusal.status);
    let list = client.request("GET", "/customers?limit=1", None, "")?;
    ensure!(list.status == 200, "a read answers {}: {}", list.status, String::from_utf8_lossy(&list.body));
    let mut admin = Client::new(&server.admin, "");
    wait_for(&mut admin, "GET", "/readyz", 503)?;
    let alive = admin.request("GET", "/healthz", None, "")?.status;
    ensure!(alive == 200, "/healthz answers {alive}");
    Ok(())
}

/// Waits until the server answers so, without anybody having touched it.
fn wait_for(client: &mut Client, method: &str, path: &str, wanted: u16) -> anyhow::Result<()> {
    let body = if method == "POST" { PROBE } else { "" };
    let start = Instant::now();
    loop {
        let status = client.request(method, path, None, body)?.status;
        if status == wanted {
            return Ok(());
        }
        ensure!(start.elapsed() < PATIENCE, "for a minute {method} {path} answers {status} instead of {wanted}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Files that take all the space there is; they go away with their owner.
struct Ballast(Vec<PathBuf>);

impl Ballast {
    fn take_all(disk: &Path) -> anyhow::Result<Self> {
        let mut ballast = Ballast(Vec::new());
        // The server frees and takes space at the same time, so one file is not enough.
        for number in 0..3 {
            let path = disk.join(format!("ballast-{number}"));
            let mut file = std::fs::File::create(&path)?;
            ballast.0.push(path);
            // Ends with an error: that is what it is for.
            drop(std::io::copy(&mut std::io::repeat(1), &mut file));
            drop(file.sync_all());
        }
        Ok(ballast)
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        self.0.iter().for_each(|path| drop(std::fs::remove_file(path)));
    }
}
