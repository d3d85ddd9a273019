//! Turns the JSON of a request into typed inputs and collects every problem on the way, so that a caller learns all
//! of them from one answer (D-002).
//!
//! A noun says how it is read, one line per property. Every line is bound before the first `?`: a problem in one
//! property must not hide those of the next.
//!
//! ```
//! use cuenta_engine::input::{self, Fields, UnknownProperties, currency, list, text};
//!
//! struct CreateCustomer {
//!     name: String,
//!     currency: cuenta_money::Currency,
//!     aliases: Vec<String>,
//! }
//!
//! impl CreateCustomer {
//!     fn read(fields: &mut Fields<'_>) -> Option<Self> {
//!         let name = fields.required("name", text(255));
//!         let currency = fields.required("currency", currency);
//!         let aliases = fields.optional("aliases", list(100, text(255)));
//!         Some(Self { name: name?, currency: currency?, aliases: aliases.unwrap_or_default() })
//!     }
//! }
//!
//! let body = cuenta_engine::json::parse(br#"{"name": "", "curency": "EUR"}"#).unwrap();
//! let problems = input::read(&body, UnknownProperties::Refuse, CreateCustomer::read).err().unwrap();
//! assert_eq!(
//!     problems.detail(),
//!     "Validation failed: name must not be empty; currency is required; \
//!      curency is not known (did you mean `currency`?)"
//! );
//! ```

mod country;
mod readers;

use std::fmt;

use serde::Serialize;

use crate::json::{self, Json};

pub use country::{Country, CountryError};
pub use readers::{
    any_json, boolean, checked, color, country, currency, decimal, email, enumeration, integer, list, metadata,
    multiline_text, object, text,
};

/// The most problems one answer names; the rest is counted.
pub const MAX_PROBLEMS: usize = 100;

/// The most characters of a caller's property name that a message repeats.
const MAX_ECHOED_NAME: usize = 64;

/// What is wrong with one property.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The path of the property, for example `contacts[1].email`; `body` for the request body itself.
    pub field: String,
    /// A phrase that begins with a verb, so that `field message` is a sentence.
    pub message: String,
}

/// The problems of one request in the order they were found: the first [`MAX_PROBLEMS`], and how many more there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    named: Vec<Problem>,
    more: usize,
}

impl Problems {
    /// Adds a problem, or only counts it when there are [`MAX_PROBLEMS`] already.
    pub fn push(&mut self, field: impl fmt::Display, message: impl fmt::Display) {
        // The texts are made here and not by the caller: what is only counted must cost nothing.
        if self.named.len() < MAX_PROBLEMS {
            self.named.push(Problem { field: field.to_string(), message: message.to_string() });
        } else {
            self.more += 1;
        }
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// The problems that are named, at most [`MAX_PROBLEMS`].
    pub fn as_slice(&self) -> &[Problem] {
        &self.named
    }

    /// The problems that are named, at most [`MAX_PROBLEMS`].
    pub fn into_vec(self) -> Vec<Problem> {
        self.named
    }

    /// All of them in one text: `Validation failed: name is required; contacts[1].email is not an e-mail address`,
    /// with `; and 7 more` at the end when not all are named (D-002).
    pub fn detail(&self) -> String {
        let mut sentences: Vec<_> =
            self.named.iter().map(|problem| format!("{} {}", problem.field, problem.message)).collect();
        if self.more > 0 {
            sentences.push(format!("and {} more", self.more));
        }
        format!("Validation failed: {}", sentences.join("; "))
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self { named: vec![problem], more: 0 }
    }
}

/// A property of an update (D-005).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Patch<T> {
    /// Not sent: the property stays as it is.
    #[default]
    Absent,
    /// Sent as `null`: the property is cleared.
    Null,
    /// Sent: the property becomes this.
    Value(T),
}

