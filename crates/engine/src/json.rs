//! A strict reader for the JSON of request bodies, and its writers.
//!
//! It exists because ready-made readers are too kind for a system that holds money: they keep the last of two equal
//! names, turn number tokens into binary floating point, pass `\u0000` on to databases that cannot store it, and echo
//! the input in their messages. Here a number stays the token that was written, and one text has one meaning.

use std::collections::HashSet;
use std::fmt;

use serde::ser::{Error as _, Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::value::RawValue;

/// How deep arrays and objects may nest (D-013); a lone array has depth 1. It also bounds the reader's recursion.
pub const MAX_DEPTH: usize = 32;

/// The most characters a number token may have.
pub const MAX_NUMBER_LENGTH: usize = 64;

/// The most values one text may hold, counting every scalar, array and object.
pub const MAX_VALUES: usize = 100_000;

/// Up to this many names, comparing all pairs is faster than hashing.
const FEW_NAMES: usize = 8;

/// One JSON value, as it was written but for white space and escapes in strings.
///
/// What [`parse`] returns has no two equal names in one object, no NUL in a string, nests at most [`MAX_DEPTH`] deep
/// and holds only well-formed number tokens. The writers rely on the last of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// The number token exactly as written: `1`, `1.0` and `1e0` are three values.
    Number(String),
    /// A string after its escapes are resolved; it may hold any character, NUL included: readers decide what a text may be.
    Text(String),
    /// The items in order.
    Array(Vec<Json>),
    /// The names and values in the order they were written.
    Object(Vec<(String, Json)>),
}

/// What is wrong with a text that [`parse`] refuses. Its message is fixed and never holds a part of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonFault {
    /// Nothing but white space.
    Empty,
    /// A byte sequence that is no UTF-8.
    NotUtf8,
    /// A byte order mark before the text.
    ByteOrderMark,
    /// Something else where a value must begin; comments and `NaN` are of this kind.
    ExpectedValue,
    /// Something else where a name in quotation marks must begin; a comma before `}` is of this kind.
    ExpectedName,
    /// No colon behind a name.
    ExpectedColon,
    /// Neither a comma nor the closing bracket behind an item.
    ExpectedCommaOrBracket,
    /// Neither a comma nor the closing brace behind a member.
    ExpectedCommaOrBrace,
    /// Anything but white space behind the value.
    TrailingContent,
    /// A number with a leading zero.
    LeadingZero,
    /// A number without a digit where the grammar wants one, as in `1.`, `-` or `1e`.
    ExpectedDigit,
    /// A string without its closing quotation mark.
    UnterminatedString,
    /// A raw control character in a string, a raw NUL included.
    ControlCharacter,
    /// A backslash with something behind it that makes no escape.
    InvalidEscape,
    /// One half of a surrogate pair without the other.
    LoneSurrogate,
    /// Two equal names in one object; the offset is the object's.
    DuplicateName,
    /// Deeper than [`MAX_DEPTH`].
    TooDeep,
    /// A number token longer than [`MAX_NUMBER_LENGTH`].
    NumberTooLong,
    /// More values than [`MAX_VALUES`].
    TooManyValues,
}

impl JsonFault {
    /// The whole sentence but for the place.
    fn message(self) -> &'static str {
        match self {
            Self::Empty => "the body is not JSON: it is empty",
            Self::NotUtf8 => "the body is not JSON: it is not UTF-8",
            Self::ByteOrderMark => "the body is not JSON: it begins with a byte order mark",
            Self::ExpectedValue => "the body is not JSON: expected a value",
            Self::ExpectedName => "the body is not JSON: expected a name in quotation marks",
            Self::ExpectedColon => "the body is not JSON: expected `:`",
            Self::ExpectedCommaOrBracket => "the body is not JSON: expected `,` or `]`",
            Self::ExpectedCommaOrBrace => "the body is not JSON: expected `,` or `}`",
            Self::TrailingContent => "the body is not JSON: expected nothing behind the value",
            Self::LeadingZero => "the body is not JSON: a number has a leading zero",
            Self::ExpectedDigit => "the body is not JSON: expected a digit",
            Self::UnterminatedString => "the body is not JSON: a string has no end",
            Self::ControlCharacter => "the body is not JSON: a string holds an unescaped control character",
            Self::InvalidEscape => "the body is not JSON: a string holds an invalid escape",
            Self::LoneSurrogate => "the body is not JSON: a string holds half a surrogate pair",
            Self::DuplicateName => "the body is refused: an object has two equal names",
            Self::TooDeep => "the body is refused: it nests deeper than 32 levels",
            Self::NumberTooLong => "the body is refused: a number is longer than 64 characters",
            Self::TooManyValues => "the body is refused: it holds more than 100,000 values",
        }
    }
}

