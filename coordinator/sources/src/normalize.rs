//! Arrow columns of any type, brought into the one physical type of their kind.

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType, Field, Schema};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use outflow_model::cell::Kind;

use crate::shape::data_type;

/// The kind that carries an Arrow type.
pub(crate) fn kind(data_type: &DataType) -> Kind {
    match data_type {
        DataType::Boolean => Kind::Bool,
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32 => Kind::Int,
        DataType::UInt64
        | DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => Kind::Decimal,
        DataType::Float16 | DataType::Float32 | DataType::Float64 => Kind::Float,
        DataType::Date32 | DataType::Date64 => Kind::Date,
        DataType::Time32(_) | DataType::Time64(_) => Kind::Time,
        DataType::Timestamp(_, None) => Kind::Timestamp,
        DataType::Timestamp(_, Some(_)) => Kind::TimestampTz,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => Kind::Bytes,
        DataType::Dictionary(_, values) => kind(values),
        DataType::Struct(_)
        | DataType::List(_)
        | DataType::LargeList(_)
        | DataType::FixedSizeList(..)
        | DataType::Map(..) => Kind::Json,
        _ => Kind::Text,
    }
}

/// `array` in the physical type of its kind.
pub(crate) fn normalize(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let target = kind(array.data_type());
    match target {
        Kind::Json => json(array),
        Kind::Bytes => {
            let bytes = cast(array, &DataType::Binary)?;
            let mut out = StringBuilder::new();
            for value in bytes.as_binary::<i32>() {
                out.append_option(value.map(|value| STANDARD.encode(value)));
            }
            Ok(Arc::new(out.finish()))
        }
        _ => cast(array, &data_type(target)),
    }
}

/// Nested values as JSON text, by Arrow's own writer.
fn json(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let mut out = StringBuilder::new();
    let field = Field::new("v", array.data_type().clone(), true);
    for row in 0..array.len() {
        if array.is_null(row) {
            out.append_null();
            continue;
        }
        let one = RecordBatch::try_new(Arc::new(Schema::new(vec![field.clone()])), vec![array.slice(row, 1)])?;
        let mut writer = arrow_json::LineDelimitedWriter::new(Vec::new());
        writer.write(&one)?;
        writer.finish()?;
        let line = String::from_utf8(writer.into_inner()).map_err(|error| ArrowError::JsonError(error.to_string()))?;
        let value = line.trim().strip_prefix("{\"v\":").and_then(|rest| rest.strip_suffix('}'));
        out.append_option(value);
    }
    Ok(Arc::new(out.finish()))
}
