//! The one physical type that carries each kind.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use outflow_model::cell::Kind;
use outflow_model::mapping::SourceColumn;
use outflow_model::suggest::did_you_mean;

use crate::error::SourceError;

/// The Arrow type of `kind`. Decimals, JSON and (in base64) bytes travel as text, so that no digit is lost.
pub const fn data_type(kind: Kind) -> DataType {
    match kind {
        Kind::Bool => DataType::Boolean,
        Kind::Int => DataType::Int64,
        Kind::Float => DataType::Float64,
        Kind::Date => DataType::Date32,
        Kind::Time => DataType::Time64(TimeUnit::Microsecond),
        Kind::Timestamp | Kind::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, None),
        Kind::Decimal | Kind::Text | Kind::Bytes | Kind::Json => DataType::Utf8,
    }
}

/// The schema of batches with these columns.
pub fn schema(columns: &[SourceColumn]) -> SchemaRef {
    let field = |column: &SourceColumn| Field::new(&column.name, data_type(column.kind), true);
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// The columns of `all` that are named, in the order of the names.
pub(crate) fn pick(all: &[SourceColumn], names: &[String]) -> Result<Vec<(usize, SourceColumn)>, SourceError> {
    let find = |name: &String| {
        let mut found = all.iter().enumerate().filter(|(_, column)| column.name == *name).fuse();
        let (first, second) = (found.next(), found.next());
        if second.is_some() {
            let reason = format!("The model has two columns called \"{name}\"; give each a name of its own");
            return Err(SourceError::Query(reason));
        }
        first.map(|(at, column)| (at, column.clone())).ok_or_else(|| SourceError::Column {
            name: name.clone(),
            hint: did_you_mean(name, all.iter().map(|column| column.name.as_str())),
        })
    };
    names.iter().map(find).collect()
}
