//! `cargo xtask faults`: whatever dies, no customer is lost and none is there twice. Real kills, real cuts, real disks.

mod clients;
mod disk;
mod kill;
mod ledger;
mod mounts;
mod postgres;
mod power;
mod sockets;
mod two_servers;

use crate::postgres::Postgres;
use crate::{say, server};
use anyhow::{Context, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use ledger::Outcome;
use serde_json::json;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Options of `faults`.
#[derive(Args, Debug)]
pub struct Options {
    /// Few rounds, for every change
    #[arg(long)]
    short: bool,
    /// Write the table into a file too, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only these; a name stands for all that begin with it [kill, power, disk, postgres, clients, two-servers, sockets]
    names: Vec<String>,
}

impl Options {
    /// All faults in their short form.
    pub fn short() -> Self {
        Options { short: true, json: None, names: Vec::new() }
    }
}

/// What every fault needs.
pub struct Rig {
    /// The release binary.
    pub binary: PathBuf,
    /// A directory that goes away at the end.
    pub directory: PathBuf,
    /// Whether few rounds are enough.
    pub short: bool,
    /// What the person at the screen sees meanwhile.
    pub progress: ProgressBar,
    cluster: OnceLock<Postgres>,
}

impl Rig {
    /// A PostgreSQL server of our own, started when it is first asked for.
    pub fn postgres(&self) -> anyhow::Result<&Postgres> {
        if self.cluster.get().is_none() {
            drop(self.cluster.set(Postgres::start()?));
        }
        self.cluster.get().context("PostgreSQL is not there")
    }

    /// So many rounds: few in the short form.
    pub fn rounds(&self, short: usize, long: usize) -> usize {
        let rounds = if self.short { short } else { long };
        self.progress.set_length(u64::try_from(rounds).unwrap_or(0));
        self.progress.set_position(0);
        rounds
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.directory));
    }
}

/// What has to come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Nothing is lost.
    Nothing,
    /// Something is lost: the control, without which the rig proves nothing.
    Losses,
}

type Fault = fn(&Rig) -> anyhow::Result<Outcome>;

const FAULTS: &[(&str, Fault, Expected)] = &[
    ("kill-sqlite", kill::sqlite, Expected::Nothing),
    ("kill-postgres", kill::postgres, Expected::Nothing),
    ("power", power::full, Expected::Nothing),
    ("power-control", power::normal, Expected::Losses),
    ("disk-full-tmpfs", disk::tmpfs, Expected::Nothing),
    ("disk-full-ext4", disk::ext4, Expected::Nothing),
    ("disk-read-only", disk::read_only, Expected::Nothing),
    ("postgres-killed", postgres::killed, Expected::Nothing),
    ("postgres-frozen", postgres::frozen, Expected::Nothing),
    ("postgres-commit-cut", postgres::commit_cut, Expected::Nothing),
    ("clients-sqlite", clients::sqlite, Expected::Nothing),
    ("clients-postgres", clients::postgres, Expected::Nothing),
    ("two-servers", two_servers::run, Expected::Nothing),
    ("sockets", sockets::run, Expected::Nothing),
];

/// Runs the chosen faults, all of them even if one fails, and prints what they did.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let names = &options.names;
    if let Some(unknown) =
        names.iter().find(|name| !FAULTS.iter().any(|(known, ..)| known.starts_with(name.as_str())))
    {
        let known: Vec<&str> = FAULTS.iter().map(|(name, ..)| *name).collect();
        bail!("there is no fault {unknown}; the faults are {}", known.join(", "));
    }
    let is_chosen = |name: &str| names.is_empty() || names.iter().any(|wanted| name.starts_with(wanted.as_str()));
    let binary = server::build()?;
    let directory = std::env::temp_dir().join(format!("cuenta-faults-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let style = ProgressStyle::with_template("{elapsed_precise} {prefix} {wide_bar} {pos}/{len} {msg}")?;
    let progress = ProgressBar::new(0).with_style(style);
    let rig = Rig { binary, directory, short: options.short, progress, cluster: OnceLock::new() };
    let mut rows = Vec::new();
    for (name, fault, expected) in FAULTS.iter().filter(|(name, ..)| is_chosen(name)) {
        rig.progress.set_prefix(*name);
        let start = Instant::now();
        let result = fault(&rig).and_then(|outcome| outcome.judged(*expected));
        if let Err(error) = &result {
            rig.progress.suspend(|| eprintln!("{name}: {error:#}"));
        }
        rows.push((*name, result, start.elapsed().as_secs()));
    }
    rig.progress.finish_and_clear();
    drop(rig);
    table(&rows);
    if let Some(path) = &options.json {
        std::fs::write(path, format!("{:#}\n", as_json(&rows)))?;
    }
    let failed: Vec<&str> = rows.iter().filter(|(_, result, _)| result.is_err()).map(|(name, ..)| *name).collect();
    if !failed.is_empty() {
        bail!("{} of {} faults did harm: {}", failed.len(), rows.len(), failed.join(", "));
    }
    Ok(())
}

type Row = (&'static str, anyhow::Result<Outcome>, u64);

fn table(rows: &[Row]) {
    say("| fault | rounds | acknowledged | lost | doubled | seconds | |");
    say("|---|--:|--:|--:|--:|--:|---|");
    for (name, result, seconds) in rows {
        match result {
            Ok(Outcome { rounds, acknowledged, lost, doubled, note }) => {
                say(&format!("| {name} | {rounds} | {acknowledged} | {lost} | {doubled} | {seconds} | {note} |"));
            }
            Err(error) => {
                let text = format!("{error:#}").replace('\n', " ");
                say(&format!("| {name} | | | | | {seconds} | **failed**: {text} |"));
            }
        }
    }
}

fn as_json(rows: &[Row]) -> serde_json::Value {
    let row = |(name, result, seconds): &Row| match result {
        Ok(Outcome { rounds, acknowledged, lost, doubled, note }) => json!({
            "fault": name, "passed": true, "rounds": rounds, "acknowledged": acknowledged, "lost": lost,
            "doubled": doubled, "seconds": seconds, "note": note,
        }),
        Err(error) => json!({"fault": name, "passed": false, "seconds": seconds, "note": format!("{error:#}")}),
    };
    rows.iter().map(row).collect()
}

/// A number from `least` up to below `most` that nobody can foresee.
pub fn random(least: u64, most: u64) -> u64 {
    let bits = RandomState::new().build_hasher().finish();
    least + bits % (most - least).max(1)
}

/// A time between two bounds in milliseconds that nobody can foresee.
pub fn random_moment(least_ms: u64, most_ms: u64) -> Duration {
    Duration::from_micros(random(least_ms * 1_000, most_ms * 1_000))
}
