//! What can go wrong while reading a source.

use std::error::Error;

/// A source that could not be read. What it read so far must not be used.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Out of reach, or the credentials are wrong.
    #[error("Cannot connect to {source_name}: {reason}")]
    Connect {
        /// Which source.
        source_name: &'static str,
        /// What it said.
        reason: String,
    },
    /// The source refuses the query.
    #[error("The source refuses the query: {0}")]
    Query(String),
    /// The source broke off while it returned rows.
    #[error("The source broke off after {rows} rows: {reason}")]
    Broken {
        /// Rows read so far.
        rows: u64,
        /// What it said.
        reason: String,
    },
    /// A column that the sync needs is not in the result.
    #[error("The model has no column \"{name}\".{hint}")]
    Column {
        /// The column.
        name: String,
        /// The nearest one.
        hint: String,
    },
    /// A value does not fit its column.
    #[error("Row {row}, column \"{column}\": {reason}")]
    Value {
        /// The row, from 1.
        row: u64,
        /// The column.
        column: String,
        /// What does not fit.
        reason: String,
    },
    /// A file cannot be read.
    #[error("Cannot read {path}: {reason}")]
    File {
        /// Which file.
        path: String,
        /// Why.
        reason: String,
    },
}

impl SourceError {
    /// The error's message with its causes, on one line.
    pub(crate) fn reason(error: &dyn Error) -> String {
        let mut out = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !out.contains(&text) {
                out.push_str(": ");
                out.push_str(&text);
            }
            source = cause.source();
        }
        out
    }
}
