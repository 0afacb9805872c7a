//! A file's schemas, as Arrow's reader is to see them.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parquet::arrow::ARROW_SCHEMA_META_KEY;
use parquet::basic::{ConvertedType, LogicalType};
use parquet::errors::Result;
use parquet::file::metadata::{FileMetaData, ParquetMetaData, ParquetMetaDataBuilder};
use parquet::schema::types::{SchemaDescriptor, Type, TypePtr};

/// The metadata with texts as bytes: of those Arrow's reader would refuse all, for one that is not UTF-8.
pub(super) fn without_texts(metadata: &ParquetMetaData) -> Result<ParquetMetaData> {
    let file = metadata.file_metadata();
    let root = file.schema_descr().root_schema();
    let fields = root.get_fields().iter().map(bytes).collect::<Result<_>>()?;
    let root = Type::group_type_builder(root.name()).with_fields(fields).build()?;
    let file = FileMetaData::new(
        file.version(),
        file.num_rows(),
        file.created_by().map(str::to_owned),
        file.key_value_metadata().cloned(),
        Arc::new(SchemaDescriptor::new(Arc::new(root))),
        file.column_orders().cloned(),
    );
    Ok(ParquetMetaDataBuilder::new(file).set_row_groups(metadata.row_groups().to_vec()).build())
}

fn bytes(field: &TypePtr) -> Result<TypePtr> {
    let info = field.get_basic_info();
    let id = info.has_id().then(|| info.id());
    Ok(match field.as_ref() {
        Type::PrimitiveType { physical_type, .. } => {
            let is_text = matches!(info.logical_type_ref(), Some(LogicalType::String | LogicalType::Json))
                || matches!(info.converted_type(), ConvertedType::UTF8 | ConvertedType::JSON);
            if !is_text {
                return Ok(field.clone());
            }
            let bare = Type::primitive_type_builder(info.name(), *physical_type);
            Arc::new(bare.with_repetition(info.repetition()).with_id(id).build()?)
        }
        Type::GroupType { fields, .. } => {
            let fields = fields.iter().map(bytes).collect::<Result<_>>()?;
            let group = Type::group_type_builder(info.name()).with_fields(fields).with_repetition(info.repetition());
            let group = group.with_logical_type(info.logical_type_ref().cloned());
            Arc::new(group.with_converted_type(info.converted_type()).with_id(id).build()?)
        }
    })
}

/// Whether Arrow's reader knows all types of the Arrow schema that a writer has put into the file, if there is one: at others, such
/// as whole numbers of 128 bits, it panics.
pub(super) fn is_arrow_known(metadata: &ParquetMetaData) -> bool {
    let mut pairs = metadata.file_metadata().key_value_metadata().into_iter().flatten();
    let text = pairs.find(|pair| pair.key == ARROW_SCHEMA_META_KEY).and_then(|pair| pair.value.as_deref());
    // The reader passes over a text that is not a schema.
    let Some(message) = text.and_then(|text| STANDARD.decode(text).ok()) else { return true };
    let message = message.strip_prefix(&[0xFF; 4]).and_then(|rest| rest.get(4..)).unwrap_or(&message);
    let Ok(message) = arrow_ipc::root_as_message(message) else { return true };
    let fields = message.header_as_schema().and_then(|schema| schema.fields());
    fields.is_none_or(|fields| fields.iter().all(is_known))
}

fn is_known(field: arrow_ipc::Field<'_>) -> bool {
    let has_width = |width: i32| matches!(width, 8 | 16 | 32 | 64);
    let is_known_itself = match field.type_type() {
        arrow_ipc::Type::Int => field.type_as_int().is_some_and(|int| has_width(int.bitWidth())),
        arrow_ipc::Type::Decimal => {
            field.type_as_decimal().is_some_and(|decimal| matches!(decimal.bitWidth(), 32 | 64 | 128 | 256))
        }
        other => other.0 <= arrow_ipc::Type::ENUM_MAX && other != arrow_ipc::Type::NONE,
    };
    is_known_itself && field.children().is_none_or(|children| children.iter().all(is_known))
}
