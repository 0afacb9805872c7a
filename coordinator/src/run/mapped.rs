//! Pending rows, mapped piece by piece: what templates and many fields make of a row may be far more than the row.

use std::ops::Range;

use outflow_model::column::Column;
use outflow_model::mapping::Mapper;
use outflow_model::table::Table;

use super::plan_file::Index;

/// About so many bytes of values are mapped at a time.
const PIECE_BYTES: usize = 8 * 1024 * 1024;
/// Rows of the first piece, of which nothing is known yet.
const FIRST_ROWS: usize = 16;
/// A piece has at most so many times the rows of the one before.
const GROWTH: usize = 8;

/// How many rows are mapped at a time.
pub(super) struct Pace {
    rows: usize,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self { rows: FIRST_ROWS }
    }

    /// Those of `rows` that are mapped next; at least one.
    pub(super) fn piece(&self, mapper: &Mapper, columns: &[Column], rows: Range<usize>) -> Range<usize> {
        let most = rows.end.min(rows.start + self.rows);
        if mapper.bytes_read(columns, Column::bytes) <= PIECE_BYTES {
            return rows.start..most;
        }
        let mut bytes = 0;
        let end = (rows.start..most).find(|row| {
            bytes += mapper.bytes_read(columns, |column| column.size(*row));
            bytes > PIECE_BYTES && *row > rows.start
        });
        rows.start..end.unwrap_or(most)
    }

    /// Learns from a piece what becomes of a row.
    pub(super) fn learn(&mut self, piece: &Table) {
        let each = piece.bytes() / (piece.rows as usize).max(1);
        self.rows = (PIECE_BYTES / each.max(1)).clamp(1, self.rows * GROWTH);
    }
}

/// Records of one change, with what the next snapshot needs of them.
pub(super) struct Mapped {
    pub(super) table: Table,
    pub(super) index: Index,
}

impl Mapped {
    pub(super) fn bytes(&self) -> usize {
        self.table.bytes()
    }

    /// Adds more records of the same change.
    pub(super) fn append(&mut self, more: &Self) {
        self.table.append(&more.table);
        self.index.append(&more.index);
    }

    /// Parts of at most `most` bytes each; a record with more is a part of its own.
    pub(super) fn cut(self, most: usize) -> Vec<Self> {
        let rows = self.table.rows as usize;
        if rows == 0 || self.bytes() <= most {
            return if rows == 0 { Vec::new() } else { vec![self] };
        }
        let (mut parts, mut start, mut bytes) = (Vec::new(), 0, 0);
        for row in 0..rows {
            let size = self.table.record_bytes(row);
            if row > start && bytes + size > most {
                parts.push(self.slice(start..row));
                (start, bytes) = (row, 0);
            }
            bytes += size;
        }
        parts.push(self.slice(start..rows));
        parts
    }

    fn slice(&self, rows: Range<usize>) -> Self {
        let keep: Vec<u32> = rows.clone().map(|row| row as u32).collect();
        Self { table: self.table.slice(rows), index: self.index.take(&keep) }
    }
}

#[cfg(test)]
mod tests {
    use outflow_model::cell::Kind;
    use outflow_model::mapping::{Mapping, SourceColumn};

    use super::*;

    /// A mapper with as many fields that repeat the column `v` as often.
    fn mapper(fields: usize, times: usize) -> Result<Mapper, Box<dyn std::error::Error>> {
        let rule = format!(r#"{{"template": "{}"}}"#, "{{ v }}".repeat(times));
        let rules: Vec<String> = (0..fields).map(|at| format!(r#""f{at}": {rule}"#)).collect();
        let rules: Mapping = serde_json::from_str(&format!("{{{}}}", rules.join(",")))?;
        let column = SourceColumn { name: "v".to_owned(), kind: Kind::Text };
        Mapper::new(&rules, &[], &[column]).map_err(|problems| format!("{problems:?}").into())
    }

    #[test]
    fn pieces_follow_what_becomes_of_a_row() -> Result<(), Box<dyn std::error::Error>> {
        for (fields, times, width) in [(1, 1, 20), (20, 1, 30_000), (2, 40, 20_000)] {
            let mapper = mapper(fields, times)?;
            let mut column = Column::new(Kind::Text);
            (0..60).for_each(|_| column.push_text(&"x".repeat(width)));
            let (columns, mut pace, mut next, mut pieces) = ([column], Pace::new(), 0, 0);
            while next < 60 {
                let piece = pace.piece(&mapper, &columns, next..60);
                assert!(piece.start == next && !piece.is_empty(), "{piece:?}");
                next = piece.end;
                let (table, invalid) = mapper.apply(&columns, piece);
                assert!(invalid.is_empty() && table.bytes() <= 4 * PIECE_BYTES, "{} bytes", table.bytes());
                pace.learn(&table);
                pieces += 1;
            }
            assert!(pieces <= 30, "{pieces} pieces of {fields} fields");
        }
        Ok(())
    }

    #[test]
    fn parts_hold_every_record_once_and_no_more_than_they_may() {
        let mut table = Table { rows: 0, ..Table::default() };
        let (mut column, mut index) = (Column::new(Kind::Text), Index::default());
        for (row, width) in [10, 10, 100, 10, 10, 10].into_iter().enumerate() {
            column.push_text(&row.to_string().repeat(width));
            index.push(row as u128, 0, Some(&[row as u8]));
            table.rows += 1;
        }
        let field = |column| outflow_model::table::Field {
            path: "f".to_owned(),
            null: outflow_model::table::NullPolicy::default(),
            sensitive: false,
            column,
        };
        table.fields = vec![field(column)];
        let parts = Mapped { table: table.clone(), index: index.clone() }.cut(30);
        let sizes: Vec<u32> = parts.iter().map(|part| part.table.rows).collect();
        assert_eq!(sizes, [2, 1, 2, 1]);
        let mut parts = parts.into_iter();
        let mut whole = parts.next().expect("a part");
        parts.for_each(|part| whole.append(&part));
        assert!(whole.table == table && whole.index == index);
        assert!(Mapped { table: table.slice(0..0), index: index.take(&[]) }.cut(30).is_empty());
    }
}
