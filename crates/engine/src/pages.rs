//! Lists: paging, sorting and the envelope they are answered in (contract section 2, D-008, D-009).

use crate::error::Error;
use crate::input::Problems;
use serde::Serialize;

/// The largest `limit`.
pub const MOST: i64 = 100;
/// The `limit` of a request that names none.
const DEFAULT: i64 = 20;

/// The query string of a request, decoded: names and values in the order they were sent.
#[derive(Clone, Debug, Default)]
pub struct Query(pub Vec<(String, String)>);

/// Reads the query string property by property and collects every problem; a name nobody asks for is one.
pub struct QueryReader<'q> {
    query: &'q Query,
    known: Vec<&'static str>,
    problems: Problems,
}

impl<'q> QueryReader<'q> {
    /// Starts reading.
    pub fn new(query: &'q Query) -> Self {
        QueryReader { query, known: Vec::new(), problems: Problems::default() }
    }

    /// The value of a parameter. One that is sent twice, or empty, is a problem: a client leaves out what it does not
    /// set (contract section 1).
    pub fn text(&mut self, name: &'static str) -> Option<&'q str> {
        self.known.push(name);
        let mut values = self.query.0.iter().filter(|(sent, _)| sent == name).map(|(_, value)| value.as_str());
        let value = values.next()?;
        if values.next().is_some() {
            self.problems.push(name, "must be sent once; separate several values by commas where a list is taken");
            return None;
        }
        if value.is_empty() {
            self.problems.push(name, "must not be empty; leave it out to set no filter");
            return None;
        }
        if value.chars().any(char::is_control) {
            self.problems.push(name, "must not hold control characters");
            return None;
        }
        Some(value)
    }

    /// A parameter that must be there.
    pub fn required(&mut self, name: &'static str) -> Option<&'q str> {
        let sent = self.query.0.iter().any(|(sent, _)| sent == name);
        if !sent {
            self.known.push(name);
            self.problems.push(name, "is required");
            return None;
        }
        self.text(name)
    }

    /// Comma-separated values, of which any may match; at most 100.
    pub fn list(&mut self, name: &'static str) -> Option<Vec<String>> {
        let values: Vec<String> = self.text(name)?.split(',').map(str::to_owned).collect();
        if values.iter().any(String::is_empty) || values.len() > 100 {
            self.problems.push(name, "must be 1 to 100 values separated by commas, none of them empty");
            return None;
        }
        Some(values)
    }

    /// `true` or `false`.
    pub fn flag(&mut self, name: &'static str) -> Option<bool> {
        match self.text(name)? {
            "true" => Some(true),
            "false" => Some(false),
            _ => {
                self.problems.push(name, "must be `true` or `false`");
                None
            }
        }
    }

    fn integer(&mut self, name: &'static str, least: i64, most: i64, default: i64) -> i64 {
        let Some(text) = self.text(name) else { return default };
        let plain = text == "0" || !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(number) if plain && (least..=most).contains(&number) => number,
            _ if most == i64::MAX => {
                self.problems.push(name, "must be a whole number from 0");
                default
            }
            _ => {
                self.problems.push(name, format_args!("must be a whole number from {least} to {most}"));
                default
            }
        }
    }

    /// `limit` and `offset`.
    pub fn page(&mut self) -> Page {
        let limit = self.integer("limit", 1, MOST, DEFAULT);
        Page { limit, offset: self.integer("offset", 0, i64::MAX, 0) }
    }

    /// `sort=field:asc` or `sort=field:desc` over the fields that the list allows.
    pub fn sort(&mut self, allowed: &'static [&'static str]) -> Option<Sort> {
        // An empty value gets the message that lists the fields, like any other that is not of this form.
        let empty = self.query.0.iter().any(|(name, value)| name == "sort" && value.is_empty());
        let text = if empty {
            self.known.push("sort");
            ""
        } else {
            self.text("sort")?
        };
        let (field, direction) = text.split_once(':').unwrap_or((text, ""));
        let field = allowed.iter().find(|known| **known == field);
        let descending = match direction {
            "asc" => Some(false),
            "desc" => Some(true),
            _ => None,
        };
        let (Some(field), Some(descending)) = (field, descending) else {
            let fields = allowed.join(", ");
            self.problems
                .push("sort", format_args!("must be `field:asc` or `field:desc`, with one of the fields {fields}"));
            return None;
        };
        Some(Sort { field, descending })
    }

    /// Ends the reading: every problem at once, unknown parameters among them.
    pub fn finish(mut self) -> Result<(), Error> {
        for (name, _) in &self.query.0 {
            if self.known.contains(&name.as_str()) {
                continue;
            }
            let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
            let known = if self.known.is_empty() { "none".to_owned() } else { self.known.join(", ") };
            self.problems.push(shown, format_args!("is not a parameter of this operation (it has: {known})"));
        }
        if self.problems.is_empty() { Ok(()) } else { Err(Error::from(self.problems)) }
    }
}

/// Refuses any query parameter: for operations that have none.
pub fn no_parameters(query: &Query) -> Result<(), Error> {
    QueryReader::new(query).finish()
}

/// Which part of a list is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// 1 to 100.
    pub limit: i64,
    /// Items skipped, from 0.
    pub offset: i64,
}

/// In which order.
#[derive(Clone, Copy, Debug)]
pub struct Sort {
    /// One of the fields the list allows.
    pub field: &'static str,
    /// Whether the largest comes first.
    pub descending: bool,
}

/// A page of a list with its envelope.
#[derive(Clone, Debug, Serialize)]
pub struct List<T> {
    /// The items, `limit` of them unless it is the last page.
    pub data: Vec<T>,
    /// How many pages there are.
    pub pagination: Pagination,
}

/// `per_page` is the limit; `total_pages` is 0 when there is nothing (D-008).
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Pagination {
    /// The limit of the request.
    pub per_page: i64,
    /// Pages of that size in all.
    pub total_pages: i64,
}

impl<T> List<T> {
    /// Wraps the items of a page of a list of `count` items.
    pub fn new(data: Vec<T>, page: Page, count: i64) -> Self {
        let total_pages = count.max(0).saturating_add(page.limit - 1).checked_div(page.limit).unwrap_or(0);
        List { data, pagination: Pagination { per_page: page.limit, total_pages } }
    }
}

/// A list that has no pages (contract section 2).
#[derive(Clone, Debug, Serialize)]
pub struct WholeList<T> {
    /// All items.
    pub data: Vec<T>,
}
