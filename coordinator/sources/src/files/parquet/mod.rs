//! Parquet, by Arrow's reader.

mod cell;
mod nested;
mod part;
mod schema;
mod shape;
mod unpack;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{IntervalDayTimeType, IntervalYearMonthType, TimestampNanosecondType, TimestampSecondType};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::ArrowError;
use outflow_model::cell::Cell;
use outflow_model::mapping::SourceColumn;
use outflow_model::text::with_causes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::schema::types::SchemaDescPtr;

use self::part::Part;
use self::shape::{Leaf, Shape};
use self::unpack::Unpacked;
use super::describe::Described;
use super::find::Found;
use super::gather::Gather;
use super::text::trouble;
use crate::error::SourceError;
use crate::message::masked;
use crate::rows::BYTES;

/// Rows that Arrow's reader decodes at a time, if they are small.
const ROWS: usize = 512;

struct Opened<'a> {
    path: &'a Path,
    file: &'a File,
    /// As Arrow's reader sees it, with texts as bytes.
    metadata: ArrowReaderMetadata,
    /// As it is in the file.
    schema: SchemaDescPtr,
}

impl<'a> Opened<'a> {
    fn new((found, file): (&'a Found, &'a File)) -> Result<Self, SourceError> {
        let path = &found.path;
        let failed = |error: ParquetError| trouble(path, with_causes(&error));
        let bare = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let inside = ArrowReaderMetadata::load(file, bare.clone()).map_err(failed)?;
        let inside = inside.metadata();
        let options = if schema::is_arrow_known(inside) { ArrowReaderOptions::new() } else { bare };
        let metadata = schema::without_texts(inside).map_err(failed)?;
        let metadata = ArrowReaderMetadata::try_new(Arc::new(metadata), options).map_err(failed)?;
        Ok(Self { path, file, metadata, schema: inside.file_metadata().schema_descr_ptr() })
    }

    /// The place and shape of a wanted column; none if the file lacks it.
    fn find(&self, name: &str) -> Result<Option<(usize, Shape)>, SourceError> {
        let mut places = self.metadata.schema().fields().iter().enumerate().filter(|(_, field)| field.name() == name);
        let Some((at, field)) = places.next() else { return Ok(None) };
        let about = |reason: &str| trouble(self.path, format!("its column \"{name}\" cannot be read: {reason}"));
        if places.next().is_some() {
            return Err(about("two columns have this name"));
        }
        let schema = self.metadata.parquet_schema();
        for group in self.metadata.metadata().row_groups() {
            for leaf in (0..schema.num_columns()).filter(|leaf| schema.get_column_root_idx(*leaf) == at) {
                if let compression @ (Compression::BROTLI(_) | Compression::LZO) = group.column(leaf).compression() {
                    let name = if compression == Compression::LZO { "LZO" } else { "Brotli" };
                    return Err(about(&format!("it is compressed with {name}; write it with zstd, snappy or gzip")));
                }
            }
        }
        Shape::of(field, at, &self.schema).map(|shape| Some((at, shape))).map_err(|reason| about(&reason))
    }

    /// The parts that are read one after the other.
    fn parts(&self, shapes: &[Option<Shape>]) -> Result<Vec<Part>, SourceError> {
        let schema = self.metadata.parquet_schema();
        let is_wanted = |leaf: &usize| shapes.get(schema.get_column_root_idx(*leaf)).is_some_and(Option::is_some);
        let leaves: Vec<usize> = (0..schema.num_columns()).filter(is_wanted).collect();
        Part::all(self.file, self.metadata.metadata(), &leaves).map_err(|error| trouble(self.path, with_causes(&error)))
    }

