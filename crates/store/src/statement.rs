//! One SQL text, two dialects: `:named` parameters become numbered ones, and the few words that differ are replaced.

/// Which database a text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

/// A statement ready to be prepared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rewritten {
    /// The text with `?1` or `$1`.
    pub(crate) sql: String,
    /// The name behind each number, in order of first use.
    pub(crate) names: Vec<String>,
}

/// The name that stands for the present moment of the database, in microseconds: PostgreSQL's own clock, so that
/// several servers agree; on SQLite the process's, bound like any parameter.
pub(crate) const DATABASE_NOW: &str = "database_now";

const POSTGRES_NOW: &str = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)";

/// Rewrites `:name` and `= ANY(:name)` for the dialect. Quoted text is left as it is.
pub(crate) fn rewrite(sql: &str, dialect: Dialect) -> Rewritten {
    let mut out = String::with_capacity(sql.len() + 32);
    let mut names: Vec<String> = Vec::new();
    let mut rest = sql;
    while let Some(at) = rest.find(['\'', ':']) {
        let (before, tail) = rest.split_at(at);
        out.push_str(before);
        if tail.starts_with('\'') {
            let end = tail.get(1..).and_then(|inner| inner.find('\'')).map_or(tail.len(), |found| found + 2);
            let (quoted, after) = tail.split_at(end);
            out.push_str(quoted);
            rest = after;
            continue;
        }
        let name: String = tail.chars().skip(1).take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        if name.is_empty() {
            out.push(':');
            rest = tail.get(1..).unwrap_or_default();
            continue;
        }
        rest = tail.get(1 + name.len()..).unwrap_or_default();
        if dialect == Dialect::Postgres && name == DATABASE_NOW {
            out.push_str(POSTGRES_NOW);
            continue;
        }
        let number = names.iter().position(|known| *known == name).unwrap_or_else(|| {
            names.push(name);
            names.len() - 1
        }) + 1;
        match dialect {
            Dialect::Postgres => out.push_str(&format!("${number}")),
            Dialect::Sqlite if out.ends_with("= ANY(") => {
                out.truncate(out.len() - "= ANY(".len());
                out.push_str(&format!("IN (SELECT value FROM json_each(?{number})"));
            }
            Dialect::Sqlite => out.push_str(&format!("?{number}")),
        }
    }
    out.push_str(rest);
    Rewritten { sql: out, names }
}

/// The form of a plain `INSERT INTO table (columns) VALUES (:a, :b, …)` that writes many rows at once from one array a
/// column, for parameter types such as `text`. Nothing when the statement is of any other form.
pub(crate) fn many_rows(sql: &str, names: &[String], types: &[&str]) -> Option<String> {
    let (head, values) = sql.split_once(" VALUES ")?;
    let head = head.trim();
    if !head.starts_with("INSERT INTO ") || names.len() != types.len() {
        return None;
    }
    let list = values.trim().strip_prefix('(')?.strip_suffix(')')?;
    let plain = list.split(',').map(str::trim).eq((1..=names.len()).map(|number| format!("${number}")));
    let arrays: Vec<String> = types.iter().zip(1..).map(|(kind, number)| format!("${number}::{kind}[]")).collect();
    plain.then(|| format!("{head} SELECT * FROM UNNEST({})", arrays.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn names_become_numbers_once_each() {
        let sql = "SELECT ':no' FROM t WHERE a = :a AND b = :b AND c = :a";
        let sqlite = rewrite(sql, Dialect::Sqlite);
        assert_eq!(sqlite.sql, "SELECT ':no' FROM t WHERE a = ?1 AND b = ?2 AND c = ?1");
        assert_eq!(sqlite.names, names(&["a", "b"]));
        assert_eq!(rewrite(sql, Dialect::Postgres).sql, "SELECT ':no' FROM t WHERE a = $1 AND b = $2 AND c = $1");
    }

    #[test]
    fn lists_and_the_clock_differ() {
        let sql = "DELETE FROM t WHERE id = ANY(:ids) AND until <= :database_now";
        assert_eq!(
            rewrite(sql, Dialect::Sqlite).sql,
            "DELETE FROM t WHERE id IN (SELECT value FROM json_each(?1)) AND until <= ?2"
        );
        let postgres = rewrite(sql, Dialect::Postgres);
        assert_eq!(postgres.sql, format!("DELETE FROM t WHERE id = ANY($1) AND until <= {POSTGRES_NOW}"));
        assert_eq!(postgres.names, names(&["ids"]));
    }

    #[test]
    fn only_plain_inserts_take_many_rows() {
        let many = |sql: &str, count: usize| {
            let rewritten = rewrite(sql, Dialect::Postgres);
            many_rows(&rewritten.sql, &rewritten.names, &["text", "int8"].repeat(count)[..count])
        };
        assert_eq!(
            many("INSERT INTO t (a, b) VALUES (:a, :b)", 2).as_deref(),
            Some("INSERT INTO t (a, b) SELECT * FROM UNNEST($1::text[], $2::int8[])")
        );
        assert_eq!(many("INSERT INTO t (a, b) VALUES (:a, 1)", 1), None);
        assert_eq!(many("INSERT INTO t (a, b) VALUES (:a, :a)", 1), None);
        assert_eq!(many("INSERT INTO t (a) VALUES (:a) ON CONFLICT DO NOTHING", 1), None);
        assert_eq!(many("UPDATE t SET a = :a", 1), None);
    }
}