/// Why and where [`parse`] refuses a text: for the caller, without a part of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonError {
    /// What is wrong.
    pub fault: JsonFault,
    /// How many bytes of the text precede the place; for [`JsonFault::DuplicateName`] the place is the object.
    pub offset: usize,
}

impl fmt::Display for JsonError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at byte {}", self.fault.message(), self.offset)
    }
}

impl std::error::Error for JsonError {}

/// Reads one JSON text, the whole of it.
///
/// Takes time linear in the length and recurses at most [`MAX_DEPTH`] deep, whatever the text is.
///
/// # Errors
///
/// The first [`JsonError`] in reading order; duplicate names are found when their object ends. Beyond RFC 8259 it
/// refuses duplicate names, NUL, lone surrogates, and what exceeds [`MAX_DEPTH`], [`MAX_NUMBER_LENGTH`] or
/// [`MAX_VALUES`] (D-002, D-013).
pub fn parse(bytes: &[u8]) -> Result<Json, JsonError> {
    // Checked once and at the start, so that strings can be sliced without looking at their bytes again.
    let text = std::str::from_utf8(bytes)
        .map_err(|error| JsonError { fault: JsonFault::NotUtf8, offset: error.valid_up_to() })?;
    if text.starts_with('\u{feff}') {
        return Err(JsonError { fault: JsonFault::ByteOrderMark, offset: 0 });
    }
    let mut reader = Reader { text, bytes, at: 0, values: 0 };
    reader.skip_space();
    if reader.peek().is_none() {
        return reader.fail(JsonFault::Empty);
    }
    let json = reader.value(0)?;
    reader.skip_space();
    match reader.peek() {
        None => Ok(json),
        Some(_) => reader.fail(JsonFault::TrailingContent),
    }
}

/// A place in a text that is known to be UTF-8. `at` only ever rests on an ASCII byte, behind one, or at the end.
struct Reader<'t> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    values: usize,
}

