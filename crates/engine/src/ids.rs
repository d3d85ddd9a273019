//! Ids: a prefix, an underscore and 22 base-62 characters of a UUIDv7 (D-007).
//!
//! The characters are in the order of their bytes and the number is written at full length, so ids sort by creation as
//! text. The UUID's time has the microseconds of the organization's clock in it (RFC 9562, section 6.2, method 3);
//! within one microsecond ids of one process ascend (method 2), so that even in a sandbox, whose clock stands still,
//! what was created later sorts later.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// The prefixes of D-007 that exist so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Prefix {
    /// `org_…`, an organization.
    Organization,
    /// `key_…`, the public half of an API key.
    Key,
    /// `cust_…`, a customer.
    Customer,
    /// `cont_…`, a contact of a customer.
    Contact,
    /// `cacc_…`, a connected account.
    ConnectedAccount,
    /// `tag_…`, a tag.
    Tag,
    /// `intg_…`, an integration.
    Integration,
}

impl Prefix {
    /// The text before the underscore.
    pub fn as_str(self) -> &'static str {
        match self {
            Prefix::Organization => "org",
            Prefix::Key => "key",
            Prefix::Customer => "cust",
            Prefix::Contact => "cont",
            Prefix::ConnectedAccount => "cacc",
            Prefix::Tag => "tag",
            Prefix::Integration => "intg",
        }
    }
}

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Characters behind the underscore: 62^22 is just above 2^128.
const LENGTH: usize = 22;
/// How many organizations' last ids a process remembers before it starts anew.
const REMEMBERED: usize = 10_000;

/// Makes the next id for something that comes into being at `now_micros` of the organization's clock. The random
/// part has 61 bits.
pub fn next(prefix: Prefix, organization_id: &str, now_micros: i64) -> String {
    static LAST: Mutex<Option<HashMap<String, u128>>> = Mutex::new(None);
    let fresh = uuid_v7(now_micros, random_bits());
    let mut guard = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let last = guard.get_or_insert_default();
    if last.len() >= REMEMBERED {
        last.clear();
    }
    let previous = last.get(organization_id).copied().unwrap_or(0);
    let number = after(previous, fresh);
    match last.get_mut(organization_id) {
        Some(kept) => *kept = number,
        None => drop(last.insert(organization_id.to_owned(), number)),
    }
    spell(prefix, number)
}

/// Random text of 43 base-62 characters, about 256 bits, for the secret half of a key.
pub fn secret() -> String {
    let wide = [random_bits(), random_bits(), random_bits(), random_bits()];
    let mut text: String = wide.iter().map(|part| digits(u128::from(*part), 11)).collect();
    text.truncate(43);
    text
}

/// The fresh number, or, when both are of the same microsecond, a slightly larger one than the previous.
fn after(previous: u128, fresh: u128) -> u128 {
    if previous >> 64 != fresh >> 64 {
        return fresh;
    }
    // A random step keeps ids hard to guess. A first number has its highest random bit clear, so 2^29 steps fit at least.
    previous + (fresh & 0xFFFF_FFFF) + 1
}

fn uuid_v7(now_micros: i64, random: u64) -> u128 {
    let micros = u128::from(now_micros.max(0).unsigned_abs());
    let millis = (micros / 1_000) & 0xFFFF_FFFF_FFFF;
    let fraction = (micros % 1_000) * 4_096 / 1_000;
    let low = u128::from(random & 0x1FFF_FFFF_FFFF_FFFF) | (0b10 << 62);
    (millis << 80) | (0x7 << 76) | (fraction << 64) | low
}

fn spell(prefix: Prefix, number: u128) -> String {
    format!("{}_{}", prefix.as_str(), digits(number, LENGTH))
}

fn digits(mut number: u128, length: usize) -> String {
    let mut text = vec![b'0'; length];
    for place in text.iter_mut().rev() {
        let digit = usize::try_from(number % 62).unwrap_or(0);
        *place = DIGITS.get(digit).copied().unwrap_or(b'0');
        number /= 62;
    }
    String::from_utf8(text).unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "the one reader of randomness")]
fn random_bits() -> u64 {
    let mut bytes = [0_u8; 8];
    // The kernel's generator fails only where there is none; to go on with guessable keys would be worse than to stop.
    match getrandom::fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(error) => panic!("this machine gives no random numbers: {error}"),
    }
}

/// Whether a text has the form of an id with this prefix; one that has not names nothing.
pub fn is_id(prefix: Prefix, text: &str) -> bool {
    let digits = text.strip_prefix(prefix.as_str()).and_then(|rest| rest.strip_prefix('_'));
    digits.is_some_and(|digits| digits.len() == LENGTH && digits.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_its_form() {
        let id = next(Prefix::Customer, "org_form", 1_700_000_000_000_000);
        assert!(is_id(Prefix::Customer, &id), "{id}");
        assert!(!is_id(Prefix::Tag, &id));
        assert_eq!(id.len(), "cust_".len() + LENGTH);
        assert_eq!(digits(u128::MAX, LENGTH).len(), LENGTH);
        assert_eq!(digits(61, 3), "00z");
    }

    #[test]
    fn ids_sort_by_creation_also_when_the_clock_stands_still() {
        let now = 1_700_000_000_000_000;
        let still: Vec<String> = (0..10_000).map(|_| next(Prefix::Customer, "org_still", now)).collect();
        assert!(still.windows(2).all(|pair| pair[0] < pair[1]));
        let moving: Vec<String> = (0..10_000).map(|step| next(Prefix::Customer, "org_moving", now + step)).collect();
        assert!(moving.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn a_uuid_has_its_version_and_variant() {
        let number = uuid_v7(1_700_000_000_123_456, u64::MAX);
        assert_eq!(number >> 80, 1_700_000_000_123);
        assert_eq!((number >> 76) & 0xF, 7);
        assert_eq!((number >> 62) & 0b11, 0b10);
        assert_eq!((number >> 64) & 0xFFF, 456 * 4_096 / 1_000);
    }

    #[test]
    fn a_secret_is_long_and_new() {
        assert_eq!(secret().len(), 43);
        assert_ne!(secret(), secret());
    }
}
