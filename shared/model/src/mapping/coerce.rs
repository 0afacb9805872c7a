//! Values brought into another type or form. Messages name kinds, never values.

use chrono_tz::Tz;
use sha2::{Digest as _, Sha256};

use super::parse;
use super::rule::{Digest, Normalize};
use super::template::hex;
use crate::cell::{Cell, DATES, DAY, Kind};
use crate::column::Column;
use crate::{json, number};

/// True if some values of kind `from` can become `to`; of a JSON value it depends on what it is.
#[expect(clippy::match_like_matches_macro, reason = "one line for each group of pairs")]
pub fn can_become(from: Kind, to: Kind) -> bool {
    use Kind::{Bool, Bytes, Date, Decimal, Float, Int, Json, Text, Time, Timestamp, TimestampTz};
    match (from, to) {
        (Text | Json, _) | (_, Text | Json) => true,
        (Bool | Int | Float | Decimal, Bool | Int | Float | Decimal) => true,
        (Date, Date | Timestamp | TimestampTz) => true,
        (Timestamp | TimestampTz, Date | Time | Timestamp | TimestampTz) => true,
        (Time, Time) | (Bytes, Bytes) => true,
        _ => false,
    }
}

/// Adds `cell` to `out`, which holds `kind`; dates and times without a zone are in UTC. On an error, which names kinds
/// and no value, nothing is added.
pub fn coerce(cell: Cell<'_>, kind: Kind, out: &mut Column) -> Result<(), String> {
    coerce_in(cell, kind, Tz::UTC, out)
}

/// The same with the zone of dates and times that have none.
pub(super) fn coerce_in(cell: Cell<'_>, kind: Kind, zone: Tz, out: &mut Column) -> Result<(), String> {
    if kind == Kind::Json { push_json(cell, out) } else { cell.resolved(|cell| convert(cell, kind, zone, out)) }
}

fn convert(cell: Cell<'_>, kind: Kind, zone: Tz, out: &mut Column) -> Result<(), String> {
    let is_not = |reason: &str| format!("the {} {reason}", name(cell));
    match kind {
        _ if cell.is_null() => out.push_null(),
        Kind::Text => match cell {
            Cell::Json(document) => {
                push_with(out, |text| json::compact(document, text)).map_err(|error| error.to_string())?;
            }
            cell => out.push_text_with(|text| cell.write_text(text)),
        },
        Kind::Float => out.push_float(float(cell).ok_or_else(|| no_fit(cell, kind))?.map_err(is_not)?),
        Kind::Decimal => {
            let digits = match cell {
                Cell::Text(_) | Cell::Decimal(_) | Cell::Int(_) | Cell::Float(_) => cell.to_text(),
                Cell::Bool(value) => i64::from(value).to_string(),
                _ => return Err(no_fit(cell, kind)),
            };
            out.push_text(&parse::decimal(&digits).map_err(is_not)?);
        }
        Kind::Bytes => match cell {
            Cell::Text(text) => out.push_text(parse::bytes(text).map_err(is_not)?),
            _ => return Err(no_fit(cell, kind)),
        },
        _ => out.push_int(whole(cell, kind, zone).ok_or_else(|| no_fit(cell, kind))?.map_err(is_not)?),
    }
    Ok(())
}

fn no_fit(cell: Cell<'_>, kind: Kind) -> String {
    format!("the {} cannot become {} {}", name(cell), article(kind), kind.name())
}

/// The float that `cell` becomes; nothing if its kind does not become one.
fn float(cell: Cell<'_>) -> Option<Result<f64, parse::Reason>> {
    Some(match cell {
        Cell::Float(value) => Ok(value),
        // Beyond 2^53 not every whole number is a float; one that is not must not become another.
        Cell::Int(value) if value as f64 as i128 != i128::from(value) => Err("has digits that a float cannot hold"),
        Cell::Int(value) => Ok(value as f64),
        Cell::Bool(value) => Ok(f64::from(u8::from(value))),
        Cell::Text(text) | Cell::Decimal(text) => parse::float(text),
        _ => return None,
    })
}

