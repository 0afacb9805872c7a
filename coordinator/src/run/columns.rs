//! Arrow rows into the model's columns.

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Float64Type, Int64Type, Time64MicrosecondType, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef};
use outflow_model::cell::Kind;
use outflow_model::column::Column;

/// Appends the values of `rows` to `out`, whose kind the array carries.
pub(super) fn append(array: &ArrayRef, rows: &[u32], out: &mut Column) {
    fn each(array: &dyn Array, rows: &[u32], out: &mut Column, mut push: impl FnMut(&mut Column, usize)) {
        if array.null_count() == 0 {
            return rows.iter().for_each(|row| push(out, *row as usize));
        }
        for row in rows {
            if array.is_null(*row as usize) { out.push_null() } else { push(out, *row as usize) }
        }
    }
    let done = match out.kind() {
        Kind::Bool => array.as_boolean_opt().map(|array| {
            each(array, rows, out, |out, row| out.push_int(i64::from(array.value(row))));
        }),
        Kind::Int => array.as_primitive_opt::<Int64Type>().map(|array| {
            each(array, rows, out, |out, row| out.push_int(array.value(row)));
        }),
        Kind::Float => array.as_primitive_opt::<Float64Type>().map(|array| {
            each(array, rows, out, |out, row| out.push_float(array.value(row)));
        }),
        Kind::Date => array.as_primitive_opt::<Date32Type>().map(|array| {
            each(array, rows, out, |out, row| out.push_int(i64::from(array.value(row))));
        }),
        Kind::Time => array.as_primitive_opt::<Time64MicrosecondType>().map(|array| {
            each(array, rows, out, |out, row| out.push_int(array.value(row)));
        }),
        Kind::Timestamp | Kind::TimestampTz => array.as_primitive_opt::<TimestampMicrosecondType>().map(|array| {
            each(array, rows, out, |out, row| out.push_int(array.value(row)));
        }),
        Kind::Decimal | Kind::Text | Kind::Bytes | Kind::Json => array.as_string_opt::<i32>().map(|array| {
            each(array, rows, out, |out, row| out.push_text(array.value(row)));
        }),
    };
    if done.is_none() {
        rows.iter().for_each(|_| out.push_null());
    }
}
