//! Connected accounts: who a customer is in another system (contract section 5, D-022). A link records the mapping and
//! does nothing on the other side.

use super::identifiers::{TAKEN, comparable};
use super::{is_customer_id, lookup};
use crate::error::Error;
use crate::ids::{self, Prefix};
use crate::input::{Fields, text};
use crate::integrations;
use crate::pages::WholeList;
use crate::scope::Scope;
use cuenta_store::Row;
use serde::Serialize;

/// The most accounts of a customer: their list has no pages.
const MOST: i64 = 1_000;

/// A link between a customer and its account in another system.
#[derive(Clone, Debug, Serialize)]
pub struct ConnectedAccount {
    /// `cacc_…`.
    pub id: String,
    /// `cust_…`.
    pub customer_id: String,
    /// `intg_…`.
    pub integration_id: String,
    /// The customer's id on the other side, as sent.
    pub external_id: String,
}

/// What a new link is to be.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the same as in `ConnectedAccount`")]
pub struct CreateConnectedAccount {
    pub integration_id: String,
    pub external_id: String,
}

impl CreateConnectedAccount {
    /// Reads `{integration_id, external_id}`.
    pub fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let integration_id = fields.required("integration_id", text(255));
        let external_id = fields.required("external_id", text(255));
        Some(CreateConnectedAccount { integration_id: integration_id?, external_id: external_id? })
    }
}

fn connected_account(mut row: Row) -> Result<ConnectedAccount, Error> {
    Ok(ConnectedAccount {
        id: row.text("id")?,
        customer_id: row.text("customer_id")?,
        integration_id: row.text("integration_id")?,
        external_id: row.text("external_id")?,
    })
}

const COLUMNS: &str = "id, customer_id, integration_id, external_id";

/// The links of a customer, newest first; nothing when there is no such customer.
pub fn list_connected_accounts(
    scope: &mut Scope,
    customer: &str,
) -> Result<Option<WholeList<ConnectedAccount>>, Error> {
    let Some(customer_id) = lookup(scope, customer)? else { return Ok(None) };
    let sql = format!(
        "SELECT {COLUMNS} FROM connected_accounts WHERE organization_id = :organization_id \
         AND customer_id = :customer_id ORDER BY id DESC LIMIT :most"
    );
    let parameters = [
        ("organization_id", scope.organization_id().into()),
        ("customer_id", customer_id.into()),
        ("most", MOST.into()),
    ];
    let rows = scope.transaction.all(&sql, &parameters)?;
    Ok(Some(WholeList { data: rows.into_iter().map(connected_account).collect::<Result<_, _>>()? }))
}

/// Links an account. 409: the pair is linked already, or the external id is an alias of a customer or a customer's id. 422:
/// unknown integration, more than 1,000 links.
pub fn create_connected_account(
    scope: &mut Scope,
    customer: &str,
    input: &CreateConnectedAccount,
) -> Result<Option<ConnectedAccount>, Error> {
    let Some(customer_id) = lookup(scope, customer)? else { return Ok(None) };
    let organization_id = scope.organization_id();
    if integrations::get(scope, &input.integration_id)?.is_none() {
        let message = "is not an integration of this organization; `GET /integrations` lists them";
        return Err(Error::refused("unknown_integration", "integration_id", message));
    }
    check_count(scope, &customer_id)?;
    let external_key = comparable(&input.external_id);
    reserve(scope, &input.external_id, &external_key)?;
    let made = ConnectedAccount {
        id: scope.id(Prefix::ConnectedAccount),
        customer_id,
        integration_id: input.integration_id.clone(),
        external_id: input.external_id.clone(),
    };
    let sql = "INSERT INTO connected_accounts (organization_id, id, customer_id, integration_id, external_id, external_key) \
               VALUES (:organization_id, :id, :customer_id, :integration_id, :external_id, :external_key)";
    let parameters = [
        ("organization_id", organization_id.into()),
        ("id", made.id.as_str().into()),
        ("customer_id", made.customer_id.as_str().into()),
        ("integration_id", made.integration_id.as_str().into()),
        ("external_id", made.external_id.as_str().into()),
        ("external_key", external_key.into()),
    ];
    scope.transaction.execute(sql, &parameters).map_err(|error| {
        if !error.is_constraint("connected_accounts_external") {
            return Error::from(error);
        }
        let message = format!("is linked already: `{}` belongs to a customer in this integration", made.external_id);
        Error::conflict("external_id_taken", "external_id", message).with_source(error)
    })?;
    scope.audit("customers.create_connected_account", &made.id, &["integration_id", "external_id"])?;
    Ok(Some(made))
}

