//! The source port.

use std::borrow::Cow;
use std::fmt;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use outflow_model::mapping::SourceColumn;

use crate::error::SourceError;
use crate::reader::Batches;

/// What a model asks a source for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// SQL.
    Sql(Sql),
    /// Files.
    Files(FilesQuery),
}

/// The files of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesQuery {
    /// A path, a folder or a pattern with `*` and `**`.
    pub pattern: String,
    /// Columns that every file has: of a file that lacks a key's column nobody can say which rows it holds.
    pub key: Vec<String>,
}

/// A model's SQL, and where it stands.
#[derive(Clone, PartialEq, Eq)]
pub struct Sql {
    /// The SQL.
    pub text: String,
    /// Its file, from the project's folder; empty if it has none.
    pub file: String,
    /// The line of the file that it begins in, from 1.
    pub line: u32,
}

/// The SQL alone: where it stands is not a part of what a model asks for.
impl fmt::Debug for Sql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sql").field(&self.text).finish()
    }
}

impl<T: Into<String>> From<T> for Sql {
    fn from(text: T) -> Self {
        Self { text: text.into(), file: String::new(), line: 1 }
    }
}

/// Rows, and which of their values could not be had exactly.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The rows. A faulty value is null.
    pub records: RecordBatch,
    /// The faulty values, by row.
    pub faults: Vec<Fault>,
}

/// A value that no column of its kind can hold exactly. Its row is invalid; the other rows are not concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The row's place in its batch.
    pub row: u32,
    /// The column's place among those wanted.
    pub column: u16,
    /// The kind of trouble, as a sentence; never the value.
    pub reason: Cow<'static, str>,
}

impl Batch {
    /// How many rows it has, the faulty ones too.
    pub fn num_rows(&self) -> usize {
        self.records.num_rows()
    }

    /// The places of the rows that have a fault, ascending, each once.
    pub fn faulty_rows(&self) -> Vec<u32> {
        let mut rows: Vec<u32> = self.faults.iter().map(|fault| fault.row).collect();
        rows.sort_unstable();
        rows.dedup();
        rows
    }
}

impl From<RecordBatch> for Batch {
    fn from(records: RecordBatch) -> Self {
        Self { records, faults: Vec::new() }
    }
}

/// A model's result on its way.
pub struct Extraction {
    /// Its columns, in the batches' order.
    pub columns: Vec<SourceColumn>,
    /// The batches' schema.
    pub schema: SchemaRef,
    /// Its rows. A read is whole where no batch is an error; else none of it may be used.
    pub batches: Batches,
}

/// Something that rows are read from.
///
/// 1. `extract` sees one consistent state of the source and never writes to it.
/// 2. Only the named columns are fetched.
/// 3. Memory is bounded: a slow reader slows the source down.
/// 4. A read that breaks off ends with an error, never with fewer rows.
/// 5. A value arrives exactly, or it is null and named as a [`Fault`]. A value never becomes another one, and never ends the read.
/// 6. A column's kind follows from the query and the source's declarations, never from the values that come first.
#[async_trait]
pub trait Source: Send + Sync {
    /// Connects and says what is wrong.
    async fn check(&self) -> Result<(), SourceError>;
    /// Describes the columns of a model's result. A source that knows its columns only by reading all rows answers with those
    /// of `wanted` that it cannot rule out; `extract` ends with an error if no row had one of them.
    async fn columns(&self, query: &Query, wanted: &[String]) -> Result<Vec<SourceColumn>, SourceError>;
    /// Reads these columns of a model's result, in this order.
    async fn extract(&self, query: &Query, columns: &[String]) -> Result<Extraction, SourceError>;
}
