//! Decimal numbers as text: what a caller sends, checked and kept digit for digit.

use std::fmt;

use serde::{Serialize, Serializer};

/// The most digits a decimal may have before its point (D-006).
const MAX_WHOLE_DIGITS: usize = 15;

/// The most digits a decimal may have behind its point (D-006).
const MAX_FRACTION_DIGITS: usize = 12;

/// A decimal number in the one spelling that the API accepts, exactly as it was sent.
///
/// The text matches `^-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,12})?$` (D-006): no exponent, no plus sign, no leading zeros,
/// digits on both sides of a point. The scale stays as sent, so `0.2` and `0.20` are different texts, and equality
/// compares the texts, not the numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DecimalText(String);

impl DecimalText {
    /// Checks a text against the grammar and keeps it.
    ///
    /// # Errors
    ///
    /// [`DecimalError`] when the text does not match the grammar of D-006.
    pub fn parse(text: &str) -> Result<Self, DecimalError> {
        if matches_grammar(text) { Ok(Self(text.to_owned())) } else { Err(DecimalError) }
    }

    /// The text as it was sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the number is below zero. `-0` and `-0.00` are zero, so they are not.
    pub fn is_negative(&self) -> bool {
        self.0.starts_with('-') && self.0.bytes().any(|byte| (b'1'..=b'9').contains(&byte))
    }

    /// Whether the number is a fraction of a whole: at least 0 and at most 1, both included.
    pub fn within_zero_and_one(&self) -> bool {
        if self.is_negative() {
            return false;
        }
        let (whole, fraction) = parts(&self.0);
        match whole {
            "0" => true,
            "1" => fraction.bytes().all(|byte| byte == b'0'),
            _ => false,
        }
    }
}

/// The digits before and behind the point, without the sign; the second is empty when there is no point.
fn parts(text: &str) -> (&str, &str) {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    unsigned.split_once('.').unwrap_or((unsigned, ""))
}

fn matches_grammar(text: &str) -> bool {
    let (whole, fraction) = parts(text);
    let digits =
        |part: &str, most: usize| (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole, MAX_WHOLE_DIGITS)
        && (whole == "0" || !whole.starts_with('0'))
        && (digits(fraction, MAX_FRACTION_DIGITS) || !text.contains('.'))
}

impl fmt::Display for DecimalText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Serialize for DecimalText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// A text is no [`DecimalText`]. Displayed as a phrase that begins with a verb, to stand behind a property's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecimalError;

impl fmt::Display for DecimalError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "must be a decimal number such as `12.50`, with at most {MAX_WHOLE_DIGITS} digits before the point, \
             {MAX_FRACTION_DIGITS} behind it and no exponent"
        )
    }
}

impl std::error::Error for DecimalError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_the_grammar_and_keeps_the_scale() {
        for text in [
            "0",
            "-0",
            "0.0",
            "1",
            "10",
            "0.20",
            "-12.50",
            "999999999999999",
            "0.000000000001",
            "-999999999999999.999999999999",
        ] {
            let decimal = DecimalText::parse(text).unwrap();
            assert_eq!(decimal.as_str(), text);
            assert_eq!(serde_json::to_string(&decimal).unwrap(), format!("\"{text}\""));
        }
    }

    #[test]
    fn refuses_every_other_spelling() {
        for text in [
            "",
            "-",
            "+1",
            "--1",
            "01",
            "00",
            "-01",
            "1.",
            ".5",
            "-.5",
            ".",
            "1.2.3",
            "1e3",
            "1E3",
            "1_000",
            "1,5",
            " 1",
            "1 ",
            "1\n",
            "0x1",
            "NaN",
            "Infinity",
            "1000000000000000",
            "0.0000000000001",
            "١",
            "1.٢",
            "1.-2",
            "1.+2",
            "0.0000000000000000000000000001",
        ] {
            assert_eq!(DecimalText::parse(text), Err(DecimalError), "{text:?}");
        }
    }

    #[test]
    fn compares_with_zero_and_one() {
        for (text, negative, fraction) in [
            ("0", false, true),
            ("-0", false, true),
            ("-0.000", false, true),
            ("0.200000000000", false, true),
            ("0.999999999999", false, true),
            ("1", false, true),
            ("1.000000000000", false, true),
            ("1.000000000001", false, false),
            ("-0.000000000001", true, false),
            ("-1", true, false),
            ("2", false, false),
            ("10", false, false),
            ("100000000000000.0", false, false),
        ] {
            let decimal = DecimalText::parse(text).unwrap();
            assert_eq!((decimal.is_negative(), decimal.within_zero_and_one()), (negative, fraction), "{text}");
        }
    }
}
