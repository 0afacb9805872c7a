//! The source port.

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use outflow_model::mapping::SourceColumn;

use crate::error::SourceError;
use crate::reader::Batches;

/// What a model asks a source for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// SQL.
    Sql(String),
    /// Files: a path, a folder or a pattern with `*` and `**`.
    Files(String),
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
#[async_trait]
pub trait Source: Send + Sync {
    /// Connects and says what is wrong.
    async fn check(&self) -> Result<(), SourceError>;
    /// The columns of a model's result.
    async fn columns(&self, query: &Query) -> Result<Vec<SourceColumn>, SourceError>;
    /// Reads these columns of a model's result, in this order.
    async fn extract(&self, query: &Query, columns: &[String]) -> Result<Extraction, SourceError>;
}
