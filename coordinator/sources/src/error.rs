//! What can go wrong while reading a source.

use std::path::Path;

/// A source that could not be read. What it read so far must not be used.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Out of reach, or the credentials are wrong.
    #[error("Cannot connect to {source_name}: {reason}")]
    Connect {
        /// Which source, and where it is.
        source_name: String,
        /// What it said.
        reason: String,
    },
    /// It cannot be asked where its settings say that it is.
    #[error("Cannot connect to {source_name}: {reason}")]
    Settings {
        /// Which source.
        source_name: String,
        /// What is wrong with them.
        reason: String,
    },
    /// The query is wrong: where and why.
    #[error("{0}")]
    Query(String),
    /// The source refuses a query that may be right: where and why.
    #[error("{0}")]
    Refused(String),
    /// The source refuses for now what it may give soon.
    #[error("The source refuses for now: {0}")]
    Away(String),
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
    /// A file or folder that the project names does not exist.
    #[error("Cannot read {path}: it does not exist")]
    Absent {
        /// Which one.
        path: String,
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
    /// True if the same read may succeed soon.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Away(_))
    }

    /// True if the project must be corrected, not the source.
    pub const fn is_mistake(&self) -> bool {
        matches!(self, Self::Settings { .. } | Self::Query(_) | Self::Column { .. } | Self::Absent { .. })
    }

    /// An error that says that nothing is at `path`.
    pub(crate) fn absent(path: &Path) -> Self {
        Self::Absent { path: path.display().to_string() }
    }
}
