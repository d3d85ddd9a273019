//! `cuenta serve`: from an address and a database to answers, and back to a tidy end.

use super::{explained, open, url};
use crate::admin::{self, Admin, Readiness};
use crate::background;
use crate::config::Config;
use crate::http::listener::{self, Page, Settings};
use crate::http::problem;
use crate::http::router::router;
use crate::http::state::Server;
use crate::logging;
use anyhow::{Context, bail};
use axum::http::StatusCode;
use cuenta_engine::organizations::{self, CreateOrganization, OrganizationKind};
use cuenta_engine::{Access, Error, ids};
use cuenta_store::Database;
use metrics_exporter_prometheus::PrometheusBuilder;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// How long a readiness probe waits for the database.
const PROBE_PATIENCE: Duration = Duration::from_secs(3);

/// How long a refusal by the database keeps the server from being ready.
const RECENTLY: Duration = Duration::from_secs(2);

/// Serves until SIGTERM or SIGINT.
pub fn run(config: &Config) -> anyhow::Result<ExitCode> {
    logging::start(&config.log)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let _lock = lock(config)?;
    let database = open(config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(config, database))
}

/// Keeps a second server off an embedded database: each would believe that it alone knows which keys are in flight.
fn lock(config: &Config) -> anyhow::Result<Option<File>> {
    let url = url(config)?;
    let Some(path) = url.sqlite_path() else { return Ok(None) };
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = File::create(&name).with_context(|| format!("{} cannot be written", name.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            bail!("another server uses {}; several servers can share a database on PostgreSQL only", path.display())
        }
        Err(TryLockError::Error(error)) => Err(error).context("the database cannot be locked"),
    }
}

async fn serve(config: &Config, database: Database) -> anyhow::Result<ExitCode> {
    let first_key = first_key(&database).await?;
    let metrics = PrometheusBuilder::new().install_recorder()?;
    let api = listener::bind(&config.http.listen, "--listen").await?;
    let operators = match &config.http.admin_listen {
        Some(address) => Some(listener::bind(address, "--admin-listen").await?),
        None => None,
    };
    // Whoever reads the address may stop the process from then on.
    let told_to_stop = signals()?;
    announce(api.local_addr()?, operators.as_ref().map(tokio::net::TcpListener::local_addr).transpose()?, first_key)?;

    let (stop, stopped) = watch::channel(false);
    let draining = Arc::new(AtomicBool::new(false));
    let server = Arc::new(Server::new(database.clone(), config));
    let work = tokio::spawn(background::run(database.clone(), server.numbers, stopped.clone()));
    let admin_task = operators.map(|listener| {
        let admin = Admin { probe: probe(&database), draining: Arc::clone(&draining), metrics: metrics.clone() };
        let settings = Settings::new(&config.http, Arc::new(page));
        tokio::spawn(listener::serve(listener, admin::router(admin), settings, wait_for(stopped.clone())))
    });
    let upkeep = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            metrics.run_upkeep();
        }
    });

    let told = Arc::clone(&draining);
    let shutdown = async move {
        told_to_stop.await;
        told.store(true, Ordering::Release);
        tracing::info!("told to stop: finishing what is in flight");
    };
    let settings = Settings::new(&config.http, Arc::new(page));
    let drained = listener::serve(api, router(server), settings, shutdown).await;
    stop.send_replace(true);
    drop(work.await);
    if let Some(task) = admin_task {
        drop(task.await);
    }
    upkeep.abort();
    drop(upkeep.await);
    // Every write that was begun is finished before the process ends, whether or not its caller still waits.
    tokio::task::spawn_blocking(move || database.close()).await?;
    tracing::info!(finished = drained.finished, aborted = drained.aborted, "stopped");
    Ok(ExitCode::SUCCESS)
}

/// On a database without organizations: makes `default` and a key, and gives the key.
async fn first_key(database: &Database) -> anyhow::Result<Option<String>> {
    let made = database.write(|transaction| {
        if !organizations::list(transaction)?.is_empty() {
            return Ok::<_, Error>(None);
        }
        let input = CreateOrganization {
            name: "default".to_owned(),
            kind: OrganizationKind::Live,
            default_currency: cuenta_money::Currency::parse("USD").map_err(Error::internal)?,
            timezone: "UTC".to_owned(),
        };
        let organization = organizations::create(transaction, &input)?;
        organizations::create_key(transaction, &organization.id, Access::Full, "first key").map(Some)
    });
    made.await.map_err(explained).context("the first organization cannot be made")
}

fn announce(api: SocketAddr, admin: Option<SocketAddr>, first_key: Option<String>) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "listening on http://{api}")?;
    if let Some(admin) = admin {
        writeln!(out, "admin on http://{admin}")?;
    }
    if let Some(key) = first_key {
        writeln!(
            out,
            "\nThe database was empty: it has the organization `default` now, and this key, shown only here:\n\n  {key}\n\n\
             Create a customer with it:\n\n  curl http://{api}/customers \\\n    -H 'Authorization: Bearer {key}' \\\n    \
             -H 'Alguna-Version: 2026-04-01' \\\n    -H 'Content-Type: application/json' \\\n    \
             -d '{{\"name\": \"Acme Corp\", \"currency\": \"USD\"}}'\n\nThe reference: http://{api}/docs\n"
        )?;
    }
    out.flush()
}

/// The answer to a request that HTTP itself refuses.
fn page(status: StatusCode) -> Page {
    let request_id = format!("req_{}", ids::secret().chars().take(18).collect::<String>());
    let (code, detail) = match status {
        StatusCode::REQUEST_TIMEOUT => ("header_timeout", "The head of the request did not arrive in time"),
        StatusCode::URI_TOO_LONG => ("uri_too_long", "The path and query are too long"),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => ("headers_too_large", "The headers are too many or too long"),
        _ => ("malformed_request", "The request is not well-formed HTTP/1.1"),
    };
    let body = problem::body(status, code, detail, &[], &request_id);
    Page {
        headers: vec![("Content-Type", "application/problem+json".to_owned()), ("X-Request-Id", request_id)],
        body: String::from_utf8(body).unwrap_or_default(),
    }
}

/// Whether the database reads and writes, by doing both.
fn probe(database: &Database) -> admin::Probe {
    let database = database.clone();
    Arc::new(move || -> Readiness {
        let database = database.clone();
        Box::pin(async move {
            let tried = tokio::time::timeout(PROBE_PATIENCE, async {
                database.read(|transaction| transaction.one("SELECT 1 AS one", &[]).map(|_| ())).await?;
                database
                    .write(|transaction| {
                        transaction.tally("readiness", "probe", 0);
                        Ok::<_, cuenta_store::Error>(())
                    })
                    .await
            });
            match tried.await {
                Ok(Ok(())) if database.failed_within(RECENTLY) => {
                    Err("the database refused a request lately".to_owned())
                }
                Ok(result) => result.map_err(|error| error.to_string()),
                Err(_) => Err("the database does not answer".to_owned()),
            }
        })
    })
}

async fn wait_for(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is an end as well.
    drop(stopped.wait_for(|stop| *stop).await);
}

/// Ends with SIGTERM or SIGINT; either is received from the call on.
fn signals() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
