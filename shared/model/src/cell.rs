//! One value of a row, typed, and its text form.

use std::borrow::Cow;
use std::fmt::Write;
use std::ops::RangeInclusive;

use chrono::{Datelike, NaiveDate};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::json::{Scalar, scalar};
use crate::number::{plain, write_float};

/// Microseconds of a day.
pub const DAY: i64 = 86_400_000_000;
/// The days from 0001-01-01 to 9999-12-31, counted from 1970-01-01: the dates that ISO 8601 writes with four digits.
pub const DATES: RangeInclusive<i64> = -719_162..=2_932_896;

/// What a column holds. Numbers, decimals and times keep their type until the destination's own form is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// True or false.
    Bool,
    /// A whole number that fits 64 bits.
    Int,
    /// A binary floating-point number.
    Float,
    /// An exact decimal number, kept as its digits.
    Decimal,
    /// Text.
    Text,
    /// Bytes, kept as text in base64 (RFC 4648, with padding).
    Bytes,
    /// A calendar date, days since 1970-01-01.
    Date,
    /// A time of day, microseconds since midnight.
    Time,
    /// A date and time without zone, microseconds since 1970-01-01T00:00:00.
    Timestamp,
    /// An instant, microseconds since 1970-01-01T00:00:00Z.
    TimestampTz,
    /// A JSON value, kept as its text. A string, a number, a bool or a null behaves as what it is.
    Json,
}

impl Kind {
    /// The word for it in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Float => "float",
            Self::Decimal => "decimal",
            Self::Text => "text",
            Self::Bytes => "bytes",
            Self::Date => "date",
            Self::Time => "time",
            Self::Timestamp => "timestamp",
            Self::TimestampTz => "timestamp_tz",
            Self::Json => "json",
        }
    }
}

