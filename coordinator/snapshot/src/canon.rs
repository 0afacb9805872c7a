//! Canonical hashing of Arrow columns, 128 bits per row.
//!
//! Equal values hash equal whatever column type carried them: whole numbers and whole decimals alike, decimals without
//! trailing zeros, one NaN, one zero, instants in UTC microseconds, JSON scalars as what they are, JSON objects with
//! sorted members. NULL differs from "".

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Float64Type, Int64Type, Time64MicrosecondType, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch};
use outflow_model::cell::{Cell, Kind};
use outflow_model::number::parts;
use outflow_model::text::folded;
use xxhash_rust::xxh3::{xxh3_128, xxh3_128_with_seed};

use crate::error::SnapshotError;
use crate::json::JsonHasher;

/// Rows hashed together, so that their column digests stay in the processor's cache.
const STRIDE: usize = 1024;

/// Kinds of canonical values; part of the encoding, never renumbered.
pub(crate) mod tag {
    pub(crate) const BOOL: u64 = 2;
    pub(crate) const WHOLE: u64 = 3;
    pub(crate) const FLOAT: u64 = 4;
    pub(crate) const DECIMAL: u64 = 5;
    pub(crate) const TEXT: u64 = 6;
    pub(crate) const BYTES: u64 = 7;
    pub(crate) const DATE: u64 = 8;
    pub(crate) const TIME: u64 = 9;
    pub(crate) const TIMESTAMP: u64 = 10;
    pub(crate) const INSTANT: u64 = 11;
    pub(crate) const JSON: u64 = 12;
    pub(crate) const ARRAY: u64 = 13;
    pub(crate) const OBJECT: u64 = 14;
}

/// The digest of NULL.
pub(crate) const NULL: [u8; 16] = [0; 16];

/// A short text that differs where `bytes` differ.
pub fn fingerprint(bytes: &[u8]) -> String {
    format!("{:032x}", xxh3_128(bytes))
}

/// Hashes some columns of each row of a batch.
pub struct Hasher {
    columns: Vec<Column>,
    seed: u64,
    digests: Vec<u8>,
    json: JsonHasher,
}

struct Column {
    at: usize,
    kind: Kind,
    fold: bool,
}

impl Hasher {
    /// Hashes the columns at these places, of these kinds; those marked `fold` without surrounding blanks and in lower
    /// case. `seed` separates hashes that must never compare equal.
    pub fn new(columns: impl IntoIterator<Item = (usize, Kind, bool)>, seed: u64) -> Self {
        let columns = columns.into_iter().map(|(at, kind, fold)| Column { at, kind, fold }).collect();
        Self { columns, seed, digests: Vec::new(), json: JsonHasher::default() }
    }

    /// Appends one hash per row of `batch` to `out`.
    pub fn hash(&mut self, batch: &RecordBatch, out: &mut Vec<u128>) -> Result<(), SnapshotError> {
        let width = self.columns.len() * 16;
        out.reserve(batch.num_rows());
        for start in (0..batch.num_rows()).step_by(STRIDE) {
            let rows = STRIDE.min(batch.num_rows() - start);
            self.digests.clear();
            self.digests.resize(rows * width, 0);
            for (place, column) in self.columns.iter().enumerate() {
                let array = batch.columns().get(column.at).ok_or(SnapshotError::Type(column.at))?.slice(start, rows);
                let mut cells =
                    self.digests.chunks_exact_mut(width).map(|row| row.get_mut(place * 16..place * 16 + 16));
                digest(&array, column, &mut self.json, &mut |value| {
                    if let Some(Some(cell)) = cells.next() {
                        cell.copy_from_slice(&value);
                    }
                })
                .ok_or(SnapshotError::Type(column.at))?;
            }
            out.extend(self.digests.chunks_exact(width).map(|row| xxh3_128_with_seed(row, self.seed)));
        }
        Ok(())
    }
}

