//! Rows gathered into batches that are bounded in rows and in bytes.

use std::borrow::Cow;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray,
    Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow_schema::SchemaRef;
use outflow_model::cell::{Cell, Kind};
use outflow_model::column::Column;
use outflow_model::mapping::{SourceColumn, coerce};

use crate::error::SourceError;
use crate::port::{Batch, Fault};
use crate::shape;

const ROWS: usize = 8_192;
/// A batch is handed on when it holds as many bytes; its last row may exceed them.
pub(super) const BYTES: usize = 4 * 1024 * 1024;

/// Takes rows value by value, and hands them on batch by batch.
pub(super) struct Gather<'a> {
    columns: Vec<Column>,
    schema: SchemaRef,
    faults: Vec<Fault>,
    rows: usize,
    bytes: usize,
    total: u64,
    send: &'a mut dyn FnMut(Batch) -> bool,
}

impl<'a> Gather<'a> {
    /// Gathers rows of `columns` for `send`, which answers whether more are wanted.
    pub(super) fn new(columns: &[SourceColumn], send: &'a mut dyn FnMut(Batch) -> bool) -> Self {
        Self {
            columns: columns.iter().map(|column| Column::new(column.kind)).collect(),
            schema: shape::schema(columns),
            faults: Vec::new(),
            rows: 0,
            bytes: 0,
            total: 0,
            send,
        }
    }

    /// Adds the row's value of the wanted column `at`, brought into the column's kind. What does not fit becomes a fault.
    pub(super) fn push(&mut self, at: usize, cell: Cell<'_>) -> Result<(), String> {
        let Some(column) = self.columns.get_mut(at) else { return Ok(()) };
        self.bytes += match cell {
            Cell::Text(text) | Cell::Decimal(text) | Cell::Json(text) => text.len() + 8,
            _ => 8,
        };
        let kind = column.kind();
        match (kind, cell) {
            (_, Cell::Null) => column.push_null(),
            (Kind::Text, Cell::Text(text)) | (Kind::Decimal, Cell::Decimal(text)) | (Kind::Json, Cell::Json(text)) => {
                column.push_text(text);
            }
            (Kind::Decimal, Cell::Float(value)) if !value.is_finite() => {
                return Err("the value is not a finite number".to_owned());
            }
            (_, cell) => coerce(cell, kind, column)?,
        }
        Ok(())
    }

    /// Adds null for a value that cannot be had.
    pub(super) fn fault(&mut self, at: usize, reason: impl Into<Cow<'static, str>>) {
        if let Some(column) = self.columns.get_mut(at) {
            column.push_null();
            self.faults.push(Fault { row: self.rows as u32, column: at as u16, reason: reason.into() });
        }
    }

    /// Ends the row; false if no more are wanted.
    pub(super) fn end_row(&mut self) -> Result<bool, SourceError> {
        self.rows += 1;
        self.total += 1;
        if self.rows < ROWS && self.bytes < BYTES { Ok(true) } else { self.flush() }
    }

    /// Hands on what is gathered; false if no more is wanted.
    pub(super) fn flush(&mut self) -> Result<bool, SourceError> {
        if self.rows == 0 {
            return Ok(true);
        }
        let arrays = self
            .columns
            .iter_mut()
            .map(|column| {
                let empty = Column::new(column.kind());
                array(&std::mem::replace(column, empty))
            })
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        let records = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            .map_err(|error| SourceError::Broken { rows: self.total, reason: error.to_string() })?;
        (self.rows, self.bytes) = (0, 0);
        Ok((self.send)(Batch { records, faults: std::mem::take(&mut self.faults) }))
    }
}

/// The values of a column in the physical type of its kind.
fn array(column: &Column) -> ArrayRef {
    let cells = || (0..column.len()).map(|row| column.cell(row));
    let number = |cell| match cell {
        Cell::Int(value)
        | Cell::Date(value)
        | Cell::Time(value)
        | Cell::Timestamp(value)
        | Cell::TimestampTz(value) => Some(value),
        _ => None,
    };
    match column.kind() {
        Kind::Bool => {
            let value = |cell| if let Cell::Bool(value) = cell { Some(value) } else { None };
            Arc::new(cells().map(value).collect::<BooleanArray>())
        }
        Kind::Int => Arc::new(cells().map(number).collect::<Int64Array>()),
        Kind::Float => {
            let value = |cell| if let Cell::Float(value) = cell { Some(value) } else { None };
            Arc::new(cells().map(value).collect::<Float64Array>())
        }
        Kind::Date => Arc::new(cells().map(number).map(|days| days.map(|days| days as i32)).collect::<Date32Array>()),
        Kind::Time => Arc::new(cells().map(number).collect::<Time64MicrosecondArray>()),
        Kind::Timestamp | Kind::TimestampTz => Arc::new(cells().map(number).collect::<TimestampMicrosecondArray>()),
        Kind::Decimal | Kind::Text | Kind::Bytes | Kind::Json => {
            let text = |cell| match cell {
                Cell::Text(text) | Cell::Decimal(text) | Cell::Json(text) => Some(text),
                _ => None,
            };
            Arc::new(cells().map(text).collect::<StringArray>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded_in_rows_and_in_bytes() {
        for (rows, length, most) in [(20_000, 1, ROWS), (100, 1 << 20, 4)] {
            let columns = [SourceColumn { name: "v".to_owned(), kind: Kind::Text }];
            let (mut sizes, value) = (Vec::new(), "x".repeat(length));
            let mut send = |batch: Batch| {
                sizes.push(batch.num_rows());
                true
            };
            let mut gather = Gather::new(&columns, &mut send);
            for _ in 0..rows {
                gather.push(0, Cell::Text(&value)).unwrap();
                assert!(gather.end_row().unwrap());
            }
            assert!(gather.flush().unwrap());
            assert_eq!(sizes.iter().sum::<usize>(), rows);
            assert!(sizes.iter().all(|size| *size <= most), "{sizes:?}");
        }
    }
}
