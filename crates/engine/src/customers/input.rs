//! What a caller sends to make or change a customer, and the rules that need no database.

use super::{Address, Contact, fold};
use crate::error::Error;
use crate::input::{
    Fields, Patch, boolean, country, currency, decimal, email, enumeration, list, metadata, object, text,
};
use crate::json::Json;
use cuenta_money::Currency;
use std::collections::HashSet;
use unicode_normalization::UnicodeNormalization;

/// The most aliases, contacts and tags of a customer, and preferences of a contact (D-013).
const MOST: usize = 100;

const TAX_REASONS: &[(&str, &str)] = &[
    ("standard_rated", "standard_rated"),
    ("reverse_charge", "reverse_charge"),
    ("not_collecting", "not_collecting"),
    ("customer_exempt", "customer_exempt"),
    ("zero_rated", "zero_rated"),
    ("other", "other"),
];

const TAX_TYPES: &[(&str, &str)] = &[
    ("gst", "gst"),
    ("hst", "hst"),
    ("igst", "igst"),
    ("jct", "jct"),
    ("lease_tax", "lease_tax"),
    ("pst", "pst"),
    ("qst", "qst"),
    ("sales_tax", "sales_tax"),
    ("service_tax", "service_tax"),
    ("vat", "vat"),
];

/// A contact as it is sent.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the same as in `Contact`")]
pub struct ContactInput {
    /// Ignored on create; on update the id of a contact that stays (D-023).
    pub id: Option<String>,
    pub email: String,
    pub email_preferences: Vec<String>,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub is_primary: bool,
}

impl ContactInput {
    /// On create the id is a placeholder, whatever it is: the documented sample request sends one (D-023).
    fn read_new(fields: &mut Fields<'_>) -> Option<Self> {
        fields.ignored("id");
        Self::read(fields, None)
    }

    fn read_kept(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.optional("id", text(255));
        Self::read(fields, id)
    }

    fn read(fields: &mut Fields<'_>, id: Option<String>) -> Option<Self> {
        let email = fields.required("email", email);
        let email_preferences = fields.optional("email_preferences", list(MOST, text(100)));
        let first_name = fields.optional("first_name", text(255));
        let last_name = fields.optional("last_name", text(255));
        let is_primary = fields.required("is_primary", boolean);
        let (email, is_primary) = (email?, is_primary?);
        let email_preferences = email_preferences.unwrap_or_default();
        Some(ContactInput { id, email, email_preferences, first_name, last_name, is_primary })
    }

    pub(super) fn with_id(&self, id: String) -> Contact {
        Contact {
            id,
            email: self.email.clone(),
            email_preferences: self.email_preferences.clone(),
            first_name: self.first_name.clone(),
            last_name: self.last_name.clone(),
            is_primary: self.is_primary,
        }
    }
}

fn read_address(fields: &mut Fields<'_>) -> Option<Address> {
    let line1 = fields.required("line1", text(255));
    let line2 = fields.optional("line2", text(255));
    let city = fields.required("city", text(255));
    let state = fields.required("state", text(255));
    let postal_code = fields.required("postal_code", text(255));
    let country = fields.required("country", country);
    let country = country?.code().to_owned();
    Some(Address { line1: line1?, line2, city: city?, state: state?, postal_code: postal_code?, country })
}

/// What a new customer is to be. The properties are those of [`super::Customer`].
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the same as in `Customer`")]
pub struct CreateCustomer {
    pub name: String,
    pub currency: Currency,
    pub aliases: Vec<String>,
    pub billing_address: Option<Address>,
    pub contacts: Vec<ContactInput>,
    pub tag_ids: Vec<String>,
    pub csm_id: Option<String>,
    pub sales_owner_id: Option<String>,
    pub parent_customer_id: Option<String>,
    pub metadata: Option<Json>,
    pub tax_country: Option<String>,
    pub tax_id: Option<String>,
    pub tax_rate: Option<String>,
    pub tax_reason: Option<String>,
    pub tax_type: Option<String>,
    /// The names of the properties that were sent, for the audit log.
    pub properties: Vec<&'static str>,
}

impl CreateCustomer {
    /// Reads the body of `customers.create`.
    pub fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let name = fields.required("name", text(255));
        let currency = fields.required("currency", currency);
        let aliases = fields.optional("aliases", list(MOST, text(255)));
        let billing_address = fields.optional("billing_address", object(read_address));
        let contacts = fields.optional("contacts", list(MOST, object(ContactInput::read_new)));
        let tag_ids = fields.optional("tag_ids", list(MOST, text(255)));
        let csm_id = fields.optional("csm_id", text(255));
        let sales_owner_id = fields.optional("sales_owner_id", text(255));
        let parent_customer_id = fields.optional("parent_customer_id", text(255));
        let metadata = fields.optional("metadata", metadata);
        let tax_country = fields.optional("tax_country", country);
        let tax_id = fields.optional("tax_id", text(255));
        let tax_rate = fields.optional("tax_rate", decimal);
        let tax_reason = fields.optional("tax_reason", enumeration(TAX_REASONS));
        let tax_type = fields.optional("tax_type", enumeration(TAX_TYPES));
        Some(CreateCustomer {
            name: name?,
            currency: currency?,
            aliases: aliases.unwrap_or_default(),
            billing_address,
            contacts: contacts.unwrap_or_default(),
            tag_ids: tag_ids.unwrap_or_default(),
            csm_id,
            sales_owner_id,
            parent_customer_id,
            metadata,
            tax_country: tax_country.map(|country| country.code().to_owned()),
            tax_id,
            tax_rate: tax_rate.map(|rate| rate.as_str().to_owned()),
            tax_reason: tax_reason.map(str::to_owned),
            tax_type: tax_type.map(str::to_owned),
            properties: fields.sent(),
        })
    }

    /// The rules that concern several properties (422).
    pub(super) fn check(&self) -> Result<(), Error> {
        check_lists(&self.aliases, &self.contacts, &self.tag_ids)?;
        check_tax_rate(self.tax_rate.as_deref())
    }
}