/// Calls `put` with the digest of each row; nothing where the array is not of the kind's physical type.
fn digest(array: &ArrayRef, column: &Column, json: &mut JsonHasher, put: &mut impl FnMut([u8; 16])) -> Option<()> {
    match column.kind {
        Kind::Bool => {
            let array = array.as_boolean_opt()?;
            array.iter().for_each(|value| put(value.map_or(NULL, |value| number(i64::from(value), tag::BOOL))));
        }
        Kind::Int => numbers(array.as_primitive_opt::<Int64Type>()?.iter(), tag::WHOLE, put),
        Kind::Date => numbers(array.as_primitive_opt::<Date32Type>()?.iter().map(|v| v.map(i64::from)), tag::DATE, put),
        Kind::Time => numbers(array.as_primitive_opt::<Time64MicrosecondType>()?.iter(), tag::TIME, put),
        Kind::Timestamp => numbers(array.as_primitive_opt::<TimestampMicrosecondType>()?.iter(), tag::TIMESTAMP, put),
        Kind::TimestampTz => numbers(array.as_primitive_opt::<TimestampMicrosecondType>()?.iter(), tag::INSTANT, put),
        Kind::Float => {
            let array = array.as_primitive_opt::<Float64Type>()?;
            array.iter().for_each(|value| put(value.map_or(NULL, |value| number(float_bits(value), tag::FLOAT))));
        }
        Kind::Decimal => {
            let array = array.as_string_opt::<i32>()?;
            array.iter().for_each(|value| put(value.map_or(NULL, decimal)));
        }
        Kind::Text if column.fold => {
            let array = array.as_string_opt::<i32>()?;
            array.iter().for_each(|value| put(value.map_or(NULL, |value| text(&folded(value), tag::TEXT))));
        }
        Kind::Text => texts(array.as_string_opt::<i32>()?.iter(), tag::TEXT, put),
        Kind::Bytes => texts(array.as_string_opt::<i32>()?.iter(), tag::BYTES, put),
        Kind::Json => {
            for value in array.as_string_opt::<i32>()? {
                put(value.map_or(NULL, |value| {
                    Cell::json(value).resolved(|cell| match cell {
                        Cell::Null => NULL,
                        Cell::Bool(value) => number(i64::from(value), tag::BOOL),
                        Cell::Decimal(digits) => decimal(digits),
                        Cell::Text(value) => text(value, tag::TEXT),
                        _ => json.digest(value),
                    })
                }));
            }
        }
    }
    Some(())
}

fn numbers(values: impl Iterator<Item = Option<i64>>, tag: u64, put: &mut impl FnMut([u8; 16])) {
    values.for_each(|value| put(value.map_or(NULL, |value| number(value, tag))));
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>, tag: u64, put: &mut impl FnMut([u8; 16])) {
    values.for_each(|value| put(value.map_or(NULL, |value| text(value, tag))));
}

pub(crate) fn number(value: i64, tag: u64) -> [u8; 16] {
    xxh3_128_with_seed(&value.to_le_bytes(), tag).to_le_bytes()
}

pub(crate) fn text(value: &str, tag: u64) -> [u8; 16] {
    xxh3_128_with_seed(value.as_bytes(), tag).to_le_bytes()
}

const fn float_bits(value: f64) -> i64 {
    if value.is_nan() {
        f64::NAN.to_bits() as i64
    } else if value == 0.0 {
        0
    } else {
        value.to_bits() as i64
    }
}

/// The digest of a decimal's value, whatever its form; of its text if it is not a number.
fn decimal(digits: &str) -> [u8; 16] {
    usual(digits.as_bytes()).unwrap_or_else(|| any(digits))
}

/// The digest of a decimal in any form.
fn any(digits: &str) -> [u8; 16] {
    let Some(parts) = parts(digits) else { return text(digits, tag::DECIMAL) };
    let sign = if parts.negative { "-" } else { "" };
    if parts.exponent >= 0 && parts.digits.len() as i64 + parts.exponent <= 19 {
        let whole = format!("{sign}0{}{}", parts.digits, "0".repeat(parts.exponent as usize));
        if let Ok(whole) = whole.parse() {
            return number(whole, tag::WHOLE);
        }
    }
    text(&format!("{sign}{}e{}", parts.digits, parts.exponent), tag::DECIMAL)
}

/// Digits that [`usual`] takes, without leading zeros: as a whole number they are an `i64`.
const USUAL: usize = 18;
/// Bytes of a number that [`usual`] takes, so that its places after the point have two digits.
const LONGEST: usize = 64;