    /// Reads a part of the root columns whose shapes are known; of two halves the first or the second.
    fn read(
        &self,
        shapes: &[Option<Shape>],
        rows: usize,
        part: Part,
        is_second: bool,
    ) -> Result<ParquetRecordBatchReader, SourceError> {
        let failed = |error: &dyn std::error::Error| trouble(self.path, with_causes(error));
        let is_wanted = |shape: &Option<Shape>| shape.as_ref().is_some_and(|shape| !is_second || shape.is_half());
        let places = shapes.iter().enumerate().filter(|(_, shape)| is_wanted(shape)).map(|(at, _)| at);
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), places);
        let schema = Arc::new(shape::read_as(self.metadata.schema(), shapes, is_second));
        let options = ArrowReaderOptions::new().with_schema(schema);
        let file = self.file.try_clone().map_err(|error| failed(&error))?;
        let metadata = self.metadata.metadata();
        let (file, metadata) = match part.streamed {
            Some(leaf) => Unpacked::new(file, metadata, part.group, leaf).map_err(|error| failed(&error))?,
            None => (Unpacked::plain(file), metadata.clone()),
        };
        let metadata = ArrowReaderMetadata::try_new(metadata, options).map_err(|error| failed(&error))?;
        ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
            .with_batch_size(rows)
            .with_projection(mask)
            .with_row_groups(vec![part.group])
            .with_row_selection(part.selection())
            .build()
            .map_err(|error| failed(&error))
    }

    /// How many rows to decode at a time, so that they take a few megabytes.
    fn rows(&self, shapes: &[Option<Shape>]) -> usize {
        let schema = self.metadata.parquet_schema();
        let is_wanted = |leaf: &usize| shapes.get(schema.get_column_root_idx(*leaf)).is_some_and(Option::is_some);
        let of_group = |group: &parquet::file::metadata::RowGroupMetaData| {
            let bytes = (0..schema.num_columns()).filter(is_wanted).map(|leaf| {
                let column = group.column(leaf);
                column.uncompressed_size().max(column.unencoded_byte_array_data_bytes().unwrap_or_default())
            });
            bytes.sum::<i64>() / group.num_rows().max(1)
        };
        let widest = self.metadata.metadata().row_groups().iter().map(of_group).max().unwrap_or_default();
        (BYTES / usize::try_from(widest).unwrap_or_default().max(1)).clamp(1, ROWS)
    }
}

/// Whether a file has no byte: it is one without rows, whatever its format.
fn is_empty((found, file): (&Found, &File)) -> Result<bool, SourceError> {
    Ok(file.metadata().map_err(|error| trouble(&found.path, with_causes(&error)))?.len() == 0)
}

/// Describes a file by its schema.
pub(super) fn describe(file: (&Found, &File), wanted: &[String]) -> Result<Described, SourceError> {
    if is_empty(file)? {
        return Ok(Described { columns: Vec::new(), has_rows: false, is_open: false });
    }
    let opened = Opened::new(file)?;
    let mut columns = Vec::new();
    for field in opened.metadata.schema().fields() {
        let is_wanted = wanted.iter().any(|name| name == field.name());
        let shape = if is_wanted { opened.find(field.name())? } else { None };
        columns.push((field.name().clone(), shape.and_then(|(_, shape)| shape.kind(field.data_type()))));
    }
    let has_rows = opened.metadata.metadata().file_metadata().num_rows() > 0;
    Ok(Described { columns, has_rows, is_open: false })
}

