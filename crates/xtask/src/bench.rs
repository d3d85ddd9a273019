//! `cargo xtask bench`: the release binary, driven from another process, beside floors that are measured in the same run.
//!
//! A number alone says little on a machine that others use too. So each row is measured in turns with its floor: for a read
//! the route that does nothing, for a write the same rows written to the bare database in groups.

mod cases;
mod customers;
mod floor;
mod machine;
mod measure;
mod peers;
mod place;
mod report;

use crate::postgres::Postgres;
use crate::{root, say, server};
use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use measure::{Cluster, Usage};
use report::Row;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Options of `bench`.
#[derive(Args, Debug)]
pub struct Options {
    /// Short rounds and few customers, to see that it runs
    #[arg(long)]
    quick: bool,
    /// Only rows whose id holds this text: start, idle, create, replay, get, list, peer; may be given several times
    #[arg(long, value_name = "ROW")]
    only: Vec<String>,
    /// Only this database
    #[arg(long, value_enum)]
    database: Option<Kind>,
    /// How many customers there are for the rows that read [default: 1000000; with --quick 20000]
    #[arg(long, value_name = "N")]
    customers: Option<u64>,
    /// Write the rows into a file too, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Put the table into docs/benchmarks.md
    #[arg(long)]
    write_docs: bool,
}

/// A kind of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A file beside the server.
    Sqlite,
    /// A cluster of our own.
    Postgres,
}

impl Kind {
    /// As it is written in the table.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Sqlite => "SQLite",
            Kind::Postgres => "PostgreSQL",
        }
    }
}

/// A run of the benchmarks.
pub struct Bench {
    options: Options,
    binary: PathBuf,
    directory: Directory,
    postgres: Option<(Postgres, Cluster)>,
    customers: u64,
    rounds: usize,
    duration: Duration,
    warm_up: Duration,
    progress: ProgressBar,
    rows: Vec<Row>,
    notes: Vec<String>,
    began: Usage,
}

/// A directory that goes away with its owner.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Measures, and prints the table.
pub fn run(options: Options) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        return again_optimized();
    }
    let mut bench = Bench::new(options)?;
    let kinds = [Kind::Sqlite, Kind::Postgres];
    let only = bench.options.database;
    for kind in kinds.into_iter().filter(|kind| only.is_none_or(|only| only == *kind)) {
        cases::start(&mut bench, kind)?;
        cases::writes(&mut bench, kind)?;
        cases::many(&mut bench, kind)?;
    }
    peers::run(&mut bench)?;
    bench.progress.finish_and_clear();
    bench.report()
}

/// The load generator and the floor must not be slower than they need to be.
fn again_optimized() -> anyhow::Result<()> {
    let status = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--release", "--package", "xtask", "--"])
        .args(std::env::args_os().skip(1))
        .status()?;
    if status.success() { Ok(()) } else { bail!("the benchmarks failed") }
}

impl Bench {
    fn new(options: Options) -> anyhow::Result<Self> {
        let style = ProgressStyle::with_template("{elapsed_precise} {spinner} {pos} rows measured; {msg}")?;
        let progress = ProgressBar::new_spinner().with_style(style);
        progress.enable_steady_tick(Duration::from_millis(200));
        progress.set_message("building the release binary");
        let binary = server::build()?;
        let directory = Directory(std::env::temp_dir().join(format!("cuenta-bench-{}", std::process::id())));
        std::fs::create_dir_all(&directory.0)?;
        let postgres = if options.database == Some(Kind::Sqlite) {
            None
        } else {
            let postgres = Postgres::start()?;
            let cluster = Cluster::on_port(postgres.port)?;
            Some((postgres, cluster))
        };
        let quick = options.quick;
        Ok(Bench {
            customers: options.customers.unwrap_or(if quick { 20_000 } else { 1_000_000 }).clamp(1_000, 10_000_000),
            rounds: if quick { 1 } else { 5 },
            duration: Duration::from_millis(if quick { 700 } else { 2_500 }),
            warm_up: Duration::from_millis(if quick { 200 } else { 500 }),
            options,
            binary,
            directory,
            postgres,
            progress,
            rows: Vec::new(),
            notes: Vec::new(),
            began: Usage::now(None),
        })
    }

    /// Whether a row is asked for.
    fn wanted(&self, id: &str) -> bool {
        self.options.only.is_empty() || self.options.only.iter().any(|only| id.contains(only.as_str()))
    }

    fn cluster(&self, kind: Kind) -> Option<&Cluster> {
        self.postgres.as_ref().filter(|_| kind == Kind::Postgres).map(|(_, cluster)| cluster)
    }

    fn add(&mut self, row: Row) {
        self.progress.inc(1);
        self.progress.suspend(|| {
            let rate = row.per_second.map_or(String::new(), |rate| format!("{rate}/s"));
            let floor = row.floor.map_or(String::new(), |floor| format!("floor {floor}/s"));
            eprintln!("{:12} {:40} {rate:>12} {floor}", row.database, row.title);
        });
        self.rows.push(row);
    }

    /// The version of the program and the machine, the table, the notes and the targets.
    fn report(&mut self) -> anyhow::Result<()> {
        let mut databases = vec![format!("SQLite {}", rusqlite::version())];
        if let Some((postgres, _)) = &self.postgres {
            databases.push(place::version(&postgres.url())?);
        }
        let version = Command::new(&self.binary).arg("--version").output()?;
        let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
        let machine = machine::describe(&self.directory.0, &databases)?;
        let (rounds, ms) = (self.rounds, self.duration.as_millis());
        let how = format!(
            "- {version}; {} customers where nothing else is said; {rounds} round(s) of {ms} ms each, the median of them",
            report::grouped(self.customers)
        );
        let cluster = self.postgres.as_ref().map(|(_, cluster)| cluster);
        let others = Usage::now(cluster).others_since(&self.began);
        let load = format!("- other programs used {others} % of the processors while it ran");
        let table = report::table(&self.rows);
        let notes: Vec<String> = self.notes.iter().map(|note| format!("- {note}")).collect();
        let targets = report::targets(&self.rows);
        let mut text = format!("{how}\n{machine}\n{load}\n\n{table}\n");
        for (title, lines) in [("Beside the table:", notes), ("Targets:", targets)] {
            if !lines.is_empty() {
                text.push_str(&format!("\n{title}\n\n{}\n", lines.join("\n")));
            }
        }
        say(&text);
        if let Some(path) = &self.options.json {
            std::fs::write(path, format!("{:#}\n", report::json(&self.rows)))?;
        }
        if self.options.write_docs {
            write_docs(&root().join("docs/benchmarks.md"), &text)?;
        }
        Ok(())
    }
}

const BEGIN: &str = "<!-- measured: written by `cargo xtask bench --write-docs` -->";
const END: &str = "<!-- /measured -->";

/// Replaces what stands between the two marks.
fn write_docs(path: &Path, text: &str) -> anyhow::Result<()> {
    let page = std::fs::read_to_string(path)?;
    let missing = || format!("{} has no place for the table: {BEGIN}", path.display());
    let (before, rest) = page.split_once(BEGIN).with_context(missing)?;
    let (_, after) = rest.split_once(END).with_context(missing)?;
    std::fs::write(path, format!("{before}{BEGIN}\n\n{text}\n{END}{after}"))?;
    Ok(())
}
