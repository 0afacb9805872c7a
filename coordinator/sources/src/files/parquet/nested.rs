//! Nested values as JSON: every member is kept, null ones too.

use std::collections::BTreeSet;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_schema::DataType;
use outflow_model::cell::{Cell, write_json_string};

use super::cell::cell;
use super::shape::Shape;

/// Writes the value in `row`. It recurses along the schema, which the reader has built in the same way.
pub(super) fn write(array: &dyn Array, row: usize, shape: &Shape, out: &mut String) -> Result<(), &'static str> {
    if array.is_null(row) {
        out.push_str("null");
        return Ok(());
    }
    match shape {
        Shape::Leaf(leaf) => {
            let mut scratch = String::new();
            match cell(array, row, *leaf, &mut scratch)? {
                Cell::Float(value) if !value.is_finite() => return Err("a nested value is not a finite number"),
                cell => cell.write_json(out),
            }
        }
        Shape::List(items) => {
            let (values, from, to) = items_of(array, row).ok_or("the type is not supported")?;
            out.push('[');
            for item in from..to {
                if item > from {
                    out.push(',');
                }
                write(values, item, items, out)?;
            }
            out.push(']');
        }
        Shape::Struct(fields) => {
            let columns = array.as_struct_opt().ok_or("the type is not supported")?.columns();
            out.push('{');
            for (place, ((name, shape), column)) in fields.iter().zip(columns).enumerate() {
                if place > 0 {
                    out.push(',');
                }
                write_json_string(name, out);
                out.push(':');
                write(column.as_ref(), row, shape, out)?;
            }
            out.push('}');
        }
        Shape::Map(key, value) => write_map(array, row, key, value, out)?,
    }
    Ok(())
}

/// A list's values, and where those of `row` begin and end.
fn items_of(array: &dyn Array, row: usize) -> Option<(&dyn Array, usize, usize)> {
    match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list_opt::<i32>()?;
            let offsets = list.value_offsets();
            Some((list.values().as_ref(), *offsets.get(row)? as usize, *offsets.get(row + 1)? as usize))
        }
        DataType::LargeList(_) => {
            let list = array.as_list_opt::<i64>()?;
            let offsets = list.value_offsets();
            Some((list.values().as_ref(), *offsets.get(row)? as usize, *offsets.get(row + 1)? as usize))
        }
        _ => {
            let list = array.as_fixed_size_list_opt()?;
            let from = list.value_offset(row) as usize;
            Some((list.values().as_ref(), from, from + list.value_length() as usize))
        }
    }
}

/// Writes a map as an object whose names are the keys' texts.
fn write_map(array: &dyn Array, row: usize, key: &Shape, value: &Shape, out: &mut String) -> Result<(), &'static str> {
    let Shape::Leaf(leaf) = key else { return Err("a map's key is not a single value") };
    let map = array.as_map_opt().ok_or("the type is not supported")?;
    let offsets = map.value_offsets();
    let at = |row: usize| offsets.get(row).copied().unwrap_or_default() as usize;
    let (mut scratch, mut known) = (String::new(), BTreeSet::new());
    out.push('{');
    for entry in at(row)..at(row + 1) {
        let name = cell(map.keys().as_ref(), entry, *leaf, &mut scratch)?.to_text();
        if !known.is_empty() {
            out.push(',');
        }
        write_json_string(&name, out);
        if !known.insert(name) {
            return Err("a map has a key twice");
        }
        out.push(':');
        write(map.values().as_ref(), entry, value, out)?;
    }
    out.push('}');
    Ok(())
}