/// The number, days or microseconds that `cell` becomes; nothing if its kind does not become `kind`.
fn whole(cell: Cell<'_>, kind: Kind, zone: Tz) -> Option<Result<i64, parse::Reason>> {
    let day = |micros: i64| micros.div_euclid(DAY);
    let time_of_day = |micros: i64| micros.rem_euclid(DAY);
    Some(match (kind, cell) {
        (Kind::Bool | Kind::Int, Cell::Bool(value)) => Ok(i64::from(value)),
        (Kind::Bool, Cell::Text(text)) => parse::bool(text).map(i64::from),
        (Kind::Bool, Cell::Int(_) | Cell::Float(_) | Cell::Decimal(_)) => match parse::int(&cell.to_text()) {
            Ok(value @ (0 | 1)) => Ok(value),
            _ => Err("is neither 0 nor 1"),
        },
        (Kind::Int, Cell::Int(value)) => Ok(value),
        (Kind::Int, Cell::Text(text) | Cell::Decimal(text)) => parse::int(text),
        (Kind::Int, Cell::Float(_)) => parse::int(&cell.to_text()),
        (Kind::Date, Cell::Date(days)) => Ok(days),
        (Kind::Date, Cell::Timestamp(micros)) => Ok(day(micros)),
        (Kind::Date, Cell::TimestampTz(micros)) => parse::wall_clock(micros, zone).map(day),
        (Kind::Date, Cell::Text(text)) => parse::date(text, zone),
        (Kind::Time, Cell::Time(micros)) => Ok(micros),
        (Kind::Time, Cell::Timestamp(micros)) => Ok(time_of_day(micros)),
        (Kind::Time, Cell::TimestampTz(micros)) => parse::wall_clock(micros, zone).map(time_of_day),
        (Kind::Time, Cell::Text(text)) => parse::time(text, zone),
        (Kind::Timestamp, Cell::Timestamp(micros)) => Ok(micros),
        (Kind::Timestamp, Cell::TimestampTz(micros)) => parse::wall_clock(micros, zone),
        (Kind::Timestamp, Cell::Date(days)) => midnight(days),
        (Kind::Timestamp, Cell::Text(text)) => parse::timestamp(text, zone),
        (Kind::TimestampTz, Cell::TimestampTz(micros)) => Ok(micros),
        (Kind::TimestampTz, Cell::Timestamp(micros)) => parse::in_zone(micros, zone),
        (Kind::TimestampTz, Cell::Date(days)) => midnight(days).and_then(|micros| parse::in_zone(micros, zone)),
        (Kind::TimestampTz, Cell::Text(text)) => parse::timestamp_tz(text, zone),
        _ => return None,
    })
}

/// Adds the JSON form of `cell`: a JSON value as it is, and a text only if it is JSON.
fn push_json(cell: Cell<'_>, out: &mut Column) -> Result<(), String> {
    match cell {
        Cell::Null => out.push_null(),
        Cell::Json(text) | Cell::Text(text) => {
            return push_with(out, |to| json::compact(text, to)).map_err(|error| error.to_string());
        }
        cell => out.push_text_with(|to| cell.write_json(to)),
    }
    Ok(())
}

/// Adds what `write` appends, or nothing if it fails.
fn push_with<E>(out: &mut Column, write: impl FnOnce(&mut String) -> Result<(), E>) -> Result<(), E> {
    let mut text = String::new();
    write(&mut text)?;
    out.push_text(&text);
    Ok(())
}

fn midnight(days: i64) -> Result<i64, parse::Reason> {
    days.checked_mul(DAY).ok_or("is a date outside the years 1 to 9999")
}

/// The word for what a cell holds.
fn name(cell: Cell<'_>) -> &'static str {
    match cell {
        Cell::Null => "null",
        Cell::Bool(_) => "bool",
        Cell::Int(_) => "int",
        Cell::Float(_) => "float",
        Cell::Decimal(_) => "decimal",
        Cell::Text(_) => "text",
        Cell::Date(_) => "date",
        Cell::Time(_) => "time",
        Cell::Timestamp(_) => "timestamp",
        Cell::TimestampTz(_) => "timestamp_tz",
        Cell::Json(_) => "JSON value",
    }
}

/// The article that goes before a kind's name.
pub(super) const fn article(kind: Kind) -> &'static str {
    if matches!(kind, Kind::Int) { "an" } else { "a" }
}

/// Why a value that no rule changes cannot be sent; nothing if it can.
pub(super) fn unfit(cell: Cell<'_>) -> Option<&'static str> {
    match cell {
        Cell::Float(value) if !value.is_finite() => Some("the float is not a finite number"),
        Cell::Decimal(digits) if number::plain(digits).is_none() => Some("the decimal is not a finite number"),
        Cell::Date(days) if !DATES.contains(&days) => Some("the date lies outside the years 1 to 9999"),
        Cell::Timestamp(micros) | Cell::TimestampTz(micros) if !DATES.contains(&micros.div_euclid(DAY)) => {
            Some("the timestamp lies outside the years 1 to 9999")
        }
        Cell::Time(micros) if !(0..DAY).contains(&micros) => Some("the time is not from 00:00 to 23:59:59.999999"),
        _ => None,
    }
}

/// The text in the form that destinations expect; nothing for a text without content.
pub(super) fn normalize(text: &str, form: Normalize) -> Result<Option<String>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let normal = match form {
        Normalize::Email => email(text).ok_or("the text is not an e-mail address"),
        Normalize::Phone => phone(text)
            .ok_or("the text is not a phone number that begins with + or 00 and a country code, with 7 to 15 digits"),
    };
    normal.map(Some).map_err(str::to_owned)
}

