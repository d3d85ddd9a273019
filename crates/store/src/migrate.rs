//! The schema: numbered migrations in column words, translated for each database, applied once and in order.

use crate::statement::Dialect;
use crate::{Error, clock};
use sha2::{Digest, Sha256};

/// One step of the schema.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Ascending from 1 without gaps.
    pub version: i64,
    /// A few words for people.
    pub name: &'static str,
    /// Statements separated by semicolons, with the column words of [`translate`].
    pub sql: &'static str,
}

/// The table that says which migrations a database has. It is made before the first of them.
const HISTORY: &str = "CREATE TABLE IF NOT EXISTS schema_migrations \
    (version COUNT NOT NULL PRIMARY KEY, name TEXT NOT NULL, checksum BYTES NOT NULL, applied_at INSTANT NOT NULL)";

/// Column words and what they are on SQLite and on PostgreSQL. Text is compared by bytes on both.
const WORDS: [(&str, &str, &str); 9] = [
    ("ID", "TEXT", "TEXT COLLATE \"C\""),
    ("TEXT", "TEXT", "TEXT COLLATE \"C\""),
    ("MONEY", "INTEGER", "BIGINT"),
    ("COUNT", "INTEGER", "BIGINT"),
    ("INSTANT", "INTEGER", "BIGINT"),
    ("FLAG", "INTEGER", "BOOLEAN"),
    ("DECIMAL", "TEXT", "TEXT COLLATE \"C\""),
    ("JSON", "TEXT", "TEXT COLLATE \"C\""),
    ("BYTES", "BLOB", "BYTEA"),
];

/// Translates a migration. `CLUSTERED` behind a table keeps its rows in the order of the primary key where the database can
/// do that. A column word counts where it is a word of its own in capitals behind a column's name.
pub(crate) fn translate(sql: &str, dialect: Dialect) -> String {
    let mut out = String::with_capacity(sql.len() + 256);
    for line in sql.lines() {
        let code = line.split("--").next().unwrap_or_default();
        let mut previous_is_name = false;
        for piece in code.split_inclusive(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
            let word = piece.trim_end_matches(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            let known = WORDS.iter().find(|(known, _, _)| *known == word).filter(|_| previous_is_name);
            match (known, dialect) {
                (Some((_, sqlite, _)), Dialect::Sqlite) => out.push_str(sqlite),
                (Some((_, _, postgres)), Dialect::Postgres) => out.push_str(postgres),
                (None, _) => out.push_str(word),
            }
            out.push_str(piece.get(word.len()..).unwrap_or_default());
            if !word.is_empty() {
                previous_is_name = word.chars().any(|c| c.is_ascii_lowercase());
            }
        }
        out.push('\n');
    }
    match dialect {
        Dialect::Sqlite => out.replace("\n);", "\n) STRICT;").replace("\n) CLUSTERED;", "\n) STRICT, WITHOUT ROWID;"),
        Dialect::Postgres => out.replace("\n) CLUSTERED;", "\n);"),
    }
}

fn checksum(migration: &Migration) -> Vec<u8> {
    Sha256::digest(migration.sql.as_bytes()).to_vec()
}

/// What the migrator needs of a connection: statements, and the history.
pub(crate) trait Schema {
    fn dialect(&self) -> Dialect;
    fn batch(&mut self, sql: &str) -> Result<(), Error>;
    fn history(&mut self) -> Result<Vec<(i64, Vec<u8>)>, Error>;
    fn record(&mut self, version: i64, name: &str, checksum: Vec<u8>, applied_at: i64) -> Result<(), Error>;
}

/// Which version a database has, against those that the program knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaVersions {
    /// The last migration that the database has; 0 when it is empty.
    pub database: i64,
    /// The last migration that the program knows.
    pub program: i64,
}

/// Compares the history with the program's migrations, and refuses what does not fit, in words.
pub(crate) fn compare(applied: &[(i64, Vec<u8>)], known: &[Migration]) -> Result<SchemaVersions, Error> {
    let program = known.last().map_or(0, |migration| migration.version);
    let database = applied.iter().map(|(version, _)| *version).max().unwrap_or(0);
    if database > program {
        return Err(Error::Internal(format!(
            "this database has schema version {database}, and this program knows up to {program}: it was written by a \
             newer Cuenta. Run that version or a later one; a schema is never taken back"
        )));
    }
    for (version, sum) in applied {
        let same = known.iter().any(|migration| migration.version == *version && checksum(migration) == *sum);
        if !same {
            return Err(Error::Internal(format!(
                "migration {version} of this database is not the one this program knows: it belongs to another program \
                 or was changed after it was applied"
            )));
        }
    }
    Ok(SchemaVersions { database, program })
}

/// Applies what is missing, inside the caller's transaction, and says which versions it applied.
pub(crate) fn apply(schema: &mut dyn Schema, known: &[Migration]) -> Result<Vec<i64>, Error> {
    let dialect = schema.dialect();
    let history = translate(&format!("{HISTORY}\n"), dialect);
    schema.batch(&history)?;
    let versions = compare(&schema.history()?, known)?;
    let mut applied = Vec::new();
    for migration in known.iter().filter(|migration| migration.version > versions.database) {
        schema.batch(&translate(migration.sql, dialect))?;
        schema.record(migration.version, migration.name, checksum(migration), clock::wall_micros())?;
        applied.push(migration.version);
    }
    Ok(applied)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQL: &str =
        "CREATE TABLE things (\n  id ID NOT NULL, -- an ID\n  is_big FLAG NOT NULL,\n  at INSTANT\n);\n";

    #[test]
    fn words_become_types() {
        assert_eq!(
            translate(SQL, Dialect::Sqlite),
            "CREATE TABLE things (\n  id TEXT NOT NULL, \n  is_big INTEGER NOT NULL,\n  at INTEGER\n) STRICT;\n"
        );
        assert!(translate(SQL, Dialect::Postgres).contains("id TEXT COLLATE \"C\" NOT NULL"));
        assert!(translate(SQL, Dialect::Postgres).contains("is_big BOOLEAN NOT NULL"));
    }

    #[test]
    fn a_newer_schema_is_refused_in_words() {
        let known = [Migration { version: 1, name: "one", sql: "SELECT 1" }];
        let newer = compare(&[(1, checksum(&known[0])), (2, vec![1])], &known);
        assert!(newer.unwrap_err().to_string().contains("newer Cuenta"));
        let changed = compare(&[(1, vec![1])], &known);
        assert!(changed.unwrap_err().to_string().contains("not the one this program knows"));
        assert_eq!(compare(&[], &known).unwrap(), SchemaVersions { database: 0, program: 1 });
    }
}
