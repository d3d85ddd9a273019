//! Currencies and exact decimals. No binary floating point touches money or quantity anywhere (D-006), so this
//! crate offers none: what arrives as text stays text until an exact type takes it.

mod currency;
mod decimal;

pub use currency::{Currency, CurrencyError};
pub use decimal::{DecimalError, DecimalText};
