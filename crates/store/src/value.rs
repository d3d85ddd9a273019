//! Values, parameters and rows: the five kinds that every database here stores exactly.

use crate::Error;
use std::sync::Arc;

/// A value on its way to or from a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// No value.
    Null,
    /// `COUNT`, `MONEY` (minor units) and `INSTANT` (microseconds since 1970, UTC).
    Integer(i64),
    /// `ID`, `TEXT`, `DECIMAL` and `JSON`.
    Text(String),
    /// `BYTES`.
    Bytes(Vec<u8>),
    /// `FLAG`.
    Flag(bool),
    /// Texts for `column = ANY(:name)`; a parameter only, never a column.
    List(Vec<String>),
}

/// A named parameter: the name without its colon, and the value.
pub type Parameter<'a> = (&'a str, Value);

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}
impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Value::Text(text.clone())
    }
}
impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text)
    }
}
impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Value::Integer(number)
    }
}
impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Value::Flag(flag)
    }
}
impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Value::Bytes(bytes)
    }
}
impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Value::Bytes(bytes.to_vec())
    }
}
impl From<Vec<String>> for Value {
    fn from(texts: Vec<String>) -> Self {
        Value::List(texts)
    }
}
impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

/// One row of an answer. Columns are asked for by name; asking in the order of the SELECT is the fastest.
#[derive(Debug)]
pub struct Row {
    columns: Arc<[String]>,
    values: Vec<Value>,
    next: usize,
}

impl Row {
    pub(crate) fn new(columns: Arc<[String]>, values: Vec<Value>) -> Self {
        Row { columns, values, next: 0 }
    }

    fn take(&mut self, name: &str) -> Result<Value, Error> {
        let count = self.columns.len();
        let position = (0..count)
            .map(|step| (self.next + step) % count)
            .find(|&at| self.columns.get(at).is_some_and(|column| column == name))
            .ok_or_else(|| Error::Internal(format!("the answer has no column {name}")))?;
        self.next = position + 1;
        let value = self.values.get_mut(position).map(|value| std::mem::replace(value, Value::Null));
        value.ok_or_else(|| Error::Internal(format!("column {name} is missing")))
    }

    /// A text that is always there. Each column can be taken once.
    pub fn text(&mut self, name: &str) -> Result<String, Error> {
        self.optional_text(name)?.ok_or_else(|| Error::Internal(format!("column {name} is null")))
    }

    /// A text, or nothing for NULL.
    pub fn optional_text(&mut self, name: &str) -> Result<Option<String>, Error> {
        match self.take(name)? {
            Value::Text(text) => Ok(Some(text)),
            Value::Null => Ok(None),
            other => Err(wrong_type(name, &other)),
        }
    }

    /// A whole number that is always there.
    pub fn integer(&mut self, name: &str) -> Result<i64, Error> {
        self.optional_integer(name)?.ok_or_else(|| Error::Internal(format!("column {name} is null")))
    }

    /// A whole number, or nothing for NULL.
    pub fn optional_integer(&mut self, name: &str) -> Result<Option<i64>, Error> {
        match self.take(name)? {
            Value::Integer(number) => Ok(Some(number)),
            Value::Null => Ok(None),
            other => Err(wrong_type(name, &other)),
        }
    }

    /// A flag that is always there.
    pub fn flag(&mut self, name: &str) -> Result<bool, Error> {
        match self.take(name)? {
            Value::Flag(flag) => Ok(flag),
            Value::Integer(number) => Ok(number != 0),
            other => Err(wrong_type(name, &other)),
        }
    }

    /// Bytes that are always there.
    pub fn bytes(&mut self, name: &str) -> Result<Vec<u8>, Error> {
        match self.take(name)? {
            Value::Bytes(bytes) => Ok(bytes),
            other => Err(wrong_type(name, &other)),
        }
    }
}

fn wrong_type(name: &str, value: &Value) -> Error {
    let kind = match value {
        Value::Null => "null",
        Value::Integer(_) => "a number",
        Value::Text(_) => "a text",
        Value::Bytes(_) => "bytes",
        Value::Flag(_) => "a flag",
        Value::List(_) => "a list",
    };
    Error::Internal(format!("column {name} holds {kind}"))
}
