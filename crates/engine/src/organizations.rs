//! Organizations and their keys: who may ask, and for whom (D-004). A key's secret is shown once and stored as a hash.

use crate::error::Error;
use crate::ids::{self, Prefix};
use crate::scope::{Access, Caller, Scope, instant};
use cuenta_money::Currency;
use cuenta_store::{Row, Transaction};
use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// Whether an organization's data is meant for earnest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OrganizationKind {
    /// Its time is the wall clock's.
    Live,
    /// Its clock stands still until it is advanced.
    Sandbox,
}

/// An organization: one merchant's data, invisible to all others.
#[derive(Clone, Debug, Serialize)]
pub struct Organization {
    /// `org_…`.
    pub id: String,
    /// For people.
    pub name: String,
    /// `live` or `sandbox`.
    pub kind: OrganizationKind,
    /// ISO 4217.
    pub default_currency: String,
    /// An IANA zone.
    pub timezone: String,
    /// By the wall clock.
    pub created_at: Timestamp,
}

/// What a new organization is to be.
#[derive(Clone, Debug)]
pub struct CreateOrganization {
    /// 1 to 255 characters.
    pub name: String,
    /// `live` or `sandbox`.
    pub kind: OrganizationKind,
    /// The currency of things that name none.
    pub default_currency: Currency,
    /// An IANA zone, checked by the caller.
    pub timezone: String,
}

/// A key as lists show it.
#[derive(Clone, Debug, Serialize)]
pub struct Key {
    /// `key_…`, the half before the dot.
    pub id: String,
    /// Whose data it opens.
    pub organization_id: String,
    /// For people.
    pub name: String,
    /// `full` or `read`.
    pub scope: String,
    /// By the wall clock.
    pub created_at: Timestamp,
    /// Since when it opens nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// What a key is checked against, kept for a moment by the server.
#[derive(Clone, Debug)]
pub struct KeyRecord {
    caller: Caller,
    secret_hash: Vec<u8>,
}

impl KeyRecord {
    /// The caller behind the key, if this is its secret; compared in constant time.
    pub fn verify(&self, secret: &str) -> Option<&Caller> {
        let same: bool = Sha256::digest(secret.as_bytes()).as_slice().ct_eq(&self.secret_hash).into();
        same.then_some(&self.caller)
    }
}

const COLUMNS: &str = "id, name, kind, default_currency, timezone, created_at";
const KEY_COLUMNS: &str = "id, organization_id, name, scope, created_at, revoked_at";

fn organization(mut row: Row) -> Result<Organization, Error> {
    Ok(Organization {
        id: row.text("id")?,
        name: row.text("name")?,
        kind: if row.text("kind")? == "sandbox" { OrganizationKind::Sandbox } else { OrganizationKind::Live },
        default_currency: row.text("default_currency")?,
        timezone: row.text("timezone")?,
        created_at: instant(row.integer("created_at")?)?,
    })
}

/// Makes an organization. A sandbox's clock starts at the present moment and stands still.
pub fn create(transaction: &mut Transaction, input: &CreateOrganization) -> Result<Organization, Error> {
    let now = transaction.wall_micros();
    let sandbox = input.kind == OrganizationKind::Sandbox;
    let made = Organization {
        id: ids::next(Prefix::Organization, "", now),
        name: input.name.clone(),
        kind: input.kind,
        default_currency: input.default_currency.code().to_owned(),
        timezone: input.timezone.clone(),
        created_at: instant(now)?,
    };
    let sql = "INSERT INTO organizations (id, name, kind, default_currency, timezone, test_clock, created_at) \
               VALUES (:id, :name, :kind, :default_currency, :timezone, :test_clock, :created_at)";
    let parameters = [
        ("id", made.id.as_str().into()),
        ("name", made.name.as_str().into()),
        ("kind", if sandbox { "sandbox" } else { "live" }.into()),
        ("default_currency", made.default_currency.as_str().into()),
        ("timezone", made.timezone.as_str().into()),
        ("test_clock", sandbox.then_some(now).into()),
        ("created_at", now.into()),
    ];
    transaction.execute(sql, &parameters)?;
    let caller = Caller { organization_id: made.id.as_str().into(), ..command_caller() };
    Scope::open(transaction, &caller)?.audit("organizations.create", &made.id, &["name", "kind"])?;
    Ok(made)
}

/// All organizations, oldest first.
pub fn list(transaction: &mut Transaction) -> Result<Vec<Organization>, Error> {
    let rows = transaction.all(&format!("SELECT {COLUMNS} FROM organizations ORDER BY id"), &[])?;
    rows.into_iter().map(organization).collect()
}

/// One organization, or nothing.
pub fn get(transaction: &mut Transaction, id: &str) -> Result<Option<Organization>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM organizations WHERE id = :id");
    transaction.optional(&sql, &[("id", id.into())])?.map(organization).transpose()
}

