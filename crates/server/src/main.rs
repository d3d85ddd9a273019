//! `cuenta`: one program that is the server and all commands around it.

use clap::Parser;
use cuenta::cli::{Cli, Command};
use cuenta::commands;
use cuenta::config::{Config, Sources};
use std::io::Write;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(code) => code,
        Err(error) => {
            // A reader of a terminal gets one sentence with its causes; nothing else is printed there.
            drop(writeln!(std::io::stderr(), "cuenta: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    let sources = Sources {
        file: cli.global.config.clone(),
        directory: std::env::current_dir().unwrap_or_default(),
        environment: std::env::vars_os().collect(),
        flags: cli.flags(),
    };
    let config = Config::load(&sources)?;
    match &cli.command {
        Command::Serve(_) => commands::serve::run(&config),
        Command::Migrate => commands::migrate(&config),
        Command::Doctor => commands::doctor::run(&config),
        Command::Backup(backup) => commands::backup::run(&config, &backup.file),
        Command::Organizations(command) => commands::organizations(&config, command),
        Command::Keys(command) => commands::keys(&config, command),
        Command::Config(options) => commands::config(&config, options),
        Command::Openapi => commands::openapi(),
    }
}
