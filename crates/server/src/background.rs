//! What the server does by itself: it seals the audit log and removes what has expired. Every piece is one small write,
//! and any number of servers may do the same at once.

use crate::numbers::Numbers;
use cuenta_engine::{Error, audit, idempotency};
use cuenta_store::{Database, Transaction};
use std::time::Duration;
use tokio::sync::watch;

/// How often the audit log is looked at for entries without a seal.
const SEAL_EVERY: Duration = Duration::from_secs(1);
/// How often expired idempotency records are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(300);

/// Works until the process is told to stop.
pub async fn run(database: Database, numbers: Numbers, stop: watch::Receiver<bool>) {
    let sealing = every(SEAL_EVERY, stop.clone(), || async {
        let sealed = drain(&database, audit::seal).await;
        numbers.sealed(sealed);
        numbers.waiting(&database);
    });
    let sweeping = every(SWEEP_EVERY, stop, || async {
        numbers.swept(drain(&database, idempotency::sweep).await);
    });
    tokio::join!(sealing, sweeping);
}

/// Repeats a piece of work until nothing is left of it, and says how much was done.
async fn drain(database: &Database, work: fn(&mut Transaction) -> Result<i64, Error>) -> u64 {
    let mut done = 0;
    loop {
        match database.write(work).await {
            Ok(0) => return done,
            Ok(more) => done += u64::try_from(more).unwrap_or(0),
            Err(error) => {
                // Another server may have been faster, or the database is away: the next round tries again.
                let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::debug!(source, "background work was put off");
                return done;
            }
        }
    }
}

async fn every<F: Future<Output = ()>>(pause: Duration, mut stop: watch::Receiver<bool>, work: impl Fn() -> F) {
    loop {
        tokio::select! {
            () = told(&mut stop) => return,
            () = tokio::time::sleep(pause) => work().await,
        }
    }
}

/// Waits for the wish to stop; the end of the sender is one as well.
async fn told(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}
