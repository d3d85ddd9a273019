//! By which names a customer is found: its id, its aliases, and the external ids of its connected accounts, in this
//! order (D-021). One table holds every alias and external id, so that none can mean two things.

use super::{COLUMNS, Customer, customer, get, is_customer_id};
use crate::error::Error;
use crate::scope::Scope;
use unicode_normalization::UnicodeNormalization;

/// The constraint that is violated when a name is taken.
pub(super) const TAKEN: &str = "customer_identifiers_pkey";

/// A name as it is compared.
pub(super) fn comparable(name: &str) -> String {
    name.nfc().collect()
}

/// The customer that a path names, or nothing.
pub fn find(scope: &mut Scope, name: &str) -> Result<Option<Customer>, Error> {
    if is_customer_id(name)
        && let Some(found) = get(scope, name)?
    {
        return Ok(Some(found));
    }
    let columns = COLUMNS.replace(", ", ", c.");
    let sql = format!(
        "SELECT c.{columns} FROM customer_identifiers AS i JOIN customers AS c ON c.organization_id = i.organization_id \
         AND c.id = {OWNER} WHERE i.organization_id = :organization_id AND i.identifier = :identifier"
    );
    let parameters = [("organization_id", scope.organization_id().into()), ("identifier", comparable(name).into())];
    scope.transaction.optional(&sql, &parameters)?.map(customer).transpose()
}

/// The id of the customer that a name means, or nothing.
pub fn lookup(scope: &mut Scope, name: &str) -> Result<Option<String>, Error> {
    if is_customer_id(name) {
        let sql = "SELECT id FROM customers WHERE organization_id = :organization_id AND id = :id";
        let parameters = [("organization_id", scope.organization_id().into()), ("id", name.into())];
        if scope.transaction.exists(sql, &parameters)? {
            return Ok(Some(name.to_owned()));
        }
    }
    let sql = format!(
        "SELECT {OWNER} AS id FROM customer_identifiers AS i \
         WHERE i.organization_id = :organization_id AND i.identifier = :identifier"
    );
    let parameters = [("organization_id", scope.organization_id().into()), ("identifier", comparable(name).into())];
    let found = scope.transaction.optional(&sql, &parameters)?;
    Ok(found.map(|mut row| row.optional_text("id")).transpose()?.flatten())
}

/// Whose an identifier is. An external id that several integrations link to different customers means the one that was
/// linked first.
const OWNER: &str = "COALESCE(i.customer_id, (SELECT a.customer_id FROM connected_accounts AS a \
    WHERE a.organization_id = i.organization_id AND a.external_key = i.identifier ORDER BY a.id LIMIT 1))";

/// Makes the aliases of a customer those of `after`. 409 when one is taken, and names it.
pub(super) fn replace_aliases(
    scope: &mut Scope,
    customer_id: &str,
    before: &[String],
    after: &[String],
) -> Result<(), Error> {
    let (old, new): (Vec<_>, Vec<_>) = (
        before.iter().map(|alias| comparable(alias)).collect(),
        after.iter().map(|alias| comparable(alias)).collect(),
    );
    for alias in old.iter().filter(|alias| !new.contains(alias)) {
        let sql = "DELETE FROM customer_identifiers WHERE organization_id = :organization_id AND identifier = :alias";
        let parameters = [("organization_id", scope.organization_id().into()), ("alias", alias.into())];
        scope.transaction.execute(sql, &parameters)?;
    }
    for ((alias, sent), index) in new.iter().zip(after).zip(0..).filter(|((alias, _), _)| !old.contains(alias)) {
        let taken = || {
            let message = format!("is taken: `{sent}` already names a customer of this organization");
            Error::conflict("alias_taken", format!("aliases[{index}]"), message)
        };
        if is_customer_id(alias) && get(scope, alias)?.is_some() {
            return Err(taken());
        }
        let sql = "INSERT INTO customer_identifiers (organization_id, identifier, customer_id) \
                   VALUES (:organization_id, :alias, :customer_id)";
        let parameters = [
            ("organization_id", scope.organization_id().into()),
            ("alias", alias.into()),
            ("customer_id", customer_id.into()),
        ];
        let inserted = scope.transaction.execute(sql, &parameters);
        inserted
            .map_err(|error| if error.is_constraint(TAKEN) { taken().with_source(error) } else { error.into() })?;
    }
    Ok(())
}
