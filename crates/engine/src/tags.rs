//! Tags: names and colors that people attach to other things (contract section 19). They are made here (D-011) and never
//! changed.

use crate::error::Error;
use crate::ids::{self, Prefix};
use crate::input::{Fields, checked, color, enumeration, list as list_of, text};
use crate::pages::{List, Page, Query, QueryReader};
use crate::scope::{Scope, instant};
use cuenta_store::Row;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What a tag can be attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is the noun of its name")]
pub enum TaggableEntityType {
    Product,
    Customer,
    Plan,
    Subscription,
    Metric,
    Invoice,
    Quote,
}

const ENTITY_TYPES: &[(&str, TaggableEntityType)] = &[
    ("product", TaggableEntityType::Product),
    ("customer", TaggableEntityType::Customer),
    ("plan", TaggableEntityType::Plan),
    ("subscription", TaggableEntityType::Subscription),
    ("metric", TaggableEntityType::Metric),
    ("invoice", TaggableEntityType::Invoice),
    ("quote", TaggableEntityType::Quote),
];

/// A tag.
#[derive(Clone, Debug, Serialize)]
pub struct Tag {
    /// `tag_…`.
    pub id: String,
    /// 1 to 255 characters; two tags may have the same.
    pub name: String,
    /// `#RRGGBB`, as sent.
    pub color: String,
    /// What it can be attached to; at least one.
    pub entity_types: Vec<TaggableEntityType>,
    /// By the organization's clock.
    pub created_at: Timestamp,
    /// Equal to `created_at`.
    pub updated_at: Timestamp,
}

/// What a new tag is to be.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the same as in `Tag`")]
pub struct CreateTag {
    pub name: String,
    pub color: String,
    pub entity_types: Vec<TaggableEntityType>,
}

impl CreateTag {
    /// Reads `{name, color, entity_types[]}`.
    pub fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let name = fields.required("name", text(255));
        let color = fields.required("color", color);
        let kinds = checked(
            list_of(ENTITY_TYPES.len(), enumeration(ENTITY_TYPES)),
            |kinds: &Vec<TaggableEntityType>| {
                !kinds.is_empty() && !kinds.iter().enumerate().any(|(at, kind)| kinds[..at].contains(kind))
            },
            "must name at least one entity type, each once",
        );
        let entity_types = fields.required("entity_types", kinds);
        Some(CreateTag { name: name?, color: color?, entity_types: entity_types? })
    }
}

const COLUMNS: &str = "id, name, color, entity_types, created_at, updated_at";

fn tag(mut row: Row) -> Result<Tag, Error> {
    Ok(Tag {
        id: row.text("id")?,
        name: row.text("name")?,
        color: row.text("color")?,
        entity_types: serde_json::from_str(&row.text("entity_types")?).map_err(Error::internal)?,
        created_at: instant(row.integer("created_at")?)?,
        updated_at: instant(row.integer("updated_at")?)?,
    })
}

/// Makes a tag.
pub fn create(scope: &mut Scope, input: &CreateTag) -> Result<Tag, Error> {
    let made = Tag {
        id: scope.id(Prefix::Tag),
        name: input.name.clone(),
        color: input.color.clone(),
        entity_types: input.entity_types.clone(),
        created_at: scope.now(),
        updated_at: scope.now(),
    };
    let sql = "INSERT INTO tags (organization_id, id, name, color, entity_types, created_at, updated_at) \
               VALUES (:organization_id, :id, :name, :color, :entity_types, :now, :now)";
    let parameters = [
        ("organization_id", scope.organization_id().into()),
        ("id", made.id.as_str().into()),
        ("name", made.name.as_str().into()),
        ("color", made.color.as_str().into()),
        ("entity_types", serde_json::to_string(&made.entity_types).map_err(Error::internal)?.into()),
        ("now", made.created_at.as_microsecond().into()),
    ];
    scope.transaction.execute(sql, &parameters)?;
    scope.transaction.tally(scope.caller().organization_id.as_ref(), "tags", 1);
    scope.audit("tags.create", &made.id, &["name", "color", "entity_types"])?;
    Ok(made)
}

/// Which tags are asked for.
#[derive(Clone, Copy, Debug)]
pub struct ListTags {
    page: Page,
}

impl ListTags {
    /// Reads `limit` and `offset`.
    pub fn read(query: &Query) -> Result<Self, Error> {
        let mut reader = QueryReader::new(query);
        let page = reader.page();
        reader.finish().map(|()| ListTags { page })
    }
}

/// Tags by name, ties by id.
pub fn list(scope: &mut Scope, input: &ListTags) -> Result<List<Tag>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM tags WHERE organization_id = :organization_id ORDER BY name, id LIMIT :limit OFFSET :offset"
    );
    let parameters = [
        ("organization_id", scope.organization_id().into()),
        ("limit", input.page.limit.into()),
        ("offset", input.page.offset.into()),
    ];
    let rows = scope.transaction.all(&sql, &parameters)?;
    let data = rows.into_iter().map(tag).collect::<Result<_, _>>()?;
    let count = scope.transaction.tallied(scope.caller().organization_id.as_ref(), "tags")?;
    Ok(List::new(data, input.page, count))
}

/// One tag, or nothing.
pub fn get(scope: &mut Scope, id: &str) -> Result<Option<Tag>, Error> {
    if !ids::is_id(Prefix::Tag, id) {
        return Ok(None);
    }
    let sql = format!("SELECT {COLUMNS} FROM tags WHERE organization_id = :organization_id AND id = :id");
    let parameters = [("organization_id", scope.organization_id().into()), ("id", id.into())];
    scope.transaction.optional(&sql, &parameters)?.map(tag).transpose()
}

/// What each of these tags can be attached to; tags that do not exist are left out.
pub fn entity_types(scope: &mut Scope, ids: &[String]) -> Result<Vec<(String, Vec<TaggableEntityType>)>, Error> {
    let sql = "SELECT id, entity_types FROM tags WHERE organization_id = :organization_id AND id = ANY(:ids)";
    let parameters = [("organization_id", scope.organization_id().into()), ("ids", ids.to_vec().into())];
    let read = |mut row: Row| {
        let id = row.text("id")?;
        Ok((id, serde_json::from_str(&row.text("entity_types")?).map_err(Error::internal)?))
    };
    scope.transaction.all(sql, &parameters)?.into_iter().map(read).collect()
}