fn email(text: &str) -> Option<String> {
    let (name, host) = text.rsplit_once('@')?;
    let sound = !name.is_empty() && !host.is_empty() && !text.contains(char::is_whitespace);
    sound.then(|| text.to_lowercase())
}

fn phone(text: &str) -> Option<String> {
    let number = text.strip_prefix('+').or_else(|| text.strip_prefix("00"))?;
    // In "+43 (0)660", the zero is dialled within the country alone.
    let number = number.replacen("(0)", "", 1);
    let between = |letter: char| {
        letter.is_whitespace() || matches!(letter, '-' | '.' | '/' | '(' | ')' | '\u{2010}'..='\u{2013}')
    };
    let mut digits = String::from("+");
    for letter in number.chars().filter(|letter| !between(*letter)) {
        digits.push(Some(letter).filter(char::is_ascii_digit)?);
    }
    ((8..=16).contains(&digits.len()) && !digits.starts_with("+0")).then_some(digits)
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

    const KINDS: [Kind; 11] = [
        Kind::Bool,
        Kind::Int,
        Kind::Float,
        Kind::Decimal,
        Kind::Text,
        Kind::Bytes,
        Kind::Date,
        Kind::Time,
        Kind::Timestamp,
        Kind::TimestampTz,
        Kind::Json,
    ];

    fn coerced(cell: Cell<'_>, kind: Kind) -> Result<String, String> {
        let mut out = Column::new(kind);
        coerce(cell, kind, &mut out)?;
        Ok(out.cell(0).to_text())
    }

    fn becomes(cell: Cell<'_>, kind: Kind, want: &str) {
        assert_eq!(coerced(cell, kind), Ok(want.to_owned()), "{cell:?} as {}", kind.name());
    }

    #[test]
    fn every_value_becomes_itself_and_its_text_comes_back() {
        let cells = [
            (Kind::Bool, Cell::Bool(true)),
            (Kind::Int, Cell::Int(i64::MIN)),
            (Kind::Float, Cell::Float(0.1)),
            (Kind::Decimal, Cell::Decimal("12345678901234567890.10")),
            (Kind::Text, Cell::Text(" O'Brien ")),
            (Kind::Bytes, Cell::Text("aGk=")),
            (Kind::Date, Cell::Date(-1)),
            (Kind::Time, Cell::Time(1)),
            (Kind::Timestamp, Cell::Timestamp(-1)),
            (Kind::TimestampTz, Cell::TimestampTz(1_500_000)),
            (Kind::Json, Cell::Json("{\"a\":[1.10]}")),
        ];
        for (kind, cell) in cells {
            becomes(cell, kind, &cell.to_text());
            let text = cell.to_text();
            becomes(cell, Kind::Text, &text);
            becomes(Cell::Text(&text), kind, &text);
            let mut json = String::new();
            cell.write_json(&mut json);
            becomes(Cell::Json(&json), kind, &text);
        }
    }

    #[test]
    fn pairs_without_sense_are_refused_before_and_at_a_row() {
        for (from, cell) in [
            (Kind::Bytes, Kind::Date),
            (Kind::Int, Kind::Timestamp),
            (Kind::Time, Kind::Date),
            (Kind::Date, Kind::Time),
            (Kind::Bool, Kind::Date),
            (Kind::TimestampTz, Kind::Int),
            (Kind::Float, Kind::Bytes),
        ] {
            assert!(!can_become(from, cell), "{from:?} to {cell:?}");
        }
        assert_eq!(coerced(Cell::Int(1), Kind::Date), Err("the int cannot become a date".to_owned()));
        assert_eq!(coerced(Cell::Json("[1]"), Kind::Int), Err("the JSON value cannot become an int".to_owned()));
        assert!(
            KINDS
                .into_iter()
                .all(|kind| can_become(kind, kind) && can_become(Kind::Text, kind) && can_become(kind, Kind::Json))
        );
    }

    #[test]
    fn numbers_convert_both_ways_without_another_value() {
        becomes(Cell::Decimal("9007199254740993.00"), Kind::Int, "9007199254740993");
        becomes(Cell::Float(123.0), Kind::Int, "123");
        becomes(Cell::Float(123.0), Kind::Decimal, "123");
        becomes(Cell::Float(0.1), Kind::Decimal, "0.1");
        becomes(Cell::Float(4_567_890_123.0), Kind::Text, "4567890123");
        becomes(Cell::Text("1e3"), Kind::Decimal, "1000");
        becomes(Cell::Decimal("1.0"), Kind::Bool, "true");
        becomes(Cell::Bool(true), Kind::Decimal, "1");
        for (cell, kind) in [
            (Cell::Decimal("1.5"), Kind::Int),
            (Cell::Float(1.5), Kind::Int),
            (Cell::Float(1e19), Kind::Int),
            (Cell::Float(f64::NAN), Kind::Int),
            (Cell::Float(f64::INFINITY), Kind::Decimal),
            (Cell::Text("NaN"), Kind::Decimal),
            (Cell::Int(9_007_199_254_740_993), Kind::Float),
            (Cell::Int(2), Kind::Bool),
            (Cell::Text("1,5"), Kind::Decimal),
        ] {
            assert!(coerced(cell, kind).is_err(), "{cell:?} as {}", kind.name());
        }
    }

    #[test]
    fn dates_and_times_convert_or_say_why_not() {
        becomes(Cell::Date(1), Kind::Timestamp, "1970-01-02T00:00:00");
        becomes(Cell::Date(1), Kind::TimestampTz, "1970-01-02T00:00:00Z");
        becomes(Cell::TimestampTz(-1), Kind::Date, "1969-12-31");
        becomes(Cell::TimestampTz(-1), Kind::Time, "23:59:59.999999");
        becomes(Cell::Text("2026-02-28T23:00:00+01:00"), Kind::TimestampTz, "2026-02-28T22:00:00Z");
        becomes(Cell::Text("2026-06-12 15:07:59"), Kind::Timestamp, "2026-06-12T15:07:59");
        assert_eq!(
            coerced(Cell::Text("2026-02-30"), Kind::Date),
            Err("the text is not a date of the form YYYY-MM-DD".to_owned())
        );
        assert!(coerced(Cell::Date(i64::MAX / 2), Kind::TimestampTz).is_err(), "never wraps");
        assert_eq!(unfit(Cell::Date(2_932_897)), Some("the date lies outside the years 1 to 9999"));
        assert_eq!(unfit(Cell::Time(DAY)), Some("the time is not from 00:00 to 23:59:59.999999"));
    }

    #[test]
    fn json_is_checked_and_compacted() {
        let mut out = Column::new(Kind::Json);
        assert_eq!(coerce(Cell::Text("{ \"a\" :\n1.50 }"), Kind::Json, &mut out), Ok(()));
        assert_eq!(out.cell(0), Cell::Json("{\"a\":1.50}"));
        for wrong in ["not json", "1,\"email\":\"victim@x.io\"", "\"\\ud83d\""] {
            assert!(
                coerced(Cell::Text(wrong), Kind::Json).is_err() && coerced(Cell::Json(wrong), Kind::Json).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn audiences_get_the_normalised_form() {
        let normal = |text: &str, form| normalize(text, form).ok().flatten();
        let email = |text: &str| normal(text, Normalize::Email);
        assert_eq!(email(" A@X.io "), Some("a@x.io".to_owned()));
        assert_eq!(normalize(" ", Normalize::Email), Ok(None));
        assert!(["n/a", "@x.io", "a@", "a b@x.io"].into_iter().all(|text| email(text).is_none()));
        let phone = |text: &str| normal(text, Normalize::Phone);
        for text in ["+43 (660) 123-4567", "0043 660 1234567", "+43 (0)660 / 123.45.67", " +436601234567\u{a0}"] {
            assert_eq!(phone(text), Some("+436601234567".to_owned()), "{text}");
        }
        for text in [
            "0660 1234567",
            "+43 660 FLOWERS",
            "+43 660 1234567 ext. 5",
            "+123456",
            "+1234567890123456",
            "+0660 1234567",
            "++436601234567",
            "+43+6601234567",
            "00",
            "+",
        ] {
            assert_eq!(phone(text), None, "{text}");
        }
        assert_eq!(phone("+1234567"), Some("+1234567".to_owned()));
        assert_eq!(phone("+123456789012345"), Some("+123456789012345".to_owned()));
    }
}
