//! Payment methods: how a customer pays (contract section 5). They are saved by a checkout; their details are redacted.

use crate::customers;
use crate::error::Error;
use crate::pages::WholeList;
use crate::scope::{Scope, instant};
use cuenta_store::Row;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

/// The most payment methods of a customer that are listed: the list has no pages.
const MOST: i64 = 1_000;

/// A saved way to pay.
#[derive(Clone, Debug, Serialize)]
pub struct PaymentMethod {
    /// `pm_…`.
    pub id: String,
    /// `cust_…`.
    pub customer_id: String,
    /// Who keeps the real details.
    pub provider: String,
    /// `payment_card` or `bank_transfer`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `{card: …}` or `{bank_account: …}`, redacted.
    pub details: Box<RawValue>,
    /// Whether autopay charges it when a subscription names none.
    pub is_default: bool,
    /// By the organization's clock.
    pub created_at: Timestamp,
}

fn payment_method(mut row: Row) -> Result<PaymentMethod, Error> {
    Ok(PaymentMethod {
        id: row.text("id")?,
        customer_id: row.text("customer_id")?,
        provider: row.text("provider")?,
        kind: row.text("type")?,
        details: RawValue::from_string(row.text("details")?).map_err(Error::internal)?,
        is_default: row.flag("is_default")?,
        created_at: instant(row.integer("created_at")?)?,
    })
}

/// The active payment methods of a customer, newest first; nothing when there is no such customer.
pub fn list_of_customer(scope: &mut Scope, customer: &str) -> Result<Option<WholeList<PaymentMethod>>, Error> {
    let Some(customer_id) = customers::lookup(scope, customer)? else { return Ok(None) };
    let sql = "SELECT id, customer_id, provider, type, details, is_default, created_at FROM payment_methods \
               WHERE organization_id = :organization_id AND customer_id = :customer_id AND is_active \
               ORDER BY id DESC LIMIT :most";
    let parameters = [
        ("organization_id", scope.organization_id().into()),
        ("customer_id", customer_id.into()),
        ("most", MOST.into()),
    ];
    let rows = scope.transaction.all(sql, &parameters)?;
    Ok(Some(WholeList { data: rows.into_iter().map(payment_method).collect::<Result<_, _>>()? }))
}
