//! The audit log: who did what and when. It protects the past: entries are only added, and seals make any later change
//! of them show.
//!
//! An entry is written in the transaction of its cause, under a [`LanePosition`](cuenta_store::LanePosition), so no two
//! writers touch the same row. Behind the scenes the entries are sealed in batches: each seal holds a SHA-256 over the
//! seal before it and the batch. Within a lane entries become visible in order, so a batch is never joined later.

use crate::error::Error;
use cuenta_store::{Row, Transaction};
use sha2::{Digest, Sha256};

/// The name under which one server at a time seals: the others must not wait for a seal that a frozen one began.
const SEALING: i64 = 7_002_027;

/// How many entries one seal covers at most.
pub const BATCH: i64 = 1_000;

/// One thing that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whose data changed.
    pub organization_id: String,
    /// The public half of the key that did it; `cli` for a command on the machine itself.
    pub key_id: String,
    /// The operation by the contract's name, such as `customers.create`.
    pub operation: String,
    /// What was changed.
    pub object_id: String,
    /// The names of the properties that were set, separated by commas; never their values.
    pub properties: String,
    /// The id of the request.
    pub request_id: String,
    /// When, by the machine's wall clock, in microseconds.
    pub at: i64,
}

/// Adds an entry.
pub fn append(transaction: &mut Transaction, entry: Entry) -> Result<(), Error> {
    let place = transaction.next_in_lane();
    let sql = "INSERT INTO audit_entries (lane, position, organization_id, key_id, operation, object_id, properties, \
               request_id, at) VALUES (:lane, :position, :organization_id, :key_id, :operation, :object_id, \
               :properties, :request_id, :at)";
    let parameters = [
        ("lane", place.lane.into()),
        ("position", place.position.into()),
        ("organization_id", entry.organization_id.into()),
        ("key_id", entry.key_id.into()),
        ("operation", entry.operation.into()),
        ("object_id", entry.object_id.into()),
        ("properties", entry.properties.into()),
        ("request_id", entry.request_id.into()),
        ("at", entry.at.into()),
    ];
    Ok(transaction.execute(sql, &parameters)?)
}

/// Seals one batch, if there are entries without a seal, and says how many it sealed. Two servers that seal at once
/// cannot both succeed: a seal's number is unique, and the loser, which is told at once, tries again later.
pub fn seal(transaction: &mut Transaction) -> Result<i64, Error> {
    let Some((lane, after)) = unsealed_lane(transaction)? else { return Ok(0) };
    transaction.claim(SEALING)?;
    let (number, previous) = last_seal(transaction)?;
    let batch = batch(transaction, lane, after, i64::MAX)?;
    let (Some(first), Some(last)) = (batch.first, batch.last) else { return Ok(0) };
    let sql = "INSERT INTO audit_seals (number, lane, first_position, last_position, entries, previous_hash, hash, \
               sealed_at) VALUES (:number, :lane, :first, :last, :entries, :previous, :hash, :sealed_at)";
    let sealed_at = transaction.wall_micros();
    let hash = seal_hash(&previous, [number + 1, lane, sealed_at], &batch);
    let parameters = [
        ("number", (number + 1).into()),
        ("lane", lane.into()),
        ("first", first.into()),
        ("last", last.into()),
        ("entries", batch.count.into()),
        ("previous", previous.into()),
        ("hash", hash.into()),
        ("sealed_at", sealed_at.into()),
    ];
    transaction.execute(sql, &parameters)?;
    Ok(batch.count)
}

/// What a check of the whole chain found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Seals that were recomputed.
    pub seals: i64,
    /// Entries under them.
    pub entries: i64,
    /// The hash of the last seal in hexadecimal: note it elsewhere, and a later run can be compared with it.
    pub head: String,
    /// What is wrong, a sentence each; empty when all is well.
    pub faults: Vec<String>,
}

