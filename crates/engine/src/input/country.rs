//! Countries: ISO 3166-1, in the three-letter form of the contract.

use std::fmt;

use serde::{Serialize, Serializer};

/// A country of ISO 3166-1, known by its alpha-3 code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Country(&'static str);

impl Country {
    /// Reads an upper-case alpha-3 code, or an alpha-2 code, which becomes its alpha-3 code (contract section 1).
    ///
    /// # Errors
    ///
    /// [`CountryError`] when the code is unknown or not in upper case.
    pub fn parse(code: &str) -> Result<Self, CountryError> {
        if let Some(country) = look_up(code) {
            return Ok(country);
        }
        // Only a text as long as a code is worth folding: a caller may send any length.
        if code.len() > 3 {
            return Err(CountryError::Unknown);
        }
        look_up(&code.to_ascii_uppercase())
            .map_or(Err(CountryError::Unknown), |Self(code)| Err(CountryError::NotUpperCase(code)))
    }

    /// The three upper-case letters, for example `ESP`.
    pub fn code(&self) -> &'static str {
        self.0
    }
}

fn look_up(code: &str) -> Option<Country> {
    let found = match code.len() {
        2 => rust_iso3166::from_alpha2(code),
        3 => rust_iso3166::from_alpha3(code),
        _ => None,
    };
    found.map(|country| Country(country.alpha3))
}

impl fmt::Display for Country {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

impl Serialize for Country {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

/// Why a text is no [`Country`]. Displayed as a phrase that begins with a verb, without the caller's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountryError {
    /// No code of ISO 3166-1, in no case.
    Unknown,
    /// A code that is right but for its case; holds the alpha-3 code in upper case.
    NotUpperCase(&'static str),
}

impl fmt::Display for CountryError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => formatter.write_str("is not an ISO 3166-1 alpha-3 country code such as `ESP`"),
            Self::NotUpperCase(code) => write!(formatter, "must be in upper case: use `{code}`"),
        }
    }
}

impl std::error::Error for CountryError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_both_codes_and_keeps_the_longer() {
        for (code, expected) in [("ESP", "ESP"), ("ES", "ESP"), ("US", "USA"), ("GBR", "GBR"), ("ATA", "ATA")] {
            let country = Country::parse(code).unwrap();
            assert_eq!(country.code(), expected);
            assert_eq!(serde_json::to_string(&country).unwrap(), format!("\"{expected}\""));
        }
    }

    #[test]
    fn refuses_other_texts() {
        for (code, expected) in [
            ("esp", CountryError::NotUpperCase("ESP")),
            ("es", CountryError::NotUpperCase("ESP")),
            ("Gbr", CountryError::NotUpperCase("GBR")),
            ("", CountryError::Unknown),
            ("E", CountryError::Unknown),
            ("UK", CountryError::Unknown),
            ("ZZZ", CountryError::Unknown),
            ("EU", CountryError::Unknown),
            ("724", CountryError::Unknown),
            ("Spain", CountryError::Unknown),
            ("ES ", CountryError::Unknown),
            ("é", CountryError::Unknown),
        ] {
            assert_eq!(Country::parse(code), Err(expected), "{code:?}");
        }
    }
}
