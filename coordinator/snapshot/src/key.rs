//! A row's key as the snapshot keeps it, so that a removed row can still be addressed.

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Float64Type, Int64Type, Time64MicrosecondType, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch};
use outflow_model::cell::{Cell, Kind};
use outflow_model::column::Column;
use outflow_model::number::by_value;
use outflow_model::table::join;

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
        Kind::Json => array.as_string_opt::<i32>().map(|array| Cell::json(array.value(row))),
        Kind::Text | Kind::Bytes => array.as_string_opt::<i32>().map(|array| Cell::Text(array.value(row))),
    };
    found.unwrap_or(Cell::Null)
}

/// Marks the length of a value that is kept as JSON.
const JSON: u32 = 1 << 31;

/// Appends the key of `row`: each value's length and its text, numbers and times as their digits, JSON as it is.
pub fn encode_key(batch: &RecordBatch, columns: &[(usize, Kind)], row: usize, out: &mut Vec<u8>) {
    let mut text = String::new();
    for (at, kind) in columns {
        text.clear();
        let mut mark = 0;
        if let Some(array) = batch.columns().get(*at) {
            match cell(array, *kind, row) {
                Cell::Date(value) | Cell::Time(value) | Cell::Timestamp(value) | Cell::TimestampTz(value) => {
                    text = value.to_string();
                }
                Cell::Json(json) => {
                    text.push_str(json);
                    mark = JSON;
                }
                cell => cell.write_text(&mut text),
            }
        }
        out.extend_from_slice(&(text.len() as u32 | mark).to_le_bytes());
        out.extend_from_slice(text.as_bytes());
    }
}

/// Adds a key's values to `columns`, one each: null where the column's kind has no such value. Where a column holds JSON by now, or did
/// then, its values are the same texts.
pub fn decode_key(mut key: &[u8], columns: &mut [Column]) {
    for column in columns {
        let (text, is_json) = split(&mut key);
        match column.kind() {
            Kind::Json if !is_json => column.push_text(&serde_json::Value::from(text).to_string()),
            Kind::Text if is_json => column.push_text(&Cell::Json(text).to_text()),
            Kind::Bool => column.push_int(i64::from(text == "true")),
            Kind::Int | Kind::Date | Kind::Time | Kind::Timestamp | Kind::TimestampTz => {
                // A number that is whole may have been kept as the source wrote it then, such as 1.0.
                let whole = text.parse().ok().or_else(|| by_value(text)?.parse().ok());
                column.push(whole.map_or(Cell::Null, Cell::Int));
            }
            Kind::Float => column.push(text.parse().map_or(Cell::Null, Cell::Float)),
            Kind::Decimal | Kind::Text | Kind::Bytes | Kind::Json => column.push_text(text),
        }
    }
}

/// The key as users read it: its value, or its values as [`join`] writes them, times as they are sent. `kinds` are those of its columns.
pub fn key_text(mut key: &[u8], kinds: impl IntoIterator<Item = Kind>) -> String {
    let mut kinds = kinds.into_iter();
    let mut texts = Vec::new();
    while !key.is_empty() {
        let (text, is_json) = split(&mut key);
        let time = |cell: fn(i64) -> Cell<'static>| text.parse().ok().map(cell);
        let time = match kinds.next() {
            Some(Kind::Date) => time(Cell::Date),
            Some(Kind::Time) => time(Cell::Time),
            Some(Kind::Timestamp) => time(Cell::Timestamp),
            Some(Kind::TimestampTz) => time(Cell::TimestampTz),
            _ => None,
        };
        let value = if is_json { Cell::Json(text) } else { time.unwrap_or(Cell::Text(text)) };
        texts.push(value.to_text());
    }
    join(&texts)
}

/// The next value of a key, and whether it is JSON.
fn split<'a>(key: &mut &'a [u8]) -> (&'a str, bool) {
    let Some((length, rest)) = key.split_first_chunk::<4>() else {
        *key = &[];
        return ("", false);
    };
    let length = u32::from_le_bytes(*length);
    let (text, rest) = rest.split_at(rest.len().min((length & !JSON) as usize));
    *key = rest;
    (std::str::from_utf8(text).unwrap_or_default(), length & JSON != 0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    #[test]
    fn a_time_in_a_key_is_shown_as_it_is_sent() {
        let batch = RecordBatch::try_from_iter([
            ("day", Arc::new(arrow_array::Date32Array::from(vec![20_454])) as ArrayRef),
            ("at", Arc::new(arrow_array::TimestampMicrosecondArray::from(vec![1_792_891_800_000_000]))),
            ("id", Arc::new(Int64Array::from(vec![7]))),
        ]);
        let columns = [(0, Kind::Date), (1, Kind::TimestampTz), (2, Kind::Int)];
        let mut key = Vec::new();
        encode_key(&batch.unwrap(), &columns, 0, &mut key);
        assert_eq!(key_text(&key, columns.map(|(_, kind)| kind)), "2026-01-01 2026-10-25T01:30:00Z 7");
    }

    use arrow_array::{Float64Array, Int64Array, StringArray};

    use super::*;

    #[test]
    fn keys_of_several_values_read_back_and_never_look_alike() -> Result<(), Box<dyn std::error::Error>> {
        let one = StringArray::from(vec!["a b", "a"]);
        let two = StringArray::from(vec!["\"c\"", "\"b c\""]);
        let batch = RecordBatch::try_from_iter([
            ("one", Arc::new(one) as ArrayRef),
            ("two", Arc::new(two)),
            ("three", Arc::new(Int64Array::from(vec![1, 2]))),
        ])?;
        let kinds = [Kind::Text, Kind::Json, Kind::Int];
        let mut texts = Vec::new();
        for row in 0..2 {
            let mut key = Vec::new();
            let columns: Vec<_> = kinds.iter().copied().enumerate().collect();
            encode_key(&batch, &columns, row, &mut key);
            let mut read = kinds.map(Column::new);
            decode_key(&key, &mut read);
            for (column, (at, kind)) in read.iter().zip(columns) {
                assert_eq!(column.cell(0), cell(batch.column(at), kind, row));
            }
            texts.push(key_text(&key, []));
        }
        assert_eq!(texts, ["\"a b\" c 1", "a \"b c\" 2"]);
        Ok(())
    }

    #[test]
    fn a_text_that_becomes_json_and_back_is_the_same_key() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["say \"a\""]));
        let json: ArrayRef = Arc::new(StringArray::from(vec!["\"say \\\"a\\\"\""]));
        for (array, was, is) in [(texts, Kind::Text, Kind::Json), (json, Kind::Json, Kind::Text)] {
            let batch = RecordBatch::try_from_iter([("key", array)]).unwrap();
            let mut key = Vec::new();
            encode_key(&batch, &[(0, was)], 0, &mut key);
            let mut read = [Column::new(is)];
            decode_key(&key, &mut read);
            assert_eq!(read[0].cell(0).to_text(), "say \"a\"");
        }
    }

    #[test]
    fn a_key_that_was_another_kind_of_number_is_the_same_number_or_none() {
        let floats =
            RecordBatch::try_from_iter([("v", Arc::new(Float64Array::from(vec![7.0, 7.5])) as ArrayRef)]).unwrap();
        for (row, whole) in [(0, Cell::Int(7)), (1, Cell::Null)] {
            let mut key = Vec::new();
            encode_key(&floats, &[(0, Kind::Float)], row, &mut key);
            let mut column = [Column::new(Kind::Int)];
            decode_key(&key, &mut column);
            assert_eq!(column[0].cell(0), whole);
        }
    }
}
