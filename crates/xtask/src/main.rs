//! `cargo xtask …`: everything that is done to this project by a machine.

mod architecture;
mod bench;
mod client;
mod faults;
mod fuzz;
mod load;
mod postgres;
mod server;
mod test;

use clap::{Parser, Subcommand};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Automation of the project.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what the tests need, and run them all
    Test {
        /// Only the steps with these names; may be given several times
        #[arg(long, value_name = "STEP")]
        only: Vec<String>,
    },
    /// Kill, cut and fill whatever can be, and count what was lost or doubled
    Faults(faults::Options),
    /// Feed the readers of foreign bytes with bytes that nobody thought of
    Fuzz(fuzz::Options),
    /// Measure the release binary beside its floors
    Bench(bench::Options),
    /// The load generator of `bench`: a plan on stdin, its result on stdout
    #[command(hide = true)]
    Load,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Test { only } => test::run(&only),
        Command::Faults(options) => faults::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Bench(options) => bench::run(options),
        Command::Load => load::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(std::io::stderr(), "xtask: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The root of the project.
pub fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).map(PathBuf::from).unwrap_or(here)
}

/// A line on stdout.
pub fn say(line: &str) {
    drop(writeln!(std::io::stdout(), "{line}"));
}
