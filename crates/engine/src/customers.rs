//! Customers: who is billed (contract section 5, D-020 to D-024). This room protects that a name finds one customer:
//! ids, aliases and external ids never mean two.

mod connected_accounts;
mod identifiers;
mod input;
mod list;

pub use connected_accounts::{
    ConnectedAccount, CreateConnectedAccount, create_connected_account, delete_connected_account,
    list_connected_accounts,
};
pub use identifiers::{find, lookup};
pub use input::{ContactInput, CreateCustomer, UpdateCustomer};
pub use list::{ListCustomers, list};

use crate::error::Error;
use crate::ids::{self, Prefix};
use crate::input::Patch;
use crate::scope::{Scope, instant};
use crate::tags::{TaggableEntityType, entity_types};
use cuenta_store::{Parameter, Row};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// How many parents are followed upwards to find a circle.
const DEEPEST_FAMILY: usize = 32;

/// A customer, as it is stored and answered.
#[derive(Clone, Debug, Serialize)]
pub struct Customer {
    /// `cust_…`.
    pub id: String,
    /// 1 to 255 characters, as sent.
    pub name: String,
    /// The default currency, ISO 4217.
    pub currency: String,
    /// Other names of the customer, as sent; unique in the organization in NFC (D-021).
    pub aliases: Vec<String>,
    /// Where invoices go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub billing_address: Option<Address>,
    /// People; at most one of them is the primary one (D-023).
    pub contacts: Vec<Contact>,
    /// Tags that can be attached to customers, in the order they were sent (D-020).
    pub tag_ids: Vec<String>,
    /// An opaque id of the customer success manager.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub csm_id: Option<String>,
    /// An opaque id of the owner in sales.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sales_owner_id: Option<String>,
    /// The customer above this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_customer_id: Option<String>,
    /// Free data of the caller, number tokens as they were sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Box<RawValue>>,
    /// ISO 3166-1 alpha-3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tax_country: Option<String>,
    /// Such as a VAT number; not checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tax_id: Option<String>,
    /// A fraction: `0.20` is 20 % (S-07).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tax_rate: Option<String>,
    /// A `TaxabilityReason` of the contract.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tax_reason: Option<String>,
    /// Set by a tax provider; nothing sets it yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tax_status: Option<String>,
    /// A `TaxType` of the contract.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tax_type: Option<String>,
    /// By the organization's clock.
    pub created_at: Timestamp,
    /// When a property was last sent to be changed.
    pub updated_at: Timestamp,
}

/// A postal address; all but the second line are required, for every country.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Street and number.
    pub line1: String,
    /// More of it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub line2: Option<String>,
    /// City.
    pub city: String,
    /// State, province or region.
    pub state: String,
    /// Postal code.
    pub postal_code: String,
    /// ISO 3166-1 alpha-3.
    pub country: String,
}

/// A person at a customer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// `cont_…`; stays as long as updates send it.
    pub id: String,
    /// As sent; unique in the customer without regard to case.
    pub email: String,
    /// Free strings; `billing`, `legal`, `updates` and `admin` steer mail.
    pub email_preferences: Vec<String>,
    /// Given name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub first_name: Option<String>,
    /// Family name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_name: Option<String>,
    /// Whether this is the one to write to.
    pub is_primary: bool,
}

/// The columns of [`Customer`] in the order in which [`customer`] reads them.
const COLUMNS: &str = "id, name, currency, aliases, billing_address, contacts, tag_ids, csm_id, sales_owner_id, \
    parent_customer_id, metadata, tax_country, tax_id, tax_rate, tax_reason, tax_status, tax_type, created_at, updated_at";

fn customer(mut row: Row) -> Result<Customer, Error> {
    Ok(Customer {
        id: row.text("id")?,
        name: row.text("name")?,
        currency: row.text("currency")?,
        aliases: from_json(&row.text("aliases")?)?,
        billing_address: row.optional_text("billing_address")?.map(|text| from_json(&text)).transpose()?,
        contacts: from_json(&row.text("contacts")?)?,
        tag_ids: from_json(&row.text("tag_ids")?)?,
        csm_id: row.optional_text("csm_id")?,
        sales_owner_id: row.optional_text("sales_owner_id")?,
        parent_customer_id: row.optional_text("parent_customer_id")?,
        metadata: row.optional_text("metadata")?.map(raw_json).transpose()?,
        tax_country: row.optional_text("tax_country")?,
        tax_id: row.optional_text("tax_id")?,
        tax_rate: row.optional_text("tax_rate")?,
        tax_reason: row.optional_text("tax_reason")?,
        tax_status: row.optional_text("tax_status")?,
        tax_type: row.optional_text("tax_type")?,
        created_at: instant(row.integer("created_at")?)?,
        updated_at: instant(row.integer("updated_at")?)?,
    })
}

