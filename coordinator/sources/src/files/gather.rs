//! Rows of files on their way to [`Rows`]: each value is brought into the kind that its column has over all files.

use std::borrow::Cow;

use outflow_model::cell::{Cell, Kind};
use outflow_model::column::Column;
use outflow_model::mapping::{SourceColumn, coerce};

use crate::error::SourceError;
use crate::port::Batch;
use crate::rows::Rows;
use crate::shape;

/// Takes rows value by value, and hands them on batch by batch.
pub(super) struct Gather<'a> {
    rows: Rows,
    /// For each column the value that is being brought into its kind.
    coerced: Vec<Column>,
    send: &'a mut dyn FnMut(Batch) -> bool,
}

impl<'a> Gather<'a> {
    /// Gathers rows of `columns` for `send`, which answers whether more are wanted.
    pub(super) fn new(columns: &[SourceColumn], send: &'a mut dyn FnMut(Batch) -> bool) -> Self {
        let kinds = || columns.iter().map(|column| column.kind);
        Self { rows: Rows::new(kinds(), shape::schema(columns)), coerced: kinds().map(Column::new).collect(), send }
    }

    /// Adds the row's value of the wanted column `at`, brought into the column's kind; what does not fit is an error.
    pub(super) fn push(&mut self, at: usize, cell: Cell<'_>) -> Result<(), String> {
        let Some(column) = self.coerced.get_mut(at) else { return Ok(()) };
        let cell = match (column.kind(), cell) {
            (_, Cell::Null)
            | (Kind::Text, Cell::Text(_))
            | (Kind::Decimal, Cell::Decimal(_))
            | (Kind::Int, Cell::Int(_))
            | (Kind::Float, Cell::Float(_)) => cell,
            (Kind::Json, Cell::Json(text)) => Cell::json(text),
            (Kind::Decimal, Cell::Float(value)) if !value.is_finite() => {
                return Err("the value is not a finite number".to_owned());
            }
            (kind, cell) => {
                *column = Column::new(kind);
                coerce(cell, kind, column)?;
                column.cell(0)
            }
        };
        self.rows.push(at, cell);
        Ok(())
    }

    /// Adds null for a value that cannot be had.
    pub(super) fn fault(&mut self, at: usize, reason: impl Into<Cow<'static, str>>) {
        self.rows.fault(at, reason.into());
    }

    /// Ends the row; false if no more are wanted.
    pub(super) fn end_row(&mut self) -> Result<bool, SourceError> {
        self.rows.end_row();
        if self.rows.is_full() { self.flush() } else { Ok(true) }
    }

    /// Hands on what is gathered; false if no more is wanted.
    pub(super) fn flush(&mut self) -> Result<bool, SourceError> {
        if self.rows.is_empty() {
            return Ok(true);
        }
        let batch = self.rows.take()?;
        Ok((self.send)(batch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded_in_rows_and_in_bytes() {
        for (rows, length, most) in [(20_000, 1, 8_192), (100, 1 << 20, 4)] {
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
