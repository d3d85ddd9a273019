//! `cuenta doctor`: looks at everything that can be checked, changes nothing, and says what it found.

use super::url;
use crate::config::Config;
use cuenta_engine::audit::{self, Report};
use cuenta_engine::{Error, MIGRATIONS, consistency};
use cuenta_store::{Database, Options};
use indicatif::ProgressBar;
use std::io::Write;
use std::process::ExitCode;

/// Prints a line a check; the exit status is 0 only when all is well.
pub fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let mut faults = 0;
    let mut line = |name: &str, found: Result<String, String>| {
        let (mark, text) = match &found {
            Ok(text) => ("ok", text),
            Err(text) => ("FAULT", text),
        };
        faults += i32::from(found.is_err());
        writeln!(out, "{mark:5}  {name}: {text}")
    };
    let url = url(config)?;
    let versions = match url.versions(MIGRATIONS) {
        Ok(versions) => versions,
        Err(error) => {
            line("database", Err(error.to_string()))?;
            return Ok(ExitCode::FAILURE);
        }
    };
    line("database", Ok(config.database.url.to_string()))?;
    if versions.database < versions.program {
        let (database, program) = (versions.database, versions.program);
        let text = format!("version {database}, and this program wants {program}: run `cuenta migrate`");
        line("schema", Err(text))?;
        return Ok(ExitCode::FAILURE);
    }
    line("schema", Ok(format!("version {}", versions.database)))?;
    match url.integrity() {
        Ok(found) if found.is_empty() => line("structure", Ok("sound".to_owned()))?,
        Ok(found) => line("structure", Err(found.join("; ")))?,
        Err(error) => line("structure", Err(error.to_string()))?,
    }
    let database = Database::open(&url, Options::default())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(chain(&database)) {
        Ok(report) if report.faults.is_empty() => {
            let Report { seals, entries, head, .. } = report;
            line("audit log", Ok(format!("{entries} sealed entries under {seals} seals; head {head}")))?;
        }
        Ok(report) => line("audit log", Err(report.faults.join("; ")))?,
        Err(error) => line("audit log", Err(error.to_string()))?,
    }
    for check in consistency::CHECKS {
        match runtime.block_on(database.read(move |transaction| consistency::run(transaction, check))) {
            Ok(found) if found.is_empty() => line(check.name, Ok(check.holds.to_owned()))?,
            Ok(found) => line(check.name, Err(found.join("; ")))?,
            Err(error) => line(check.name, Err(error.to_string()))?,
        }
    }
    database.close();
    Ok(if faults == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn chain(database: &Database) -> Result<Report, Error> {
    let bar = ProgressBar::new_spinner();
    let mut report = Report::default();
    let mut number = 0;
    loop {
        let so_far = report.clone();
        let step = database.read(move |transaction| {
            let mut report = so_far.clone();
            let next = audit::verify(transaction, number, &mut report)?;
            Ok::<_, Error>((report, next))
        });
        let (checked, next) = step.await?;
        report = checked;
        match next {
            Some(next) => number = next,
            None => break,
        }
        bar.set_message(format!("{} audit entries", report.entries));
        bar.tick();
    }
    bar.finish_and_clear();
    Ok(report)
}