impl<T> Patch<T> {
    /// Whether the property was not sent.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// The value that was sent; `None` for absent and for `null`.
    pub fn into_option(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Null => None,
        }
    }

    /// The value that was sent, borrowed; `None` for absent and for `null`.
    pub fn as_option(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Null => None,
        }
    }

    /// The same patch with another value in it.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Patch<U> {
        match self {
            Self::Absent => Patch::Absent,
            Self::Null => Patch::Null,
            Self::Value(value) => Patch::Value(change(value)),
        }
    }

    /// Changes an optional property as the caller asked.
    pub fn apply(self, target: &mut Option<T>) {
        match self {
            Self::Absent => {}
            Self::Null => *target = None,
            Self::Value(value) => *target = Some(value),
        }
    }
}

/// What happens to properties that no reader asks for (D-005).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownProperties {
    /// Each is a problem whose message names the nearest known property: a mistyped one must not be lost in silence.
    Refuse,
    /// They are skipped.
    Ignore,
}

/// Reads a request body that must be an object.
///
/// # Errors
///
/// Every problem of the body at once; the value is returned only when there is none.
pub fn read<T>(
    body: &Json,
    unknown: UnknownProperties,
    read: impl Fn(&mut Fields<'_>) -> Option<T>,
) -> Result<T, Problems> {
    let mut problems = Problems::default();
    let value = object(read)(Value { json: body, path: Path::Body, unknown, problems: &mut problems });
    match value {
        Some(value) if problems.is_empty() => Ok(value),
        Some(_) => Err(problems),
        None => {
            // A reader that gives up without a reason must not look like success nor like a body without faults.
            if problems.is_empty() {
                problems.push(Path::Body, "cannot be understood");
            }
            Err(problems)
        }
    }
}

/// The way from the body to a value. Borrowed from the readers' stack, so that it costs nothing until it is shown.
#[derive(Clone, Copy)]
enum Path<'p> {
    Body,
    Property(&'p Path<'p>, &'p str),
    Item(&'p Path<'p>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body => formatter.write_str("body"),
            Self::Property(Path::Body, name) => formatter.write_str(&shown(name)),
            Self::Property(parent, name) => write!(formatter, "{parent}.{}", shown(name)),
            Self::Item(parent, index) => write!(formatter, "{parent}[{index}]"),
        }
    }
}

/// A name as messages may show it: a caller chooses its length and characters, so both are limited.
fn shown(name: &str) -> String {
    let plain = |character: char| {
        if character.is_control() { char::REPLACEMENT_CHARACTER } else { character }
    };
    let mut characters = name.chars();
    let mut shown: String = characters.by_ref().take(MAX_ECHOED_NAME).map(plain).collect();
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}

/// One value of the body on its way through a reader: the JSON, its path, and the place where problems go.
///
/// A reader is any `Fn(Value<'_>) -> Option<T>` that records at least one problem whenever it returns `None`.
pub struct Value<'v> {
    json: &'v Json,
    path: Path<'v>,
    unknown: UnknownProperties,
    problems: &'v mut Problems,
}

impl<'v> Value<'v> {
    /// The JSON as it was sent.
    pub fn json(&self) -> &'v Json {
        self.json
    }

    /// Records a problem and returns `None`, for a reader to return in turn. `message` begins with a verb.
    pub fn refuse<T>(self, message: impl fmt::Display) -> Option<T> {
        self.problems.push(self.path, message);
        None
    }

    /// Records the problem of a failed check, or returns what the check made.
    pub fn accept<T, E: fmt::Display>(self, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => self.refuse(error),
        }
    }
}

/// The members of one object while they are read. Every name that a reader asks for is known; what is left over at
/// the end is treated as [`UnknownProperties`] says, by whoever made the `Fields`.
pub struct Fields<'f> {
    members: &'f [(String, Json)],
    path: Path<'f>,
    known: Vec<&'static str>,
    unknown: UnknownProperties,
    problems: &'f mut Problems,
}

