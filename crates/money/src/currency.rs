//! Which currencies can be billed: the active codes of ISO 4217 that have a minor unit.

use std::fmt;

use serde::{Serialize, Serializer};

/// Codes that the table marks as superseded although ISO 4217 still lists them as active: the bolívar has had two
/// active codes, `VED` and `VES`, since 2021.
const ACTIVE_THOUGH_SUPERSEDED: [&str; 1] = ["VES"];

/// A currency that can be billed: an active ISO 4217 code with 0, 2, 3 or 4 digits after the decimal point.
///
/// Never a metal, a unit of account without a minor unit, a testing code or a withdrawn code. Fund codes such as
/// `CLF` and `UYW` are active and have a minor unit, so they are currencies here. Ordered by code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency {
    code: &'static str,
    digits: u8,
}

impl Currency {
    /// Reads a currency code as a caller sends it: three upper-case letters.
    ///
    /// # Errors
    ///
    /// [`CurrencyError`] says which of the rules the code breaks; a code that is right but for its case is refused
    /// with the right spelling, because text is kept as sent and never folded (D-013).
    pub fn parse(code: &str) -> Result<Self, CurrencyError> {
        let Some(found) = iso_currency::Currency::from_code(code) else {
            return Err(Self::nearly(code));
        };
        let known = found.code();
        let Some(digits) = found.exponent().and_then(|digits| u8::try_from(digits).ok()) else {
            return Err(CurrencyError::NoMinorUnit(known));
        };
        if let Some(successor) = found.is_superseded()
            && !ACTIVE_THOUGH_SUPERSEDED.contains(&known)
        {
            return Err(CurrencyError::Withdrawn { code: known, successor: successor.code() });
        }
        Ok(Self { code: known, digits })
    }

    /// Why an unknown code is refused: as misspelled when its upper-case form would be accepted.
    fn nearly(code: &str) -> CurrencyError {
        // Only a text as long as a code is worth folding: a caller may send any length.
        if code.len() != 3 {
            return CurrencyError::Unknown;
        }
        let upper = code.to_ascii_uppercase();
        if upper == code {
            return CurrencyError::Unknown;
        }
        match Self::parse(&upper) {
            Ok(currency) => CurrencyError::NotUpperCase(currency.code),
            Err(error) => error,
        }
    }

    /// The three upper-case letters, for example `EUR`.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// How many digits the minor unit has: 0 for `JPY`, 2 for `EUR`, 3 for `KWD`, 4 for `CLF`.
    pub fn digits(&self) -> u8 {
        self.digits
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code)
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code)
    }
}

/// Why a text is no [`Currency`]. Displayed as a phrase that begins with a verb, to stand behind a property's name;
/// it holds codes of the table and never the caller's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CurrencyError {
    /// No code of ISO 4217, in no case.
    Unknown,
    /// A code that can be billed, but not in upper case; holds the right spelling.
    NotUpperCase(&'static str),
    /// A code without a minor unit: precious metals, special drawing rights, testing codes, "no currency".
    NoMinorUnit(&'static str),
    /// A code that ISO 4217 has withdrawn.
    Withdrawn {
        /// The withdrawn code.
        code: &'static str,
        /// The code that took its place.
        successor: &'static str,
    },
}

impl fmt::Display for CurrencyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => formatter.write_str("is not an active ISO 4217 currency code"),
            Self::NotUpperCase(code) => write!(formatter, "must be in upper case: use `{code}`"),
            Self::NoMinorUnit(code) => {
                write!(formatter, "cannot be `{code}`, which has no minor unit")
            }
            Self::Withdrawn { code, successor } => {
                write!(formatter, "cannot be `{code}`, which is withdrawn: use `{successor}`")
            }
        }
    }
}

impl std::error::Error for CurrencyError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// The active codes of ISO 4217 whose minor unit has not two digits, all of them.
    const NOT_TWO_DIGITS: [(u8, &str); 3] = [
        (0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"),
        (3, "BHD IQD JOD KWD LYD OMR TND"),
        (4, "CLF UYW"),
    ];

    /// Every three upper-case letters that are a currency.
    fn all() -> Vec<Currency> {
        let letters = || 'A'..='Z';
        letters()
            .flat_map(|a| letters().flat_map(move |b| letters().map(move |c| format!("{a}{b}{c}"))))
            .filter_map(|code| Currency::parse(&code).ok())
            .collect()
    }

    #[test]
    fn digits_are_those_of_iso_4217() {
        let all = all();
        assert_eq!(all.len(), 165);
        for currency in all {
            let expected = NOT_TWO_DIGITS
                .iter()
                .find(|(_, codes)| codes.contains(currency.code))
                .map_or(2, |(digits, _)| *digits);
            assert_eq!(currency.digits(), expected, "{currency}");
        }
        for code in NOT_TWO_DIGITS.iter().flat_map(|(_, codes)| codes.split(' ')) {
            assert!(Currency::parse(code).is_ok(), "{code}");
        }
    }

    #[test]
    fn refuses_what_cannot_be_billed() {
        for code in "XXX XTS XAU XAG XPT XPD XDR XBA XBB XBC XBD XSU XUA".split(' ') {
            assert_eq!(Currency::parse(code), Err(CurrencyError::NoMinorUnit(code)));
        }
        for (code, successor) in [("BGN", "EUR"), ("HRK", "EUR"), ("CUC", "CUP"), ("SLL", "SLE"), ("ZWL", "ZWG")] {
            assert_eq!(Currency::parse(code), Err(CurrencyError::Withdrawn { code, successor }));
        }
        for code in ["", "US", "USDX", "ZZZ", " USD", "USD ", "US\0", "ÜSD", "DEM", "ANG", "840", "€"] {
            assert_eq!(Currency::parse(code), Err(CurrencyError::Unknown), "{code:?}");
        }
    }

    #[test]
    fn accepts_both_codes_of_the_bolivar() {
        for code in ["VED", "VES", "XCG", "USN", "XAD"] {
            assert_eq!(Currency::parse(code).map(|currency| currency.code()), Ok(code));
        }
    }

    #[test]
    fn suggests_upper_case_only_for_what_would_be_accepted() {
        for code in ["usd", "Usd", "uSD"] {
            assert_eq!(Currency::parse(code), Err(CurrencyError::NotUpperCase("USD")));
        }
        assert_eq!(Currency::parse("xau"), Err(CurrencyError::NoMinorUnit("XAU")));
        assert_eq!(Currency::parse("zzz"), Err(CurrencyError::Unknown));
        assert_eq!(CurrencyError::NotUpperCase("USD").to_string(), "must be in upper case: use `USD`");
    }

    #[test]
    fn serializes_as_its_code() {
        let currency = Currency::parse("EUR").unwrap();
        assert_eq!(serde_json::to_string(&currency).unwrap(), "\"EUR\"");
        assert_eq!(currency.to_string(), "EUR");
    }
}
