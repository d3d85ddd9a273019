//! `cargo xtask fuzz`: libFuzzer on everything that reads foreign bytes, with the coverage of a stable compiler.
//!
//! The targets are the crate in `fuzz/`, outside the workspace: its flags slow everything it is made of.

use crate::{root, say};
use anyhow::{Context, bail, ensure};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The targets: `fuzz/fuzz_targets/NAME.rs`.
const TARGETS: &[&str] = &["json", "input", "query", "statement"];
/// What `cargo fuzz --sanitizer none` sets: coverage that guides the fuzzer, and checks that are off in release builds.
const FLAGS: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
    "-Coverflow-checks",
];
/// The longest input.
const MOST_BYTES: u32 = 16_384;

/// Options of `fuzz`.
#[derive(Args, Debug)]
pub struct Options {
    /// How long each target runs
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
    /// Repeats a run: the seed it printed
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u32>,
    /// Only these targets [json, input, query, statement]
    targets: Vec<String>,
}

impl Options {
    /// All targets for so many seconds each.
    pub fn seconds(seconds: u32) -> Self {
        Options { seconds, seed: None, targets: Vec::new() }
    }
}

/// Builds the targets and runs them one after the other; the first that fails ends the run.
pub fn run(options: &Options) -> anyhow::Result<()> {
    if let Some(unknown) = options.targets.iter().find(|name| !TARGETS.contains(&name.as_str())) {
        bail!("there is no target {unknown}; the targets are {}", TARGETS.join(", "));
    }
    let programs = build()?;
    let chosen = |name: &str| options.targets.is_empty() || options.targets.iter().any(|target| target == name);
    for name in TARGETS.iter().filter(|name| chosen(name)) {
        fuzz(name, &programs.join(name), options)?;
    }
    Ok(())
}

/// Gives the directory of the programs.
fn build() -> anyhow::Result<PathBuf> {
    let target = root().join("target/fuzz");
    let host = host()?;
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release", "--quiet", "--locked", "--target", &host, "--manifest-path"])
        .arg(root().join("fuzz/Cargo.toml"))
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"))
        .env_remove("RUSTFLAGS")
        .stdin(Stdio::null())
        .status()?;
    ensure!(status.success(), "the fuzz targets cannot be built; they need a C++ compiler, such as g++");
    Ok(target.join(host).join("release"))
}

/// The platform of the compiler. Naming it keeps the flags away from build scripts.
fn host() -> anyhow::Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("rustc cannot be started")?;
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(line.context("rustc does not say its host")?.to_owned())
}

fn fuzz(name: &str, program: &Path, options: &Options) -> anyhow::Result<()> {
    let found = root().join("target/fuzz").join("corpus").join(name);
    let harm = root().join("target/fuzz").join("artifacts").join(name);
    std::fs::create_dir_all(&found)?;
    std::fs::create_dir_all(&harm)?;
    let log = harm.with_extension("log");
    let status = Command::new(program)
        .arg(format!("-max_total_time={}", options.seconds))
        .arg(format!("-seed={}", options.seed.unwrap_or(0)))
        .arg(format!("-max_len={MOST_BYTES}"))
        .arg(format!("-artifact_prefix={}/", harm.display()))
        .args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"])
        .arg(format!("-dict={}", root().join("fuzz/words.dict").display()))
        .args([&found, &root().join("fuzz/seeds").join(name)])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log)?)
        .status()
        .with_context(|| format!("{} cannot be started", program.display()))?;
    let bytes = std::fs::read(&log)?;
    let text = String::from_utf8_lossy(&bytes);
    let value = |start: &str| {
        let line = text.lines().rev().find_map(|line| line.strip_prefix(start));
        line.unwrap_or_default().split_whitespace().next().unwrap_or_default().to_owned()
    };
    let seed = value("INFO: Seed:");
    if !status.success() {
        let end: Vec<&str> = text.lines().rev().take(40).collect();
        let end: Vec<&str> = end.into_iter().rev().collect();
        bail!("{name}, seed {seed}: {}\nThe input is in {}", end.join("\n"), harm.display());
    }
    let covered = text.lines().rev().find_map(|line| line.split("cov: ").nth(1)?.split(' ').next());
    let runs = value("stat::number_of_executed_units:");
    let covered = covered.unwrap_or("?");
    let seconds = options.seconds;
    say(&format!("fuzz {name}: {runs} inputs in {seconds} s, {covered} places reached, seed {seed}, nothing found"));
    Ok(())
}
