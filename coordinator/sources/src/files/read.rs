//! One file's columns and batches.

use std::fs::File;
use std::io::{BufReader, Seek};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use outflow_model::cell::Kind;
use outflow_model::mapping::SourceColumn;
use outflow_model::suggest::did_you_mean;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::config::{FileFormat, FilesConfig};
use crate::error::SourceError;
use crate::normalize::{kind, normalize};
use crate::shape;

const ROWS: usize = 8_192;
/// Lines that the columns of an NDJSON file are inferred from.
const SAMPLE: usize = 10_000;

/// The columns of a file.
pub(super) fn columns(
    path: &Path,
    format: Option<FileFormat>,
    config: &FilesConfig,
) -> Result<Vec<SourceColumn>, SourceError> {
    let trouble = |error: &dyn std::error::Error| trouble(path, error);
    Ok(match format {
        Some(FileFormat::Csv) => csv_columns(path, config)?,
        Some(FileFormat::Ndjson) => {
            let schema = ndjson_schema(path)?;
            let column = |field: &Arc<Field>| SourceColumn { name: field.name().clone(), kind: ndjson_kind(field) };
            schema.fields().iter().map(column).collect()
        }
        Some(FileFormat::Parquet) | None => {
            let builder = ParquetRecordBatchReaderBuilder::try_new(open(path)?).map_err(|error| trouble(&error))?;
            let column =
                |field: &Arc<Field>| SourceColumn { name: field.name().clone(), kind: kind(field.data_type()) };
            builder.schema().fields().iter().map(column).collect()
        }
    })
}

/// Passes a file's batches on, with the wanted columns in their order, until `send` says that nobody listens.
pub(super) fn batches(
    path: &Path,
    format: Option<FileFormat>,
    config: &FilesConfig,
    wanted: &[SourceColumn],
    send: &mut dyn FnMut(RecordBatch) -> bool,
) -> Result<(), SourceError> {
    let mine = columns(path, format, config)?;
    for want in wanted {
        let found = mine.iter().find(|column| column.name == want.name).ok_or_else(|| SourceError::File {
            path: path.display().to_string(),
            reason: format!(
                "it has no column \"{}\", which other files have.{}",
                want.name,
                did_you_mean(&want.name, mine.iter().map(|column| column.name.as_str()))
            ),
        })?;
        if found.kind != want.kind {
            let reason = format!(
                "its column \"{}\" is {}, but {} in other files",
                want.name,
                found.kind.name(),
                want.kind.name()
            );
            return Err(SourceError::File { path: path.display().to_string(), reason });
        }
    }
    let schema = shape::schema(wanted);
    for batch in reader(path, format, config, wanted)? {
        let batch = batch.and_then(|batch| arrange(&batch, wanted, &schema)).map_err(|error| trouble(path, &error))?;
        if !send(batch) {
            break;
        }
    }
    Ok(())
}

type Reader = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>>>;

fn reader(
    path: &Path,
    format: Option<FileFormat>,
    config: &FilesConfig,
    wanted: &[SourceColumn],
) -> Result<Reader, SourceError> {
    let is_wanted = |name: &str| wanted.iter().any(|column| column.name == name);
    Ok(match format {
        Some(FileFormat::Csv) => {
            let columns = csv_columns(path, config)?;
            let projection =
                (0..columns.len()).filter(|at| columns.get(*at).is_some_and(|c| is_wanted(&c.name))).collect();
            let builder = arrow_csv::ReaderBuilder::new(shape::schema(&columns))
                .with_header(true)
                .with_delimiter(config.delimiter as u8)
                .with_batch_size(ROWS)
                .with_projection(projection);
            Box::new(builder.build(open(path)?).map_err(|error| trouble(path, &error))?)
        }
        Some(FileFormat::Ndjson) => {
            let inferred = ndjson_schema(path)?;
            let fields: Vec<Field> = inferred.fields().iter().filter(|f| is_wanted(f.name())).map(exact).collect();
            let builder = arrow_json::ReaderBuilder::new(Arc::new(Schema::new(fields)))
                .with_batch_size(ROWS)
                .with_coerce_primitive(true);
            Box::new(builder.build(BufReader::new(open(path)?)).map_err(|error| trouble(path, &error))?)
        }
        Some(FileFormat::Parquet) | None => {
            let builder =
                ParquetRecordBatchReaderBuilder::try_new(open(path)?).map_err(|error| trouble(path, &error))?;
            let places = builder.schema().fields().iter().enumerate().filter(|(_, field)| is_wanted(field.name()));
            let mask = ProjectionMask::roots(builder.parquet_schema(), places.map(|(at, _)| at).collect::<Vec<_>>());
            let builder = builder.with_batch_size(ROWS).with_projection(mask);
            Box::new(builder.build().map_err(|error| trouble(path, &error))?)
        }
    })
}

/// The wanted columns, in their order and physical types.
fn arrange(batch: &RecordBatch, wanted: &[SourceColumn], schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let column = |want: &SourceColumn| -> Result<ArrayRef, ArrowError> {
        let array = batch.column_by_name(&want.name).ok_or_else(|| ArrowError::SchemaError(want.name.clone()))?;
        if want.kind == Kind::Decimal { arrow_cast::cast(array, &DataType::Utf8) } else { normalize(array) }
    };
    RecordBatch::try_new(schema.clone(), wanted.iter().map(column).collect::<Result<_, _>>()?)
}

fn csv_columns(path: &Path, config: &FilesConfig) -> Result<Vec<SourceColumn>, SourceError> {
    let format = arrow_csv::reader::Format::default().with_header(true).with_delimiter(config.delimiter as u8);
    let (schema, _) = format.infer_schema(open(path)?, Some(1)).map_err(|error| trouble(path, &error))?;
    let column = |field: &Arc<Field>| SourceColumn {
        name: field.name().clone(),
        kind: config.types.get(field.name()).copied().unwrap_or(Kind::Text),
    };
    Ok(schema.fields().iter().map(column).collect())
}

fn ndjson_schema(path: &Path) -> Result<Schema, SourceError> {
    let mut file = open(path)?;
    file.rewind().map_err(|error| trouble(path, &error))?;
    let (schema, _) = arrow_json::reader::infer_json_schema(BufReader::new(file), Some(SAMPLE))
        .map_err(|error| trouble(path, &error))?;
    Ok(schema)
}

/// Numbers with a fraction are read as their digits, not as floating-point numbers.
fn exact(field: &Arc<Field>) -> Field {
    match field.data_type() {
        DataType::Float64 => Field::new(field.name(), DataType::Utf8, true),
        _ => field.as_ref().clone(),
    }
}

fn ndjson_kind(field: &Arc<Field>) -> Kind {
    if *field.data_type() == DataType::Float64 { Kind::Decimal } else { kind(field.data_type()) }
}

fn open(path: &Path) -> Result<File, SourceError> {
    File::open(path).map_err(|error| trouble(path, &error))
}

fn trouble(path: &Path, error: &dyn std::error::Error) -> SourceError {
    SourceError::File { path: path.display().to_string(), reason: SourceError::reason(error) }
}
