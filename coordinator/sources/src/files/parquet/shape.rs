//! What a Parquet column holds, beyond what Arrow's types say.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, IntervalUnit, Schema, TimeUnit};
use outflow_model::cell::Kind;
use parquet::basic::{ConvertedType, LogicalType, Type as Physical};
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};

/// A leaf's meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaf {
    /// What its Arrow type says.
    Plain,
    /// Sixteen bytes that are a UUID.
    Uuid,
    /// Bytes that are the name of one of several values.
    Enum,
    /// Bytes that are text.
    Text,
    /// Bytes that are a JSON document.
    Json,
    /// A timestamp of twelve bytes. Arrow's reader gives its seconds or, modulo 2^64, its nanoseconds.
    Int96,
    /// Months, days and milliseconds. Arrow's reader gives the months or the rest.
    Interval,
}

/// A column's structure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Leaf(Leaf),
    List(Box<Shape>),
    Struct(Vec<(String, Shape)>),
    Map(Box<Shape>, Box<Shape>),
}

impl Shape {
    /// The shape of the root column `at`, or why it cannot be read.
    pub(super) fn of(field: &Field, at: usize, schema: &SchemaDescriptor) -> Result<Self, String> {
        let leaves = (0..schema.num_columns()).filter(|leaf| schema.get_column_root_idx(*leaf) == at);
        let mut leaves = leaves.map(|leaf| meaning(&schema.column(leaf)));
        let shape = build(field.data_type(), &mut leaves)?;
        match shape {
            Self::Leaf(_) => Ok(shape),
            _ if shape.has_halves() => {
                Err("it holds INT96 timestamps or intervals within a list or struct; cast them".to_owned())
            }
            _ => Ok(shape),
        }
    }

    /// True where Arrow's reader gives half of each value.
    pub(super) const fn is_half(&self) -> bool {
        matches!(self, Self::Leaf(Leaf::Int96 | Leaf::Interval))
    }

    fn has_halves(&self) -> bool {
        match self {
            Self::Leaf(_) => self.is_half(),
            Self::List(items) => items.has_halves(),
            Self::Struct(fields) => fields.iter().any(|(_, shape)| shape.has_halves()),
            Self::Map(keys, values) => keys.has_halves() || values.has_halves(),
        }
    }

    /// The kind of such a column; none for one of nulls alone.
    pub(super) fn kind(&self, data_type: &DataType) -> Option<Kind> {
        let Self::Leaf(leaf) = self else { return Some(Kind::Json) };
        Some(match (leaf, &plain(data_type)) {
            (Leaf::Uuid | Leaf::Enum | Leaf::Text | Leaf::Interval, _) => Kind::Text,
            (Leaf::Json, _) => Kind::Json,
            (Leaf::Int96, _) => Kind::Timestamp,
            (Leaf::Plain, DataType::Null) => return None,
            (Leaf::Plain, DataType::Boolean) => Kind::Bool,
            (Leaf::Plain, DataType::UInt64) => Kind::Decimal,
            (Leaf::Plain, other) if other.is_integer() => Kind::Int,
            (Leaf::Plain, other) if other.is_floating() => Kind::Float,
            (Leaf::Plain, DataType::Date32 | DataType::Date64) => Kind::Date,
            (Leaf::Plain, DataType::Time32(_) | DataType::Time64(_)) => Kind::Time,
            (Leaf::Plain, DataType::Timestamp(_, None)) => Kind::Timestamp,
            (Leaf::Plain, DataType::Timestamp(_, Some(_))) => Kind::TimestampTz,
            (Leaf::Plain, other) if other.is_decimal() => Kind::Decimal,
            (Leaf::Plain, other) if is_bytes(other) => Kind::Bytes,
            _ => Kind::Text,
        })
    }
}

const fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
}

