//! `cargo xtask test`: everything that has to hold before a change lands.

use crate::postgres::{Postgres, install};
use crate::{architecture, faults, fuzz, root, say, server};
use anyhow::{Context, bail};
use std::cell::OnceCell;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// How long each fuzz target runs.
const FUZZ_SECONDS: u32 = 10;

type Step = (&'static str, fn(&Bench) -> anyhow::Result<()>);

/// The cheap ones first: most mistakes are found within a minute.
const STEPS: &[Step] = &[
    ("format", |_| cargo(&["fmt", "--all", "--check"], &[])),
    ("lints", |_| cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"], &[])),
    ("architecture", |_| architecture::check().map(|count| say(&format!("{count} packages looked at")))),
    ("dependencies", |_| dependencies()),
    ("tests", |bench| {
        cargo(&["test", "--workspace", "--quiet"], &[("CUENTA_TEST_POSTGRES", &bench.postgres()?.url())])
    }),
    ("build", |_| server::build().map(drop)),
    ("conformance", |bench| conformance(&server::build()?, &bench.postgres()?.url())),
    ("faults", |_| faults::run(&faults::Options::short())),
    ("fuzz", |_| fuzz::run(&fuzz::Options::seconds(FUZZ_SECONDS))),
];

/// What the steps share.
#[derive(Default)]
struct Bench {
    cluster: OnceCell<Postgres>,
}

impl Bench {
    /// A server of our own with its superuser, started when a step first asks for it.
    fn postgres(&self) -> anyhow::Result<&Postgres> {
        if self.cluster.get().is_none() {
            let started = Postgres::start().context("the tests need a PostgreSQL server of their own")?;
            drop(self.cluster.set(started));
        }
        self.cluster.get().context("PostgreSQL is not there")
    }
}

/// Runs all steps, or those with these names, and stops at the first that fails.
pub fn run(only: &[String]) -> anyhow::Result<()> {
    if let Some(name) = only.iter().find(|name| !STEPS.iter().any(|(known, _)| known == name)) {
        let names: Vec<&str> = STEPS.iter().map(|(name, _)| *name).collect();
        bail!("there is no step {name}; the steps are {}", names.join(", "));
    }
    let bench = Bench::default();
    let mut done = Vec::new();
    for (name, step) in STEPS.iter().filter(|(name, _)| only.is_empty() || only.iter().any(|only| only == name)) {
        let start = Instant::now();
        say(&format!("== {name}"));
        let result = step(&bench);
        let seconds = start.elapsed().as_secs();
        if result.is_err() {
            say(&format!("== {name}: failed after {seconds} s\n{} passed, 1 failed", done.len()));
        }
        result.with_context(|| format!("the step {name} failed; `cargo xtask test --only {name}` repeats it"))?;
        say(&format!("== {name}: done in {seconds} s"));
        done.push(format!("{name} {seconds} s"));
    }
    say(&format!("\n{}\n{} passed, 0 failed", done.join(", "), done.len()));
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

/// `cargo deny`, where it is installed: building it takes long, and the step before this one has looked at the licences.
fn dependencies() -> anyhow::Result<()> {
    if !Command::new(env!("CARGO")).args(["deny", "--version"]).output()?.status.success() {
        say(
            "cargo deny is not installed (`cargo install cargo-deny`); licences and directions were checked without it",
        );
        return Ok(());
    }
    cargo(&["deny", "--locked", "check", "bans", "licenses", "sources"], &[])
}

/// The official client and everything else that is seen from outside, in Python.
fn conformance(binary: &Path, postgres: &str) -> anyhow::Result<()> {
    let directory = root().join("tests/conformance");
    let environment = root().join("target/venv");
    let python = environment.join("bin/python");
    let (wanted, stamp) = (std::fs::read(directory.join("requirements.txt"))?, environment.join("requirements.txt"));
    if std::fs::read(&stamp).ok().as_ref() != Some(&wanted) {
        python_environment(&environment)?;
        shown(
            Command::new(&python)
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
                .arg(directory.join("requirements.txt")),
        )?;
        std::fs::write(&stamp, &wanted)?;
    }
    shown(
        Command::new(&python)
            .args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short"])
            .env("CUENTA_BIN", binary)
            .env("CUENTA_TEST_POSTGRES", postgres)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(&directory),
    )
}

/// Makes a virtual environment, if need be with the package that Debian leaves out of Python.
fn python_environment(at: &Path) -> anyhow::Result<()> {
    let python = || Command::new("python3");
    let knows = |code: &str| python().args(["-c", code]).output().is_ok_and(|output| output.status.success());
    if !knows("import sys; sys.exit(sys.version_info < (3, 11))") {
        install("python3", "Python 3.11 or later, for the conformance tests,")?;
    }
    if !knows("import venv, ensurepip") {
        install("python3-venv", "Python's venv, for the conformance tests,")?;
    }
    shown(python().args(["-m", "venv", "--clear"]).arg(at))
}
