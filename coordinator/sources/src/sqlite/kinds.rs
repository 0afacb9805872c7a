//! The kind of a SQLite column: by its declared type alone, never by the values that it holds.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use outflow_model::cell::{Cell, Kind};

/// What SQLite has stored, which a column's declared type only suggests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stored<'a> {
    Null,
    Integer(i64),
    Real(f64),
    /// Text, whose bytes may be anything.
    Text(&'a [u8]),
    Blob(&'a [u8]),
}

/// The kind for a declared type. Types that say nothing about what they hold, and columns without one, carry JSON scalars: each
/// value keeps the form in which it is stored.
pub(super) fn kind(declared: &str) -> Kind {
    let name = declared.split('(').next().unwrap_or_default().trim().to_ascii_uppercase();
    let has = |part: &str| name.contains(part);
    // In SQLite's own order of affinities.
    if has("INT") {
        Kind::Int
    } else if has("CHAR") || has("CLOB") || has("TEXT") {
        Kind::Text
    } else if has("BLOB") {
        Kind::Bytes
    } else if has("REAL") || has("FLOA") || has("DOUB") {
        Kind::Float
    } else if has("BOOL") {
        Kind::Bool
    } else if has("NUM") || has("DEC") || has("MONEY") {
        Kind::Decimal
    } else {
        Kind::Json
    }
}

const NOT_WHOLE: &str =
    "the value is not a whole number of 64 bits, as the column's declared type says; CAST it in the model";
const NOT_A_FLOAT: &str =
    "the value is not a floating-point number, as the column's declared type says; CAST it in the model";
const NOT_A_NUMBER: &str = "the value is not a number, as the column's declared type says; CAST it in the model";
const NOT_TEXT: &str = "the value is a blob, not text, as the column's declared type says; CAST it in the model";
const NOT_BYTES: &str = "the value is not a blob, as the column's declared type says; CAST it in the model";
const NOT_BOOL: &str = "the value is neither 0 nor 1, as the column's declared type says";
const NOT_UTF8: &str = "the text is not UTF-8";
const INFINITE: &str = "the value is infinity";

/// The stored value in a column of `kind`, exactly, or why that cannot be. What must be written first goes to `scratch`.
pub(super) fn cell<'a>(kind: Kind, stored: Stored<'a>, scratch: &'a mut String) -> Result<Cell<'a>, &'static str> {
    scratch.clear();
    match (kind, stored) {
        (_, Stored::Null) => Ok(Cell::Null),
        (_, Stored::Real(value)) if !value.is_finite() => Err(INFINITE),
        (Kind::Int, Stored::Integer(value)) => Ok(Cell::Int(value)),
        (Kind::Int, Stored::Real(value)) => whole(value).map(Cell::Int).ok_or(NOT_WHOLE),
        (Kind::Int, _) => Err(NOT_WHOLE),
        (Kind::Bool, Stored::Integer(value @ (0 | 1))) => Ok(Cell::Bool(value == 1)),
        (Kind::Bool, _) => Err(NOT_BOOL),
        (Kind::Float, Stored::Real(value)) => Ok(Cell::Float(value)),
        (Kind::Float, Stored::Integer(value)) => {
            let float = value as f64;
            if whole(float) == Some(value) { Ok(Cell::Float(float)) } else { Err(NOT_A_FLOAT) }
        }
        (Kind::Float, _) => Err(NOT_A_FLOAT),
        (Kind::Decimal, Stored::Text(text)) => {
            let digits = utf8(text)?.trim();
            if is_decimal(digits) { Ok(Cell::Decimal(digits)) } else { Err(NOT_A_NUMBER) }
        }
        (Kind::Decimal, Stored::Blob(_)) => Err(NOT_A_NUMBER),
        (Kind::Decimal, stored) => {
            write_number(stored, scratch);
            Ok(Cell::Decimal(scratch))
        }
        (Kind::Bytes, Stored::Blob(bytes)) => {
            STANDARD.encode_string(bytes, scratch);
            Ok(Cell::Text(scratch))
        }
        (Kind::Bytes, _) => Err(NOT_BYTES),
        (Kind::Json, Stored::Text(text)) => {
            outflow_model::cell::write_json_string(utf8(text)?, scratch);
            Ok(Cell::Json(scratch))
        }
        (Kind::Json, Stored::Blob(bytes)) => {
            scratch.push('"');
            STANDARD.encode_string(bytes, scratch);
            scratch.push('"');
            Ok(Cell::Json(scratch))
        }
        (Kind::Json, stored) => {
            write_number(stored, scratch);
            Ok(Cell::Json(scratch))
        }
        (_, Stored::Text(text)) => Ok(Cell::Text(utf8(text)?)),
        (_, Stored::Blob(_)) => Err(NOT_TEXT),
        (_, stored) => {
            write_number(stored, scratch);
            Ok(Cell::Text(scratch))
        }
    }
}

