//! One value of an Arrow array, exactly, or why it cannot be had.

use std::fmt::Write;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    DecimalType, DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType,
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType,
    Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, PrimitiveArray};
use arrow_schema::{DataType, TimeUnit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use outflow_model::cell::{Cell, DATES};
use outflow_model::json;

use super::shape::Leaf;
use crate::uuid::write_uuid;

const DAY: i128 = 86_400_000_000_000;

const FAR: &str = "the date lies outside the years 1 to 9999";
const FINE: &str = "the time has a part below a microsecond, which would be lost; round it";
const NOT_A_TIME: &str = "the time does not lie within a day";

/// The value in `row`, which is not null. Texts that are not the array's own are written to `scratch`.
pub(super) fn cell<'a>(
    array: &'a dyn Array,
    row: usize,
    leaf: Leaf,
    scratch: &'a mut String,
) -> Result<Cell<'a>, &'static str> {
    scratch.clear();
    Ok(match array.data_type() {
        DataType::Null => Cell::Null,
        DataType::Boolean => Cell::Bool(array.as_boolean().value(row)),
        DataType::Int8 => Cell::Int(i64::from(value::<Int8Type>(array, row))),
        DataType::Int16 => Cell::Int(i64::from(value::<Int16Type>(array, row))),
        DataType::Int32 => Cell::Int(i64::from(value::<Int32Type>(array, row))),
        DataType::Int64 => Cell::Int(value::<Int64Type>(array, row)),
        DataType::UInt8 => Cell::Int(i64::from(value::<UInt8Type>(array, row))),
        DataType::UInt16 => Cell::Int(i64::from(value::<UInt16Type>(array, row))),
        DataType::UInt32 => Cell::Int(i64::from(value::<UInt32Type>(array, row))),
        DataType::UInt64 => {
            _ = write!(scratch, "{}", value::<UInt64Type>(array, row));
            Cell::Decimal(scratch)
        }
        DataType::Float16 => Cell::Float(half(value::<Float16Type>(array, row).to_f32(), scratch)),
        DataType::Float32 => Cell::Float(single(value::<Float32Type>(array, row), scratch)),
        DataType::Float64 => Cell::Float(value::<Float64Type>(array, row)),
        DataType::Decimal32(..) => decimal::<Decimal32Type>(array, row, scratch),
        DataType::Decimal64(..) => decimal::<Decimal64Type>(array, row, scratch),
        DataType::Decimal128(..) => decimal::<Decimal128Type>(array, row, scratch),
        DataType::Decimal256(..) => decimal::<Decimal256Type>(array, row, scratch),
        DataType::Binary => bytes(array.as_binary::<i32>().value(row), leaf, scratch)?,
        DataType::LargeBinary => bytes(array.as_binary::<i64>().value(row), leaf, scratch)?,
        DataType::BinaryView => bytes(array.as_binary_view().value(row), leaf, scratch)?,
        DataType::FixedSizeBinary(_) => bytes(array.as_fixed_size_binary().value(row), leaf, scratch)?,
        DataType::Date32 => Cell::Date(days(i128::from(value::<Date32Type>(array, row)) * DAY)?),
        DataType::Date64 => Cell::Date(days(i128::from(value::<Date64Type>(array, row)) * 1_000_000)?),
        DataType::Time32(_) | DataType::Time64(_) => Cell::Time(time(array, row)?),
        DataType::Timestamp(unit, zone) => {
            let micros = instant(ticks(array, row, *unit))?;
            if zone.is_some() { Cell::TimestampTz(micros) } else { Cell::Timestamp(micros) }
        }
        DataType::Duration(unit) => {
            write_interval(0, 0, duration(array, row, *unit), scratch);
            Cell::Text(scratch)
        }
        _ => return Err("the type is not supported"),
    })
}

fn value<T: ArrowPrimitiveType>(array: &dyn Array, row: usize) -> T::Native {
    array.as_primitive::<T>().value(row)
}

/// The shortest digits that are the same single-precision number, as a double-precision one.
fn single(value: f32, scratch: &mut String) -> f64 {
    _ = write!(scratch, "{value}");
    scratch.parse().unwrap_or_else(|_| f64::from(value))
}