/// What is to change. The properties are those of [`super::Customer`].
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the same as in `Customer`")]
pub struct UpdateCustomer {
    pub name: Option<String>,
    pub currency: Option<Currency>,
    pub aliases: Patch<Vec<String>>,
    pub billing_address: Patch<Address>,
    pub contacts: Patch<Vec<ContactInput>>,
    pub tag_ids: Patch<Vec<String>>,
    pub csm_id: Patch<String>,
    pub sales_owner_id: Patch<String>,
    pub parent_customer_id: Patch<String>,
    pub metadata: Patch<Json>,
    pub tax_country: Patch<String>,
    pub tax_id: Patch<String>,
    pub tax_rate: Patch<String>,
    pub tax_reason: Patch<String>,
    pub tax_type: Patch<String>,
    /// The names of the properties that were sent, for the audit log.
    pub properties: Vec<&'static str>,
}

impl UpdateCustomer {
    /// Reads the body of `customers.update`.
    pub fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(UpdateCustomer {
            name: fields.patch_required("name", text(255)),
            currency: fields.patch_required("currency", currency),
            aliases: fields.patch("aliases", list(MOST, text(255))),
            billing_address: fields.patch("billing_address", object(read_address)),
            contacts: fields.patch("contacts", list(MOST, object(ContactInput::read_kept))),
            tag_ids: fields.patch("tag_ids", list(MOST, text(255))),
            csm_id: fields.patch("csm_id", text(255)),
            sales_owner_id: fields.patch("sales_owner_id", text(255)),
            parent_customer_id: fields.patch("parent_customer_id", text(255)),
            metadata: fields.patch("metadata", metadata),
            tax_country: fields.patch("tax_country", country).map(|country| country.code().to_owned()),
            tax_id: fields.patch("tax_id", text(255)),
            tax_rate: fields.patch("tax_rate", decimal).map(|rate| rate.as_str().to_owned()),
            tax_reason: fields.patch("tax_reason", enumeration(TAX_REASONS)).map(str::to_owned),
            tax_type: fields.patch("tax_type", enumeration(TAX_TYPES)).map(str::to_owned),
            properties: fields.sent(),
        })
    }

    /// The rules that concern several properties (422).
    pub(super) fn check(&self) -> Result<(), Error> {
        let list = |patch: &Patch<Vec<String>>| patch.as_option().cloned().unwrap_or_default();
        let contacts = self.contacts.as_option().cloned().unwrap_or_default();
        check_lists(&list(&self.aliases), &contacts, &list(&self.tag_ids))?;
        check_tax_rate(self.tax_rate.as_option().map(String::as_str))
    }
}

fn check_tax_rate(rate: Option<&str>) -> Result<(), Error> {
    let rate = rate.and_then(|rate| cuenta_money::DecimalText::parse(rate).ok());
    match rate {
        Some(rate) if !rate.within_zero_and_one() => {
            Err(Error::refused("tax_rate_out_of_range", "tax_rate", "must be a fraction from 0 to 1; 0.2 is 20 %"))
        }
        _ => Ok(()),
    }
}

fn check_lists(aliases: &[String], contacts: &[ContactInput], tag_ids: &[String]) -> Result<(), Error> {
    let aliases: Vec<String> = aliases.iter().map(|alias| alias.nfc().collect()).collect();
    refuse_repeats("aliases", "", &aliases)?;
    refuse_repeats("tag_ids", "", tag_ids)?;
    let emails: Vec<String> = contacts.iter().map(|contact| fold(&contact.email)).collect();
    refuse_repeats("contacts", ".email", &emails)?;
    let mut primary = contacts.iter().zip(0..).filter(|(contact, _)| contact.is_primary).map(|(_, index)| index);
    if let (Some(first), Some(second)) = (primary.next(), primary.next()) {
        let message = format!("is set although contacts[{first}] is the primary contact");
        return Err(Error::refused("two_primary_contacts", format!("contacts[{second}].is_primary"), message));
    }
    Ok(())
}

fn refuse_repeats(list: &str, property: &str, values: &[String]) -> Result<(), Error> {
    let mut seen = HashSet::new();
    match values.iter().zip(0..).find(|(value, _)| !seen.insert(*value)) {
        Some((_, index)) => {
            let field = format!("{list}[{index}]{property}");
            Err(Error::refused("repeated_value", field, "repeats another one of the list"))
        }
        None => Ok(()),
    }
}
