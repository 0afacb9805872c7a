//! A row's key as the snapshot keeps it, so that a removed row can still be addressed.

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Float64Type, Int64Type, Time64MicrosecondType, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch};
use outflow_model::cell::{Cell, Kind};
use outflow_model::column::Column;

/// The value of `row` in `array`, which carries `kind`.
pub fn cell(array: &ArrayRef, kind: Kind, row: usize) -> Cell<'_> {
    if array.is_null(row) {
        return Cell::Null;
    }
    let found = match kind {
        Kind::Bool => array.as_boolean_opt().map(|array| Cell::Bool(array.value(row))),
        Kind::Int => array.as_primitive_opt::<Int64Type>().map(|array| Cell::Int(array.value(row))),
        Kind::Float => array.as_primitive_opt::<Float64Type>().map(|array| Cell::Float(array.value(row))),
        Kind::Date => array.as_primitive_opt::<Date32Type>().map(|array| Cell::Date(i64::from(array.value(row)))),
        Kind::Time => array.as_primitive_opt::<Time64MicrosecondType>().map(|array| Cell::Time(array.value(row))),
        Kind::Timestamp => {
            array.as_primitive_opt::<TimestampMicrosecondType>().map(|array| Cell::Timestamp(array.value(row)))
        }
        Kind::TimestampTz => {
            array.as_primitive_opt::<TimestampMicrosecondType>().map(|array| Cell::TimestampTz(array.value(row)))
        }
        Kind::Decimal => array.as_string_opt::<i32>().map(|array| Cell::Decimal(array.value(row))),
        Kind::Json => array.as_string_opt::<i32>().map(|array| Cell::Json(array.value(row))),
        Kind::Text | Kind::Bytes => array.as_string_opt::<i32>().map(|array| Cell::Text(array.value(row))),
    };
    found.unwrap_or(Cell::Null)
}

/// Appends the key of `row`: each value's length and its text, numbers and times as their digits.
pub fn encode_key(batch: &RecordBatch, columns: &[(usize, Kind)], row: usize, out: &mut Vec<u8>) {
    let mut text = String::new();
    for (at, kind) in columns {
        text.clear();
        if let Some(array) = batch.columns().get(*at) {
            match cell(array, *kind, row) {
                Cell::Date(value) | Cell::Time(value) | Cell::Timestamp(value) | Cell::TimestampTz(value) => {
                    text = value.to_string();
                }
                cell => cell.write_text(&mut text),
            }
        }
        out.extend_from_slice(&(text.len() as u32).to_le_bytes());
        out.extend_from_slice(text.as_bytes());
    }
}

/// Adds a key's values to `columns`, one each.
pub fn decode_key(mut key: &[u8], columns: &mut [Column]) {
    for column in columns {
        let text = split(&mut key);
        match column.kind() {
            Kind::Bool => column.push_int(i64::from(text == "true")),
            Kind::Int | Kind::Date | Kind::Time | Kind::Timestamp | Kind::TimestampTz => {
                column.push_int(text.parse().unwrap_or_default());
            }
            Kind::Float => column.push_float(text.parse().unwrap_or(f64::NAN)),
            Kind::Decimal | Kind::Text | Kind::Bytes | Kind::Json => column.push_text(text),
        }
    }
}

/// The key as users read it: its values, separated by a space.
pub fn key_text(mut key: &[u8]) -> String {
    let mut out = String::new();
    while !key.is_empty() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(split(&mut key));
    }
    out
}

fn split<'a>(key: &mut &'a [u8]) -> &'a str {
    let Some((length, rest)) = key.split_first_chunk::<4>() else {
        *key = &[];
        return "";
    };
    let (text, rest) = rest.split_at(rest.len().min(u32::from_le_bytes(*length) as usize));
    *key = rest;
    std::str::from_utf8(text).unwrap_or_default()
}
