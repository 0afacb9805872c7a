//! A typed column of values, as it travels and as destinations read it.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::cell::{Cell, Kind};

/// Values of one kind, one per row, some of them null.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    kind: Kind,
    /// One byte per row, 1 where there is a value; empty where no row is null.
    valid: Vec<u8>,
    data: Data,
}

#[derive(Clone, Debug, PartialEq)]
enum Data {
    /// Numbers, days, microseconds, and 0 or 1 for bool.
    Ints(Vec<i64>),
    Floats(Vec<f64>),
    /// All texts, one after the other, and where each ends.
    Texts {
        text: String,
        ends: Vec<u32>,
    },
}

impl Column {
    /// An empty column of `kind`.
    pub fn new(kind: Kind) -> Self {
        Self::with_capacity(kind, 0)
    }

    /// An empty column of `kind` with room for `rows`.
    pub fn with_capacity(kind: Kind, rows: usize) -> Self {
        let data = match kind {
            Kind::Bool | Kind::Int | Kind::Date | Kind::Time | Kind::Timestamp | Kind::TimestampTz => {
                Data::Ints(Vec::with_capacity(rows))
            }
            Kind::Float => Data::Floats(Vec::with_capacity(rows)),
            Kind::Decimal | Kind::Text | Kind::Bytes | Kind::Json => {
                Data::Texts { text: String::new(), ends: Vec::with_capacity(rows) }
            }
        };
        Self { kind, valid: Vec::new(), data }
    }

    /// What the column holds.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// How many rows it has.
    pub const fn len(&self) -> usize {
        match &self.data {
            Data::Ints(values) => values.len(),
            Data::Floats(values) => values.len(),
            Data::Texts { ends, .. } => ends.len(),
        }
    }

    /// About how many bytes it holds.
    pub const fn bytes(&self) -> usize {
        match &self.data {
            Data::Ints(values) => values.len() * 8,
            Data::Floats(values) => values.len() * 8,
            Data::Texts { text, ends } => text.len() + ends.len() * 4,
        }
    }

    /// About how many bytes the value in `row` takes; 0 past the end.
    pub fn size(&self, row: usize) -> usize {
        match &self.data {
            Data::Ints(_) | Data::Floats(_) => usize::from(row < self.len()) * 8,
            Data::Texts { ends, .. } => {
                let start = row.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
                ends.get(row).map_or(0, |end| end.saturating_sub(start) as usize + 4)
            }
        }
    }