impl Customer {
    /// The values behind [`COLUMNS`], and the organization's.
    fn parameters(&self, organization_id: &str) -> Result<Vec<Parameter<'static>>, Error> {
        let address = self.billing_address.as_ref().map(to_json).transpose()?;
        Ok(vec![
            ("organization_id", organization_id.into()),
            ("id", self.id.as_str().into()),
            ("name", self.name.as_str().into()),
            ("currency", self.currency.as_str().into()),
            ("aliases", to_json(&self.aliases)?.into()),
            ("billing_address", address.into()),
            ("contacts", to_json(&self.contacts)?.into()),
            ("tag_ids", to_json(&self.tag_ids)?.into()),
            ("csm_id", self.csm_id.as_deref().into()),
            ("sales_owner_id", self.sales_owner_id.as_deref().into()),
            ("parent_customer_id", self.parent_customer_id.as_deref().into()),
            ("metadata", self.metadata.as_ref().map(|raw| raw.get()).into()),
            ("tax_country", self.tax_country.as_deref().into()),
            ("tax_id", self.tax_id.as_deref().into()),
            ("tax_rate", self.tax_rate.as_deref().into()),
            ("tax_reason", self.tax_reason.as_deref().into()),
            ("tax_status", self.tax_status.as_deref().into()),
            ("tax_type", self.tax_type.as_deref().into()),
            ("created_at", self.created_at.as_microsecond().into()),
            ("updated_at", self.updated_at.as_microsecond().into()),
        ])
    }
}

/// Makes a customer. 409: an alias is taken. 422: an unknown tag or parent, a second primary contact, a repeated alias
/// or e-mail address.
pub fn create(scope: &mut Scope, input: &CreateCustomer) -> Result<Customer, Error> {
    input.check()?;
    let made = Customer {
        id: scope.id(Prefix::Customer),
        name: input.name.clone(),
        currency: input.currency.code().to_owned(),
        aliases: input.aliases.clone(),
        billing_address: input.billing_address.clone(),
        contacts: input.contacts.iter().map(|contact| contact.with_id(scope.id(Prefix::Contact))).collect(),
        tag_ids: input.tag_ids.clone(),
        csm_id: input.csm_id.clone(),
        sales_owner_id: input.sales_owner_id.clone(),
        parent_customer_id: input.parent_customer_id.clone(),
        metadata: input.metadata.as_ref().map(|json| raw_json(json.to_string())).transpose()?,
        tax_country: input.tax_country.clone(),
        tax_id: input.tax_id.clone(),
        tax_rate: input.tax_rate.clone(),
        tax_reason: input.tax_reason.clone(),
        tax_status: None,
        tax_type: input.tax_type.clone(),
        created_at: scope.now(),
        updated_at: scope.now(),
    };
    check_tags(scope, &made.tag_ids)?;
    check_parent(scope, &made)?;
    let organization_id = scope.organization_id();
    let sql = "INSERT INTO customers (organization_id, id, name, currency, aliases, billing_address, contacts, tag_ids, \
               csm_id, sales_owner_id, parent_customer_id, metadata, tax_country, tax_id, tax_rate, tax_reason, \
               tax_status, tax_type, created_at, updated_at) \
               VALUES (:organization_id, :id, :name, :currency, :aliases, :billing_address, :contacts, :tag_ids, \
               :csm_id, :sales_owner_id, :parent_customer_id, :metadata, :tax_country, :tax_id, :tax_rate, :tax_reason, \
               :tax_status, :tax_type, :created_at, :updated_at)";
    scope.transaction.execute(sql, &made.parameters(organization_id)?)?;
    scope.transaction.tally(organization_id, "customers", 1);
    identifiers::replace_aliases(scope, &made.id, &[], &made.aliases)?;
    replace_emails(scope, &made.id, &[], &made.contacts)?;
    replace_tags(scope, &made.id, &[], &made.tag_ids)?;
    scope.audit("customers.create", &made.id, &input.properties)?;
    Ok(made)
}

/// One customer by its id; nothing when there is none. Aliases are the business of [`find`].
pub fn get(scope: &mut Scope, id: &str) -> Result<Option<Customer>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM customers WHERE organization_id = :organization_id AND id = :id");
    let parameters = [("organization_id", scope.organization_id().into()), ("id", id.into())];
    scope.transaction.optional(&sql, &parameters)?.map(customer).transpose()
}

