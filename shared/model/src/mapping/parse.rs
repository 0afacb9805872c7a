//! Texts read as values of a kind. Sources with `types:` and mappings with `type:` read them alike. No reason holds a value.

use std::borrow::Cow;

use chrono::{NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone};
use chrono_tz::Tz;

use crate::cell::{DATES, DAY};
use crate::number;

/// What a text is not, in words that end "the text …".
pub type Reason = &'static str;

/// Reads a bool: `true`, `t`, `yes`, `y`, `on` or `1`, and their opposites, in any case.
pub fn bool(text: &str) -> Result<bool, Reason> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Ok(true),
        "false" | "f" | "no" | "n" | "off" | "0" => Ok(false),
        _ => Err("is not a bool: use true/false, yes/no, on/off, t/f, y/n or 1/0"),
    }
}

/// Reads a whole number that fits 64 bits; a fraction of zeros and an exponent may follow.
pub fn int(text: &str) -> Result<i64, Reason> {
    let text = text.trim();
    if let Ok(value) = text.parse() {
        return Ok(value);
    }
    let parts = number::parts(text).ok_or("is not a number")?;
    if parts.exponent < 0 {
        return Err("is not a whole number");
    }
    let too_large = "is a number that does not fit 64 bits";
    if parts.digits.len() as i64 + parts.exponent > 19 {
        return Err(too_large);
    }
    let zeros = "0".repeat(parts.exponent as usize);
    let sign = if parts.negative { "-" } else { "" };
    format!("{sign}0{}{zeros}", parts.digits).parse().map_err(|_| too_large)
}

/// Reads a finite floating-point number, rounded to the nearest one that there is.
pub fn float(text: &str) -> Result<f64, Reason> {
    let text = text.trim();
    number::parts(text).ok_or("is not a number")?;
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err("is a number that does not fit a float"),
    }
}

/// Reads an exact decimal number, into the form that JSON takes.
pub fn decimal(text: &str) -> Result<Cow<'_, str>, Reason> {
    number::plain(text.trim()).ok_or("is not a decimal number")
}

/// Reads `YYYY-MM-DD`, or the date of a date and time, into days since 1970-01-01. An instant's date is that in `zone`.
pub fn date(text: &str, zone: Tz) -> Result<i64, Reason> {
    let (date, rest) = split_date(text.trim())?;
    let days = i64::from(date.to_epoch_days());
    if rest.is_empty() { Ok(days) } else { timestamp(text, zone).map(|micros| micros.div_euclid(DAY)) }
}

/// Reads `HH:MM`, `HH:MM:SS` and fractions, or the time of a date and time, into microseconds since midnight.
pub fn time(text: &str, zone: Tz) -> Result<i64, Reason> {
    let text = text.trim();
    if text.as_bytes().get(4) == Some(&b'-') {
        return timestamp(text, zone).map(|micros| micros.rem_euclid(DAY));
    }
    match split_time(text)? {
        (micros, "") => Ok(micros),
        _ => Err("is a time with a zone, which has no meaning without a date"),
    }
}

/// Reads a date and time without zone into microseconds since 1970-01-01T00:00:00; a date alone is its midnight, and an
/// instant becomes the date and time in `zone`.
pub fn timestamp(text: &str, zone: Tz) -> Result<i64, Reason> {
    match split_timestamp(text.trim())? {
        (local, None) => Ok(local.and_utc().timestamp_micros()),
        (local, Some(offset)) => wall_clock(instant(local, offset)?, zone),
    }
}

/// Reads a date and time into microseconds since 1970-01-01T00:00:00Z; without a zone of its own it is in `zone`.
pub fn timestamp_tz(text: &str, zone: Tz) -> Result<i64, Reason> {
    match split_timestamp(text.trim())? {
        (local, None) => in_zone(local.and_utc().timestamp_micros(), zone),
        (local, Some(offset)) => instant(local, offset),
    }
}

/// Checks that the text is base64 with padding, as bytes are kept.
pub fn bytes(text: &str) -> Result<&str, Reason> {
    let text = text.trim();
    let letters = text.trim_end_matches('=');
    let sound = letters.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'));
    let padded = text.len().is_multiple_of(4) && text.len() - letters.len() <= 2;
    if sound && padded { Ok(text) } else { Err("is not base64 with padding, the form of bytes") }
}

/// The instant at which clocks in `zone` show so many microseconds since 1970-01-01T00:00:00.
pub fn in_zone(micros: i64, zone: Tz) -> Result<i64, Reason> {
    if zone == Tz::UTC {
        return Ok(micros);
    }
    let local = chrono::DateTime::from_timestamp_micros(micros).ok_or(OUT_OF_RANGE)?.naive_utc();
    match zone.from_local_datetime(&local).single() {
        Some(instant) => Ok(instant.timestamp_micros()),
        None => Err("is a time that the zone's clocks show twice or never"),
    }
}

