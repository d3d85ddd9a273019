//! Power cuts. The database lives on a filesystem inside an image file. While the load runs, the server is frozen and the
//! image copied: the copy holds exactly what had been written through to the (loop) disk, as after a cut, and nothing
//! of what was only in memory. `synchronous=NORMAL` is the control: it has to lose something, else the rig proves nothing.

use super::kill::random_moment;
use super::ledger::Ledger;
use super::{Bench, Outcome};
use crate::postgres::run;
use crate::server::{Server, doctor, make_key};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// As it is served.
pub fn full(bench: &Bench) -> anyhow::Result<Outcome> {
    cuts(bench, "")
}

/// With the setting that is known to lose acknowledged writes.
pub fn normal(bench: &Bench) -> anyhow::Result<Outcome> {
    cuts(bench, "?synchronous=normal")
}

/// A mounted image that is unmounted with its owner.
struct Mounted(PathBuf);

impl Mounted {
    fn mount(image: &Path, at: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(at)?;
        run(Command::new("mount").args(["-o", "loop,commit=60"]).arg(image).arg(at))?;
        Ok(Mounted(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(run(Command::new("umount").arg(&self.0)));
    }
}

fn cuts(bench: &Bench, setting: &str) -> anyhow::Result<Outcome> {
    let (image, copy) = (bench.directory.join("disk.img"), bench.directory.join("cut.img"));
    std::fs::File::create(&image)?.set_len(768 * 1024 * 1024)?;
    run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
    let disk = Mounted::mount(&image, &bench.directory.join("disk"))?;
    let database = |at: &Path| format!("sqlite:{}{setting}", at.join("power.db").display());
    let (_, key) = make_key(&bench.binary, &database(&disk.0))?;
    run(&mut Command::new("sync"))?;
    let ledger = Arc::new(Ledger::default());
    let server = Server::start(&bench.binary, &database(&disk.0))?;
    let rounds = if bench.short { 5 } else { 100 };
    let (mut acknowledged, mut lost, mut cuts_with_loss) = (0, 0, 0);
    for _ in 0..rounds {
        let before = ledger.count();
        let load = ledger.load(&[&server.address], &key, 4);
        std::thread::sleep(random_moment(50, 300));
        server.signal("STOP")?;
        let upto = ledger.count();
        run(Command::new("cp").args(["--sparse=always", "--reflink=never"]).arg(&image).arg(&copy))?;
        server.signal("CONT")?;
        load.stop();
        let missing = look_at_copy(bench, &copy, setting, &key, &ledger, before..upto)?;
        acknowledged += upto - before;
        lost += missing;
        cuts_with_loss += usize::from(missing > 0);
    }
    server.stop()?;
    drop(disk);
    let note = format!("{cuts_with_loss} cuts lost something");
    Ok(Outcome { rounds, acknowledged, lost, doubled: 0, note })
}

fn look_at_copy(
    bench: &Bench,
    copy: &Path,
    setting: &str,
    key: &str,
    ledger: &Ledger,
    range: std::ops::Range<usize>,
) -> anyhow::Result<usize> {
    let disk = Mounted::mount(copy, &bench.directory.join("cut"))?;
    let database = format!("sqlite:{}{setting}", disk.0.join("power.db").display());
    doctor(&bench.binary, &database)?;
    let server = Server::start(&bench.binary, &database)?;
    let missing = ledger.missing(&server.address, key, range)?;
    server.stop()?;
    Ok(missing)
}