/// One value, borrowed from its column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell<'a> {
    /// No value.
    Null,
    /// A [`Kind::Bool`].
    Bool(bool),
    /// A [`Kind::Int`].
    Int(i64),
    /// A [`Kind::Float`].
    Float(f64),
    /// A [`Kind::Date`], in days.
    Date(i64),
    /// A [`Kind::Time`], in microseconds.
    Time(i64),
    /// A [`Kind::Timestamp`], in microseconds.
    Timestamp(i64),
    /// A [`Kind::TimestampTz`], in microseconds.
    TimestampTz(i64),
    /// Digits of a [`Kind::Decimal`].
    Decimal(&'a str),
    /// A [`Kind::Text`] or, in base64, a [`Kind::Bytes`].
    Text(&'a str),
    /// A [`Kind::Json`] value.
    Json(&'a str),
}

/// Characters that JSON takes for blanks.
const JSON_BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

impl<'a> Cell<'a> {
    /// A JSON text as a cell; `null` is no value.
    pub fn json(text: &'a str) -> Self {
        if text.len() >= 4 && text.trim_matches(JSON_BLANKS) == "null" { Self::Null } else { Self::Json(text) }
    }

    /// Hands `then` the value that a JSON string, number, bool or null is; any other cell as it is.
    pub fn resolved<R>(self, then: impl FnOnce(Cell<'_>) -> R) -> R {
        let Self::Json(text) = self else { return then(self) };
        match scalar(text) {
            Ok(Scalar::Null) => then(Cell::Null),
            Ok(Scalar::Bool(value)) => then(Cell::Bool(value)),
            Ok(Scalar::Number(digits)) => then(Cell::Decimal(digits)),
            Ok(Scalar::Text(Cow::Borrowed(text))) => then(Cell::Text(text)),
            Ok(Scalar::Text(Cow::Owned(text))) => then(Cell::Text(&text)),
            Ok(Scalar::Document(_)) | Err(_) => then(self),
        }
    }
}

impl Cell<'_> {
    /// True where there is no value.
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Writes the value's plain text: ISO 8601 for dates and times, digits for numbers, nothing for null.
    ///
    /// A JSON string is its text, a JSON number its digits; an object or array is its JSON text.
    pub fn write_text(&self, out: &mut String) {
        match *self {
            Self::Null => {}
            Self::Bool(value) => out.push_str(if value { "true" } else { "false" }),
            Self::Int(value) => out.push_str(itoa::Buffer::new().format(value)),
            Self::Float(value) => write_float(value, out),
            Self::Date(days) => write_date(days, out),
            Self::Time(micros) => write_time(micros, out),
            Self::Timestamp(micros) => write_timestamp(micros, false, out),
            Self::TimestampTz(micros) => write_timestamp(micros, true, out),
            Self::Decimal(digits) => out.push_str(&plain(digits).unwrap_or(Cow::Borrowed(digits))),
            Self::Text(text) => out.push_str(text),
            Self::Json(text) => self.resolved(|cell| match cell {
                Cell::Json(_) => out.push_str(text),
                cell => cell.write_text(out),
            }),
        }
    }

    /// The value's plain text.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        self.write_text(&mut out);
        out
    }

    /// Writes the value as JSON, keeping numbers numbers and every digit of a decimal.
    ///
    /// A number that JSON has no form for (NaN, infinity) becomes `null`, and a JSON value is written as it is: mapping
    /// refuses such rows before, and takes the line breaks out of JSON values.
    pub fn write_json(&self, out: &mut String) {
        match *self {
            Self::Null => out.push_str("null"),
            Self::Bool(_) | Self::Int(_) => self.write_text(out),
            Self::Float(value) if value.is_finite() => write_float(value, out),
            Self::Float(_) => out.push_str("null"),
            Self::Decimal(digits) => out.push_str(&plain(digits).unwrap_or(Cow::Borrowed("null"))),
            Self::Text(text) => write_json_string(text, out),
            Self::Date(_) | Self::Time(_) | Self::Timestamp(_) | Self::TimestampTz(_) => {
                out.push('"');
                self.write_text(out);
                out.push('"');
            }
            Self::Json(text) => out.push_str(text),
        }
    }

    /// Writes the value as a JSON string whatever its type, for APIs whose properties are all strings.
    pub fn write_json_text(&self, out: &mut String) {
        match *self {
            Self::Null => out.push_str("null"),
            Self::Text(text) => write_json_string(text, out),
            Self::Json(text) => self.resolved(|cell| match cell {
                Cell::Json(_) => write_json_string(text, out),
                cell => cell.write_json_text(out),
            }),
            _ => {
                out.push('"');
                self.write_text(out);
                out.push('"');
            }
        }
    }
}

/// Writes `text` as a JSON string with its quotes.
pub fn write_json_string(text: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.reserve(text.len() + 2);
    out.push('"');
    let mut start = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.push_str(text.get(start..at).unwrap_or_default());
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            _ => {
                out.push_str("\\u00");
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
        start = at + 1;
    }
    out.push_str(text.get(start..).unwrap_or_default());
    out.push('"');
}

/// Writes `YYYY-MM-DD`. Mapping refuses what lies outside [`DATES`]; here it only appears in messages about a row's key.
fn write_date(days: i64, out: &mut String) {
    match i32::try_from(days).ok().and_then(NaiveDate::from_epoch_days) {
        Some(date) if DATES.contains(&days) => {
            push_digits(date.year() as u32, 4, out);
            out.push('-');
            push_digits(date.month(), 2, out);
            out.push('-');
            push_digits(date.day(), 2, out);
        }
        Some(date) => _ = write!(out, "{date}"),
        None => _ = write!(out, "{days} days from 1970-01-01"),
    }
}

/// Writes `HH:MM:SS`, and the fraction with three or six digits where there is one.
fn write_time(micros: i64, out: &mut String) {
    let (seconds, fraction) = (micros.div_euclid(1_000_000) as u32, micros.rem_euclid(1_000_000) as u32);
    push_digits(seconds / 3_600, 2, out);
    out.push(':');
    push_digits(seconds / 60 % 60, 2, out);
    out.push(':');
    push_digits(seconds % 60, 2, out);
    if fraction > 0 {
        out.push('.');
        let millis = fraction.is_multiple_of(1_000);
        push_digits(if millis { fraction / 1_000 } else { fraction }, if millis { 3 } else { 6 }, out);
    }
}

fn write_timestamp(micros: i64, zone: bool, out: &mut String) {
    write_date(micros.div_euclid(DAY), out);
    out.push('T');
    write_time(micros.rem_euclid(DAY), out);
    if zone {
        out.push('Z');
    }
}

/// Writes the last `width` digits of `value`, with leading zeros.
fn push_digits(value: u32, width: u32, out: &mut String) {
    for place in (0..width).rev() {
        out.push(char::from(b'0' + (value / 10_u32.pow(place) % 10) as u8));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(cell: Cell<'_>) -> String {
        let mut out = String::new();
        cell.write_json(&mut out);
        out
    }

    #[test]
    fn every_value_keeps_its_digits_and_its_letters() {
        assert_eq!(json(Cell::Int(i64::MIN)), "-9223372036854775808");
        assert_eq!(json(Cell::Decimal("12345678901234567890.10")), "12345678901234567890.10");
        assert_eq!(json(Cell::Decimal("+.5")), "0.5");
        assert_eq!(json(Cell::Text("O'Brien \"x\"\n\u{1}é")), "\"O'Brien \\\"x\\\"\\n\\u0001é\"");
        assert_eq!(json(Cell::Date(0)), "\"1970-01-01\"");
        assert_eq!(json(Cell::TimestampTz(1_500_000)), "\"1970-01-01T00:00:01.500Z\"");
        assert_eq!(json(Cell::Timestamp(-1)), "\"1969-12-31T23:59:59.999999\"");
        assert_eq!(json(Cell::Float(0.1)), "0.1");
        assert_eq!(json(Cell::Float(123.0)), "123");
        assert_eq!(json(Cell::Float(1e300)), "1e300");
        assert_eq!(json(Cell::Float(f64::NAN)), "null");
    }

    #[test]
    fn text_form_quotes_every_type() {
        let mut out = String::new();
        Cell::Int(7).write_json_text(&mut out);
        Cell::Bool(true).write_json_text(&mut out);
        Cell::Null.write_json_text(&mut out);
        assert_eq!(out, "\"7\"\"true\"null");
    }

    #[test]
    fn json_scalars_behave_as_what_they_are() {
        let forms = |text: &str| {
            let mut quoted = String::new();
            Cell::Json(text).write_json_text(&mut quoted);
            (Cell::Json(text).to_text(), json(Cell::Json(text)), quoted)
        };
        let owned = |text: &str, json: &str, quoted: &str| (text.to_owned(), json.to_owned(), quoted.to_owned());
        assert_eq!(forms(r#""Zo\u00eb \"x\"""#), owned("Zoë \"x\"", r#""Zo\u00eb \"x\"""#, r#""Zoë \"x\"""#));
        assert_eq!(
            forms("12345678901234567890.10"),
            owned("12345678901234567890.10", "12345678901234567890.10", "\"12345678901234567890.10\"")
        );
        assert_eq!(forms("true"), owned("true", "true", "\"true\""));
        assert_eq!(forms(r#"{"a":1}"#), owned(r#"{"a":1}"#, r#"{"a":1}"#, r#""{\"a\":1}""#));
        assert_eq!(Cell::json(" null\n"), Cell::Null);
        assert_eq!(Cell::json("\"null\""), Cell::Json("\"null\""));
    }

    #[test]
    fn dates_begin_and_end_with_four_digits() {
        assert_eq!(Cell::Date(*DATES.start()).to_text(), "0001-01-01");
        assert_eq!(Cell::Date(*DATES.end()).to_text(), "9999-12-31");
    }
}