/// What clocks in `zone` show at an instant.
pub fn wall_clock(micros: i64, zone: Tz) -> Result<i64, Reason> {
    if zone == Tz::UTC {
        return Ok(micros);
    }
    let utc = chrono::DateTime::from_timestamp_micros(micros).ok_or(OUT_OF_RANGE)?;
    Ok(utc.with_timezone(&zone).naive_local().and_utc().timestamp_micros())
}

const OUT_OF_RANGE: Reason = "is a date outside the years 1 to 9999";

fn instant(local: NaiveDateTime, offset: TimeDelta) -> Result<i64, Reason> {
    let micros = local.checked_sub_signed(offset).ok_or(OUT_OF_RANGE)?.and_utc().timestamp_micros();
    if DATES.contains(&micros.div_euclid(DAY)) { Ok(micros) } else { Err(OUT_OF_RANGE) }
}

/// The number that exactly `width` digits at the start of `text` are, and the rest.
fn digits(text: &str, width: usize) -> Option<(u32, &str)> {
    let (number, rest) = text.split_at_checked(width)?;
    let number = number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok())??;
    Some((number, rest))
}

fn split_date(text: &str) -> Result<(NaiveDate, &str), Reason> {
    let read = || {
        let (year, rest) = digits(text, 4)?;
        let (month, rest) = digits(rest.strip_prefix('-')?, 2)?;
        let (day, rest) = digits(rest.strip_prefix('-')?, 2)?;
        Some((NaiveDate::from_ymd_opt(year as i32, month, day).filter(|_| year > 0)?, rest))
    };
    read().ok_or("is not a date of the form YYYY-MM-DD")
}

/// Reads a time of day into microseconds, and gives back what follows.
fn split_time(text: &str) -> Result<(i64, &str), Reason> {
    const WRONG: Reason = "is not a time of the form HH:MM:SS";
    let minutes = || {
        let (hour, rest) = digits(text, 2)?;
        let (minute, rest) = digits(rest.strip_prefix(':')?, 2)?;
        Some((hour, minute, rest))
    };
    let (hour, minute, mut rest) = minutes().ok_or(WRONG)?;
    let mut second = 0;
    if let Some(after) = rest.strip_prefix(':') {
        (second, rest) = digits(after, 2).ok_or(WRONG)?;
    }
    let mut micros = 0;
    if let Some(after) = rest.strip_prefix('.') {
        let length = after.bytes().take_while(u8::is_ascii_digit).count();
        let (fraction, after) = after.split_at(length);
        let (kept, lost) = fraction.split_at(length.min(6));
        if length == 0 {
            return Err(WRONG);
        }
        if lost.bytes().any(|digit| digit != b'0') {
            return Err("is a time with a fraction finer than microseconds");
        }
        micros = format!("{kept:0<6}").parse().map_err(|_| WRONG)?;
        rest = after;
    }
    let time =
        NaiveTime::from_hms_micro_opt(hour, minute, second, micros).ok_or("is not a time from 00:00 to 23:59:59")?;
    let since = time.signed_duration_since(NaiveTime::MIN).num_microseconds().ok_or(WRONG)?;
    Ok((since, rest))
}

/// A date and time, and its offset from UTC where it has one.
fn split_timestamp(text: &str) -> Result<(NaiveDateTime, Option<TimeDelta>), Reason> {
    let (date, rest) = split_date(text)?;
    if rest.is_empty() {
        return Ok((date.and_time(NaiveTime::MIN), None));
    }
    let rest = rest.strip_prefix(['T', 't', ' ']).ok_or("is not a date and time of the form YYYY-MM-DD HH:MM:SS")?;
    let (micros, zone) = split_time(rest)?;
    let local = date.and_time(NaiveTime::MIN) + TimeDelta::microseconds(micros);
    Ok((local, offset(zone.strip_prefix(' ').unwrap_or(zone))?))
}