/// Changes what is sent; lists are replaced whole. Refusals as in [`create`], and 422 for a contact id that is not this
/// customer's and for a currency that may not change (D-024).
pub fn update(scope: &mut Scope, name: &str, input: &UpdateCustomer) -> Result<Option<Customer>, Error> {
    let Some(before) = find(scope, name)? else { return Ok(None) };
    input.check()?;
    let mut after = before.clone();
    if let Some(name) = &input.name {
        after.name.clone_from(name);
    }
    if let Some(currency) = input.currency {
        currency.code().clone_into(&mut after.currency);
    }
    match &input.contacts {
        Patch::Absent => {}
        Patch::Null => after.contacts.clear(),
        Patch::Value(contacts) => after.contacts = keep_ids(scope, &before.contacts, contacts)?,
    }
    patch_list(&input.aliases, &mut after.aliases);
    patch_list(&input.tag_ids, &mut after.tag_ids);
    input.billing_address.clone().apply(&mut after.billing_address);
    input.csm_id.clone().apply(&mut after.csm_id);
    input.sales_owner_id.clone().apply(&mut after.sales_owner_id);
    input.parent_customer_id.clone().apply(&mut after.parent_customer_id);
    match &input.metadata {
        Patch::Absent => {}
        Patch::Null => after.metadata = None,
        Patch::Value(json) => after.metadata = Some(raw_json(json.to_string())?),
    }
    input.tax_country.clone().apply(&mut after.tax_country);
    input.tax_id.clone().apply(&mut after.tax_id);
    input.tax_rate.clone().apply(&mut after.tax_rate);
    input.tax_reason.clone().apply(&mut after.tax_reason);
    input.tax_type.clone().apply(&mut after.tax_type);
    if input.properties.is_empty() {
        return Ok(Some(after));
    }
    after.updated_at = scope.now();
    store_changes(scope, &before, &after)?;
    scope.audit("customers.update", &after.id, &input.properties)?;
    Ok(Some(after))
}

fn patch_list(patch: &Patch<Vec<String>>, target: &mut Vec<String>) {
    match patch {
        Patch::Absent => {}
        Patch::Null => target.clear(),
        Patch::Value(values) => target.clone_from(values),
    }
}

fn store_changes(scope: &mut Scope, before: &Customer, after: &Customer) -> Result<(), Error> {
    if before.currency != after.currency {
        check_currency_is_free(scope, &before.id)?;
    }
    if before.tag_ids != after.tag_ids {
        check_tags(scope, &after.tag_ids)?;
    }
    if before.parent_customer_id != after.parent_customer_id {
        check_parent(scope, after)?;
    }
    let sql = "UPDATE customers SET name = :name, currency = :currency, aliases = :aliases, \
               billing_address = :billing_address, contacts = :contacts, tag_ids = :tag_ids, csm_id = :csm_id, \
               sales_owner_id = :sales_owner_id, parent_customer_id = :parent_customer_id, metadata = :metadata, \
               tax_country = :tax_country, tax_id = :tax_id, tax_rate = :tax_rate, tax_reason = :tax_reason, \
               tax_status = :tax_status, tax_type = :tax_type, updated_at = :updated_at \
               WHERE organization_id = :organization_id AND id = :id";
    scope.transaction.execute(sql, &after.parameters(scope.organization_id())?)?;
    identifiers::replace_aliases(scope, &after.id, &before.aliases, &after.aliases)?;
    replace_emails(scope, &after.id, &before.contacts, &after.contacts)?;
    replace_tags(scope, &after.id, &before.tag_ids, &after.tag_ids)
}

/// Gives a contact that is sent with its id that id, and any other a new one (D-023).
fn keep_ids(scope: &Scope, before: &[Contact], sent: &[ContactInput]) -> Result<Vec<Contact>, Error> {
    let mut contacts: Vec<Contact> = Vec::with_capacity(sent.len());
    for (contact, index) in sent.iter().zip(0..) {
        let refused = |message: &str| Error::refused("unknown_contact", format!("contacts[{index}].id"), message);
        let id = match &contact.id {
            None => scope.id(Prefix::Contact),
            Some(id) if contacts.iter().any(|other| other.id == *id) => {
                return Err(refused("is sent for two contacts"));
            }
            Some(id) if before.iter().any(|known| known.id == *id) => id.clone(),
            Some(_) => return Err(refused("is not a contact of this customer; leave it out to add one")),
        };
        contacts.push(contact.with_id(id));
    }
    Ok(contacts)
}