fn meaning(column: &ColumnDescriptor) -> Leaf {
    match (column.physical_type(), column.logical_type_ref(), column.converted_type()) {
        (Physical::INT96, _, _) => Leaf::Int96,
        (Physical::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::Uuid), _) => Leaf::Uuid,
        (Physical::FIXED_LEN_BYTE_ARRAY, None, ConvertedType::INTERVAL) => Leaf::Interval,
        (Physical::BYTE_ARRAY, Some(LogicalType::Enum), _) | (Physical::BYTE_ARRAY, None, ConvertedType::ENUM) => {
            Leaf::Enum
        }
        (Physical::BYTE_ARRAY, Some(LogicalType::Json), _) | (Physical::BYTE_ARRAY, None, ConvertedType::JSON) => {
            Leaf::Json
        }
        (_, Some(LogicalType::String), _) | (_, None, ConvertedType::UTF8) => Leaf::Text,
        _ => Leaf::Plain,
    }
}

fn build(data_type: &DataType, leaves: &mut impl Iterator<Item = Leaf>) -> Result<Shape, String> {
    Ok(match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            Shape::List(Box::new(build(item.data_type(), leaves)?))
        }
        DataType::Struct(fields) => {
            let field = |field: &FieldRef| Ok((field.name().clone(), build(field.data_type(), leaves)?));
            Shape::Struct(fields.iter().map(field).collect::<Result<_, String>>()?)
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(fields) = entries.data_type() else { return Err(unknown(data_type)) };
            let [key, value] = fields.as_ref() else { return Err(unknown(data_type)) };
            let keys = build(key.data_type(), leaves)?;
            Shape::Map(Box::new(keys), Box::new(build(value.data_type(), leaves)?))
        }
        DataType::ListView(_) | DataType::LargeListView(_) | DataType::Union(..) => return Err(unknown(data_type)),
        DataType::Dictionary(_, values) => build(values, leaves)?,
        DataType::RunEndEncoded(_, values) => build(values.data_type(), leaves)?,
        other => match leaves.next() {
            // Some writers say so in their Arrow schema alone.
            Some(Leaf::Plain) if is_text(other) => Shape::Leaf(Leaf::Text),
            leaf => Shape::Leaf(leaf.unwrap_or(Leaf::Plain)),
        },
    })
}

fn unknown(data_type: &DataType) -> String {
    format!("its type {data_type} is not supported; cast it")
}

/// The schema that the file is read with: without dictionaries, bytes as views into what was read, and of two halves the first.
pub(super) fn read_as(schema: &Schema, shapes: &[Option<Shape>], second_half: bool) -> Schema {
    let field = |(at, field): (usize, &FieldRef)| {
        let data_type = match (shapes.get(at).and_then(Option::as_ref), plain(field.data_type())) {
            (Some(Shape::Leaf(Leaf::Int96)), _) if !second_half => DataType::Timestamp(TimeUnit::Second, None),
            (Some(Shape::Leaf(Leaf::Int96)), _) => DataType::Timestamp(TimeUnit::Nanosecond, None),
            (Some(Shape::Leaf(Leaf::Interval)), _) if !second_half => DataType::Interval(IntervalUnit::DayTime),
            (Some(Shape::Leaf(Leaf::Interval)), _) => DataType::Interval(IntervalUnit::YearMonth),
            (_, DataType::Binary | DataType::LargeBinary) => DataType::BinaryView,
            (_, other) => other,
        };
        Arc::new(field.as_ref().clone().with_data_type(data_type))
    };
    let fields: Fields = schema.fields().iter().enumerate().map(field).collect();
    Schema::new_with_metadata(fields, schema.metadata().clone())
}

