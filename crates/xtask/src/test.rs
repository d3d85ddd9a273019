//! `cargo xtask test`: everything that has to hold before a change lands.

use crate::postgres::Postgres;
use crate::{architecture, faults, root, say, server};
use anyhow::{Context, bail};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

type Step<'step> = (&'static str, Box<dyn Fn() -> anyhow::Result<()> + 'step>);

/// Runs all steps, or the one with this name, and stops at the first that fails.
pub fn run(only: Option<&str>) -> anyhow::Result<()> {
    let postgres = Postgres::start().context("the tests need a PostgreSQL server of their own")?;
    let binary = || server::build();
    let steps: Vec<Step> = vec![
        ("format", Box::new(|| cargo(&["fmt", "--all", "--check"], &[]))),
        (
            "lints",
            Box::new(|| cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"], &[])),
        ),
        ("architecture", Box::new(|| architecture::check().map(|count| say(&format!("{count} packages looked at"))))),
        (
            "tests",
            Box::new(|| cargo(&["test", "--workspace", "--quiet"], &[("CUENTA_TEST_POSTGRES", &postgres.url())])),
        ),
        ("conformance", Box::new(|| conformance(&binary()?, &postgres))),
        ("faults", Box::new(|| faults::run(true, &[]))),
    ];
    if let Some(name) = only.filter(|name| !steps.iter().any(|(known, _)| known == name)) {
        let names: Vec<&str> = steps.iter().map(|(name, _)| *name).collect();
        bail!("there is no step {name}; the steps are {}", names.join(", "));
    }
    let mut passed = 0;
    for (name, step) in steps.iter().filter(|(name, _)| only.is_none_or(|only| only == *name)) {
        let start = Instant::now();
        say(&format!("== {name}"));
        step().with_context(|| format!("the step {name} failed; `cargo xtask test --only {name}` repeats it"))?;
        passed += 1;
        say(&format!("== {name}: done in {} s", start.elapsed().as_secs()));
    }
    say(&format!("{passed} passed, 0 failed"));
    Ok(())
}

fn cargo(arguments: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<()> {
    shown(Command::new(env!("CARGO")).args(arguments).envs(environment.iter().copied()).current_dir(root()))
}

/// Runs a program whose output the reader wants to see.
fn shown(command: &mut Command) -> anyhow::Result<()> {
    let status = command.stdin(Stdio::null()).status();
    let status = status.with_context(|| format!("{} cannot be started", command.get_program().display()))?;
    if !status.success() {
        bail!("{command:?} failed");
    }
    Ok(())
}

/// The official client and everything else that is seen from outside, in Python.
fn conformance(binary: &PathBuf, postgres: &Postgres) -> anyhow::Result<()> {
    let environment = root().join("target/venv");
    let python = environment.join("bin/python");
    let directory = root().join("tests/conformance");
    if !python.exists() {
        shown(Command::new("python3").args(["-m", "venv"]).arg(&environment))
            .context("Python 3.11 with venv is needed")?;
    }
    let requirements = directory.join("requirements.txt");
    shown(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&requirements))?;
    shown(
        Command::new(&python)
            .args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short"])
            .env("CUENTA_BIN", binary)
            .env("CUENTA_TEST_POSTGRES", postgres.url())
            .current_dir(&directory),
    )
}