impl Fields<'_> {
    /// A property that must be sent and not be `null`: else a problem, "is required" (D-005).
    pub fn required<T>(&mut self, name: &'static str, reader: impl Fn(Value<'_>) -> Option<T>) -> Option<T> {
        match self.find(name) {
            None | Some(Json::Null) => {
                self.problem(name, "is required");
                None
            }
            Some(json) => self.value(name, json, reader),
        }
    }

    /// A property that may be absent or `null`, which are the same on create (D-005). `None` also after a problem.
    pub fn optional<T>(&mut self, name: &'static str, reader: impl Fn(Value<'_>) -> Option<T>) -> Option<T> {
        match self.find(name) {
            None | Some(Json::Null) => None,
            Some(json) => self.value(name, json, reader),
        }
    }

    /// A property of an update that may be cleared with `null` (D-005). [`Patch::Absent`] also after a problem.
    pub fn patch<T>(&mut self, name: &'static str, reader: impl Fn(Value<'_>) -> Option<T>) -> Patch<T> {
        match self.find(name) {
            None => Patch::Absent,
            Some(Json::Null) => Patch::Null,
            Some(json) => self.value(name, json, reader).map_or(Patch::Absent, Patch::Value),
        }
    }

    /// A property of an update that the noun cannot be without: absent is `None`, and so it stays as it is; `null` is
    /// a problem, "cannot be null" (D-005). `None` also after a problem.
    pub fn patch_required<T>(&mut self, name: &'static str, reader: impl Fn(Value<'_>) -> Option<T>) -> Option<T> {
        match self.find(name) {
            None => None,
            Some(Json::Null) => {
                self.problem(name, "cannot be null");
                None
            }
            Some(json) => self.value(name, json, reader),
        }
    }

    /// The names asked for so far that were sent, in the order they were asked for.
    pub fn sent(&self) -> Vec<&'static str> {
        self.known.iter().copied().filter(|name| json::find(self.members, name).is_some()).collect()
    }

    /// A property that may be sent and means nothing here, whatever its value is.
    pub fn ignored(&mut self, name: &'static str) {
        self.find(name);
    }

    /// Records a problem of a property that concerns more than its own value. `message` begins with a verb.
    pub fn problem(&mut self, name: &str, message: impl fmt::Display) {
        self.problems.push(Path::Property(&self.path, name), message);
    }

    fn value<T>(&mut self, name: &str, json: &Json, reader: impl Fn(Value<'_>) -> Option<T>) -> Option<T> {
        reader(Value { json, path: Path::Property(&self.path, name), unknown: self.unknown, problems: self.problems })
    }

    /// Reports what no reader asked for. [`object`] calls it after the noun's reader, so that no noun can forget it.
    fn finish(self) {
        if self.unknown == UnknownProperties::Ignore {
            return;
        }
        let left_over = self.members.iter().map(|(name, _)| name).filter(|name| !self.known.contains(&name.as_str()));
        for name in left_over {
            self.problems.push(Path::Property(&self.path, name), Unknown { name, known: &self.known });
        }
    }
}

impl<'f> Fields<'f> {
    /// Looks a name up and remembers that it is known.
    fn find(&mut self, name: &'static str) -> Option<&'f Json> {
        self.known.push(name);
        json::find(self.members, name)
    }
}

/// The message for a property that is not known. It looks for the nearest name only when it is shown.
struct Unknown<'u> {
    name: &'u str,
    known: &'u [&'static str],
}

impl fmt::Display for Unknown<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The name is cut before it is compared: comparing takes the product of the two lengths.
        let name = shown(self.name);
        let distances = self.known.iter().map(|known| (strsim::damerau_levenshtein(&name, known), known));
        match distances.min_by_key(|(distance, _)| *distance) {
            // A name that is wrong in most of its letters is no slip of the fingers.
            Some((distance, known)) if distance * 2 <= known.len() => {
                write!(formatter, "is not known (did you mean `{known}`?)")
            }
            Some((_, known)) => write!(formatter, "is not known (the nearest known name is `{known}`)"),
            None => formatter.write_str("is not known"),
        }
    }
}

#[cfg(test)]
mod tests;
