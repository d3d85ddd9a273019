//! The commands besides the server. Each prints a report or a value on stdout, and says in one sentence what went wrong.

pub mod backup;
pub mod doctor;
pub mod serve;

use crate::cli::{self, Keys, Organizations};
use crate::config::{Config, DEFAULT_TOML};
use crate::http::keys::BELIEVED_FOR;
use crate::http::router::document;
use anyhow::{Context, bail};
use cuenta_engine::organizations::{self, CreateOrganization, OrganizationKind};
use cuenta_engine::{Access, Error, MIGRATIONS};
use cuenta_store::{Database, DatabaseUrl, Options, Transaction};
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

/// The database of the configuration, with the schema of this program.
fn open(config: &Config) -> anyhow::Result<Database> {
    let url = url(config)?;
    url.migrate(MIGRATIONS).context("the database cannot be prepared")?;
    let options = Options { readers: config.database.readers, queue: config.database.queue };
    Ok(Database::open(&url, options)?)
}

fn url(config: &Config) -> anyhow::Result<DatabaseUrl> {
    Ok(DatabaseUrl::parse(config.database.url.expose())?)
}

/// Runs one closure and closes the database again.
fn once<T: Send + 'static>(
    config: &Config,
    work: impl FnMut(&mut Transaction) -> Result<T, Error> + Send + 'static,
) -> anyhow::Result<T> {
    let database = open(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(database.write(work));
    database.close();
    result.map_err(explained)
}

/// An error of the engine with its cause: whoever runs a command on the machine may see it.
fn explained(error: Error) -> anyhow::Error {
    anyhow::Error::new(error)
}

/// `cuenta migrate`
pub fn migrate(config: &Config) -> anyhow::Result<ExitCode> {
    let applied = url(config)?.migrate(MIGRATIONS)?;
    let version = MIGRATIONS.last().map_or(0, |migration| migration.version);
    let mut out = std::io::stdout().lock();
    match applied.as_slice() {
        [] => writeln!(out, "nothing to do: the schema has version {version}")?,
        applied => writeln!(out, "applied {} migration(s): the schema has version {version}", applied.len())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// `cuenta organizations`
pub fn organizations(config: &Config, command: &Organizations) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    match command {
        Organizations::Create(options) => {
            let input = new_organization(options)?;
            let made = once(config, move |transaction| organizations::create(transaction, &input))?;
            writeln!(out, "{}", made.id)?;
        }
        Organizations::List => {
            for organization in once(config, organizations::list)? {
                let kind = match organization.kind {
                    OrganizationKind::Live => "live",
                    OrganizationKind::Sandbox => "sandbox",
                };
                let (id, name) = (organization.id, organization.name);
                let (currency, timezone) = (organization.default_currency, organization.timezone);
                writeln!(out, "{id}  {kind:7}  {currency}  {timezone}  {name}")?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn new_organization(options: &cli::OrganizationsCreate) -> anyhow::Result<CreateOrganization> {
    let name = name(&options.name, "--name")?;
    let default_currency =
        cuenta_money::Currency::parse(&options.currency).map_err(|error| anyhow::anyhow!("--currency {error}"))?;
    if jiff::tz::TimeZone::get(&options.timezone).is_err() {
        bail!("--timezone must be an IANA name such as Europe/Berlin; {} is none", options.timezone);
    }
    let kind = if options.sandbox { OrganizationKind::Sandbox } else { OrganizationKind::Live };
    Ok(CreateOrganization { name, kind, default_currency, timezone: options.timezone.clone() })
}

fn name(text: &str, option: &str) -> anyhow::Result<String> {
    if text.trim().is_empty() || text.chars().count() > 255 || text.chars().any(char::is_control) {
        bail!("{option} must have 1 to 255 characters and no control characters");
    }
    Ok(text.to_owned())
}

/// `cuenta keys`
pub fn keys(config: &Config, command: &Keys) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    match command {
        Keys::Create(options) => {
            let access = if options.scope == cli::Scope::Full { Access::Full } else { Access::Read };
            let name = options.name.as_deref().map(|text| name(text, "--name")).transpose()?;
            let (name, wanted) = (name.unwrap_or_else(|| "key".to_owned()), options.organization.clone());
            let key = once(config, move |transaction| {
                let organization = match &wanted {
                    Some(id) => id.clone(),
                    None => the_only_organization(transaction)?,
                };
                organizations::create_key(transaction, &organization, access, &name)
            })?;
            writeln!(out, "{key}")?;
        }
        Keys::List(options) => {
            let wanted = options.organization.clone();
            let keys = once(config, move |transaction| organizations::list_keys(transaction, wanted.as_deref()))?;
            for key in keys {
                let state = if key.revoked_at.is_some() { "revoked" } else { "live" };
                let (id, scope, created_at) = (key.id, key.scope, key.created_at);
                writeln!(out, "{id}  {state:7}  {scope:4}  {created_at}  {}  {}", key.organization_id, key.name)?;
            }
        }
        Keys::Revoke(options) => {
            // Whoever has only the key itself may paste it whole; its secret half is not looked at.
            let id = options.key_id.split('.').next().unwrap_or_default().to_owned();
            once(config, move |transaction| organizations::revoke_key(transaction, &id))?;
            std::thread::sleep(BELIEVED_FOR + Duration::from_millis(100));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn the_only_organization(transaction: &mut Transaction) -> Result<String, Error> {
    let mut all = organizations::list(transaction)?;
    match (all.pop(), all.is_empty()) {
        (Some(only), true) => Ok(only.id),
        (Some(_), false) => Err(Error::refused_state(
            "organization_required",
            "There are several organizations: name one with --organization (`cuenta organizations list` shows them)",
        )),
        (None, _) => Err(Error::not_found(
            "organization_not_found",
            "There is no organization yet: make one with `cuenta organizations create --name NAME`",
        )),
    }
}

/// `cuenta config`
pub fn config(config: &Config, options: &cli::Config) -> anyhow::Result<ExitCode> {
    let text = if options.effective { config.effective() } else { DEFAULT_TOML.to_owned() };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// `cuenta openapi`
pub fn openapi() -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    out.write_all(document())?;
    writeln!(out)?;
    Ok(ExitCode::SUCCESS)
}
