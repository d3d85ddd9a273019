//! Entitlements: what a customer may use (contract section 11). They come with the published version of an active
//! subscription.

use crate::customers;
use crate::error::Error;
use crate::pages::WholeList;
use crate::scope::Scope;
use cuenta_store::Row;
use serde::Serialize;
use serde_json::value::RawValue;

/// The most entitlements of a customer that are listed: the list has no pages.
const MOST: i64 = 10_000;

/// An entitlement of a subscription.
#[derive(Clone, Debug, Serialize)]
pub struct Entitlement {
    /// Its name within the subscription.
    pub key: String,
    /// `boolean`, `number`, `string` or `credit_allocation`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `static` or `grant_based`.
    pub mode: String,
    /// For the first three types, always text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// For `credit_allocation`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocation: Option<Box<RawValue>>,
    /// For `grant_based`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timing: Option<Box<RawValue>>,
    /// `sub_…`.
    pub subscription_id: String,
    /// `subv_…`.
    pub version_id: String,
}

fn entitlement(mut row: Row) -> Result<Entitlement, Error> {
    let raw = |text: Option<String>| text.map(RawValue::from_string).transpose().map_err(Error::internal);
    Ok(Entitlement {
        key: row.text("key")?,
        kind: row.text("type")?,
        mode: row.text("mode")?,
        value: row.optional_text("value")?,
        allocation: raw(row.optional_text("allocation")?)?,
        timing: raw(row.optional_text("timing")?)?,
        subscription_id: row.text("subscription_id")?,
        version_id: row.text("version_id")?,
    })
}

/// Every entitlement of every active subscription of a customer; nothing when there is no such customer.
pub fn list_of_customer(scope: &mut Scope, customer: &str) -> Result<Option<WholeList<Entitlement>>, Error> {
    let Some(customer_id) = customers::lookup(scope, customer)? else { return Ok(None) };
    let sql = "SELECT e.key, e.type, e.mode, e.value, e.allocation, e.timing, e.subscription_id, e.version_id \
               FROM subscriptions AS s JOIN entitlements AS e ON e.organization_id = s.organization_id \
               AND e.subscription_id = s.id WHERE s.organization_id = :organization_id \
               AND s.customer_id = :customer_id AND s.status = 'active' ORDER BY e.subscription_id, e.key LIMIT :most";
    let parameters = [
        ("organization_id", scope.organization_id().into()),
        ("customer_id", customer_id.into()),
        ("most", MOST.into()),
    ];
    let rows = scope.transaction.all(sql, &parameters)?;
    Ok(Some(WholeList { data: rows.into_iter().map(entitlement).collect::<Result<_, _>>()? }))
}
