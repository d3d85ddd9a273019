//! What must hold between tables and no constraint says: asked by `cuenta doctor`, over the whole database.

use crate::error::Error;
use cuenta_store::Transaction;

/// How many faults of a kind are named.
const NAMED: i64 = 10;

/// A rule, and the statement that finds what breaks it, as rows of one text `fault`.
#[derive(Debug)]
pub struct Check {
    /// What is looked at.
    pub name: &'static str,
    /// What is said when the rule holds.
    pub holds: &'static str,
    sql: &'static str,
}

/// All rules.
pub const CHECKS: &[Check] = &[
    Check {
        name: "identifiers",
        holds: "every alias and external id leads to a customer",
        sql: "SELECT i.identifier AS fault FROM customer_identifiers AS i WHERE NOT EXISTS (SELECT 1 FROM customers AS c \
              WHERE c.organization_id = i.organization_id AND c.id = i.customer_id) AND NOT EXISTS (SELECT 1 \
              FROM connected_accounts AS a WHERE a.organization_id = i.organization_id \
              AND a.external_key = i.identifier AND i.customer_id IS NULL) LIMIT :named",
    },
    Check {
        name: "external ids",
        holds: "every connected account is found by its external id",
        sql: "SELECT a.id AS fault FROM connected_accounts AS a WHERE NOT EXISTS (SELECT 1 FROM customer_identifiers AS i \
              WHERE i.organization_id = a.organization_id AND i.identifier = a.external_key \
              AND i.customer_id IS NULL) LIMIT :named",
    },
    Check {
        name: "e-mail addresses",
        holds: "every address leads to a customer",
        sql: "SELECT e.customer_id AS fault FROM customer_emails AS e WHERE NOT EXISTS (SELECT 1 FROM customers AS c \
              WHERE c.organization_id = e.organization_id AND c.id = e.customer_id) LIMIT :named",
    },
    Check {
        name: "customers",
        holds: "every customer belongs to an organization",
        sql: "SELECT c.id AS fault FROM customers AS c WHERE NOT EXISTS (SELECT 1 FROM organizations AS o \
              WHERE o.id = c.organization_id) LIMIT :named",
    },
    counted("count of customers", COUNT_CUSTOMERS),
    counted("count of tags", COUNT_TAGS),
    counted("count of integrations", COUNT_INTEGRATIONS),
    counted("count of idempotency keys", COUNT_KEYS),
];

const fn counted(name: &'static str, sql: &'static str) -> Check {
    Check { name, holds: "as many as were counted", sql }
}

const COUNT_CUSTOMERS: &str = "SELECT o.id AS fault FROM organizations AS o WHERE (SELECT COUNT(*) FROM customers AS n \
    WHERE n.organization_id = o.id) <> (SELECT COALESCE(SUM(t.counted), 0) FROM tallies AS t WHERE t.scope = o.id \
    AND t.noun = 'customers') LIMIT :named";
const COUNT_TAGS: &str = "SELECT o.id AS fault FROM organizations AS o WHERE (SELECT COUNT(*) FROM tags AS n \
    WHERE n.organization_id = o.id) <> (SELECT COALESCE(SUM(t.counted), 0) FROM tallies AS t WHERE t.scope = o.id \
    AND t.noun = 'tags') LIMIT :named";
const COUNT_INTEGRATIONS: &str = "SELECT o.id AS fault FROM organizations AS o WHERE (SELECT COUNT(*) \
    FROM integrations AS n WHERE n.organization_id = o.id) <> (SELECT COALESCE(SUM(t.counted), 0) FROM tallies AS t \
    WHERE t.scope = o.id AND t.noun = 'integrations') LIMIT :named";
const COUNT_KEYS: &str = "SELECT o.id AS fault FROM organizations AS o WHERE (SELECT COUNT(*) \
    FROM idempotency_keys AS n WHERE n.organization_id = o.id) <> (SELECT COALESCE(SUM(t.counted), 0) FROM tallies AS t \
    WHERE t.scope = o.id AND t.noun = 'idempotency_keys') LIMIT :named";

/// Runs a check and gives what breaks its rule, at most ten.
pub fn run(transaction: &mut Transaction, check: &Check) -> Result<Vec<String>, Error> {
    let rows = transaction.all(check.sql, &[("named", NAMED.into())])?;
    rows.into_iter().map(|mut row| Ok(row.text("fault")?)).collect()
}