    /// True where it has no row.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value in `row`; null past the end, and where a JSON value is `null`.
    pub fn cell(&self, row: usize) -> Cell<'_> {
        if self.valid.get(row).is_some_and(|valid| *valid == 0) {
            return Cell::Null;
        }
        match &self.data {
            Data::Ints(values) => values.get(row).map_or(Cell::Null, |value| match self.kind {
                Kind::Bool => Cell::Bool(*value != 0),
                Kind::Date => Cell::Date(*value),
                Kind::Time => Cell::Time(*value),
                Kind::Timestamp => Cell::Timestamp(*value),
                Kind::TimestampTz => Cell::TimestampTz(*value),
                _ => Cell::Int(*value),
            }),
            Data::Floats(values) => values.get(row).map_or(Cell::Null, |value| Cell::Float(*value)),
            Data::Texts { text, ends } => {
                let start = if row == 0 { 0 } else { ends.get(row - 1).map_or(usize::MAX, |end| *end as usize) };
                let value = ends.get(row).and_then(|end| text.get(start..*end as usize));
                value.map_or(Cell::Null, |value| match self.kind {
                    Kind::Decimal => Cell::Decimal(value),
                    Kind::Json => Cell::json(value),
                    _ => Cell::Text(value),
                })
            }
        }
    }

    /// Adds a null.
    pub fn push_null(&mut self) {
        if self.valid.is_empty() {
            self.valid = vec![1; self.len()];
        }
        self.valid.push(0);
        match &mut self.data {
            Data::Ints(values) => values.push(0),
            Data::Floats(values) => values.push(0.0),
            Data::Texts { text, ends } => ends.push(text.len() as u32),
        }
    }

    /// Adds a number, a bool (0 or 1), days or microseconds; null where the column holds something else.
    pub fn push_int(&mut self, value: i64) {
        match &mut self.data {
            Data::Ints(values) => values.push(value),
            _ => return self.push_null(),
        }
        self.mark_valid();
    }

    /// Adds a floating-point number; null where the column holds something else.
    pub fn push_float(&mut self, value: f64) {
        match &mut self.data {
            Data::Floats(values) => values.push(value),
            _ => return self.push_null(),
        }
        self.mark_valid();
    }

    /// Adds a text, digits or a document; null where the column holds something else.
    pub fn push_text(&mut self, value: &str) {
        self.push_text_with(|text| text.push_str(value));
    }

    /// Adds the text that `write` appends.
    pub fn push_text_with(&mut self, write: impl FnOnce(&mut String)) {
        match &mut self.data {
            Data::Texts { text, ends } => {
                write(text);
                ends.push(text.len() as u32);
            }
            _ => return self.push_null(),
        }
        self.mark_valid();
    }

    /// Adds `cell`, whose kind is this column's; null where it is not.
    pub fn push(&mut self, cell: Cell<'_>) {
        match cell {
            Cell::Null => self.push_null(),
            Cell::Bool(value) => self.push_int(i64::from(value)),
            Cell::Int(value)
            | Cell::Date(value)
            | Cell::Time(value)
            | Cell::Timestamp(value)
            | Cell::TimestampTz(value) => self.push_int(value),
            Cell::Float(value) => self.push_float(value),
            Cell::Decimal(text) | Cell::Text(text) | Cell::Json(text) => self.push_text(text),
        }
    }

    fn mark_valid(&mut self) {
        if !self.valid.is_empty() {
            self.valid.push(1);
        }
    }

    /// The rows of `rows`, as far as there are any.
    #[must_use]
    pub fn slice(&self, rows: Range<usize>) -> Self {
        let end = rows.end.min(self.len());
        let rows = rows.start.min(end)..end;
        let data = match &self.data {
            Data::Ints(values) => Data::Ints(values.get(rows.clone()).unwrap_or_default().to_vec()),
            Data::Floats(values) => Data::Floats(values.get(rows.clone()).unwrap_or_default().to_vec()),
            Data::Texts { text, ends } => {
                let start = rows.start.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
                let ends: Vec<u32> =
                    ends.get(rows.clone()).unwrap_or_default().iter().map(|end| end.saturating_sub(start)).collect();
                let length = ends.last().copied().unwrap_or(0) as usize;
                let text = text.get(start as usize..start as usize + length).unwrap_or_default().to_owned();
                Data::Texts { text, ends }
            }
        };
        Self { kind: self.kind, valid: self.valid.get(rows).unwrap_or_default().to_vec(), data }
    }

    /// Adds the rows of `other`, a column of the same kind; null where it holds something else.
    pub fn append(&mut self, other: &Self) {
        let (before, has_nulls) = (self.len(), !self.valid.is_empty() || !other.valid.is_empty());
        match (&mut self.data, &other.data) {
            (Data::Ints(values), Data::Ints(more)) => values.extend_from_slice(more),
            (Data::Floats(values), Data::Floats(more)) => values.extend_from_slice(more),
            (Data::Texts { text, ends }, Data::Texts { text: more, ends: more_ends }) => {
                let start = text.len() as u32;
                text.push_str(more);
                ends.extend(more_ends.iter().map(|end| start + end));
            }
            _ => return (0..other.len()).for_each(|_| self.push_null()),
        }
        if has_nulls {
            self.valid.resize(before, 1);
            self.valid.extend_from_slice(&other.valid);
            self.valid.resize(self.len(), 1);
        }
    }

    /// The rows of `keep`, in its order.
    #[must_use]
    pub fn take(&self, keep: &[u32]) -> Self {
        let mut out = Self::with_capacity(self.kind, keep.len());
        for row in keep {
            out.push(self.cell(*row as usize));
        }
        out
    }
}

/// The column's form on the wire: raw little-endian bytes, so that packing and unpacking copy instead of visiting values.
#[derive(Serialize, Deserialize)]
struct Packed {
    #[serde(rename = "k")]
    kind: Kind,
    #[serde(rename = "v", with = "serde_bytes")]
    valid: Vec<u8>,
    /// Numbers, or where texts end.
    #[serde(rename = "n", with = "serde_bytes")]
    numbers: Vec<u8>,
    #[serde(rename = "t")]
    text: String,
}

