//! Integrations: the other systems an organization is connected with (contract section 19). They are made here (D-011).

use crate::error::Error;
use crate::ids::{self, Prefix};
use crate::input::{Fields, multiline_text, text};
use crate::pages::{Query, QueryReader, WholeList};
use crate::scope::{Scope, instant};
use cuenta_store::Row;
use jiff::Timestamp;
use serde::Serialize;

/// The most integrations an organization may have: their list has no pages.
const MOST: i64 = 1_000;

/// A connected system.
#[derive(Clone, Debug, Serialize)]
pub struct Integration {
    /// `intg_…`.
    pub id: String,
    /// Such as `stripe` or `hubspot`; free text of 1 to 255 characters.
    pub provider: String,
    /// Tells two of the same provider apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// By the organization's clock.
    pub created_at: Timestamp,
}

/// What a new integration is to be.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the same as in `Integration`")]
pub struct CreateIntegration {
    pub provider: String,
    pub description: Option<String>,
}

impl CreateIntegration {
    /// Reads `{provider, description?}`.
    pub fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let provider = fields.required("provider", text(255));
        let description = fields.optional("description", multiline_text(5_000));
        Some(CreateIntegration { provider: provider?, description })
    }
}

const COLUMNS: &str = "id, provider, description, created_at";

fn integration(mut row: Row) -> Result<Integration, Error> {
    Ok(Integration {
        id: row.text("id")?,
        provider: row.text("provider")?,
        description: row.optional_text("description")?,
        created_at: instant(row.integer("created_at")?)?,
    })
}

/// Makes an integration. More than 1,000 are 422.
pub fn create(scope: &mut Scope, input: &CreateIntegration) -> Result<Integration, Error> {
    let organization_id = scope.organization_id();
    if scope.transaction.tallied(organization_id, "integrations")? >= MOST {
        let message = format!("An organization can have {MOST} integrations");
        return Err(Error::refused_state("too_many_integrations", message));
    }
    let made = Integration {
        id: scope.id(Prefix::Integration),
        provider: input.provider.clone(),
        description: input.description.clone(),
        created_at: scope.now(),
    };
    let sql = "INSERT INTO integrations (organization_id, id, provider, description, created_at) \
               VALUES (:organization_id, :id, :provider, :description, :created_at)";
    let parameters = [
        ("organization_id", organization_id.into()),
        ("id", made.id.as_str().into()),
        ("provider", made.provider.as_str().into()),
        ("description", made.description.as_deref().into()),
        ("created_at", made.created_at.as_microsecond().into()),
    ];
    scope.transaction.execute(sql, &parameters)?;
    scope.transaction.tally(organization_id, "integrations", 1);
    scope.audit("integrations.create", &made.id, &["provider", "description"])?;
    Ok(made)
}

/// Which integrations are asked for.
#[derive(Clone, Debug)]
pub struct ListIntegrations {
    provider: Option<String>,
}

impl ListIntegrations {
    /// Reads `provider`.
    pub fn read(query: &Query) -> Result<Self, Error> {
        let mut reader = QueryReader::new(query);
        let provider = reader.text("provider").map(str::to_owned);
        reader.finish().map(|()| ListIntegrations { provider })
    }
}

/// All integrations, newest first.
pub fn list(scope: &mut Scope, input: &ListIntegrations) -> Result<WholeList<Integration>, Error> {
    let filter = if input.provider.is_some() { "AND provider = :provider" } else { "" };
    let sql = format!(
        "SELECT {COLUMNS} FROM integrations WHERE organization_id = :organization_id {filter} ORDER BY id DESC LIMIT :most"
    );
    let parameters = [
        ("organization_id", scope.organization_id().into()),
        ("provider", input.provider.as_deref().into()),
        ("most", MOST.into()),
    ];
    let rows = scope.transaction.all(&sql, &parameters)?;
    Ok(WholeList { data: rows.into_iter().map(integration).collect::<Result<_, _>>()? })
}

/// One integration, or nothing.
pub fn get(scope: &mut Scope, id: &str) -> Result<Option<Integration>, Error> {
    if !ids::is_id(Prefix::Integration, id) {
        return Ok(None);
    }
    let sql = format!("SELECT {COLUMNS} FROM integrations WHERE organization_id = :organization_id AND id = :id");
    let parameters = [("organization_id", scope.organization_id().into()), ("id", id.into())];
    scope.transaction.optional(&sql, &parameters)?.map(integration).transpose()
}
