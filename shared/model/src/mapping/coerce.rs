//! Values brought into another type or form. Messages name kinds, never values.

use sha2::{Digest as _, Sha256};

use super::rule::{Digest, Normalize};
use super::template::hex;
use crate::cell::{Cell, Kind};
use crate::column::Column;

/// Adds `cell` to `out`, which holds `kind`. On an error, which names kinds and no value, nothing is added.
pub fn coerce(cell: Cell<'_>, kind: Kind, out: &mut Column) -> Result<(), String> {
    let cannot = || format!("the value is no {}", kind.name());
    match (kind, cell) {
        (_, Cell::Null) => out.push_null(),
        (Kind::Text, cell) => out.push_text_with(|text| cell.write_text(text)),
        (Kind::Bool, Cell::Bool(value)) => out.push_int(i64::from(value)),
        (Kind::Bool, Cell::Int(value @ (0 | 1))) => out.push_int(value),
        (Kind::Bool, Cell::Text(text)) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "1" => out.push_int(1),
            "false" | "f" | "no" | "0" => out.push_int(0),
            _ => return Err(cannot()),
        },
        (Kind::Int, Cell::Int(value)) => out.push_int(value),
        (Kind::Int, Cell::Bool(value)) => out.push_int(i64::from(value)),
        (Kind::Int, Cell::Text(text) | Cell::Decimal(text)) => {
            let whole = text.trim().split_once('.').map_or(text.trim(), |(whole, fraction)| {
                if fraction.bytes().all(|b| b == b'0') { whole } else { text }
            });
            out.push_int(whole.parse().map_err(|_| cannot())?);
        }
        (Kind::Float, Cell::Float(value)) => out.push_float(value),
        (Kind::Float, Cell::Int(value)) => out.push_float(value as f64),
        (Kind::Float, Cell::Text(text) | Cell::Decimal(text)) => {
            out.push_float(text.trim().parse().map_err(|_| cannot())?);
        }
        (Kind::Decimal, Cell::Int(_)) => out.push_text_with(|text| cell.write_text(text)),
        (Kind::Decimal, Cell::Decimal(text) | Cell::Text(text)) if is_decimal(text.trim()) => {
            out.push_text(text.trim());
        }
        (Kind::Date, Cell::Date(days)) => out.push_int(days),
        (Kind::Date, Cell::Timestamp(micros) | Cell::TimestampTz(micros)) => {
            out.push_int(micros.div_euclid(86_400_000_000));
        }
        (Kind::Date, Cell::Text(text)) => {
            let date: chrono::NaiveDate = text.trim().parse().map_err(|_| cannot())?;
            out.push_int(i64::from(date.to_epoch_days()));
        }
        (Kind::TimestampTz, Cell::TimestampTz(micros) | Cell::Timestamp(micros)) => out.push_int(micros),
        (Kind::TimestampTz, Cell::Date(days)) => out.push_int(days * 86_400_000_000),
        (Kind::TimestampTz, Cell::Text(text)) => {
            let instant = chrono::DateTime::parse_from_rfc3339(text.trim()).map_err(|_| cannot())?;
            out.push_int(instant.timestamp_micros());
        }
        (Kind::Json, Cell::Json(text)) => out.push_text(text),
        (Kind::Json, Cell::Text(text)) if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => {
            out.push_text(text);
        }
        (Kind::Json, Cell::Text(_)) => return Err(cannot()),
        (Kind::Json, cell) => out.push_text_with(|text| cell.write_json(text)),
        _ => return Err(cannot()),
    }
    Ok(())
}

fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    (!whole.is_empty() || !fraction.is_empty()) && whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit())
}

/// The text in the form that destinations expect.
pub(super) fn normalize(text: &str, form: Normalize) -> Result<String, String> {
    match form {
        Normalize::Email => Ok(text.trim().to_lowercase()),
        Normalize::Phone => {
            let digits: String = text.chars().filter(char::is_ascii_digit).collect();
            let digits = digits.strip_prefix("00").unwrap_or(&digits);
            let international = text.trim().starts_with('+') || text.trim().starts_with("00");
            if international && (7..=15).contains(&digits.len()) {
                Ok(format!("+{digits}"))
            } else {
                Err("the phone number has no country code or a wrong length".to_owned())
            }
        }
    }
}

/// The text's digest.
pub(super) fn digest(text: &str, digest: Digest) -> String {
    match digest {
        Digest::Sha256 => hex(&Sha256::digest(text.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coerced(cell: Cell<'_>, kind: Kind) -> Result<String, String> {
        let mut out = Column::new(kind);
        coerce(cell, kind, &mut out)?;
        Ok(out.cell(0).to_text())
    }

    #[test]
    fn digits_are_never_rounded() {
        assert_eq!(coerced(Cell::Decimal("9007199254740993.00"), Kind::Int), Ok("9007199254740993".to_owned()));
        assert!(coerced(Cell::Decimal("1.5"), Kind::Int).is_err());
        assert_eq!(coerced(Cell::Int(7), Kind::Text), Ok("7".to_owned()));
        assert_eq!(
            coerced(Cell::Text("2026-02-28T23:00:00+01:00"), Kind::TimestampTz),
            Ok("2026-02-28T22:00:00Z".to_owned())
        );
        assert_eq!(coerced(Cell::Text("2026-02-30"), Kind::Date), Err("the value is no date".to_owned()));
    }

    #[test]
    fn audiences_get_the_normalised_form() {
        assert_eq!(normalize(" A@X.io ", Normalize::Email), Ok("a@x.io".to_owned()));
        assert_eq!(normalize("+43 (660) 123-4567", Normalize::Phone), Ok("+436601234567".to_owned()));
        assert!(normalize("0660 1234567", Normalize::Phone).is_err());
    }
}