/// Passes a file's rows on; false if no more are wanted. A column that the file lacks is null.
pub(super) fn read(
    file: (&Found, &File),
    wanted: &[SourceColumn],
    gather: &mut Gather<'_>,
) -> Result<bool, SourceError> {
    if is_empty(file)? {
        return Ok(true);
    }
    let opened = Opened::new(file)?;
    let mut shapes: Vec<Option<Shape>> = vec![None; opened.metadata.schema().fields().len()];
    for column in wanted {
        if let Some((at, shape)) = opened.find(&column.name)?
            && let Some(place) = shapes.get_mut(at)
        {
            *place = Some(shape);
        }
    }
    if shapes.iter().all(Option::is_none) {
        for _ in 0..opened.metadata.metadata().file_metadata().num_rows() {
            (0..wanted.len()).try_for_each(|at| gather.push(at, Cell::Null)).unwrap_or_default();
            if !gather.end_row()? {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    let rows = opened.rows(&shapes);
    for part in opened.parts(&shapes)? {
        if !read_part(&opened, &shapes, rows, part, (wanted, &mut *gather))? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn read_part(
    opened: &Opened<'_>,
    shapes: &[Option<Shape>],
    rows: usize,
    part: Part,
    (wanted, gather): (&[SourceColumn], &mut Gather<'_>),
) -> Result<bool, SourceError> {
    let first = opened.read(shapes, rows, part, false)?;
    let has_halves = shapes.iter().flatten().any(Shape::is_half);
    let mut second = has_halves.then(|| opened.read(shapes, rows, part, true)).transpose()?;
    let failed = |error: ArrowError| trouble(opened.path, masked(&with_causes(&error), ""));
    for batch in first {
        let batch = batch.map_err(failed)?;
        let other = second.as_mut().and_then(Iterator::next).transpose().map_err(failed)?;
        let mut columns: Vec<Option<Values<'_>>> = Vec::with_capacity(wanted.len());
        for column in wanted {
            let shape = shapes.iter().zip(opened.metadata.schema().fields());
            let shape = shape.filter(|(_, field)| *field.name() == column.name).find_map(|(shape, _)| shape.as_ref());
            columns.push(shape.and_then(|shape| Values::of(&batch, other.as_ref(), &column.name, shape)));
        }
        let mut scratch = String::new();
        for row in 0..batch.num_rows() {
            for (at, values) in columns.iter().enumerate() {
                if let Err(reason) = push(values.as_ref(), row, at, &mut scratch, gather) {
                    gather.fault(at, reason);
                }
            }
            if !gather.end_row()? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// A wanted column's values in one batch.
struct Values<'a> {
    array: &'a ArrayRef,
    /// The other halves, where Arrow's reader gives values in two.
    other: Option<&'a ArrayRef>,
    shape: &'a Shape,
}

impl<'a> Values<'a> {
    fn of(batch: &'a RecordBatch, other: Option<&'a RecordBatch>, name: &str, shape: &'a Shape) -> Option<Self> {
        let other = if shape.is_half() { other.and_then(|batch| batch.column_by_name(name)) } else { None };
        Some(Self { array: batch.column_by_name(name)?, other, shape })
    }
}

fn push(
    values: Option<&Values<'_>>,
    row: usize,
    at: usize,
    scratch: &mut String,
    gather: &mut Gather<'_>,
) -> Result<(), String> {
    let Some(Values { array, other, shape }) = values.filter(|values| !values.array.is_null(row)) else {
        return gather.push(at, Cell::Null);
    };
    match (shape, other) {
        (Shape::Leaf(Leaf::Int96), Some(other)) => {
            let (seconds, nanos) = array
                .as_primitive_opt::<TimestampSecondType>()
                .zip(other.as_primitive_opt::<TimestampNanosecondType>())
                .map(|(seconds, nanos)| (seconds.value(row), nanos.value(row)))
                .ok_or("the type is not supported")?;
            // The nanoseconds are right modulo 2^64, which is enough for those of one second.
            let fraction = nanos.wrapping_sub(seconds.wrapping_mul(1_000_000_000));
            let micros = cell::instant(i128::from(seconds) * 1_000_000_000 + i128::from(fraction))?;
            gather.push(at, Cell::Timestamp(micros))
        }
        (Shape::Leaf(Leaf::Interval), Some(other)) => {
            let (rest, months) = array
                .as_primitive_opt::<IntervalDayTimeType>()
                .zip(other.as_primitive_opt::<IntervalYearMonthType>())
                .map(|(rest, months)| (rest.value(row), months.value(row)))
                .ok_or("the type is not supported")?;
            scratch.clear();
            // Each part is unsigned in the file.
            let [months, days, millis] = [months, rest.days, rest.milliseconds].map(i32::cast_unsigned);
            cell::write_interval(i64::from(months), i64::from(days), i128::from(millis) * 1_000_000, scratch);
            gather.push(at, Cell::Text(scratch))
        }
        (Shape::Leaf(leaf), _) => gather.push(at, cell::cell(array.as_ref(), row, *leaf, scratch)?),
        (shape, _) => {
            scratch.clear();
            nested::write(array.as_ref(), row, shape, scratch)?;
            gather.push(at, Cell::Json(scratch))
        }
    }
}
