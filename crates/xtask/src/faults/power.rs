//! Power cuts. The database lives on a filesystem inside an image file, and the image on a filesystem that can clone a
//! file in one instant. A clone under load holds exactly what had been written through to the (loop) disk at that
//! instant, wherever the server and its filesystem were in their work, and nothing of what was only in memory.
//! `synchronous=NORMAL` is the control: it has to lose something, else the rig proves nothing.

use super::ledger::{Connections, Ledger, Outcome, Rows, rows};
use super::mounts::{Mounted, make_image};
use super::{Rig, random_moment};
use crate::postgres::run;
use crate::server::{Server, doctor, make_key};
use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

/// Writes back late, so that what nobody asked to be on the disk is not there by chance.
const LATE: &str = "commit=60";

/// As it is served.
pub fn full(rig: &Rig) -> anyhow::Result<Outcome> {
    cuts(rig, "")
}

/// With the setting that is known to lose acknowledged writes.
pub fn normal(rig: &Rig) -> anyhow::Result<Outcome> {
    cuts(rig, "?synchronous=normal")
}

fn cuts(rig: &Rig, setting: &str) -> anyhow::Result<Outcome> {
    let base = rig.directory.join("power");
    std::fs::create_dir_all(&base)?;
    make_image(&base.join("host.img"), 4_096, "xfs")?;
    let host = Mounted::image(&base.join("host.img"), &base.join("host"), "noatime")?;
    let (image, cut) = (host.path().join("disk.img"), host.path().join("cut.img"));
    make_image(&image, 1_024, "ext4")?;
    let disk = Mounted::image(&image, &base.join("disk"), LATE)?;
    let database = format!("sqlite:{}{setting}", disk.path().join("power.db").display());
    let (_, key) = make_key(&rig.binary, &database)?;
    run(Command::new("sync").arg("-f").arg(disk.path()))?;
    let ledger = Ledger::new("power", Connections::Hold);
    let server = Server::start(&rig.binary, &database)?;
    let rounds = rig.rounds(5, 100);
    let (mut lost, mut doubled, mut struck) = (HashSet::new(), 0, 0);
    for _ in 0..rounds {
        let load = ledger.load(&server.address, &key, 8);
        std::thread::sleep(random_moment(50, 500));
        // Counted before the cut: whatever is told from now on may be missing.
        let upto = ledger.count();
        run(Command::new("cp").arg("--reflink=always").arg(&image).arg(&cut))?;
        load.stop();
        let rows = look_at_cut(rig, &base, &cut, setting)?;
        let missing = ledger.lost(&rows, upto);
        struck += usize::from(!missing.is_empty());
        lost.extend(missing);
        doubled += ledger.doubled(&rows);
        std::fs::remove_file(&cut)?;
        rig.progress.inc(1);
    }
    server.stop()?;
    ledger.only_clear_answers()?;
    let note = format!("{struck} cuts of {rounds} lost something");
    Ok(Outcome { rounds, acknowledged: ledger.count(), lost: lost.len(), doubled, note })
}

/// What a machine finds that comes up after the cut.
fn look_at_cut(rig: &Rig, base: &Path, cut: &Path, setting: &str) -> anyhow::Result<Rows> {
    let disk = Mounted::image(cut, &base.join("cut"), LATE)?;
    let database = format!("sqlite:{}{setting}", disk.path().join("power.db").display());
    doctor(&rig.binary, &database)?;
    let server = Server::start(&rig.binary, &database)?;
    server.stop()?;
    rows(&database)
}
