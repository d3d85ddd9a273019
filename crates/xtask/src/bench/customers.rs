//! The customers of the benchmarks: what is sent, and the rows that a server makes of it. Both have the same texts, in the
//! same order, so that a write through the API and one past it cost the database the same.

use crate::load::scrambled;

/// The body of a create, with the places that `load` fills.
pub const BODY: &str = "{\"name\":\"Customer {r} GmbH & Co. KG\",\"currency\":\"EUR\",\"aliases\":[\"account-{r}\"],\
    \"billing_address\":{\"line1\":\"Friedrichstrasse 123\",\"line2\":\"Rear building, third floor\",\"city\":\"Berlin\",\
    \"state\":\"Berlin\",\"postal_code\":\"10117\",\"country\":\"DEU\"},\"contacts\":[{\"email\":\
    \"accounts.payable.{r}@customer.example\",\"email_preferences\":[\"billing\",\"legal\"],\"first_name\":\"Maximiliane\",\
    \"last_name\":\"Mustermann-Beispiel\",\"is_primary\":true}]}";
/// The idempotency key of a create, likewise.
pub const KEY: &str = "benchmark-{r}-{n}";

const ADDRESS: &str = "{\"line1\":\"Friedrichstrasse 123\",\"line2\":\"Rear building, third floor\",\"city\":\"Berlin\",\
    \"state\":\"Berlin\",\"postal_code\":\"10117\",\"country\":\"DEU\"}";
/// 2026-01-01, in microseconds: the customers of the floor come into being from then on, one a microsecond.
const EPOCH_MICROS: u64 = 1_767_225_600_000_000;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The rows of one customer.
#[derive(Debug)]
pub struct Customer {
    pub id: String,
    pub name: String,
    pub alias: String,
    pub aliases: String,
    pub address: &'static str,
    pub contacts: String,
    pub email: String,
    pub at: i64,
    pub properties: &'static str,
    pub request_id: String,
    /// Of its idempotency record.
    pub key: String,
    pub fingerprint: Vec<u8>,
    pub answer: Vec<u8>,
}

impl Customer {
    /// The customer that a create with this number makes.
    pub fn new(number: u64) -> Self {
        let spread = scrambled(number);
        let id = id("cust", number, 1);
        let name = format!("Customer {spread:010} GmbH & Co. KG");
        let alias = format!("account-{spread:010}");
        let aliases = format!("[\"{alias}\"]");
        let email = format!("accounts.payable.{spread:010}@customer.example");
        let contacts = format!(
            "[{{\"id\":\"{}\",\"email\":\"{email}\",\"email_preferences\":[\"billing\",\"legal\"],\
             \"first_name\":\"Maximiliane\",\"last_name\":\"Mustermann-Beispiel\",\"is_primary\":true}}]",
            self::id("cont", number, 2)
        );
        let moment = "2026-01-01T00:00:00.000000Z";
        let answer = format!(
            "{{\"id\":\"{id}\",\"name\":\"{name}\",\"currency\":\"EUR\",\"aliases\":{aliases},\"billing_address\":{ADDRESS},\
             \"contacts\":{contacts},\"tag_ids\":[],\"created_at\":\"{moment}\",\"updated_at\":\"{moment}\"}}"
        );
        Customer {
            id,
            name,
            alias,
            aliases,
            address: ADDRESS,
            contacts,
            email,
            at: i64::try_from(EPOCH_MICROS + number).unwrap_or(i64::MAX),
            properties: "name,currency,aliases,billing_address,contacts",
            request_id: format!("req_benchmarks{number:08x}"),
            key: format!("benchmark-{spread:010}-{number:010}"),
            fingerprint: [mixed(number).to_be_bytes(); 4].concat(),
            answer: answer.into_bytes(),
        }
    }
}

/// An id as the engine spells it: 22 base-62 digits of a UUIDv7.
fn id(prefix: &str, number: u64, salt: u64) -> String {
    let micros = u128::from(EPOCH_MICROS + number);
    let fraction = (micros % 1_000) * 4_096 / 1_000;
    let low = u128::from(mixed(number ^ (salt << 40)) >> 3) | (0b10 << 62);
    let mut rest = ((micros / 1_000) << 80) | (0x7 << 76) | (fraction << 64) | low;
    let mut text = [b'0'; 22];
    for place in text.iter_mut().rev() {
        let digit = usize::try_from(rest % 62).unwrap_or(0);
        *place = DIGITS.get(digit).copied().unwrap_or(b'0');
        rest /= 62;
    }
    format!("{prefix}_{}", String::from_utf8_lossy(&text))
}

/// SplitMix64: bits without a pattern, the same in every run.
fn mixed(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_ascend_and_have_their_form() {
        let made: Vec<String> = (0..10_000).map(|number| Customer::new(number).id).collect();
        assert!(made.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(made.iter().all(|id| id.len() == "cust_".len() + 22));
    }
}
