//! The `Idempotency-Key` header: its grammar, the fingerprint of a request, and the keys whose requests run right now
//! (contract, idempotency).

use super::problem::refuse_early;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::Response;
use cuenta_engine::json::Json;
use cuenta_engine::pages::Query;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// The longest key in bytes (idempotency 5).
const LONGEST: usize = 255;

/// What a request carries.
pub enum KeyHeader {
    /// No key, or one of spaces only (idempotency 4, 6).
    None,
    /// 1 to 255 bytes of printable ASCII.
    Valid(String),
    /// Anything else (idempotency 6b).
    Invalid(&'static str),
}

impl KeyHeader {
    /// Reads the header.
    pub fn read(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(HEADER).iter();
        let Some(value) = values.next() else { return KeyHeader::None };
        if values.next().is_some() {
            return KeyHeader::Invalid("The header Idempotency-Key must be sent once");
        }
        let bytes = value.as_bytes().trim_ascii();
        if bytes.is_empty() {
            return KeyHeader::None;
        }
        if bytes.len() > LONGEST {
            return KeyHeader::Invalid("The header Idempotency-Key must be at most 255 bytes long");
        }
        let printable = bytes.iter().all(|byte| (0x20..=0x7E).contains(byte));
        match std::str::from_utf8(bytes) {
            Ok(key) if printable => KeyHeader::Valid(key.to_owned()),
            _ => KeyHeader::Invalid("The header Idempotency-Key must be printable ASCII"),
        }
    }

    /// The key, if it is valid.
    pub fn value(&self) -> Option<&str> {
        match self {
            KeyHeader::Valid(key) => Some(key),
            KeyHeader::None | KeyHeader::Invalid(_) => None,
        }
    }

    /// The 400 of an invalid key.
    pub fn refusal(&self, request_id: &str) -> Option<Response> {
        let KeyHeader::Invalid(detail) = self else { return None };
        Some(refuse_early(StatusCode::BAD_REQUEST, "invalid_idempotency_key", detail, request_id))
    }
}

/// SHA-256 over what makes two requests the same (idempotency 9).
pub fn fingerprint(method: &str, path: &str, query: &Query, version: &str, body: Option<&Json>) -> [u8; 32] {
    let mut hasher = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(bytes);
    };
    part(method.as_bytes());
    part(path.as_bytes());
    part(version.as_bytes());
    let mut pairs = query.0.clone();
    pairs.sort();
    for (name, value) in &pairs {
        part(name.as_bytes());
        part(value.as_bytes());
    }
    let mut canonical = Vec::new();
    if let Some(body) = body {
        body.canonical(&mut canonical);
    }
    part(&canonical);
    hasher.finalize().into()
}

type Entry = (Arc<str>, String);

/// The keys whose first request runs in this process.
#[derive(Clone, Default)]
pub struct InFlight(Arc<Mutex<HashSet<Entry>>>);

/// Keeps a key in flight until it is dropped.
pub struct Flight {
    set: InFlight,
    entry: Entry,
}

impl InFlight {
    /// Takes the key of the organization, or nothing when its first request still runs.
    pub fn enter(&self, organization_id: &Arc<str>, key: &str) -> Option<Flight> {
        let entry = (Arc::clone(organization_id), key.to_owned());
        let new = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(entry.clone());
        new.then(|| Flight { set: self.clone(), entry })
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.set.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use cuenta_engine::json;

    fn read(values: &[&[u8]]) -> KeyHeader {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, HeaderValue::from_bytes(value).unwrap());
        }
        KeyHeader::read(&headers)
    }

    #[test]
    fn the_grammar_of_a_key() {
        assert!(matches!(read(&[]), KeyHeader::None));
        assert!(matches!(read(&[b""]), KeyHeader::None));
        assert!(matches!(read(&[b"   "]), KeyHeader::None));
        assert_eq!(read(&[b" a b "]).value(), Some("a b"));
        assert_eq!(read(&[b"\"abc\""]).value(), Some("\"abc\""), "quotes are part of the key");
        assert_eq!(read(&[&[b'k'; 255]]).value().map(str::len), Some(255));
        assert!(matches!(read(&[&[b'k'; 256]]), KeyHeader::Invalid(_)));
        assert!(matches!(read(&[b"a\xff"]), KeyHeader::Invalid(_)));
        assert!(matches!(read(&[b"a\tb"]), KeyHeader::Invalid(_)));
        assert!(matches!(read(&[b"a", b"a"]), KeyHeader::Invalid(_)));
    }

    #[test]
    fn a_fingerprint_ignores_order_and_white_space_alone() {
        let of = |path: &str, body: &[u8]| {
            fingerprint("POST", path, &Query::default(), "2026-04-01", Some(&json::parse(body).unwrap()))
        };
        let first = of("/a", br#"{"a": 1, "b": [1.0, "x"]}"#);
        assert_eq!(first, of("/a", br#"{"b":[1.0,"x"],"a":1}"#));
        assert_ne!(first, of("/b", br#"{"b":[1.0,"x"],"a":1}"#));
        assert_ne!(first, of("/a", br#"{"b":[1.00,"x"],"a":1}"#), "number tokens count as written");
        let query = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            fingerprint("DELETE", "/a", &Query(pairs.collect()), "2026-04-01", None)
        };
        assert_eq!(query(&[("a", "1"), ("b", "2")]), query(&[("b", "2"), ("a", "1")]));
        assert_ne!(query(&[("a", "1")]), query(&[("a", "2")]));
    }

    #[test]
    fn a_key_is_in_flight_once() {
        let (set, organization) = (InFlight::default(), Arc::<str>::from("org_1"));
        let first = set.enter(&organization, "k");
        assert!(first.is_some());
        assert!(set.enter(&organization, "k").is_none());
        assert!(set.enter(&Arc::from("org_2"), "k").is_some());
        drop(first);
        assert!(set.enter(&organization, "k").is_some());
    }
}
