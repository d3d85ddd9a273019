//! `cuenta backup`: a copy that is whole or not there.

use super::url;
use crate::config::Config;
use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode};

/// Copies the database into `file`, which must not exist. An embedded database is copied page by page while it is in
/// use; PostgreSQL is asked for a dump through its own `pg_dump`.
pub fn run(config: &Config, file: &Path) -> anyhow::Result<ExitCode> {
    if file.exists() {
        bail!("{} exists already; a backup never overwrites a file", file.display());
    }
    let mut unfinished = file.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = Path::new(&unfinished);
    if unfinished.exists() {
        std::fs::remove_file(unfinished).context("what an earlier backup left behind cannot be removed")?;
    }
    let url = url(config)?;
    if url.sqlite_path().is_some_and(|path| !path.exists()) {
        bail!("there is no database at {}", config.database.url);
    }
    let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template("{bar:40} {percent}% {eta}")?);
    let embedded = url.backup(unfinished, &|done, total| {
        bar.set_length(u64::try_from(total).unwrap_or(0));
        bar.set_position(u64::try_from(done).unwrap_or(0));
    })?;
    bar.finish_and_clear();
    if !embedded {
        dump(config, unfinished)?;
    }
    // The name appears only when all of it is on disk.
    File::open(unfinished)?.sync_all()?;
    std::fs::rename(unfinished, file)?;
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()?;
    let size = std::fs::metadata(file)?.len();
    writeln!(std::io::stdout(), "{} ({size} bytes)", file.display())?;
    Ok(ExitCode::SUCCESS)
}

fn dump(config: &Config, target: &Path) -> anyhow::Result<()> {
    let status = Command::new("pg_dump")
        .arg("--format=custom")
        .arg("--file")
        .arg(target)
        .arg("--dbname")
        .arg(config.database.url.expose())
        .status()
        .context("pg_dump cannot be started; it comes with PostgreSQL's client programs and must be on the PATH")?;
    if !status.success() {
        bail!("pg_dump failed; what it said stands above");
    }
    Ok(())
}
