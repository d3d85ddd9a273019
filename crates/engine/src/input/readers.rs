//! The readers: each takes one value of the body and returns what it means, or records why it cannot.

use std::ops::RangeInclusive;

use cuenta_money::{Currency, DecimalText};
use email_address::{EmailAddress, Options};

use super::{Country, Fields, Path, Value};
use crate::json::Json;

/// The most characters of an e-mail address (RFC 5321 allows a path of 256 with its angle brackets).
const MAX_EMAIL: usize = 254;

/// The most keys of metadata (D-013).
const MAX_METADATA_KEYS: usize = 50;

/// The most characters of a metadata key.
const MAX_METADATA_KEY: usize = 255;

/// The most bytes of metadata in canonical form (D-013).
const MAX_METADATA_BYTES: usize = 16 * 1024;

/// An object, read property by property. Properties that `read` does not ask for are reported afterwards.
pub fn object<T>(read: impl Fn(&mut Fields<'_>) -> Option<T>) -> impl Fn(Value<'_>) -> Option<T> {
    move |value| {
        let Json::Object(members) = value.json else {
            return value.refuse("must be an object");
        };
        let mut fields =
            Fields { members, path: value.path, known: Vec::new(), unknown: value.unknown, problems: value.problems };
        let result = read(&mut fields);
        fields.finish();
        result
    }
}

/// A list of at most `most` items, each read by `item`. `None` when any item has a problem.
pub fn list<T>(most: usize, item: impl Fn(Value<'_>) -> Option<T>) -> impl Fn(Value<'_>) -> Option<Vec<T>> {
    move |value| {
        let Json::Array(items) = value.json else {
            return value.refuse("must be a list");
        };
        if items.len() > most {
            return value.refuse(format_args!("must have at most {most} items"));
        }
        let read = |(index, json)| {
            let path = Path::Item(&value.path, index);
            item(Value { json, path, unknown: value.unknown, problems: &mut *value.problems })
        };
        // All are read before any is missed, so that every item's problem is found.
        let read: Vec<_> = items.iter().enumerate().map(read).collect();
        read.into_iter().collect()
    }
}

/// What another reader returns, when it passes a test; else the problem `message`, which begins with a verb.
pub fn checked<T>(
    reader: impl Fn(Value<'_>) -> Option<T>,
    test: impl Fn(&T) -> bool,
    message: &'static str,
) -> impl Fn(Value<'_>) -> Option<T> {
    move |value| {
        let Value { json, path, unknown, problems } = value;
        let read = reader(Value { json, path, unknown, problems: &mut *problems })?;
        if test(&read) { Some(read) } else { Value { json, path, unknown, problems }.refuse(message) }
    }
}

/// One line of text: 1 to `most` characters, not only white space, no control characters, kept as sent (D-013).
///
/// Characters are Unicode scalar values. Format characters, such as those that steer the direction of writing, are
/// part of names in some languages and so allowed.
pub fn text(most: usize) -> impl Fn(Value<'_>) -> Option<String> {
    move |value| {
        let text = string(value.json);
        value.accept(text.and_then(|text| plain(text, most, char::is_control)))
    }
}

/// Text of several lines: as [`text`], with line feeds and tabs allowed.
pub fn multiline_text(most: usize) -> impl Fn(Value<'_>) -> Option<String> {
    move |value| {
        let text = string(value.json);
        let refused = |character: char| character.is_control() && !matches!(character, '\n' | '\t');
        value.accept(text.and_then(|text| plain(text, most, refused)))
    }
}

fn string(json: &Json) -> Result<&str, String> {
    match json {
        Json::Text(text) => Ok(text),
        _ => Err("must be a string".to_owned()),
    }
}

fn plain(text: &str, most: usize, refused: impl Fn(char) -> bool) -> Result<String, String> {
    if text.chars().all(char::is_whitespace) {
        return Err("must not be empty".to_owned());
    }
    // Bytes are at least as many as characters, so most texts need no count.
    if text.len() > most && text.chars().count() > most {
        return Err(format!("must be at most {most} characters long"));
    }
    if text.contains(refused) {
        return Err("must not hold control characters".to_owned());
    }
    Ok(text.to_owned())
}

/// An e-mail address with a domain of at least two labels, at most 254 characters, kept as sent (D-023).
///
/// The address alone: no display name, no angle brackets, no comments, no white space, no IP address for a domain.
pub fn email(value: Value<'_>) -> Option<String> {
    let text = string(value.json);
    value.accept(text.and_then(|text| {
        if text.chars().count() > MAX_EMAIL {
            return Err(format!("must be at most {MAX_EMAIL} characters long"));
        }
        let options = Options::default().without_display_text().without_domain_literal().with_required_tld();
        // The library takes comments, and any character beyond ASCII, white space and controls included.
        let foreign =
            |character: char| character.is_control() || character.is_whitespace() || "()<>".contains(character);
        if text.contains(foreign) || EmailAddress::parse_with_options(text, options).is_err() {
            return Err("is not an e-mail address".to_owned());
        }
        Ok(text.to_owned())
    }))
}

/// An active ISO 4217 code with a minor unit, in upper case.
pub fn currency(value: Value<'_>) -> Option<Currency> {
    let text = string(value.json);
    value.accept(text.and_then(|text| Currency::parse(text).map_err(|error| error.to_string())))
}

/// An ISO 3166-1 code in upper case: alpha-3, or alpha-2, which becomes alpha-3.
pub fn country(value: Value<'_>) -> Option<Country> {
    let text = string(value.json);
    value.accept(text.and_then(|text| Country::parse(text).map_err(|error| error.to_string())))
}

/// A decimal string, kept digit for digit. A JSON number is refused with the right spelling (D-006).
pub fn decimal(value: Value<'_>) -> Option<DecimalText> {
    let result = match value.json {
        Json::Text(text) => DecimalText::parse(text).map_err(|error| error.to_string()),
        Json::Number(token) if DecimalText::parse(token).is_ok() => Err(format!("must be a string: \"{token}\"")),
        _ => Err("must be a decimal number in a string, such as \"12.50\"".to_owned()),
    };
    value.accept(result)
}

/// `true` or `false`; nothing else stands for them.
pub fn boolean(value: Value<'_>) -> Option<bool> {
    match value.json {
        Json::Bool(flag) => Some(*flag),
        _ => value.refuse("must be true or false"),
    }
}

/// A whole number within the range, written without fraction and exponent: `1.0` and `1e0` are no integers here.
pub fn integer(range: RangeInclusive<i64>) -> impl Fn(Value<'_>) -> Option<i64> {
    move |value| {
        let Json::Number(token) = value.json else {
            return value.refuse("must be an integer");
        };
        if token.contains(['.', 'e', 'E']) {
            return value.refuse("must be an integer, without fraction and exponent");
        }
        // A token that does not fit is a whole number all the same, and out of every range.
        match token.parse::<i64>() {
            Ok(number) if range.contains(&number) => Some(number),
            _ => value.refuse(format_args!("must be between {} and {}", range.start(), range.end())),
        }
    }
}

/// One of the words of a table; the message for any other lists the words in the table's order.
pub fn enumeration<T: Copy>(table: &'static [(&'static str, T)]) -> impl Fn(Value<'_>) -> Option<T> {
    move |value| {
        let found = match value.json {
            Json::Text(text) => table.iter().find(|(word, _)| word == text),
            _ => None,
        };
        match found {
            Some((_, meaning)) => Some(*meaning),
            None => {
                let words: Vec<_> = table.iter().map(|(word, _)| format!("`{word}`")).collect();
                value.refuse(format_args!("must be one of {}", words.join(", ")))
            }
        }
    }
}

/// A color as `#` and six hexadecimal digits of either case, kept as sent.
pub fn color(value: Value<'_>) -> Option<String> {
    let text = string(value.json);
    value.accept(text.and_then(|text| match text.strip_prefix('#') {
        Some(digits) if digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Ok(text.to_owned())
        }
        _ => Err("must be a color such as `#1A2B3C`".to_owned()),
    }))
}

