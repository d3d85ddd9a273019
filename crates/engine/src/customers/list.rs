//! The list of customers with its filters (contract section 5).

use super::identifiers::comparable;
use super::{COLUMNS, Customer, customer, fold};
use crate::error::Error;
use crate::pages::{List, Page, Query, QueryReader, Sort};
use crate::scope::Scope;
use cuenta_store::Parameter;

/// Which customers are asked for.
#[derive(Clone, Debug)]
pub struct ListCustomers {
    page: Page,
    sort: Option<Sort>,
    /// Conditions in SQL and the parameters in them.
    filters: Vec<&'static str>,
    parameters: Vec<Parameter<'static>>,
}

const ALIAS: &str = "id IN (SELECT i.customer_id FROM customer_identifiers AS i \
    WHERE i.organization_id = :organization_id AND i.identifier = :alias)";
const EMAIL: &str = "id IN (SELECT e.customer_id FROM customer_emails AS e \
    WHERE e.organization_id = :organization_id AND e.email = :email)";
const TAGS: &str = "id IN (SELECT t.customer_id FROM customer_tags AS t \
    WHERE t.organization_id = :organization_id AND t.tag_id = ANY(:tag_ids))";
/// The documentation calls the values external integration ids and the parameter names integrations (S-29): either
/// matches.
const INTEGRATIONS: &str = "id IN (SELECT a.customer_id FROM connected_accounts AS a \
    WHERE a.organization_id = :organization_id \
    AND (a.integration_id = ANY(:integration_ids) OR a.external_key = ANY(:integration_ids)))";
const ACTIVE: &str = "id IN (SELECT s.customer_id FROM subscriptions AS s \
    WHERE s.organization_id = :organization_id AND s.status = 'active')";
const INACTIVE: &str = "id NOT IN (SELECT s.customer_id FROM subscriptions AS s \
    WHERE s.organization_id = :organization_id AND s.status = 'active')";

impl ListCustomers {
    /// Reads paging, sorting and every filter.
    pub fn read(query: &Query) -> Result<Self, Error> {
        let mut reader = QueryReader::new(query);
        let (page, sort) = (reader.page(), reader.sort(&["name", "created_at"]));
        let mut wanted = ListCustomers { page, sort, filters: Vec::new(), parameters: Vec::new() };
        if let Some(alias) = reader.text("alias") {
            wanted.filter(ALIAS, ("alias", comparable(alias).into()));
        }
        if let Some(email) = reader.text("email") {
            wanted.filter(EMAIL, ("email", fold(email).into()));
        }
        if let Some(ids) = reader.list("csm_id") {
            wanted.filter("csm_id = ANY(:csm_id)", ("csm_id", ids.into()));
        }
        if let Some(ids) = reader.list("sales_owner_id") {
            wanted.filter("sales_owner_id = ANY(:sales_owner_id)", ("sales_owner_id", ids.into()));
        }
        if let Some(ids) = reader.list("integration_ids") {
            let keys: Vec<String> = ids.iter().map(|id| comparable(id)).collect();
            wanted.filter(INTEGRATIONS, ("integration_ids", keys.into()));
        }
        if let Some(ids) = reader.list("tag_ids") {
            wanted.filter(TAGS, ("tag_ids", ids.into()));
        }
        match reader.flag("has_active_subscriptions") {
            Some(true) => wanted.filters.push(ACTIVE),
            Some(false) => wanted.filters.push(INACTIVE),
            None => {}
        }
        reader.finish().map(|()| wanted)
    }

    fn filter(&mut self, condition: &'static str, parameter: Parameter<'static>) {
        self.filters.push(condition);
        self.parameters.push(parameter);
    }

    /// Ids sort by creation (D-007), so the order by `created_at` with ties by id is the order of the ids.
    fn order(&self) -> &'static str {
        match self.sort {
            Some(Sort { field: "name", descending: false }) => "name, id",
            Some(Sort { field: "name", descending: true }) => "name DESC, id DESC",
            Some(Sort { descending: false, .. }) => "id",
            _ => "id DESC",
        }
    }
}

/// A page of customers, newest first unless it is sorted otherwise.
pub fn list(scope: &mut Scope, input: &ListCustomers) -> Result<List<Customer>, Error> {
    let conditions: String = input.filters.iter().map(|filter| format!(" AND {filter}")).collect();
    let mut parameters = vec![("organization_id", scope.organization_id().into())];
    parameters.extend(input.parameters.iter().cloned());
    let count = if input.filters.is_empty() {
        scope.transaction.tallied(scope.caller().organization_id.as_ref(), "customers")?
    } else {
        let sql =
            format!("SELECT COUNT(*) AS rows FROM customers WHERE organization_id = :organization_id{conditions}");
        scope.transaction.one(&sql, &parameters)?.integer("rows")?
    };
    let order = input.order();
    let sql = format!(
        "SELECT {COLUMNS} FROM customers WHERE organization_id = :organization_id{conditions} \
         ORDER BY {order} LIMIT :limit OFFSET :offset"
    );
    parameters.push(("limit", input.page.limit.into()));
    parameters.push(("offset", input.page.offset.into()));
    let rows = scope.transaction.all(&sql, &parameters)?;
    let data = rows.into_iter().map(customer).collect::<Result<_, _>>()?;
    Ok(List::new(data, input.page, count))
}
