//! The command line: what can be typed and what the help says. No logic.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::Flag;

/// A self-hosted billing engine: customers, usage, subscriptions and invoices behind one HTTP API.
#[derive(Debug, Parser)]
#[command(
    name = "cuenta",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Example, from nothing to a first request:\n  \
        cuenta serve                               (prints the first key)\n  \
        curl -H \"Authorization: Bearer KEY\" http://127.0.0.1:8080/customers"
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Args, Debug)]
pub struct Global {
    /// Where everything is kept: sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE [default: sqlite:cuenta.db]
    #[arg(long, global = true, value_name = "URL")]
    pub database: Option<String>,
    /// A file with settings [default: cuenta.toml in the working directory, if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server until it is told to stop
    ///
    /// Makes or upgrades the database first. On an empty database it also makes an organization and prints its first key.
    #[command(
        after_help = "Example:\n  cuenta serve --database sqlite:billing.db --listen 0.0.0.0:8080 --admin-listen 127.0.0.1:8081"
    )]
    Serve(Serve),
    /// Bring the tables of the database up to this version, and stop
    #[command(after_help = "Example:\n  cuenta migrate --database postgres://cuenta@localhost/cuenta")]
    Migrate,
    /// Look for what is wrong with the set-up and the stored data
    ///
    /// Changes nothing. The exit status is 0 only when all is well.
    #[command(after_help = "Example:\n  cuenta doctor --database sqlite:billing.db")]
    Doctor,
    /// Copy the database into a file while the server runs
    #[command(after_help = "Example:\n  cuenta backup /backups/billing-monday.db")]
    Backup(Backup),
    /// Make and list organizations: separate accounts that see nothing of each other
    #[command(subcommand, after_help = "Example:\n  cuenta organizations create --name \"Example Inc\"")]
    Organizations(Organizations),
    /// Make, list and revoke the keys that programs call the API with
    #[command(subcommand, after_help = "Example:\n  cuenta keys create --name \"web shop\"")]
    Keys(Keys),
    /// Print all settings with their defaults and what they mean
    #[command(after_help = "Example:\n  cuenta config > cuenta.toml\n  cuenta config --effective")]
    Config(Config),
    /// Print the OpenAPI document of the API
    #[command(after_help = "Example:\n  cuenta openapi > openapi.json")]
    Openapi,
}

/// Options of `serve`.
#[derive(Args, Debug)]
pub struct Serve {
    /// Where the API listens; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Where /healthz, /readyz and /metrics listen [default: nowhere]
    #[arg(long, value_name = "HOST:PORT")]
    pub admin_listen: Option<String>,
    /// Where usage events are kept: embedded:PATH, postgres://… or clickhouse://… [default: beside the database]
    #[arg(long, value_name = "URL")]
    pub events: Option<String>,
}

/// Options of `backup`.
#[derive(Args, Debug)]
pub struct Backup {
    /// The file to write; it must not exist yet
    pub file: PathBuf,
}

/// Commands about organizations.
#[derive(Debug, Subcommand)]
pub enum Organizations {
    /// Make an organization and print its id
    #[command(
        after_help = "Example:\n  cuenta organizations create --name \"Example GmbH\" --currency EUR --timezone Europe/Berlin"
    )]
    Create(OrganizationsCreate),
    /// List all organizations
    #[command(after_help = "Example:\n  cuenta organizations list")]
    List,
}

/// Options of `organizations create`.
#[derive(Args, Debug)]
pub struct OrganizationsCreate {
    /// The name people see
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// For trying things out: its clock can be moved forward
    #[arg(long)]
    pub sandbox: bool,
    /// The currency where nothing else is said, an ISO 4217 code
    #[arg(long, value_name = "CODE", default_value = "USD")]
    pub currency: String,
    /// The zone in which days and months begin, an IANA name
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    pub timezone: String,
}