/// Recomputes the seals after `number` and adds what it finds; gives the number of the last one, or nothing at the end.
pub fn verify(transaction: &mut Transaction, number: i64, report: &mut Report) -> Result<Option<i64>, Error> {
    let sql = "SELECT s.number, s.lane, s.first_position, s.last_position, s.entries, s.previous_hash, s.hash, s.sealed_at, \
               p.hash AS expected_previous, (SELECT COALESCE(MAX(b.last_position), :lowest) FROM audit_seals AS b \
               WHERE b.lane = s.lane AND b.number < s.number) AS sealed_before FROM audit_seals AS s LEFT JOIN audit_seals AS p ON p.number = s.number - 1 \
               WHERE s.number > :number ORDER BY s.number LIMIT 1";
    // Whatever was slipped in before the first entry of a lane falls under its first seal.
    let parameters = [("lowest", i64::MIN.into()), ("number", number.into())];
    let Some(mut row) = transaction.optional(sql, &parameters)? else {
        if transaction.exists("SELECT 1 AS found FROM audit_entries WHERE lane < 0 LIMIT 1", &[])? {
            report.faults.push("the audit log has entries in a lane that no connection has".to_owned());
        }
        return Ok(None);
    };
    let found = row.integer("number")?;
    let lane = row.integer("lane")?;
    let (first, last) = (row.integer("first_position")?, row.integer("last_position")?);
    let entries = row.integer("entries")?;
    let (previous, hash) = (row.bytes("previous_hash")?, row.bytes("hash")?);
    let sealed_at = row.integer("sealed_at")?;
    let expected = if found == 1 { vec![0; 32] } else { row.bytes("expected_previous").unwrap_or_default() };
    if found != number + 1 {
        report.faults.push(format!("seals {} to {} of the audit log are missing", number + 1, found - 1));
    }
    if previous != expected {
        report.faults.push(format!("seal {found} of the audit log does not continue the one before it"));
    }
    let batch = batch(transaction, lane, row.integer("sealed_before")?, last)?;
    if batch.first != Some(first)
        || batch.count != entries
        || seal_hash(&previous, [found, lane, sealed_at], &batch) != hash
    {
        report.faults.push(format!("the audit entries under seal {found} are not those that were sealed"));
    }
    report.seals += 1;
    report.entries += batch.count;
    report.head = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Some(found))
}

/// A lane with entries behind its last seal, and the position of that seal.
fn unsealed_lane(transaction: &mut Transaction) -> Result<Option<(i64, i64)>, Error> {
    // Lanes are few (one a connection); the walk finds each by one step in the primary key.
    let mut lane = -1;
    loop {
        let next = "SELECT lane FROM audit_entries WHERE lane > :lane ORDER BY lane LIMIT 1";
        let Some(mut row) = transaction.optional(next, &[("lane", lane.into())])? else { return Ok(None) };
        lane = row.integer("lane")?;
        let sealed = "SELECT last_position FROM audit_seals WHERE lane = :lane ORDER BY last_position DESC LIMIT 1";
        let sealed = transaction.optional(sealed, &[("lane", lane.into())])?;
        let after = sealed.map(|mut row| row.integer("last_position")).transpose()?.unwrap_or(0);
        let open = "SELECT position FROM audit_entries WHERE lane = :lane AND position > :after \
                    ORDER BY position LIMIT 1";
        if transaction.exists(open, &[("lane", lane.into()), ("after", after.into())])? {
            return Ok(Some((lane, after)));
        }
    }
}

fn last_seal(transaction: &mut Transaction) -> Result<(i64, Vec<u8>), Error> {
    let sql = "SELECT number, hash FROM audit_seals ORDER BY number DESC LIMIT 1";
    match transaction.optional(sql, &[])? {
        Some(mut row) => Ok((row.integer("number")?, row.bytes("hash")?)),
        None => Ok((0, vec![0; 32])),
    }
}

struct Batch {
    first: Option<i64>,
    last: Option<i64>,
    count: i64,
    digest: Vec<u8>,
}

fn batch(transaction: &mut Transaction, lane: i64, after: i64, until: i64) -> Result<Batch, Error> {
    let sql = "SELECT position, organization_id, key_id, operation, object_id, properties, request_id, at \
               FROM audit_entries WHERE lane = :lane AND position > :after AND position <= :until \
               ORDER BY position LIMIT :batch";
    // A row that was slipped in must be seen, so a check reads one more than a seal can hold.
    let most = if until == i64::MAX { BATCH } else { BATCH + 1 };
    let parameters =
        [("lane", lane.into()), ("after", after.into()), ("until", until.into()), ("batch", most.into())];
    let mut hasher = Sha256::new();
    let mut batch = Batch { first: None, last: None, count: 0, digest: Vec::new() };
    for row in transaction.all(sql, &parameters)? {
        let position = hash_row(row, &mut hasher)?;
        batch.first.get_or_insert(position);
        batch.last = Some(position);
        batch.count += 1;
    }
    batch.digest = hasher.finalize().to_vec();
    Ok(batch)
}

/// Every column with its length before it, so that no two different rows look alike.
fn hash_row(mut row: Row, hasher: &mut Sha256) -> Result<i64, Error> {
    let position = row.integer("position")?;
    hasher.update(position.to_be_bytes());
    for column in ["organization_id", "key_id", "operation", "object_id", "properties", "request_id"] {
        let text = row.text(column)?;
        hasher.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.update(row.integer("at")?.to_be_bytes());
    Ok(position)
}

fn seal_hash(previous: &[u8], [number, lane, sealed_at]: [i64; 3], batch: &Batch) -> Vec<u8> {
    let mut hasher = Sha256::new();
    hasher.update(previous);
    for part in [number, lane, sealed_at] {
        hasher.update(part.to_be_bytes());
    }
    hasher.update(batch.count.to_be_bytes());
    hasher.update(&batch.digest);
    hasher.finalize().to_vec()
}