/// The shortest digits that are the same half-precision number, as a double-precision one.
fn half(value: f32, scratch: &mut String) -> f64 {
    type Half = <Float16Type as ArrowPrimitiveType>::Native;
    for digits in 0..5 {
        scratch.clear();
        _ = write!(scratch, "{value:.digits$e}");
        if scratch.parse().is_ok_and(|short: f32| Half::from_f32(short) == Half::from_f32(value)) {
            return scratch.parse().unwrap_or_else(|_| f64::from(value));
        }
    }
    f64::from(value)
}

fn decimal<'a, T: DecimalType + ArrowPrimitiveType>(
    array: &dyn Array,
    row: usize,
    scratch: &'a mut String,
) -> Cell<'a> {
    let array: &PrimitiveArray<T> = array.as_primitive();
    let (precision, scale) = match array.data_type() {
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => (*precision, *scale),
        _ => (T::MAX_PRECISION, 0),
    };
    scratch.push_str(&T::format_decimal(array.value(row), precision, scale));
    Cell::Decimal(scratch)
}

fn bytes<'a>(value: &'a [u8], leaf: Leaf, scratch: &'a mut String) -> Result<Cell<'a>, &'static str> {
    let text = || std::str::from_utf8(value).map_err(|_| "the text is not UTF-8");
    match leaf {
        Leaf::Text | Leaf::Enum => Ok(Cell::Text(text()?)),
        Leaf::Json => {
            json::check(text()?).map_err(|_| "the value is not JSON, or holds text that is not Unicode")?;
            Ok(Cell::Json(text()?))
        }
        Leaf::Uuid => {
            write_uuid(value, scratch);
            Ok(Cell::Text(scratch))
        }
        _ => {
            STANDARD.encode_string(value, scratch);
            Ok(Cell::Text(scratch))
        }
    }
}

fn days(nanos: i128) -> Result<i64, &'static str> {
    if nanos % DAY != 0 {
        return Err("the date has a time of day");
    }
    i64::try_from(nanos / DAY).ok().filter(|days| DATES.contains(days)).ok_or(FAR)
}

/// The microseconds of an instant in nanoseconds.
pub(super) fn instant(nanos: i128) -> Result<i64, &'static str> {
    if !i64::try_from(nanos.div_euclid(DAY)).is_ok_and(|days| DATES.contains(&days)) {
        return Err(FAR);
    }
    if nanos % 1_000 != 0 {
        return Err(FINE);
    }
    i64::try_from(nanos / 1_000).map_err(|_| FAR)
}

fn ticks(array: &dyn Array, row: usize, unit: TimeUnit) -> i128 {
    match unit {
        TimeUnit::Second => i128::from(value::<TimestampSecondType>(array, row)) * 1_000_000_000,
        TimeUnit::Millisecond => i128::from(value::<TimestampMillisecondType>(array, row)) * 1_000_000,
        TimeUnit::Microsecond => i128::from(value::<TimestampMicrosecondType>(array, row)) * 1_000,
        TimeUnit::Nanosecond => i128::from(value::<TimestampNanosecondType>(array, row)),
    }
}

fn time(array: &dyn Array, row: usize) -> Result<i64, &'static str> {
    let nanos = match array.data_type() {
        DataType::Time32(TimeUnit::Second) => i128::from(value::<Time32SecondType>(array, row)) * 1_000_000_000,
        DataType::Time32(_) => i128::from(value::<Time32MillisecondType>(array, row)) * 1_000_000,
        DataType::Time64(TimeUnit::Nanosecond) => i128::from(value::<Time64NanosecondType>(array, row)),
        _ => i128::from(value::<Time64MicrosecondType>(array, row)) * 1_000,
    };
    if !(0..DAY).contains(&nanos) {
        return Err(NOT_A_TIME);
    }
    if nanos % 1_000 == 0 { Ok((nanos / 1_000) as i64) } else { Err(FINE) }
}

fn duration(array: &dyn Array, row: usize, unit: TimeUnit) -> i128 {
    match unit {
        TimeUnit::Second => i128::from(value::<DurationSecondType>(array, row)) * 1_000_000_000,
        TimeUnit::Millisecond => i128::from(value::<DurationMillisecondType>(array, row)) * 1_000_000,
        TimeUnit::Microsecond => i128::from(value::<DurationMicrosecondType>(array, row)) * 1_000,
        TimeUnit::Nanosecond => i128::from(value::<DurationNanosecondType>(array, row)),
    }
}