impl Serialize for Column {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (numbers, text) = match &self.data {
            Data::Ints(values) => (bytes(values, i64::to_le_bytes), ""),
            Data::Floats(values) => (bytes(values, f64::to_le_bytes), ""),
            Data::Texts { text, ends } => (bytes(ends, u32::to_le_bytes), text.as_str()),
        };
        Packed { kind: self.kind, valid: self.valid.clone(), numbers, text: text.to_owned() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Column {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let packed = Packed::deserialize(deserializer)?;
        let mut column = Self::new(packed.kind);
        match &mut column.data {
            Data::Ints(values) => values.extend(packed.numbers.chunks_exact(8).map(|b| i64::from_le_bytes(array(b)))),
            Data::Floats(values) => values.extend(packed.numbers.chunks_exact(8).map(|b| f64::from_le_bytes(array(b)))),
            Data::Texts { text, ends } => {
                ends.extend(packed.numbers.chunks_exact(4).map(|b| u32::from_le_bytes(array(b))));
                *text = packed.text;
            }
        }
        if !packed.valid.is_empty() && packed.valid.len() != column.len() {
            return Err(serde::de::Error::custom("a column's null marks do not match its rows"));
        }
        column.valid = packed.valid;
        Ok(column)
    }
}

/// `values` one after the other.
fn bytes<T: Copy, const N: usize>(values: &[T], of: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    let mut out = Vec::with_capacity(values.len() * N);
    values.iter().for_each(|value| out.extend_from_slice(&of(*value)));
    out
}

/// The first `N` bytes of `bytes`, whose length `chunks_exact` has already made `N`.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(bytes);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_and_values_keep_their_rows() {
        let mut column = Column::new(Kind::Text);
        column.push_text("a");
        column.push_null();
        column.push_text("");
        assert_eq!([column.cell(0), column.cell(1), column.cell(2)], [Cell::Text("a"), Cell::Null, Cell::Text("")]);
        assert_eq!(column.cell(3), Cell::Null);
        let taken = column.take(&[2, 1]);
        assert_eq!([taken.cell(0), taken.cell(1)], [Cell::Text(""), Cell::Null]);
    }

    #[test]
    fn slices_put_together_are_the_column() {
        let mut texts = Column::new(Kind::Text);
        ["a", "", "bcd"].iter().for_each(|text| texts.push_text(text));
        let mut some = texts.clone();
        some.push_null();
        some.push_text("é");
        let mut ints = Column::new(Kind::Int);
        (0..4).for_each(|value| ints.push_int(value));
        ints.push_null();
        let mut floats = Column::new(Kind::Float);
        floats.push_float(0.5);
        for column in [texts, some, ints, floats] {
            for cut in 0..=column.len() + 1 {
                let (mut one, other) = (column.slice(0..cut), column.slice(cut..column.len()));
                one.append(&other);
                assert_eq!(one.len(), column.len());
                for row in 0..=column.len() {
                    assert_eq!(one.cell(row), column.cell(row), "{cut}");
                }
                let sizes: usize = (0..=column.len()).map(|row| one.size(row)).sum();
                assert_eq!(sizes, column.bytes());
            }
        }
        let mut other = Column::new(Kind::Int);
        other.append(&Column::new(Kind::Float));
        assert!(other.is_empty());
    }

    #[test]
    fn nulls_keep_their_rows_behind_a_column_without_any_and_before_one() {
        let (mut whole, mut gaps) = (Column::new(Kind::Int), Column::new(Kind::Int));
        [1, 2].into_iter().for_each(|value| whole.push_int(value));
        gaps.push_null();
        gaps.push_int(3);
        let (mut behind, mut before) = (whole.clone(), gaps.clone());
        behind.append(&gaps);
        before.append(&whole);
        let cells = |column: &Column| (0..column.len()).map(|row| column.cell(row).to_text()).collect::<Vec<_>>();
        assert_eq!(cells(&behind), ["1", "2", "", "3"]);
        assert_eq!(cells(&before), ["", "3", "1", "2"]);
    }

    #[test]
    fn the_wire_form_reads_back() -> Result<(), Box<dyn std::error::Error>> {
        let mut ints = Column::new(Kind::TimestampTz);
        ints.push_int(-5);
        ints.push_null();
        let mut decimals = Column::new(Kind::Decimal);
        decimals.push_text("1.50");
        for column in [ints, decimals, Column::new(Kind::Float)] {
            let bytes = rmp_serde::to_vec(&column)?;
            assert_eq!(rmp_serde::from_slice::<Column>(&bytes)?, column);
        }
        Ok(())
    }
}