impl Reader<'_> {
    fn fail<T>(&self, fault: JsonFault) -> Result<T, JsonError> {
        Err(JsonError { fault, offset: self.at })
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn skip_digits(&mut self) {
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
    }

    /// Reads the value that begins here, inside `depth` arrays and objects.
    fn value(&mut self, depth: usize) -> Result<Json, JsonError> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return self.fail(JsonFault::TooManyValues);
        }
        match self.peek() {
            Some(b'"') => self.string().map(Json::Text),
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.array(depth + 1),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'n') => self.word("null", Json::Null),
            _ => self.fail(JsonFault::ExpectedValue),
        }
    }

    fn word(&mut self, word: &str, json: Json) -> Result<Json, JsonError> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return self.fail(JsonFault::ExpectedValue);
        }
        self.at += word.len();
        Ok(json)
    }

    fn array(&mut self, depth: usize) -> Result<Json, JsonError> {
        if depth > MAX_DEPTH {
            return self.fail(JsonFault::TooDeep);
        }
        self.at += 1;
        let mut items = Vec::new();
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Json::Array(items));
        }
        loop {
            self.skip_space();
            items.push(self.value(depth)?);
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return self.fail(JsonFault::ExpectedCommaOrBracket),
            }
        }
        self.at += 1;
        Ok(Json::Array(items))
    }

    fn object(&mut self, depth: usize) -> Result<Json, JsonError> {
        if depth > MAX_DEPTH {
            return self.fail(JsonFault::TooDeep);
        }
        let begin = self.at;
        self.at += 1;
        let mut members = Vec::new();
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Json::Object(members));
        }
        loop {
            members.push(self.member(depth)?);
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return self.fail(JsonFault::ExpectedCommaOrBrace),
            }
        }
        self.at += 1;
        if names_repeat(&members) {
            return Err(JsonError { fault: JsonFault::DuplicateName, offset: begin });
        }
        Ok(Json::Object(members))
    }

    fn member(&mut self, depth: usize) -> Result<(String, Json), JsonError> {
        self.skip_space();
        if self.peek() != Some(b'"') {
            return self.fail(JsonFault::ExpectedName);
        }
        let name = self.string()?;
        self.skip_space();
        if self.peek() != Some(b':') {
            return self.fail(JsonFault::ExpectedColon);
        }
        self.at += 1;
        self.skip_space();
        Ok((name, self.value(depth)?))
    }

    fn number(&mut self) -> Result<Json, JsonError> {
        let begin = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
            if let Some(b'0'..=b'9') = self.peek() {
                self.at -= 1;
                return self.fail(JsonFault::LeadingZero);
            }
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        if self.at - begin > MAX_NUMBER_LENGTH {
            return Err(JsonError { fault: JsonFault::NumberTooLong, offset: begin });
        }
        Ok(Json::Number(self.text[begin..self.at].to_owned()))
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let Some(b'0'..=b'9') = self.peek() else {
            return self.fail(JsonFault::ExpectedDigit);
        };
        self.skip_digits();
        Ok(())
    }

    /// Reads the string whose opening quotation mark is here. A string without escapes is copied in one piece.
    fn string(&mut self) -> Result<String, JsonError> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let begin = self.at;
            let rest = &self.bytes[begin..];
            let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f));
            self.at = plain.map_or(self.bytes.len(), |length| begin + length);
            out.push_str(&self.text[begin..self.at]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                Some(_) => return self.fail(JsonFault::ControlCharacter),
                None => return self.fail(JsonFault::UnterminatedString),
            }
        }
    }

    /// Reads the escape whose backslash is here. A fault is placed at the backslash.
    fn escape(&mut self) -> Result<char, JsonError> {
        let simple = match self.bytes.get(self.at + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return self.fail(JsonFault::InvalidEscape),
        };
        self.at += 2;
        Ok(simple)
    }

    fn unicode_escape(&mut self) -> Result<char, JsonError> {
        let Some(first) = self.code_unit(self.at) else {
            return self.fail(JsonFault::InvalidEscape);
        };
        // The second half counts only when the first one asks for it.
        let second = if (0xd800..0xdc00).contains(&first) { self.code_unit(self.at + 6) } else { None };
        let mut decoded = char::decode_utf16([first].into_iter().chain(second));
        match decoded.next() {
            Some(Ok(character)) => {
                self.at += if second.is_some() { 12 } else { 6 };
                Ok(character)
            }
            _ => self.fail(JsonFault::LoneSurrogate),
        }
    }

    /// The four hexadecimal digits of a `\uXXXX` at this place, if that is what stands there.
    fn code_unit(&self, at: usize) -> Option<u16> {
        let digits = self.text.get(at..at + 6)?.strip_prefix("\\u")?;
        // The library's conversion would take a sign, which JSON does not.
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        u16::from_str_radix(digits, 16).ok()
    }
}

/// Whether two names are equal; hashed for large objects, so that time stays linear. The standard hasher is seeded
/// per process, so nobody can choose names that collide.
fn names_repeat(members: &[(String, Json)]) -> bool {
    if members.len() > FEW_NAMES {
        let mut seen = HashSet::with_capacity(members.len());
        return !members.iter().all(|(name, _)| seen.insert(name.as_str()));
    }
    members.iter().enumerate().any(|(index, (name, _))| members[..index].iter().any(|(earlier, _)| earlier == name))
}