/// `value` as a whole number, if it is one.
fn whole(value: f64) -> Option<i64> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    (value.fract() == 0.0 && (-LIMIT..LIMIT).contains(&value)).then_some(value as i64)
}

/// Writes the shortest digits that are the number: 7 for the real 7.0.
fn write_number(stored: Stored<'_>, out: &mut String) {
    match stored {
        Stored::Integer(value) => out.push_str(&value.to_string()),
        // A zero has no sign elsewhere.
        Stored::Real(value) => out.push_str(&if value == 0.0 { "0".to_owned() } else { value.to_string() }),
        Stored::Null | Stored::Text(_) | Stored::Blob(_) => {}
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, &'static str> {
    std::str::from_utf8(bytes).map_err(|_| NOT_UTF8)
}

fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    all_digits(whole) && all_digits(fraction) && (whole.len() == 1 || !whole.starts_with('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_follows_from_the_declared_type() {
        for (declared, expected) in [
            ("INTEGER", Kind::Int),
            ("bigint unsigned", Kind::Int),
            ("VARCHAR(20)", Kind::Text),
            ("BLOB", Kind::Bytes),
            ("double precision", Kind::Float),
            ("decimal(10,2)", Kind::Decimal),
            ("NUMERIC", Kind::Decimal),
            ("NUM", Kind::Decimal),
            ("boolean", Kind::Bool),
            ("", Kind::Json),
            ("DATE", Kind::Json),
            ("DATETIME", Kind::Json),
            ("UUID", Kind::Json),
            ("STRING", Kind::Json),
        ] {
            assert_eq!(kind(declared), expected, "{declared}");
        }
    }

    #[test]
    fn value_arrives_exactly_or_is_a_fault() {
        let big = 9_007_199_254_740_993;
        for (kind, stored, expected) in [
            (Kind::Decimal, Stored::Integer(10), Ok("10")),
            (Kind::Decimal, Stored::Real(12.5), Ok("12.5")),
            (Kind::Decimal, Stored::Integer(big), Ok("9007199254740993")),
            (Kind::Decimal, Stored::Text(b"12345678901234567890.10"), Ok("12345678901234567890.10")),
            (Kind::Decimal, Stored::Text(b"n/a"), Err(NOT_A_NUMBER)),
            (Kind::Decimal, Stored::Text(b"1e5"), Err(NOT_A_NUMBER)),
            (Kind::Float, Stored::Integer(7), Ok("7")),
            (Kind::Float, Stored::Integer(big), Err(NOT_A_FLOAT)),
            (Kind::Float, Stored::Real(f64::INFINITY), Err(INFINITE)),
            (Kind::Int, Stored::Real(5.0), Ok("5")),
            (Kind::Int, Stored::Real(9_223_372_036_854_775_808.0), Err(NOT_WHOLE)),
            (Kind::Int, Stored::Text(b"5"), Err(NOT_WHOLE)),
            (Kind::Bool, Stored::Integer(1), Ok("true")),
            (Kind::Bool, Stored::Integer(2), Err(NOT_BOOL)),
            (Kind::Text, Stored::Integer(5), Ok("5")),
            (Kind::Text, Stored::Blob(b"x"), Err(NOT_TEXT)),
            (Kind::Text, Stored::Text(&[0xff]), Err(NOT_UTF8)),
            (Kind::Bytes, Stored::Blob(&[0, 255]), Ok("AP8=")),
            (Kind::Bytes, Stored::Text(b"x"), Err(NOT_BYTES)),
        ] {
            let mut scratch = String::new();
            let text = cell(kind, stored, &mut scratch).map(|cell| cell.to_text());
            assert_eq!(text.as_deref().map_err(|reason| *reason), expected, "{kind:?} {stored:?}");
        }
    }

    #[test]
    fn untyped_value_keeps_its_storage_class() {
        for (stored, expected) in [
            (Stored::Null, Ok(Cell::Null)),
            (Stored::Integer(i64::MIN), Ok(Cell::Json("-9223372036854775808"))),
            (Stored::Real(7.0), Ok(Cell::Json("7"))),
            (Stored::Real(-0.0), Ok(Cell::Json("0"))),
            (Stored::Real(0.1), Ok(Cell::Json("0.1"))),
            (Stored::Text(b"7"), Ok(Cell::Json("\"7\""))),
            (Stored::Text("a\"\u{1}é".as_bytes()), Ok(Cell::Json("\"a\\\"\\u0001é\""))),
            (Stored::Blob(&[0, 255]), Ok(Cell::Json("\"AP8=\""))),
        ] {
            assert_eq!(cell(Kind::Json, stored, &mut String::new()), expected);
        }
    }
}