/// Free data of the caller: an object of at most 50 keys and 16 KiB, its values any JSON (D-013). Kept as sent.
pub fn metadata(value: Value<'_>) -> Option<Json> {
    let Json::Object(members) = value.json else {
        return value.refuse("must be an object");
    };
    if members.len() > MAX_METADATA_KEYS {
        return value.refuse(format_args!("must have at most {MAX_METADATA_KEYS} keys"));
    }
    let mut accepted = true;
    for (key, _) in members {
        if key.chars().count() > MAX_METADATA_KEY || key.contains(char::is_control) {
            accepted = false;
            let limits =
                format_args!("has a key of more than {MAX_METADATA_KEY} characters or with control characters");
            value.problems.push(value.path, limits);
        }
    }
    if !accepted {
        return None;
    }
    if holds_nul(value.json) {
        return value.refuse("must not hold the character NUL");
    }
    let mut bytes = Vec::new();
    value.json.canonical(&mut bytes);
    if bytes.len() > MAX_METADATA_BYTES {
        return value.refuse(format_args!("must be at most {} KiB long", MAX_METADATA_BYTES / 1024));
    }
    Some(value.json.clone())
}

/// Whether NUL is anywhere in it: no database here stores it in a text. The depth is limited by the parser.
fn holds_nul(json: &Json) -> bool {
    match json {
        Json::Text(text) => text.contains('\0'),
        Json::Array(items) => items.iter().any(holds_nul),
        Json::Object(members) => members.iter().any(|(name, value)| name.contains('\0') || holds_nul(value)),
        Json::Null | Json::Bool(_) | Json::Number(_) => false,
    }
}

/// Any JSON but `null`, kept as sent.
pub fn any_json(value: Value<'_>) -> Option<Json> {
    Some(value.json.clone())
}

#[cfg(test)]
mod tests;
