//! Values in the binary form of PostgreSQL.

use outflow_model::cell::{Cell, DAY};
use outflow_model::json::{self, JsonError};

use super::types::Wire;
use crate::uuid::write_uuid;

/// PostgreSQL counts from 2000-01-01.
const EPOCH_DAYS: i64 = 10_957;
const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// The years 1 to 9999, from 1970-01-01: what a date is elsewhere.
const FIRST_DAY: i64 = -719_162;
const DAY_AFTER_LAST: i64 = 2_932_897;
/// Of an array: as many as PostgreSQL has.
const DIMENSIONS: usize = 6;

const INFINITE: &str = "the value is infinity";
const NOT_A_NUMBER: &str = "the value is NaN";
const FAR: &str = "the value is outside of the years 1 to 9999";
const MIDNIGHT: &str = "the time is 24:00, which is not a time of a day elsewhere";
const NOT_UTF8: &str = "the text is not UTF-8";
const HALF: &str = "the JSON text has half of a character (a surrogate without its other half)";

/// Why bytes are no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No destination could take it as it is.
    Fault(&'static str),
    /// The bytes are not what the type says.
    Odd,
}

/// Hands on the value that `bytes` are, of a type that is fetched as `wire`. What must be written first goes to `scratch`.
#[inline]
pub(super) fn read<T>(
    wire: Wire,
    bytes: &[u8],
    scratch: &mut String,
    take: impl FnOnce(Cell<'_>) -> T,
) -> Result<T, Trouble> {
    // Each kind is handed on where it is known, so that `take` is compiled for that kind alone.
    Ok(match wire {
        Wire::Bool => take(Cell::Bool(fixed::<1>(bytes)? != [0])),
        Wire::Int2 => take(Cell::Int(i16::from_be_bytes(fixed(bytes)?).into())),
        Wire::Int4 => take(Cell::Int(i32::from_be_bytes(fixed(bytes)?).into())),
        Wire::Int8 => take(Cell::Int(i64::from_be_bytes(fixed(bytes)?))),
        Wire::Oid => take(Cell::Int(u32::from_be_bytes(fixed(bytes)?).into())),
        Wire::Float4 => take(Cell::Float(widened(f32::from_be_bytes(fixed(bytes)?))?)),
        Wire::Float8 => take(Cell::Float(finite(f64::from_be_bytes(fixed(bytes)?))?)),
        Wire::Numeric => {
            scratch.clear();
            write_numeric(bytes, scratch)?;
            take(Cell::Decimal(scratch))
        }
        Wire::Text => take(Cell::Text(utf8(bytes)?)),
        Wire::Span => take(Cell::Text(span(utf8(bytes)?)?)),
        Wire::Uuid => {
            scratch.clear();
            write_uuid(&fixed::<16>(bytes)?, scratch);
            take(Cell::Text(scratch))
        }
        Wire::Date => take(Cell::Date(match i32::from_be_bytes(fixed(bytes)?) {
            i32::MIN | i32::MAX => return Err(Trouble::Fault(INFINITE)),
            days => near(i64::from(days) + EPOCH_DAYS, 1)?,
        })),
        Wire::Time => match i64::from_be_bytes(fixed(bytes)?) {
            DAY.. => return Err(Trouble::Fault(MIDNIGHT)),
            micros => take(Cell::Time(micros)),
        },
        Wire::Timestamp => take(Cell::Timestamp(instant(fixed(bytes)?)?)),
        Wire::TimestampTz => take(Cell::TimestampTz(instant(fixed(bytes)?)?)),
        Wire::Json => take(Cell::Json(whole_characters(utf8(bytes)?)?)),
        Wire::Jsonb => take(Cell::Json(utf8(bytes.get(1..).ok_or(Trouble::Odd)?)?)),
        Wire::Bytea => {
            scratch.clear();
            write_base64(bytes, scratch);
            take(Cell::Text(scratch))
        }
    })
}

/// Writes an array as JSON, each element as it would be written in a column.
pub(super) fn write_array(wire: Wire, bytes: &[u8], out: &mut String) -> Result<(), Trouble> {
    let mut rest = bytes;
    let [count, _nulls, _element] = [number(&mut rest)?, number(&mut rest)?, number(&mut rest)?];
    let count = usize::try_from(count).ok().filter(|count| *count <= DIMENSIONS).ok_or(Trouble::Odd)?;
    let mut sizes = Vec::with_capacity(count);
    for _ in 0..count {
        sizes.push(number(&mut rest)?);
        number(&mut rest)?;
    }
    if sizes.is_empty() {
        out.push_str("[]");
        return Ok(());
    }
    write_level(wire, &sizes, &mut rest, &mut String::new(), out)?;
    if rest.is_empty() { Ok(()) } else { Err(Trouble::Odd) }
}

fn write_level(
    wire: Wire,
    sizes: &[i32],
    rest: &mut &[u8],
    scratch: &mut String,
    out: &mut String,
) -> Result<(), Trouble> {
    let Some((size, inner)) = sizes.split_first() else {
        let length = number(rest)?;
        let Ok(length) = usize::try_from(length) else {
            out.push_str("null");
            return Ok(());
        };
        let (value, after) = rest.split_at_checked(length).ok_or(Trouble::Odd)?;
        *rest = after;
        read(wire, value, scratch, |cell| cell.write_json(out))?;
        return Ok(());
    };
    out.push('[');
    for place in 0..*size {
        if place > 0 {
            out.push(',');
        }
        write_level(wire, inner, rest, scratch, out)?;
    }
    out.push(']');
    Ok(())
}

fn number(rest: &mut &[u8]) -> Result<i32, Trouble> {
    let (number, after) = rest.split_first_chunk().ok_or(Trouble::Odd)?;
    *rest = after;
    Ok(i32::from_be_bytes(*number))
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Trouble> {
    bytes.try_into().map_err(|_| Trouble::Odd)
}

fn utf8(bytes: &[u8]) -> Result<&str, Trouble> {
    std::str::from_utf8(bytes).map_err(|_| Trouble::Fault(NOT_UTF8))
}

fn finite(value: f64) -> Result<f64, Trouble> {
    if value.is_nan() {
        Err(Trouble::Fault(NOT_A_NUMBER))
    } else if value.is_infinite() {
        Err(Trouble::Fault(INFINITE))
    } else {
        Ok(value)
    }
}

/// The number whose shortest digits are those of `value`: 0.1, not 0.10000000149011612.
fn widened(value: f32) -> Result<f64, Trouble> {
    finite(f64::from(value))?;
    value.to_string().parse().map_err(|_| Trouble::Odd)
}

/// `value`, if it is within the years 1 to 9999; `day` is how much a day is.
fn near(value: i64, day: i64) -> Result<i64, Trouble> {
    if (FIRST_DAY * day..DAY_AFTER_LAST * day).contains(&value) { Ok(value) } else { Err(Trouble::Fault(FAR)) }
}

fn instant(bytes: [u8; 8]) -> Result<i64, Trouble> {
    match i64::from_be_bytes(bytes) {
        i64::MIN | i64::MAX => Err(Trouble::Fault(INFINITE)),
        micros => near(micros.saturating_add(EPOCH_MICROS), DAY),
    }
}

/// An interval or a time with zone.
fn span(text: &str) -> Result<&str, Trouble> {
    if text.ends_with("infinity") {
        Err(Trouble::Fault(INFINITE))
    } else if text.starts_with("24:") {
        Err(Trouble::Fault(MIDNIGHT))
    } else {
        Ok(text)
    }
}

/// PostgreSQL checks the grammar of a `json` value, and not what its escapes stand for.
fn whole_characters(json: &str) -> Result<&str, Trouble> {
    let is_half = json.contains("\\u") && json::check(json) == Err(JsonError::Surrogate);
    if is_half { Err(Trouble::Fault(HALF)) } else { Ok(json) }
}

fn write_base64(bytes: &[u8], out: &mut String) {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode_string(bytes, out);
}

/// Writes a numeric: groups of four digits, of which the first stands `weight` groups before the point.
fn write_numeric(value: &[u8], out: &mut String) -> Result<(), Trouble> {
    let (head, mut groups) = value.split_first_chunk::<8>().ok_or(Trouble::Odd)?;
    let [c0, c1, w0, w1, s0, s1, d0, d1] = *head;
    let count = i32::from(i16::from_be_bytes([c0, c1]));
    let weight = i32::from(i16::from_be_bytes([w0, w1]));
    let scale = usize::from(u16::from_be_bytes([d0, d1]));
    match u16::from_be_bytes([s0, s1]) {
        0x0000 => {}
        0x4000 => out.push('-'),
        0xC000 => return Err(Trouble::Fault(NOT_A_NUMBER)),
        _ => return Err(Trouble::Fault(INFINITE)),
    }
    let mut at = 0;
    let mut group = |index: i32| {
        while at < index.min(count) {
            groups = groups.get(2..).unwrap_or_default();
            at += 1;
        }
        if index < 0 || index >= count { 0 } else { groups.first_chunk().map_or(0, |b| u16::from_be_bytes(*b)) }
    };
    if weight < 0 {
        out.push('0');
    } else {
        for index in 0..=weight {
            push_group(group(index), index > 0, out);
        }
    }
    if scale > 0 {
        out.push('.');
        let start = out.len();
        let mut index = weight + 1;
        while out.len() - start < scale {
            push_group(group(index), true, out);
            index += 1;
        }
        out.truncate(start + scale);
    }
    Ok(())
}

fn push_group(group: u16, padded: bool, out: &mut String) {
    let mut is_shown = padded;
    for unit in [1000, 100, 10, 1] {
        let digit = (group / unit % 10) as u8;
        is_shown |= digit > 0 || unit == 1;
        if is_shown {
            out.push(char::from(b'0' + digit));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(wire: Wire, bytes: &[u8]) -> Result<String, Trouble> {
        read(wire, bytes, &mut String::new(), |cell| cell.to_text())
    }

    fn numeric(weight: i16, sign: u16, scale: u16, groups: &[u16]) -> Result<String, Trouble> {
        let mut bytes = (groups.len() as i16).to_be_bytes().to_vec();
        bytes.extend(weight.to_be_bytes());
        bytes.extend(sign.to_be_bytes());
        bytes.extend(scale.to_be_bytes());
        groups.iter().for_each(|group| bytes.extend(group.to_be_bytes()));
        text(Wire::Numeric, &bytes)
    }

    #[test]
    fn numerics_keep_every_digit() {
        assert_eq!(numeric(0, 0, 2, &[12, 5000]), Ok("12.50".to_owned()));
        assert_eq!(numeric(1, 0x4000, 0, &[1, 7]), Ok("-10007".to_owned()));
        assert_eq!(numeric(-1, 0, 4, &[42]), Ok("0.0042".to_owned()));
        assert_eq!(numeric(-2, 0, 8, &[42]), Ok("0.00000042".to_owned()));
        assert_eq!(numeric(2, 0, 0, &[1]), Ok("100000000".to_owned()));
        assert_eq!(numeric(0, 0, 3, &[]), Ok("0.000".to_owned()));
        assert_eq!(numeric(0, 0xC000, 0, &[]), Err(Trouble::Fault(NOT_A_NUMBER)));
        assert_eq!(numeric(0, 0xD000, 0, &[]), Err(Trouble::Fault(INFINITE)));
    }

    #[test]
    fn single_precision_keeps_its_shortest_digits() {
        for (value, digits) in [(0.1_f32, "0.1"), (1.1, "1.1"), (8.15, "8.15"), (16_777_216.0, "16777216")] {
            assert_eq!(text(Wire::Float4, &value.to_be_bytes()), Ok(digits.to_owned()));
        }
        let (largest, mut scratch) = (f32::MAX.to_be_bytes(), String::new());
        let is_exact = |cell: Cell<'_>| cell == Cell::Float(3.402_823_5e38);
        assert_eq!(read(Wire::Float4, &largest, &mut scratch, is_exact), Ok(true));
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(matches!(text(Wire::Float4, &odd.to_be_bytes()), Err(Trouble::Fault(_))));
        }
    }

    #[test]
    fn dates_outside_of_the_years_that_others_know_are_faults() {
        let date = |days: i64| text(Wire::Date, &((days - EPOCH_DAYS) as i32).to_be_bytes());
        assert_eq!(date(FIRST_DAY), Ok("0001-01-01".to_owned()));
        assert_eq!(date(DAY_AFTER_LAST - 1), Ok("9999-12-31".to_owned()));
        assert_eq!([date(FIRST_DAY - 1), date(DAY_AFTER_LAST)], [Err(Trouble::Fault(FAR)), Err(Trouble::Fault(FAR))]);
        let stamp = |micros: i64| text(Wire::Timestamp, &(micros - EPOCH_MICROS).to_be_bytes());
        assert_eq!(stamp(DAY_AFTER_LAST * DAY - 1), Ok("9999-12-31T23:59:59.999999".to_owned()));
        assert_eq!(stamp(DAY_AFTER_LAST * DAY), Err(Trouble::Fault(FAR)));
        for endless in [i64::MIN, i64::MAX] {
            assert_eq!(text(Wire::TimestampTz, &endless.to_be_bytes()), Err(Trouble::Fault(INFINITE)));
        }
        assert_eq!(text(Wire::TimestampTz, &(i64::MAX - 1).to_be_bytes()), Err(Trouble::Fault(FAR)));
        for endless in [i32::MIN, i32::MAX] {
            assert_eq!(text(Wire::Date, &endless.to_be_bytes()), Err(Trouble::Fault(INFINITE)));
        }
        assert_eq!(text(Wire::Time, &DAY.to_be_bytes()), Err(Trouble::Fault(MIDNIGHT)));
        assert_eq!(text(Wire::Span, b"24:00:00+02"), Err(Trouble::Fault(MIDNIGHT)));
    }

    #[test]
    fn half_a_character_in_json_is_a_fault() {
        for good in [r#"{"a":"\ud83d\ude00"}"#, r#"["\\ud83d", "\u00e9\n", "é\\"]"#, "1"] {
            assert_eq!(text(Wire::Json, good.as_bytes()).as_deref(), Ok(good));
        }
        for bad in [r#""\ud83d""#, r#""\ude00""#, r#""\ud83dx\ude00""#, r#""\ud83d\ud83d\ude00""#, r#""\uD83D\n""#] {
            assert_eq!(text(Wire::Json, bad.as_bytes()), Err(Trouble::Fault(HALF)), "{bad}");
        }
    }

    #[test]
    fn bytes_of_another_length_are_no_value() {
        assert_eq!(text(Wire::Int4, &[0; 3]), Err(Trouble::Odd));
        assert_eq!(write_array(Wire::Int4, &[0; 11], &mut String::new()), Err(Trouble::Odd));
    }
}
