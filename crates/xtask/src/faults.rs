//! `cargo xtask faults`: whatever dies, no customer is lost and none is there twice. Real kills, real cuts, real disks.

mod disk;
mod kill;
mod ledger;
mod network;
mod power;

use crate::postgres::{Postgres, is_root};
use crate::{say, server};
use anyhow::bail;
use std::path::PathBuf;
use std::time::Instant;

/// What every fault needs.
pub struct Bench {
    /// The release binary.
    pub binary: PathBuf,
    /// A PostgreSQL server of our own.
    pub postgres: Postgres,
    /// A directory that goes away at the end.
    pub directory: PathBuf,
    /// Whether few rounds are enough.
    pub short: bool,
}

/// What a fault did, for the table.
pub struct Outcome {
    /// How often it struck.
    pub rounds: usize,
    /// Customers that were acknowledged and looked for.
    pub acknowledged: usize,
    /// Of these, how many were not there.
    pub lost: usize,
    /// Of all names, how many were there more than once.
    pub doubled: usize,
    /// What else is worth knowing.
    pub note: String,
}

type Fault = fn(&Bench) -> anyhow::Result<Outcome>;

const FAULTS: &[(&str, Fault)] = &[
    ("kill-sqlite", kill::sqlite),
    ("kill-postgres", kill::postgres),
    ("power", power::full),
    ("power-control", power::normal),
    ("disk", disk::full),
    ("postgres", network::postgres_killed),
    ("commit-cut", network::commit_cut),
    ("clients", network::clients),
    ("two-servers", network::two_servers),
];

impl Drop for Bench {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.directory));
    }
}

/// Runs the faults with these names (a name stands for all that begin with it), or all.
pub fn run(short: bool, names: &[String]) -> anyhow::Result<()> {
    let chosen: Vec<_> = FAULTS
        .iter()
        .filter(|(name, _)| names.is_empty() || names.iter().any(|wanted| name.starts_with(wanted.as_str())))
        .collect();
    if chosen.is_empty() {
        bail!("the faults are {}", FAULTS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "));
    }
    if !is_root() && chosen.iter().any(|(name, _)| name.starts_with("power") || *name == "disk") {
        bail!("power cuts and full disks need mounts, and those need root; name the other faults to run them alone");
    }
    let directory = std::env::temp_dir().join(format!("cuenta-faults-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let bench = Bench { binary: server::build()?, postgres: Postgres::start()?, directory, short };
    say("| fault | rounds | acknowledged | lost | doubled | seconds | |");
    say("|---|--:|--:|--:|--:|--:|---|");
    let mut failed = Vec::new();
    for (name, fault) in chosen {
        let start = Instant::now();
        let Outcome { rounds, acknowledged, lost, doubled, note } = fault(&bench)?;
        let seconds = start.elapsed().as_secs();
        say(&format!("| {name} | {rounds} | {acknowledged} | {lost} | {doubled} | {seconds} | {note} |"));
        let control = *name == "power-control";
        if doubled > 0 || acknowledged == 0 || control != (lost > 0) {
            failed.push(*name);
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}
