//! Rows on their way into Arrow, for sources that hand on one value after the other.

use std::borrow::Cow;
use std::mem::replace;
use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, Date32Builder, Float64Builder, Int64Builder, StringBuilder, Time64MicrosecondBuilder,
    TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;
use outflow_model::cell::{Cell, Kind};

use crate::error::SourceError;
use crate::port::{Batch, Fault};

/// A batch ends at so many rows.
const ROWS: usize = 8_192;
/// A batch ends at so many bytes; its last row may exceed them.
pub(crate) const BYTES: usize = 4 * 1024 * 1024;
/// The longest value that is handed on. A chunk with a longer one would be more than a worker takes.
const LONGEST_VALUE: usize = 64 * 1024 * 1024;
const TOO_LONG: &str = "the value is longer than 64 MiB";
/// The longest row that is handed on, for the same reason.
const LONGEST_ROW: usize = 2 * LONGEST_VALUE;
const TOO_LONG_ROW: &str = "the values of its row are longer than 128 MiB together";
const OTHER_KIND: &str = "the value is not of the column's kind, which is a defect of Outflow";

/// Gathers rows, value by value, into batches that are bounded in rows and bytes.
pub(crate) struct Rows {
    builders: Vec<Builder>,
    schema: SchemaRef,
    faults: Vec<Fault>,
    in_batch: usize,
    bytes: usize,
    /// Where the row began, in bytes of the batch.
    row_from: usize,
    total: u64,
}

enum Builder {
    Bool(BooleanBuilder),
    Int(Int64Builder),
    Float(Float64Builder),
    Text(StringBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
}

impl Rows {
    /// Begins with columns of these kinds, whose schema is `schema`.
    pub(crate) fn new(kinds: impl IntoIterator<Item = Kind>, schema: SchemaRef) -> Self {
        let builders = kinds.into_iter().map(Builder::new).collect();
        Self { builders, schema, faults: Vec::new(), in_batch: 0, bytes: 0, row_from: 0, total: 0 }
    }

    /// Rows ended so far.
    pub(crate) const fn total(&self) -> u64 {
        self.total
    }

    /// True if no row waits to be taken.
    pub(crate) const fn is_empty(&self) -> bool {
        self.in_batch == 0
    }

    /// True if the batch is large enough to be taken.
    pub(crate) const fn is_full(&self) -> bool {
        self.in_batch >= ROWS || self.bytes >= BYTES
    }

    /// Adds the row's value in `column`: each column of a row once, here or as a [`Self::fault`], then [`Self::end_row`].
    #[expect(
        clippy::inline_always,
        reason = "with the kind known where it is called, one of its ways is left: half the time of a read"
    )]
    #[inline(always)]
    pub(crate) fn push(&mut self, column: usize, cell: Cell<'_>) {
        let Some(builder) = self.builders.get_mut(column) else { return };
        let bytes = bytes(&cell);
        let pushed = match self.bytes - self.row_from + bytes {
            _ if bytes > LONGEST_VALUE => Err(TOO_LONG),
            LONGEST_ROW.. => Err(TOO_LONG_ROW),
            _ => builder.push(cell),
        };
        match pushed {
            Ok(()) => self.bytes += bytes,
            Err(reason) => self.fault(column, Cow::Borrowed(reason)),
        }
    }

    /// Adds null in `column`, and why the row has no value there.
    #[cold]
    pub(crate) fn fault(&mut self, column: usize, reason: Cow<'static, str>) {
        let Some(builder) = self.builders.get_mut(column) else { return };
        builder.push_null();
        self.faults.push(Fault { row: self.in_batch as u32, column: column as u16, reason });
    }

    /// Ends the row.
    pub(crate) fn end_row(&mut self) {
        self.in_batch += 1;
        self.total += 1;
        self.row_from = self.bytes;
    }

    /// The rows ended since the last call.
    pub(crate) fn take(&mut self) -> Result<Batch, SourceError> {
        let arrays: Vec<ArrayRef> = self.builders.iter_mut().map(Builder::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.in_batch));
        (self.in_batch, self.bytes, self.row_from) = (0, 0, 0);
        let faults = std::mem::take(&mut self.faults);
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            .map(|records| Batch { records, faults })
            .map_err(|error| SourceError::Broken { rows: self.total, reason: error.to_string() })
    }
}

const fn bytes(cell: &Cell<'_>) -> usize {
    match cell {
        Cell::Decimal(text) | Cell::Text(text) | Cell::Json(text) => text.len(),
        Cell::Null => 0,
        _ => 8,
    }
}