/// D-024: the currency stays while a subscription is live.
fn check_currency_is_free(scope: &mut Scope, id: &str) -> Result<(), Error> {
    let sql = "SELECT 1 AS found FROM subscriptions WHERE organization_id = :organization_id AND customer_id = :id \
               AND status = 'active' LIMIT 1";
    let parameters = [("organization_id", scope.organization_id().into()), ("id", id.into())];
    if scope.transaction.exists(sql, &parameters)? {
        let message = "cannot change while a subscription of the customer is live";
        return Err(Error::refused("currency_in_use", "currency", message));
    }
    Ok(())
}

fn check_tags(scope: &mut Scope, tag_ids: &[String]) -> Result<(), Error> {
    if tag_ids.is_empty() {
        return Ok(());
    }
    let known = entity_types(scope, tag_ids)?;
    for (tag_id, index) in tag_ids.iter().zip(0..) {
        let field = || format!("tag_ids[{index}]");
        match known.iter().find(|(id, _)| id == tag_id) {
            None => return Err(Error::refused("unknown_tag", field(), "is not a tag of this organization")),
            Some((_, kinds)) if !kinds.contains(&TaggableEntityType::Customer) => {
                return Err(Error::refused("tag_not_for_customers", field(), "cannot be attached to customers"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// The parent exists, and no chain of parents leads back.
fn check_parent(scope: &mut Scope, child: &Customer) -> Result<(), Error> {
    let refused = |message: &str| Error::refused("unknown_parent_customer", "parent_customer_id", message);
    let mut above = child.parent_customer_id.clone();
    for step in 0..DEEPEST_FAMILY {
        let Some(id) = above else { return Ok(()) };
        if id == child.id {
            return Err(refused("must not lead back to the customer itself"));
        }
        let sql = "SELECT parent_customer_id FROM customers WHERE organization_id = :organization_id AND id = :id";
        let parameters = [("organization_id", scope.organization_id().into()), ("id", id.as_str().into())];
        above = match scope.transaction.optional(sql, &parameters)? {
            Some(mut row) => row.optional_text("parent_customer_id")?,
            None if step == 0 => return Err(refused("is not the id of a customer of this organization")),
            None => None,
        };
    }
    Err(refused("must have at most 32 customers above it"))
}

/// The addresses by which the list finds a customer, compared without case.
fn replace_emails(scope: &mut Scope, id: &str, before: &[Contact], after: &[Contact]) -> Result<(), Error> {
    let folded = |contacts: &[Contact]| contacts.iter().map(|contact| fold(&contact.email)).collect::<Vec<_>>();
    let remove = "DELETE FROM customer_emails WHERE organization_id = :organization_id AND email = :name \
                  AND customer_id = :customer_id";
    let add = "INSERT INTO customer_emails (organization_id, email, customer_id) \
               VALUES (:organization_id, :name, :customer_id)";
    replace_names(scope, id, &folded(before), &folded(after), [remove, add])
}

fn replace_tags(scope: &mut Scope, id: &str, before: &[String], after: &[String]) -> Result<(), Error> {
    let remove = "DELETE FROM customer_tags WHERE organization_id = :organization_id AND tag_id = :name \
                  AND customer_id = :customer_id";
    let add = "INSERT INTO customer_tags (organization_id, tag_id, customer_id) \
               VALUES (:organization_id, :name, :customer_id)";
    replace_names(scope, id, before, after, [remove, add])
}

/// Removes the rows of names that are gone and adds those of new ones.
fn replace_names(
    scope: &mut Scope,
    customer_id: &str,
    before: &[String],
    after: &[String],
    [remove, add]: [&str; 2],
) -> Result<(), Error> {
    let gone = before.iter().filter(|name| !after.contains(name)).map(|name| (remove, name));
    let new = after.iter().filter(|name| !before.contains(name)).map(|name| (add, name));
    for (sql, name) in gone.chain(new) {
        let parameters = [
            ("organization_id", scope.organization_id().into()),
            ("name", name.into()),
            ("customer_id", customer_id.into()),
        ];
        scope.transaction.execute(sql, &parameters)?;
    }
    Ok(())
}

/// An e-mail address as it is compared.
fn fold(email: &str) -> String {
    email.to_lowercase()
}

fn to_json<T: Serialize>(value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(Error::internal)
}

fn from_json<T: for<'text> Deserialize<'text>>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(Error::internal)
}

fn raw_json(text: String) -> Result<Box<RawValue>, Error> {
    RawValue::from_string(text).map_err(Error::internal)
}

/// Whether a text can be the id of a customer.
fn is_customer_id(text: &str) -> bool {
    ids::is_id(Prefix::Customer, text)
}