/// Commands about keys.
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Make a key and print it; it cannot be shown again
    #[command(after_help = "Example:\n  cuenta keys create --scope read --name \"monthly report\"")]
    Create(KeysCreate),
    /// List keys without their secrets
    #[command(after_help = "Example:\n  cuenta keys list --organization org_…")]
    List(KeysList),
    /// Make a key useless from now on
    #[command(after_help = "Example:\n  cuenta keys revoke key_…")]
    Revoke(KeysRevoke),
}

/// Options of `keys create`.
#[derive(Args, Debug)]
pub struct KeysCreate {
    /// Whose key; may be left out when there is one organization
    #[arg(long, value_name = "ID")]
    pub organization: Option<String>,
    /// What the key may do
    #[arg(long, value_enum, default_value_t = Scope::Full)]
    pub scope: Scope,
    /// What the key is for
    #[arg(long, value_name = "TEXT")]
    pub name: Option<String>,
}

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scope {
    /// Read and write
    Full,
    /// Read only
    Read,
}

/// Options of `keys list`.
#[derive(Args, Debug)]
pub struct KeysList {
    /// Only the keys of this organization
    #[arg(long, value_name = "ID")]
    pub organization: Option<String>,
}

/// Options of `keys revoke`.
#[derive(Args, Debug)]
pub struct KeysRevoke {
    /// The key's id: the part before the dot
    #[arg(value_name = "KEY_ID")]
    pub key_id: String,
}

/// Options of `config`.
#[derive(Args, Debug)]
pub struct Config {
    /// Print the settings in force and where each came from, without passwords
    #[arg(long)]
    pub effective: bool,
}

impl Cli {
    /// The options that are settings, for `config::Sources`.
    #[must_use]
    pub fn flags(&self) -> Vec<Flag> {
        let mut flags = Vec::new();
        let mut add = |name, key, value: &Option<String>| {
            flags.extend(value.clone().map(|value| Flag { name, key, value }));
        };
        add("--database", "database.url", &self.global.database);
        if let Command::Serve(serve) = &self.command {
            add("--listen", "http.listen", &serve.listen);
            add("--admin-listen", "http.admin_listen", &serve.admin_listen);
            add("--events", "events.url", &serve.events);
        }
        flags
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Cli {
        Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn the_definition_is_sound_and_every_command_has_an_example() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        let mut waiting = vec![command];
        while let Some(command) = waiting.pop() {
            let subcommands = command.get_subcommands().filter(|command| command.get_name() != "help");
            waiting.extend(subcommands.cloned());
            let example = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(example.starts_with("Example"), "{} has no example", command.get_name());
            assert!(command.get_about().is_some(), "{} says nothing", command.get_name());
        }
    }

    #[test]
    fn settings_are_handed_on() {
        let cli = parse("cuenta serve --listen a:1 --events embedded:x --database sqlite:y --config z.toml");
        let flags: Vec<_> = cli.flags().into_iter().map(|flag| (flag.name, flag.key, flag.value)).collect();
        let expected = [
            ("--database", "database.url", "sqlite:y"),
            ("--listen", "http.listen", "a:1"),
            ("--events", "events.url", "embedded:x"),
        ];
        assert_eq!(flags, expected.map(|(name, key, value)| (name, key, value.to_owned())));
        assert_eq!(cli.global.config, Some(PathBuf::from("z.toml")));
    }

    #[test]
    fn commands() {
        let Command::Keys(Keys::Create(create)) =
            parse("cuenta --database sqlite:x keys create --scope read").command
        else {
            panic!("not keys create");
        };
        assert_eq!((create.scope, create.name), (Scope::Read, None));
        let Command::Organizations(Organizations::Create(create)) =
            parse("cuenta organizations create --name A --sandbox").command
        else {
            panic!("not organizations create");
        };
        assert_eq!((create.currency.as_str(), create.timezone.as_str(), create.sandbox), ("USD", "UTC", true));
        for line in ["cuenta keys create --scope all", "cuenta organizations create", "cuenta", "cuenta backup"] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