/// `data_type` with values in place of dictionaries and runs, and bytes in place of texts.
fn plain(data_type: &DataType) -> DataType {
    let inner = |field: &FieldRef| Arc::new(field.as_ref().clone().with_data_type(plain(field.data_type())));
    match data_type {
        DataType::Dictionary(_, values) => plain(values),
        DataType::RunEndEncoded(_, values) => plain(values.data_type()),
        DataType::List(item) => DataType::List(inner(item)),
        DataType::LargeList(item) => DataType::LargeList(inner(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(inner(item), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect()),
        DataType::Map(entries, sorted) => DataType::Map(inner(entries), *sorted),
        text if is_text(text) => DataType::Binary,
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use arrow_array::types::Int32Type;
    use arrow_array::{
        Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, FixedSizeListArray,
        Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch, RunArray, StringArray, StructArray,
        Time64MicrosecondArray, TimestampMicrosecondArray, TimestampNanosecondArray, UInt64Array,
    };
    use parquet::arrow::ArrowWriter;

    use super::*;
    use crate::config::FilesConfig;
    use crate::files::Files;
    use crate::port::{FilesQuery, Query, Source};

    async fn read(folder: &Path, array: ArrayRef) -> (Kind, ArrayRef) {
        let path = folder.join("v.parquet");
        let batch = RecordBatch::try_from_iter([("v", array)]).unwrap();
        let mut writer = ArrowWriter::try_new(std::fs::File::create(&path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let config = FilesConfig {
            path: folder.into(),
            format: None,
            types: std::collections::BTreeMap::new(),
            delimiter: None,
        };
        let query = Query::Files(FilesQuery { pattern: ".".to_owned(), key: Vec::new() });
        let mut found = Files::new(config, folder).extract(&query, &["v".to_owned()]).await.unwrap();
        let batch = found.batches.recv().await.unwrap().unwrap();
        assert!(batch.faults.is_empty(), "{:?}", batch.faults);
        (found.columns[0].kind, batch.records.column(0).clone())
    }

    fn list(items: ArrayRef) -> ArrayRef {
        let item = Arc::new(Field::new("item", items.data_type().clone(), true));
        let members = Fields::from(vec![item.as_ref().clone()]);
        let items = Arc::new(StructArray::new(members.clone(), vec![items], None));
        let item = Arc::new(Field::new("item", DataType::Struct(members), true));
        Arc::new(FixedSizeListArray::new(item, 2, items, None))
    }

    #[tokio::test]
    async fn a_value_is_the_same_whether_it_is_in_a_dictionary_or_a_run() {
        let folder = tempfile::tempdir().unwrap();
        let values: [ArrayRef; 12] = [
            Arc::new(Int64Array::from(vec![5, 6])),
            Arc::new(Float64Array::from(vec![1.5, 0.1])),
            Arc::new(Float32Array::from(vec![1.5, 0.1])),
            Arc::new(UInt64Array::from(vec![u64::MAX, 1])),
            Arc::new(Decimal128Array::from(vec![150, 1]).with_precision_and_scale(5, 2).unwrap()),
            Arc::new(Date32Array::from(vec![0, 20_000])),
            Arc::new(Time64MicrosecondArray::from(vec![0, 1])),
            Arc::new(TimestampMicrosecondArray::from(vec![0, 1])),
            Arc::new(TimestampNanosecondArray::from(vec![0, 1_000]).with_timezone("+02:00")),
            Arc::new(BinaryArray::from(vec![&b"\x00"[..], b"\xff"])),
            Arc::new(StringArray::from(vec!["5", "1.50"])),
            Arc::new(BooleanArray::from(vec![true, false])),
        ];
        for values in values {
            let name = values.data_type().to_string();
            let keys = Int32Array::from(vec![0, 1]);
            let dictionary = DictionaryArray::<Int32Type>::try_new(keys, values.clone()).unwrap();
            let runs = RunArray::<Int32Type>::try_new(&Int32Array::from(vec![1, 2]), values.as_ref()).unwrap();
            let (dictionary, runs): (ArrayRef, ArrayRef) = (Arc::new(dictionary), Arc::new(runs));
            let want = read(folder.path(), values.clone()).await;
            assert_eq!(read(folder.path(), dictionary.clone()).await, want, "{name} in a dictionary");
            assert_eq!(read(folder.path(), runs.clone()).await, want, "{name} in runs");
            let want = read(folder.path(), list(values)).await;
            assert_eq!(read(folder.path(), list(dictionary)).await, want, "{name} in a dictionary within a list");
            assert_eq!(read(folder.path(), list(runs)).await, want, "{name} in runs within a list");
        }
    }
}
