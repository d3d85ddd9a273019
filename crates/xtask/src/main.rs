//! `cargo xtask …`: everything that is done to this project by a machine.

mod architecture;
mod bench;
mod client;
mod faults;
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
        /// Only the step with this name
        #[arg(long)]
        only: Option<String>,
    },
    /// Kill, cut and fill whatever can be, and count what was lost or doubled
    Faults {
        /// Few rounds, for every change
        #[arg(long)]
        short: bool,
        /// Only these: kill, power, disk, postgres, clients, two-servers
        names: Vec<String>,
    },
    /// Measure the release binary beside its floors
    Bench {
        /// Short rounds and few customers, to see that it runs
        #[arg(long)]
        quick: bool,
        /// How many customers the lists are measured at
        #[arg(long, default_value_t = 1_000_000)]
        customers: u64,
        /// Put the table into docs/benchmarks.md
        #[arg(long)]
        write_docs: bool,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Test { only } => test::run(only.as_deref()),
        Command::Faults { short, names } => faults::run(short, &names),
        Command::Bench { quick, customers, write_docs } => bench::run(quick, customers, write_docs),
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