/// Writes an ISO 8601 duration, as PostgreSQL does: `P1Y2M3DT4H5M6.5S`.
pub(super) fn write_interval(months: i64, days: i64, nanos: i128, out: &mut String) {
    let start = out.len();
    out.push('P');
    let parts = |parts: &[(i128, char)], out: &mut String| {
        for (value, unit) in parts.iter().filter(|(value, _)| *value != 0) {
            _ = write!(out, "{value}{unit}");
        }
    };
    parts(&[(i128::from(months / 12), 'Y'), (i128::from(months % 12), 'M'), (i128::from(days), 'D')], out);
    if nanos != 0 {
        out.push('T');
        let (minutes, rest) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
        parts(&[(minutes / 60, 'H'), (minutes % 60, 'M')], out);
        if rest != 0 {
            let sign = if rest < 0 { "-" } else { "" };
            let fraction = format!("{:09}", rest.unsigned_abs() % 1_000_000_000);
            let fraction = fraction.trim_end_matches('0');
            let point = if fraction.is_empty() { "" } else { "." };
            _ = write!(out, "{sign}{}{point}{fraction}S", rest.unsigned_abs() / 1_000_000_000);
        }
    }
    if out.len() == start + 1 {
        out.push_str("T0S");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Decimal128Array, Float16Array, Float32Array, UInt64Array};

    use super::*;

    fn json_of(array: &dyn Array, row: usize) -> String {
        let (mut scratch, mut out) = (String::new(), String::new());
        if let Ok(cell) = cell(array, row, Leaf::Plain, &mut scratch) {
            cell.write_json(&mut out);
        }
        out
    }

    #[test]
    fn numbers_keep_their_shortest_digits() {
        type Half = <Float16Type as ArrowPrimitiveType>::Native;
        let singles = Float32Array::from(vec![2.72, 0.1, f32::MAX, 1e-45, 16_777_216.5, -1.1]);
        for (row, text) in ["2.72", "0.1", "3.4028235e38", "1e-45", "16777216", "-1.1"].iter().enumerate() {
            let got: Result<f64, _> = json_of(&singles, row).parse();
            assert_eq!(got, text.parse(), "{row}");
        }
        let halves = Float16Array::from([0.1, 65504.0, 6e-8, 2.72].map(Half::from_f32).to_vec());
        for (row, text) in ["0.1", "65500", "6e-8", "2.72"].iter().enumerate() {
            let got: Result<f64, _> = json_of(&halves, row).parse();
            assert_eq!(got, text.parse(), "{row}");
        }
        assert_eq!(json_of(&UInt64Array::from(vec![u64::MAX]), 0), u64::MAX.to_string());
        let small = Decimal128Array::from(vec![-5, 12_300]).with_precision_and_scale(38, 4);
        let small: ArrayRef = Arc::new(small.unwrap());
        assert_eq!([0, 1].map(|row| json_of(&small, row)), ["-0.0005", "1.2300"]);
        let large: ArrayRef = Arc::new(Decimal128Array::from(vec![123]).with_precision_and_scale(5, -2).unwrap());
        assert_eq!(json_of(&large, 0), "12300");
    }

    #[test]
    fn an_instant_is_exact_or_none() {
        assert_eq!(instant(1_000), Ok(1));
        assert_eq!(instant(-1_000), Ok(-1));
        assert_eq!(instant(1), Err(FINE));
        assert_eq!(instant(253_402_300_800_000_000_000), Err(FAR));
        assert_eq!(instant(-62_135_596_800_000_000_000), Ok(-62_135_596_800_000_000));
        assert_eq!(days(DAY / 2), Err("the date has a time of day"));
    }

    #[test]
    fn intervals_are_iso_8601() {
        let interval = |months, days, nanos| {
            let mut out = String::new();
            write_interval(months, days, nanos, &mut out);
            out
        };
        assert_eq!(interval(14, 3, 3_723_500_000_000), "P1Y2M3DT1H2M3.5S");
        assert_eq!(interval(0, -1, -500_000_000), "P-1DT-0.5S");
        assert_eq!(interval(0, 0, 0), "PT0S");
        assert_eq!(interval(0, 0, 60_000_000_000), "PT1M");
    }
}