/// Reads `Z`, `UTC`, `+HH`, `+HHMM` or `+HH:MM`; nothing where there is none.
fn offset(zone: &str) -> Result<Option<TimeDelta>, Reason> {
    const WRONG: Reason = "is a date and time with a zone that is not Z, UTC or an offset such as +01:00";
    if zone.is_empty() {
        return Ok(None);
    }
    if ["Z", "z", "UTC"].contains(&zone) {
        return Ok(Some(TimeDelta::zero()));
    }
    let read = || {
        let unsigned = zone.strip_prefix(['+', '-'])?;
        let (hours, rest) = digits(unsigned, 2)?;
        let rest = rest.strip_prefix(':').unwrap_or(rest);
        let minutes = if rest.is_empty() && unsigned.len() == 2 {
            0
        } else {
            digits(rest, 2).filter(|(_, rest)| rest.is_empty())?.0
        };
        let offset = TimeDelta::minutes(i64::from(hours * 60 + minutes));
        (hours < 24 && minutes < 60).then(|| if zone.starts_with('-') { -offset } else { offset })
    };
    read().map(Some).ok_or(WRONG)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::Cell;

    const VIENNA: Tz = Tz::Europe__Vienna;

    #[test]
    fn instants_are_read_in_every_usual_form() {
        for text in [
            "2026-01-02T03:04:05Z",
            "2026-01-02 03:04:05Z",
            "2026-01-02 03:04:05+00",
            "2026-01-02T03:04:05+0000",
            "2026-01-02 03:04:05 +00:00",
            "2026-01-02t04:04:05.000000000+01:00",
            "2026-01-02 03:04:05 UTC",
            "2026-01-02 03:04:05",
        ] {
            let read = timestamp_tz(text, Tz::UTC).map(|micros| Cell::TimestampTz(micros).to_text());
            assert_eq!(read, Ok("2026-01-02T03:04:05Z".to_owned()), "{text}");
        }
        for text in [
            "2026-01-02T03:04:05.0000001Z",
            "2026-01-02T24:00:00Z",
            "2026-01-02T03:04:60Z",
            "2026-01-02T03:04:05+1",
            "2026-13-02",
            "2026-1-2",
            "02.01.2026",
            "12026-01-02",
            "2026-01-02x03:04",
            "2026-01-02  03:04",
            "0001-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59-01:00",
            "0000-01-01",
            "",
            "2026-01-02T03:04:05+24:00",
            "2026-01-02T03:04:05.Z",
            "2026-01-02T03",
        ] {
            assert!(timestamp_tz(text, Tz::UTC).is_err(), "{text}");
        }
    }

    #[test]
    fn zone_is_that_of_texts_without_one_and_of_dates_of_instants() {
        let text = |micros: Result<i64, Reason>| micros.map(|micros| Cell::TimestampTz(micros).to_text());
        assert_eq!(text(timestamp_tz("2026-07-01 02:00", VIENNA)), Ok("2026-07-01T00:00:00Z".to_owned()));
        assert!(timestamp_tz("2026-03-29 02:30", VIENNA).is_err(), "never shown");
        assert!(timestamp_tz("2026-10-25 02:30", VIENNA).is_err(), "shown twice");
        let shown = |days: Result<i64, Reason>| days.map(|days| Cell::Date(days).to_text());
        assert_eq!(shown(date("2026-07-01T23:30:00Z", VIENNA)), Ok("2026-07-02".to_owned()));
        assert_eq!(shown(date("2026-07-01 23:30:00", VIENNA)), Ok("2026-07-01".to_owned()));
        assert_eq!(
            timestamp("2026-07-01T00:00:00Z", VIENNA).map(|micros| Cell::Timestamp(micros).to_text()),
            Ok("2026-07-01T02:00:00".to_owned())
        );
    }

    #[test]
    fn numbers_are_read_exactly_or_not_at_all() {
        assert_eq!(int(" +9223372036854775807.00 "), Ok(i64::MAX));
        assert_eq!(int("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(int("1.5e3"), Ok(1500));
        assert_eq!(int("0e50"), Ok(0));
        for text in ["9223372036854775808", "1e30", "1.5", "", "1,000", "0x1", "1_000", "NaN"] {
            assert!(int(text).is_err(), "{text}");
        }
        assert_eq!(int("1e999999999"), Err("is a number that does not fit 64 bits"));
        assert_eq!(int("1e-999999999"), Err("is not a whole number"));
        assert_eq!(decimal("1e999999999").as_deref(), Ok("1e999999999"), "no zero is written out");
        for text in ["1e-9223372036854775808", "1.5e-9223372036854775808", "1e9223372036854775807", "1e1000000000"] {
            assert!(int(text).is_err() && decimal(text).is_err() && float(text).is_err(), "{text}");
        }
        assert_eq!(decimal(" 1.50 ").as_deref(), Ok("1.50"));
        assert!(float("1e999").is_err() && float("inf").is_err() && float("nan").is_err());
        assert_eq!(float("1e3"), Ok(1000.0));
    }

    #[test]
    fn other_kinds_are_read_in_documented_forms_only() {
        assert_eq!(
            ["on", "Yes", "T", "1", "OFF", "n"].map(bool),
            [Ok(true), Ok(true), Ok(true), Ok(true), Ok(false), Ok(false)]
        );
        assert!(bool("2").is_err() && bool("").is_err());
        assert_eq!(time("23:59:59.5", Tz::UTC), Ok(86_399_500_000));
        assert_eq!(time("2026-01-02T03:04", Tz::UTC), Ok(11_040_000_000));
        assert!(time("24:00", Tz::UTC).is_err() && time("03:04:05Z", Tz::UTC).is_err());
        assert!(bytes("aGk=").is_ok() && bytes("aGk").is_err() && bytes("a-_=").is_err() && bytes("").is_ok());
    }
}