impl Builder {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Bool => Self::Bool(BooleanBuilder::with_capacity(ROWS)),
            Kind::Int => Self::Int(Int64Builder::with_capacity(ROWS)),
            Kind::Float => Self::Float(Float64Builder::with_capacity(ROWS)),
            Kind::Date => Self::Date(Date32Builder::with_capacity(ROWS)),
            Kind::Time => Self::Time(Time64MicrosecondBuilder::with_capacity(ROWS)),
            Kind::Timestamp | Kind::TimestampTz => Self::Timestamp(TimestampMicrosecondBuilder::with_capacity(ROWS)),
            Kind::Decimal | Kind::Text | Kind::Bytes | Kind::Json => Self::Text(texts(ROWS * 16)),
        }
    }

    fn push_null(&mut self) {
        match self {
            Self::Bool(builder) => builder.append_null(),
            Self::Int(builder) => builder.append_null(),
            Self::Float(builder) => builder.append_null(),
            Self::Text(builder) => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
            Self::Time(builder) => builder.append_null(),
            Self::Timestamp(builder) => builder.append_null(),
        }
    }

    #[expect(
        clippy::inline_always,
        reason = "with the kind known where it is called, one of its ways is left: half the time of a read"
    )]
    #[inline(always)]
    fn push(&mut self, cell: Cell<'_>) -> Result<(), &'static str> {
        match (self, cell) {
            (builder, Cell::Null) => builder.push_null(),
            (Self::Bool(builder), Cell::Bool(value)) => builder.append_value(value),
            (Self::Int(builder), Cell::Int(value)) => builder.append_value(value),
            (Self::Float(builder), Cell::Float(value)) => builder.append_value(value),
            (Self::Date(builder), Cell::Date(days)) => {
                builder.append_value(i32::try_from(days).map_err(|_| OTHER_KIND)?);
            }
            (Self::Time(builder), Cell::Time(micros)) => builder.append_value(micros),
            (Self::Timestamp(builder), Cell::Timestamp(micros) | Cell::TimestampTz(micros)) => {
                builder.append_value(micros);
            }
            (Self::Text(builder), Cell::Decimal(text) | Cell::Text(text) | Cell::Json(text)) => {
                builder.append_value(text);
            }
            _ => return Err(OTHER_KIND),
        }
        Ok(())
    }

    /// Its values; what follows has room for as many, so that no value is moved while others come.
    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Bool(builder) => Arc::new(replace(builder, BooleanBuilder::with_capacity(ROWS)).finish()),
            Self::Int(builder) => Arc::new(replace(builder, Int64Builder::with_capacity(ROWS)).finish()),
            Self::Float(builder) => Arc::new(replace(builder, Float64Builder::with_capacity(ROWS)).finish()),
            Self::Text(builder) => {
                let next = texts(builder.values_slice().len().min(BYTES));
                Arc::new(replace(builder, next).finish())
            }
            Self::Date(builder) => Arc::new(replace(builder, Date32Builder::with_capacity(ROWS)).finish()),
            Self::Time(builder) => Arc::new(replace(builder, Time64MicrosecondBuilder::with_capacity(ROWS)).finish()),
            Self::Timestamp(builder) => {
                Arc::new(replace(builder, TimestampMicrosecondBuilder::with_capacity(ROWS)).finish())
            }
        }
    }
}

fn texts(bytes: usize) -> StringBuilder {
    StringBuilder::with_capacity(ROWS, bytes)
}

#[cfg(test)]
mod tests {
    use outflow_model::mapping::SourceColumn;

    use super::*;
    use crate::shape;

    #[test]
    fn batches_are_bounded_in_bytes_and_faulty_values_are_null() {
        let columns = [
            SourceColumn { name: "id".to_owned(), kind: Kind::Int },
            SourceColumn { name: "text".to_owned(), kind: Kind::Text },
        ];
        let mut rows = Rows::new(columns.iter().map(|column| column.kind), shape::schema(&columns));
        let (long, longest) = ("x".repeat(BYTES / 4), "x".repeat(LONGEST_VALUE + 1));
        for value in [Ok(Cell::Text(&long)), Err("odd"), Ok(Cell::Text(&longest)), Ok(Cell::Null)] {
            rows.push(0, Cell::Int(1));
            match value {
                Ok(cell) => rows.push(1, cell),
                Err(reason) => rows.fault(1, reason.into()),
            }
            rows.end_row();
        }
        assert!(!rows.is_full(), "what is not kept takes no room");
        (0..3).for_each(|_| {
            rows.push(0, Cell::Int(1));
            rows.push(1, Cell::Text(&long));
            rows.end_row();
        });
        assert!(rows.is_full(), "a batch is full by its bytes");
        let batch = rows.take().unwrap();
        assert_eq!(batch.records.column(1).null_count(), 3);
        let named: Vec<_> = batch.faults.iter().map(|fault| (fault.row, fault.column, &*fault.reason)).collect();
        assert_eq!(named, [(1, 1, "odd"), (2, 1, TOO_LONG)]);
        assert!(rows.is_empty() && !rows.is_full() && rows.total() == 7);
    }

    #[test]
    fn a_row_is_no_longer_than_a_worker_takes() {
        let columns = ["a", "b", "c"].map(|name| SourceColumn { name: name.to_owned(), kind: Kind::Text });
        let mut rows = Rows::new(columns.iter().map(|column| column.kind), shape::schema(&columns));
        let longest = "x".repeat(LONGEST_VALUE);
        for value in [longest.as_str(), "y"] {
            (0..3).for_each(|column| rows.push(column, Cell::Text(value)));
            rows.end_row();
        }
        let batch = rows.take().unwrap();
        let named: Vec<_> = batch.faults.iter().map(|fault| (fault.row, fault.column, &*fault.reason)).collect();
        assert_eq!(named, [(0, 1, TOO_LONG_ROW), (0, 2, TOO_LONG_ROW)]);
    }
}
