//! The table: rows beside their floors, and under it which targets are reached.

use super::Kind;
use serde_json::{Value, json};

/// A row; what was not measured is nothing.
#[derive(Clone, Debug, Default)]
pub struct Row {
    pub id: String,
    pub title: String,
    pub database: String,
    pub per_second: Option<u64>,
    pub floor: Option<u64>,
    /// Thousandths: the middle of the rounds' own quotients, each of two measurements that lie side by side.
    pub ratio_permille: Option<u64>,
    pub p50_us: Option<u64>,
    pub p99_us: Option<u64>,
    /// Millionths of a second of CPU a request.
    pub server_cpu_us: Option<u64>,
    pub postgres_cpu_us: Option<u64>,
    pub client_cpu_us: Option<u64>,
    /// Of the server.
    pub memory_kib: Option<u64>,
    /// Said instead of numbers.
    pub remark: Option<String>,
}

impl Row {
    fn line(&self) -> String {
        if let Some(remark) = &self.remark {
            return format!("| {} | {} | {remark} | | | | | | | | | |", self.title, self.database);
        }
        let cell = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
        let thousandths = |value: u64| format!("{}.{:03}", value / 1_000, value % 1_000);
        let cells = [
            self.title.clone(),
            self.database.clone(),
            cell(self.per_second.map(grouped)),
            cell(self.floor.map(grouped)),
            cell(self.ratio_permille.map(hundredths)),
            cell(self.p50_us.map(millis)),
            cell(self.p99_us.map(millis)),
            cell(self.server_cpu_us.map(thousandths)),
            cell(self.postgres_cpu_us.map(thousandths)),
            cell(self.client_cpu_us.map(thousandths)),
            cell(self.memory_kib.map(|kib| format!("{}", kib.div_ceil(1_024)))),
            // A wrong answer ends the run.
            "0".to_owned(),
        ];
        format!("| {} |", cells.join(" | "))
    }

    fn json(&self) -> Value {
        json!({
            "id": self.id, "title": self.title, "database": self.database, "requests_per_second": self.per_second,
            "floor_per_second": self.floor, "ratio_permille": self.ratio_permille, "p50_us": self.p50_us,
            "p99_us": self.p99_us, "server_cpu_us": self.server_cpu_us, "postgres_cpu_us": self.postgres_cpu_us,
            "client_cpu_us": self.client_cpu_us, "memory_kib": self.memory_kib, "remark": self.remark,
        })
    }
}

const HEAD: &str = "| | database | requests/s | floor/s | ratio | p50 ms | p99 ms | server CPU s/1000 | \
    PostgreSQL CPU s/1000 | client CPU s/1000 | memory MiB | errors |\n\
    |---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|";

/// The table in Markdown.
pub fn table(rows: &[Row]) -> String {
    let lines: Vec<String> = rows.iter().map(Row::line).collect();
    format!("{HEAD}\n{}", lines.join("\n"))
}

/// The rows for programs.
pub fn json(rows: &[Row]) -> Value {
    rows.iter().map(Row::json).collect()
}

/// Microseconds as milliseconds.
pub fn millis(micros: u64) -> String {
    format!("{}.{:02}", micros / 1_000, micros % 1_000 / 10)
}

fn hundredths(permille: u64) -> String {
    format!("{}.{:02}", permille / 1_000, permille % 1_000 / 10)
}

/// With a space between thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (digit, left) in digits.chars().zip((0..digits.len()).rev()) {
        out.push(digit);
        if left > 0 && left % 3 == 0 {
            out.push('\u{202f}');
        }
    }
    out
}

/// A sentence for each target that a row can tell about.
pub fn targets(rows: &[Row]) -> Vec<String> {
    let mut out = Vec::new();
    let mut say = |row: &Row, wish: &str, found: String, reached: bool| {
        let verdict = if reached { "reached" } else { "**missed**" };
        out.push(format!("- {}, {}: {wish}: {found}, {verdict}", row.title, row.database));
    };
    for row in rows {
        let ratio = row.ratio_permille;
        match (row.id.as_str(), ratio) {
            ("create-64" | "create-256", Some(ratio)) => {
                say(row, "at least 0.50 of the bare database in groups", hundredths(ratio), ratio >= 500);
            }
            ("get-id-64", Some(ratio)) => {
                say(row, "at least 0.50 of the empty route", hundredths(ratio), ratio >= 500);
            }
            (id, _) if id.starts_with("list-") => {
                let p99 = row.p99_us.unwrap_or(0);
                say(row, "99th percentile of at most 10 ms", format!("{} ms", millis(p99)), p99 <= 10_000);
            }
            ("start", _) => {
                let found = row.p50_us.unwrap_or(0);
                say(row, "at most 100 ms", format!("{} ms", millis(found)), found <= 100_000);
            }
            ("idle", _) => {
                let kib = row.memory_kib.unwrap_or(0);
                say(row, "at most 50 MiB", format!("{} MiB", kib.div_ceil(1_024)), kib <= 51_200);
            }
            _ => {}
        }
    }
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let large = rows.iter().filter(|row| row.database == kind.name() && row.id.ends_with("-million"));
        let lists = rows.iter().filter(|row| row.database == kind.name() && MANY.contains(&row.id.as_str()));
        if let Some(row) = large.chain(lists).max_by_key(|row| row.memory_kib) {
            let kib = row.memory_kib.unwrap_or(0);
            let verdict = if kib <= 131_072 { "reached" } else { "**missed**" };
            let found = kib.div_ceil(1_024);
            out.push(format!(
                "- memory with all customers, {}: at most 128 MiB: {found} MiB ({}), {verdict}",
                kind.name(),
                row.title
            ));
        }
    }
    out.extend(compare_databases(rows));
    out
}

/// Rows at the full number of customers.
const MANY: [&str; 7] =
    ["get-id-64", "get-alias-64", "list-first-8", "list-deep-8", "list-email-8", "list-name-8", "list-inactive-8"];

fn compare_databases(rows: &[Row]) -> Vec<String> {
    let of = |kind: Kind| rows.iter().filter(move |row| row.database == kind.name() && row.id != "peer");
    let mut pairs = Vec::new();
    for slow in of(Kind::Postgres) {
        let other = of(Kind::Sqlite).find(|row| row.id == slow.id);
        if let (Some(slow_rate), Some(fast_rate)) = (slow.per_second, other.and_then(|row| row.per_second)) {
            pairs.push((slow_rate * 1_000 / fast_rate.max(1), slow));
        }
    }
    let Some((permille, row)) = pairs.into_iter().min_by_key(|pair| pair.0) else { return Vec::new() };
    let verdict = if permille >= 333 { "reached" } else { "**missed**" };
    let found = hundredths(permille);
    vec![format!(
        "- no rate on PostgreSQL below a third of SQLite's: the lowest is {found} ({}), {verdict}",
        row.title
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(grouped(12), "12");
        assert_eq!(millis(1_234), "1.23");
        assert_eq!(hundredths(512), "0.51");
    }
}