/// The digest of a number in its usual form, such as `-12.50`, in one pass and without the way over [`parts`]; nothing for every
/// other form.
fn usual(text: &[u8]) -> Option<[u8; 16]> {
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |text| (true, text));
    if text.len() > LONGEST || !text.first()?.is_ascii_digit() || !text.last()?.is_ascii_digit() {
        return None;
    }
    // What is hashed: a sign, the digits from the first to the last that is not zero, and an exponent such as `e-2`.
    let mut hashed = [b'-'; 1 + USUAL + 4];
    let sign = usize::from(negative);
    let (mut length, mut value, mut after_point, mut places) = (sign, 0, false, 0);
    for byte in text {
        match byte {
            b'0'..=b'9' if length < sign + USUAL => {
                value = value * 10 + i64::from(byte - b'0');
                *hashed.get_mut(length)? = *byte;
                length += usize::from(value > 0);
                places += usize::from(after_point);
            }
            b'.' if !after_point => after_point = true,
            _ => return None,
        }
    }
    while places > 0 && value % 10 == 0 {
        value /= 10;
        length = length.saturating_sub(1);
        places -= 1;
    }
    if places == 0 {
        return Some(number(if negative { -value } else { value }, tag::WHOLE));
    }
    let exponent = [b'e', b'-', b'0' + (places / 10) as u8, b'0' + (places % 10) as u8];
    for byte in exponent.iter().enumerate().filter(|(at, _)| *at != 2 || places > 9).map(|(_, byte)| byte) {
        *hashed.get_mut(length)? = *byte;
        length += 1;
    }
    Some(xxh3_128_with_seed(hashed.get(..length)?, tag::DECIMAL).to_le_bytes())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};

    use super::*;

    proptest::proptest! {
        #[test]
        fn a_number_in_its_usual_form_is_hashed_as_in_any(number in "-?0{0,3}[0-9]{1,20}([.]0{0,70}[0-9]{1,20}0{0,3})?") {
            let digest = usual(number.as_bytes());
            proptest::prop_assert!(digest.is_none_or(|digest| digest == any(&number)));
            proptest::prop_assert!(digest.is_some() || number.len() > USUAL);
        }
    }

    fn hash(kind: Kind, array: ArrayRef) -> Result<Vec<u128>, Box<dyn std::error::Error>> {
        let batch = RecordBatch::try_from_iter([("c", array)])?;
        let mut out = Vec::new();
        Hasher::new([(0, kind, false)], 7).hash(&batch, &mut out)?;
        Ok(out)
    }

    #[test]
    fn the_usual_form_of_a_fraction_is_hashed_as_every_other() {
        for (usual, other) in [
            ("0.5", "5e-1"),
            ("-12.50", "-125e-1"),
            ("007.0100", "+7.01"),
            ("0.001", ".001"),
            ("-0.0001230", "-123e-6"),
            ("10.05", "1005.e-2"),
            ("1.0", "1"),
            ("-0.00", "0e9"),
            ("1.", "1e0"),
            ("123456789012345678901234567890.1", "1234567890123456789012345678901e-1"),
        ] {
            assert_eq!(decimal(usual), decimal(other), "{usual}");
            let parts = parts(usual).unwrap();
            let sign = if parts.negative { "-" } else { "" };
            if parts.exponent < 0 {
                assert_eq!(decimal(usual), text(&format!("{sign}{}e{}", parts.digits, parts.exponent), tag::DECIMAL));
            }
        }
        for foreign in [".", "-", "-.", "1..2", "1.é", "é.5", "--1.5", "1.2.3", ""] {
            assert_eq!(decimal(foreign), text(foreign, tag::DECIMAL), "{foreign}");
        }
        for digits in 1..3 * USUAL {
            let (one, two) = (format!("1.{}1", "0".repeat(digits)), format!("1.{}2", "0".repeat(digits)));
            assert_eq!(decimal(&one), decimal(&format!("{one}00")));
            assert_ne!(decimal(&one), decimal(&two));
        }
    }

    #[test]
    fn equal_values_hash_equal_and_others_do_not() -> Result<(), Box<dyn std::error::Error>> {
        let decimals =
            hash(Kind::Decimal, Arc::new(StringArray::from(vec!["5", "5.00", "-0.0", "5.1", "5.10", "50"])))?;
        let whole = hash(Kind::Int, Arc::new(Int64Array::from(vec![5, 0, 50])))?;
        assert_eq!([decimals[0], decimals[1], decimals[2], decimals[5]], [whole[0], whole[0], whole[1], whole[2]]);
        assert_eq!(decimals[3], decimals[4]);
        let floats = hash(Kind::Float, Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN])))?;
        assert_eq!((floats[0], floats[2]), (floats[1], floats[3]));
        let texts = hash(Kind::Text, Arc::new(StringArray::from(vec![Some(""), None, Some("5")])))?;
        assert_ne!(texts[0], texts[1]);
        assert_ne!(texts[2], whole[0]);
        assert_eq!(
            hash(Kind::Decimal, Arc::new(StringArray::from(vec!["+5", "5e0", ".5e1", "005."])))?,
            vec![whole[0]; 4]
        );
        let large = hash(
            Kind::Decimal,
            Arc::new(StringArray::from(vec!["1e30", "1000000000000000000000000000000.0", "1e31"])),
        )?;
        assert!(large[0] == large[1] && large[1] != large[2]);
        let far = ["1.5e-9223372036854775808", "1e-9223372036854775808", "1e999999999", "10e999999998"];
        let far = hash(Kind::Decimal, Arc::new(StringArray::from(far.to_vec())))?;
        assert!(far[0] != far[1] && far[2] == far[3]);
        let json = [r#"{"b":1.50,"a":[1,"é"]}"#, r#" {"a": [1, "\u00e9"], "b": 1.50} "#, r#"{"a":[1,"é"],"b":1.5}"#];
        let json = hash(Kind::Json, Arc::new(StringArray::from(json.to_vec())))?;
        assert_eq!(json[0], json[1]);
        assert_ne!(json[0], json[2]);
        Ok(())
    }

    #[test]
    fn json_scalar_hashes_as_the_value_that_it_is() -> Result<(), Box<dyn std::error::Error>> {
        let json =
            hash(Kind::Json, Arc::new(StringArray::from(vec![r#""\u0041""#, " 5.0 ", "true", "null", "\"null\""])))?;
        let texts = hash(Kind::Text, Arc::new(StringArray::from(vec![Some("A"), None, Some("null")])))?;
        let whole = hash(Kind::Int, Arc::new(Int64Array::from(vec![5])))?;
        assert_eq!([json[0], json[1], json[3], json[4]], [texts[0], whole[0], texts[1], texts[2]]);
        assert!(json[2] != json[1] && json[2] != json[3]);
        Ok(())
    }

    #[test]
    fn instants_that_differ_by_a_microsecond_hash_apart() -> Result<(), Box<dyn std::error::Error>> {
        for kind in [Kind::Timestamp, Kind::TimestampTz] {
            let hashes = hash(kind, Arc::new(TimestampMicrosecondArray::from(vec![1_000_000, 1_000_001])))?;
            assert_ne!(hashes[0], hashes[1]);
        }
        Ok(())
    }

    #[test]
    fn folded_keys_hash_without_case_and_surrounding_blanks() -> Result<(), Box<dyn std::error::Error>> {
        let texts = StringArray::from(vec!["Zoë@X.io", " zoë@x.io\t", "zoe@x.io", " ZOE@x.io"]);
        let batch = RecordBatch::try_from_iter([("c", Arc::new(texts) as ArrayRef)])?;
        let mut out = Vec::new();
        Hasher::new([(0, Kind::Text, true)], 0).hash(&batch, &mut out)?;
        assert!(out[0] == out[1] && out[1] != out[2] && out[2] == out[3]);
        Ok(())
    }

    #[test]
    fn values_do_not_slide_between_columns() -> Result<(), Box<dyn std::error::Error>> {
        let column = |values: Vec<Option<&'static str>>| Arc::new(StringArray::from(values)) as ArrayRef;
        let batch = RecordBatch::try_from_iter([
            ("a", column(vec![Some("x"), None, Some("xy")])),
            ("b", column(vec![None, Some("x"), Some("")])),
        ])?;
        let mut out = Vec::new();
        Hasher::new([(0, Kind::Text, false), (1, Kind::Text, false)], 0).hash(&batch, &mut out)?;
        assert!(out[0] != out[1] && out[1] != out[2] && out[0] != out[2]);
        Ok(())
    }

    /// The encoding is part of every snapshot: a change here must come with a new [`crate::ENCODING`].
    #[test]
    fn the_encoding_is_the_one_that_snapshots_hold() -> Result<(), Box<dyn std::error::Error>> {
        let hashes = hash(Kind::Text, Arc::new(StringArray::from(vec![Some("Outflow"), None])))?;
        let whole = hash(Kind::Int, Arc::new(Int64Array::from(vec![42])))?;
        let golden = format!("{:032x}\n{:032x}\n{:032x}\n", hashes[0], hashes[1], whole[0]);
        crate::golden::check("hashes.txt", golden.as_bytes())
    }
}
