//! Idempotency keys (contract, idempotency): a repeated write is answered from its record and does nothing again.
//!
//! The record and the effect are one transaction; `idempotency_keys_pkey` is the guarantee. What runs at the moment is
//! known to the server process, and to others on the same database by a claim.

use crate::error::{Error, Kind};
use crate::scope::Scope;
use cuenta_store::Transaction;
use sha2::{Digest, Sha256};

/// How long a stored answer is replayed: 24 hours (D-010), in microseconds.
const RETENTION_MICROS: i64 = 86_400_000_000;
/// The largest answer that is stored (idempotency 30).
const LARGEST_BODY: usize = 262_144;
/// How many live keys an organization may have (idempotency 30).
const MOST_LIVE_KEYS: i64 = 1_000_000;
/// How many expired records one sweep removes.
const SWEEP: i64 = 1_000;
/// The counted set of an organization's live keys.
const NOUN: &str = "idempotency_keys";

/// The constraint that is violated when another server stored an answer under the key in the meantime.
pub const RECORD: &str = "idempotency_keys_pkey";

/// A key of a request, with what the request was.
#[derive(Clone, Debug)]
pub struct IdempotencyKey {
    /// 1 to 255 bytes of printable ASCII (idempotency 5).
    pub key: String,
    /// SHA-256 over method, path, query, version and canonical body (idempotency 9).
    pub fingerprint: [u8; 32],
    /// Whether an expired record is in the way, as the look-up saw it.
    pub replaces_expired: bool,
}

/// An answer as it is stored and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAnswer {
    /// The HTTP status, 200 to 499.
    pub status: u16,
    /// The body, byte for byte; empty for 204.
    pub body: Vec<u8>,
}

/// What is known of a key before its request runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The key is new.
    Nothing,
    /// A record is there whose time is over: the key is new, and the record goes.
    Expired,
    /// The same request was answered: this is the answer.
    Replay(StoredAnswer),
    /// Another request was answered under this key (422).
    Mismatch,
}

/// Looks a key up. Too many live keys are 429.
pub fn look_up(scope: &mut Scope, key: &IdempotencyKey) -> Result<Found, Error> {
    let sql = "SELECT k.fingerprint, k.status, k.body, CASE WHEN k.expires_at > :database_now THEN 1 ELSE 0 END AS live \
               FROM idempotency_keys AS k WHERE k.organization_id = :organization_id AND k.idempotency_key = :key";
    let parameters = [("organization_id", scope.organization_id().into()), ("key", key.key.as_str().into())];
    let Some(mut row) = scope.transaction.optional(sql, &parameters)? else {
        let live = scope.transaction.tallied(scope.caller().organization_id.as_ref(), NOUN)?;
        if live >= MOST_LIVE_KEYS {
            let message =
                "This organization has as many live idempotency keys as there can be; the oldest end within a day";
            return Err(Error::too_many("too_many_idempotency_keys", message));
        }
        return Ok(Found::Nothing);
    };
    let (fingerprint, status, body) = (row.bytes("fingerprint")?, row.integer("status")?, row.bytes("body")?);
    if row.integer("live")? == 0 {
        return Ok(Found::Expired);
    }
    if fingerprint != key.fingerprint {
        return Ok(Found::Mismatch);
    }
    Ok(Found::Replay(StoredAnswer { status: u16::try_from(status).map_err(Error::internal)?, body }))
}

/// Runs `work` under the key and stores its answer, or its refusal where the contract says so, in the same transaction.
/// `render` makes the stored form of either. An answer too large to be stored is 422, and nothing happens.
pub fn run<T>(
    scope: &mut Scope,
    key: &IdempotencyKey,
    work: impl FnOnce(&mut Scope) -> Result<T, Error>,
    render: impl FnOnce(&Result<T, Error>) -> StoredAnswer,
) -> Result<StoredAnswer, Error> {
    scope.transaction.claim(claim_name(scope.organization_id(), &key.key))?;
    let result = scope.attempt(|scope| work(scope))?;
    let result = match result {
        Err(error) if !is_stored(error.kind()) => return Err(error),
        result => result,
    };
    let answer = render(&result);
    if answer.body.len() > LARGEST_BODY {
        let message = "The answer would be larger than 256 KiB, the most that is stored under an Idempotency-Key; nothing \
                       was done. Send less, or no key";
        return Err(Error::refused_state("answer_too_large", message));
    }
    store(scope, key, &answer)?;
    Ok(answer)
}

/// Which refusals are remembered: those decided inside the execution (idempotency 17, 18).
fn is_stored(kind: Kind) -> bool {
    matches!(kind, Kind::NotFound | Kind::Conflict | Kind::Refused)
}

fn store(scope: &mut Scope, key: &IdempotencyKey, answer: &StoredAnswer) -> Result<(), Error> {
    let organization_id = scope.organization_id();
    if key.replaces_expired {
        let sql = "DELETE FROM idempotency_keys WHERE organization_id = :organization_id AND idempotency_key = :key \
                   AND expires_at <= :database_now";
        let parameters = [("organization_id", organization_id.into()), ("key", key.key.as_str().into())];
        scope.transaction.execute_one(sql, &parameters, RECORD)?;
        scope.transaction.tally(organization_id, NOUN, -1);
    }
    let sql = "INSERT INTO idempotency_keys (organization_id, idempotency_key, fingerprint, status, body, expires_at) \
               VALUES (:organization_id, :key, :fingerprint, :status, :body, :expires_at)";
    let expires_at = scope.transaction.guarded_micros().saturating_add(RETENTION_MICROS);
    let parameters = [
        ("organization_id", organization_id.into()),
        ("key", key.key.as_str().into()),
        ("fingerprint", key.fingerprint.as_slice().into()),
        ("status", i64::from(answer.status).into()),
        ("body", answer.body.as_slice().into()),
        ("expires_at", expires_at.into()),
    ];
    scope.transaction.execute(sql, &parameters)?;
    scope.transaction.tally(organization_id, NOUN, 1);
    Ok(())
}

/// The number under which a running request is claimed against other servers.
fn claim_name(organization_id: &str, key: &str) -> i64 {
    let mut hasher = Sha256::new();
    hasher.update(organization_id.as_bytes());
    hasher.update([0]);
    hasher.update(key.as_bytes());
    let digest = hasher.finalize();
    digest.iter().take(8).fold(0_i64, |number, byte| (number << 8) | i64::from(*byte))
}

/// Removes some records whose time is over and says how many (idempotency 19).
pub fn sweep(transaction: &mut Transaction) -> Result<i64, Error> {
    let sql = "SELECT organization_id, idempotency_key FROM idempotency_keys WHERE expires_at <= :database_now \
               ORDER BY expires_at LIMIT :sweep";
    let mut removed = 0;
    for mut row in transaction.all(sql, &[("sweep", SWEEP.into())])? {
        let (organization_id, key) = (row.text("organization_id")?, row.text("idempotency_key")?);
        let sql = "DELETE FROM idempotency_keys WHERE organization_id = :organization_id AND idempotency_key = :key";
        let parameters = [("organization_id", organization_id.as_str().into()), ("key", key.into())];
        // Another server may sweep the same record: the count must go down once.
        transaction.execute_one(sql, &parameters, RECORD)?;
        transaction.tally(&organization_id, NOUN, -1);
        removed += 1;
    }
    Ok(removed)
}