fn check_count(scope: &mut Scope, customer_id: &str) -> Result<(), Error> {
    let sql = "SELECT COUNT(*) AS links FROM connected_accounts WHERE organization_id = :organization_id \
               AND customer_id = :customer_id";
    let parameters = [("organization_id", scope.organization_id().into()), ("customer_id", customer_id.into())];
    if scope.transaction.one(sql, &parameters)?.integer("links")? < MOST {
        return Ok(());
    }
    let message = format!("A customer can have {MOST} connected accounts");
    Err(Error::refused_state("too_many_connected_accounts", message))
}

/// Makes sure that the external id is no alias and no customer's id, now and later (D-021).
fn reserve(scope: &mut Scope, sent: &str, external_key: &str) -> Result<(), Error> {
    let taken = || {
        let message = format!("is taken: `{sent}` already names a customer of this organization");
        Error::conflict("external_id_taken", "external_id", message)
    };
    if is_customer_id(external_key) && super::get(scope, external_key)?.is_some() {
        return Err(taken());
    }
    let sql = "INSERT INTO customer_identifiers (organization_id, identifier, customer_id) \
               VALUES (:organization_id, :external_key, NULL) ON CONFLICT (organization_id, identifier) \
               DO UPDATE SET customer_id = NULL WHERE customer_identifiers.customer_id IS NULL";
    let parameters = [("organization_id", scope.organization_id().into()), ("external_key", external_key.into())];
    let reserved = scope.transaction.execute_one(sql, &parameters, TAKEN);
    reserved.map_err(|error| if error.is_constraint(TAKEN) { taken().with_source(error) } else { error.into() })
}

/// Removes a link; nothing when the customer has no such link.
pub fn delete_connected_account(scope: &mut Scope, customer: &str, id: &str) -> Result<Option<()>, Error> {
    let Some(customer_id) = lookup(scope, customer)? else { return Ok(None) };
    if !ids::is_id(Prefix::ConnectedAccount, id) {
        return Ok(None);
    }
    let organization_id = scope.organization_id();
    let sql = "SELECT external_key FROM connected_accounts WHERE organization_id = :organization_id AND id = :id \
               AND customer_id = :customer_id";
    let parameters =
        [("organization_id", organization_id.into()), ("id", id.into()), ("customer_id", customer_id.into())];
    let Some(mut row) = scope.transaction.optional(sql, &parameters)? else { return Ok(None) };
    let external_key = row.text("external_key")?;
    let sql = "DELETE FROM connected_accounts WHERE organization_id = :organization_id AND id = :id";
    scope.transaction.execute(sql, &[("organization_id", organization_id.into()), ("id", id.into())])?;
    // The name is free again when no other integration links it.
    let sql = "DELETE FROM customer_identifiers WHERE organization_id = :organization_id AND identifier = :external_key \
               AND customer_id IS NULL AND NOT EXISTS (SELECT 1 FROM connected_accounts AS a \
               WHERE a.organization_id = :organization_id AND a.external_key = :external_key)";
    let parameters = [("organization_id", organization_id.into()), ("external_key", external_key.into())];
    scope.transaction.execute(sql, &parameters)?;
    scope.audit("customers.delete_connected_account", id, &[])?;
    Ok(Some(()))
}