/// Makes a key and gives it in full, `<key_id>.<key_secret>`, for the only time. The organization must exist (404).
pub fn create_key(
    transaction: &mut Transaction,
    organization_id: &str,
    access: Access,
    name: &str,
) -> Result<String, Error> {
    if get(transaction, organization_id)?.is_none() {
        let message = format!("There is no organization {organization_id}; `cuenta organizations list` shows them");
        return Err(Error::not_found("organization_not_found", message));
    }
    let now = transaction.wall_micros();
    let (id, secret) = (ids::next(Prefix::Key, organization_id, now), ids::secret());
    let sql = "INSERT INTO api_keys (id, organization_id, name, scope, secret_hash, created_at, revoked_at) \
               VALUES (:id, :organization_id, :name, :scope, :secret_hash, :created_at, NULL)";
    let parameters = [
        ("id", id.as_str().into()),
        ("organization_id", organization_id.into()),
        ("name", name.into()),
        ("scope", if access == Access::Full { "full" } else { "read" }.into()),
        ("secret_hash", Sha256::digest(secret.as_bytes()).to_vec().into()),
        ("created_at", now.into()),
    ];
    transaction.execute(sql, &parameters)?;
    let caller = Caller { organization_id: organization_id.into(), ..command_caller() };
    Scope::open(transaction, &caller)?.audit("keys.create", &id, &["name", "scope"])?;
    Ok(format!("{id}.{secret}"))
}

/// The keys of an organization, or of all, oldest first.
pub fn list_keys(transaction: &mut Transaction, organization_id: Option<&str>) -> Result<Vec<Key>, Error> {
    let sql = format!(
        "SELECT {KEY_COLUMNS} FROM api_keys {} ORDER BY id",
        if organization_id.is_some() { "WHERE organization_id = :organization_id" } else { "" }
    );
    let parameters: Vec<_> = organization_id.iter().map(|id| ("organization_id", (*id).into())).collect();
    let rows = transaction.all(&sql, &parameters)?;
    let read = |mut row: Row| {
        Ok(Key {
            id: row.text("id")?,
            organization_id: row.text("organization_id")?,
            name: row.text("name")?,
            scope: row.text("scope")?,
            created_at: instant(row.integer("created_at")?)?,
            revoked_at: row.optional_integer("revoked_at")?.map(instant).transpose()?,
        })
    };
    rows.into_iter().map(read).collect()
}

/// Ends a key. Ending it twice is fine; a key that never was is 404.
pub fn revoke_key(transaction: &mut Transaction, id: &str) -> Result<(), Error> {
    let sql = "SELECT organization_id FROM api_keys WHERE id = :id";
    let Some(mut row) = transaction.optional(sql, &[("id", id.into())])? else {
        let message = "There is no such key; `cuenta keys list` shows the ids (the half before the dot)";
        return Err(Error::not_found("key_not_found", message));
    };
    let organization_id = row.text("organization_id")?;
    let now = transaction.wall_micros();
    let sql = "UPDATE api_keys SET revoked_at = :now WHERE id = :id AND revoked_at IS NULL";
    transaction.execute(sql, &[("now", now.into()), ("id", id.into())])?;
    let caller = Caller { organization_id: organization_id.into(), ..command_caller() };
    Scope::open(transaction, &caller)?.audit("keys.revoke", id, &[])
}

/// What is known of a key that is not revoked, by its public half.
pub fn find_key(transaction: &mut Transaction, id: &str) -> Result<Option<KeyRecord>, Error> {
    if !ids::is_id(Prefix::Key, id) {
        return Ok(None);
    }
    let sql = "SELECT k.organization_id, k.scope, k.secret_hash, o.kind FROM api_keys AS k \
               JOIN organizations AS o ON o.id = k.organization_id WHERE k.id = :id AND k.revoked_at IS NULL";
    let Some(mut row) = transaction.optional(sql, &[("id", id.into())])? else { return Ok(None) };
    let organization_id: Arc<str> = row.text("organization_id")?.into();
    let access = if row.text("scope")? == "full" { Access::Full } else { Access::Read };
    let secret_hash = row.bytes("secret_hash")?;
    let is_sandbox = row.text("kind")? == "sandbox";
    let caller = Caller { organization_id, key_id: id.into(), access, is_sandbox, request_id: "".into() };
    Ok(Some(KeyRecord { caller, secret_hash }))
}

/// A command on the machine itself, which needs no key. Its organization is filled in by the caller.
fn command_caller() -> Caller {
    Caller {
        organization_id: "".into(),
        key_id: "cli".into(),
        access: Access::Full,
        is_sandbox: false,
        request_id: "cli".into(),
    }
}
