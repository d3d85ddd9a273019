//! The wall clock, read in one place.
//!
//! A wall clock can be set by hand or by a time server. Idempotency records and leases must not expire early because of
//! it: the process clock never runs ahead of its own monotonic time by more than an hour (contract, idempotency 32).

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How far the wall clock may leap ahead of the monotonic one before the leap is distrusted.
const TRUSTED_LEAP_MICROS: i64 = 3_600_000_000;

#[expect(clippy::disallowed_methods, reason = "this is the one reader of the wall clock")]
fn system_micros() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX)
}

/// Microseconds since 1970 in UTC, as the machine's clock shows them: for what people read.
pub fn wall_micros() -> i64 {
    system_micros()
}

/// The guarded moment: microseconds since 1970 that never leap ahead by more than an hour against the time that has
/// really passed in this process. Use it for anything that expires.
pub fn guarded_micros() -> i64 {
    static LAST: Mutex<Option<(Instant, i64)>> = Mutex::new(None);
    static ALARMED: AtomicBool = AtomicBool::new(false);
    let mut last = LAST.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (wall, instant) = (system_micros(), Instant::now());
    let now = match *last {
        Some((then, shown)) => guard(wall, shown, instant.duration_since(then)),
        None => wall,
    };
    if now != wall && !ALARMED.swap(true, Ordering::Relaxed) {
        tracing::error!("the machine's clock leapt ahead by more than an hour; nothing expires by the leap");
    }
    *last = Some((instant, now));
    now
}

fn guard(wall: i64, shown: i64, elapsed: Duration) -> i64 {
    let expected = shown.saturating_add(i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX));
    if wall > expected.saturating_add(TRUSTED_LEAP_MICROS) { expected } else { wall }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leap_of_more_than_an_hour_is_not_followed() {
        let second = Duration::from_secs(1);
        assert_eq!(guard(5_000_000, 4_000_000, second), 5_000_000);
        assert_eq!(guard(TRUSTED_LEAP_MICROS, 0, second), TRUSTED_LEAP_MICROS);
        assert_eq!(guard(TRUSTED_LEAP_MICROS + 1_000_001, 0, second), 1_000_000);
        assert_eq!(guard(-5, 4_000_000, second), -5, "a clock set back only makes things live longer");
    }
}