/// In which order a writer puts the members of an object.
#[derive(Clone, Copy)]
enum MemberOrder {
    AsWritten,
    ByName,
}

impl Json {
    /// The value behind a name, when this is an object that has it.
    pub fn get(&self, name: &str) -> Option<&Json> {
        match self {
            Self::Object(members) => find(members, name),
            _ => None,
        }
    }

    /// Appends the canonical form: equal for two texts that differ only in white space, in the order of members and
    /// in how strings are escaped; different for any other two.
    ///
    /// Names are sorted by their bytes, number tokens stay as written, strings are escaped as little as possible and
    /// not normalized. The fingerprint of an idempotent request is made of these bytes (D-010).
    pub fn canonical(&self, out: &mut Vec<u8>) {
        self.write(out, MemberOrder::ByName);
    }

    fn write(&self, out: &mut impl Sink, order: MemberOrder) {
        match self {
            Self::Null => out.put("null"),
            Self::Bool(true) => out.put("true"),
            Self::Bool(false) => out.put("false"),
            Self::Number(token) => out.put(token),
            Self::Text(text) => write_string(text, out),
            Self::Array(items) => {
                out.put("[");
                for (index, item) in items.iter().enumerate() {
                    out.put(if index == 0 { "" } else { "," });
                    item.write(out, order);
                }
                out.put("]");
            }
            Self::Object(members) => {
                out.put("{");
                let mut members: Vec<_> = members.iter().collect();
                if let MemberOrder::ByName = order {
                    members.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
                }
                for (index, (name, value)) in members.into_iter().enumerate() {
                    out.put(if index == 0 { "" } else { "," });
                    write_string(name, out);
                    out.put(":");
                    value.write(out, order);
                }
                out.put("}");
            }
        }
    }
}

/// The value behind a name among the members of an object.
pub(crate) fn find<'m>(members: &'m [(String, Json)], name: &str) -> Option<&'m Json> {
    members.iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

/// Where a writer puts its pieces.
trait Sink {
    fn put(&mut self, piece: &str);
}

impl Sink for Vec<u8> {
    fn put(&mut self, piece: &str) {
        self.extend_from_slice(piece.as_bytes());
    }
}

impl Sink for String {
    fn put(&mut self, piece: &str) {
        self.push_str(piece);
    }
}

/// Writes a string, escaping only what JSON requires: the quotation mark, the backslash and C0 control characters.
fn write_string(text: &str, out: &mut impl Sink) {
    out.put("\"");
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)) {
        let (plain, tail) = rest.split_at(at);
        let (special, after) = tail.split_at(1);
        out.put(plain);
        match special {
            "\"" => out.put("\\\""),
            "\\" => out.put("\\\\"),
            "\u{8}" => out.put("\\b"),
            "\u{c}" => out.put("\\f"),
            "\n" => out.put("\\n"),
            "\r" => out.put("\\r"),
            "\t" => out.put("\\t"),
            control => control.bytes().for_each(|byte| out.put(&format!("\\u{byte:04x}"))),
        }
        rest = after;
    }
    out.put(rest);
    out.put("\"");
}

/// The compact text: members in their own order, no white space, number tokens as written. What is stored.
impl fmt::Display for Json {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.write(&mut out, MemberOrder::AsWritten);
        formatter.write_str(&out)
    }
}

/// Serializes with number tokens as written; only `serde_json` can do that, so only its serializers are of use here.
impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(flag) => serializer.serialize_bool(*flag),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Number(token) => match token.parse::<i64>() {
                // Whole numbers are printed as they were written, all but `-0`, and need no detour.
                Ok(number) if token != "-0" => serializer.serialize_i64(number),
                _ => RawValue::from_string(token.clone()).map_err(S::Error::custom)?.serialize(serializer),
            },
            Self::Array(items) => {
                let mut sequence = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    sequence.serialize_element(item)?;
                }
                sequence.end()
            }
            Self::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (name, value) in members {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests;
