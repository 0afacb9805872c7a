//! Where rows come from: one port, one file or folder per source. Arrow begins here.
//!
//! Whatever a source speaks, its batches carry one physical type per [`Kind`](outflow_model::cell::Kind): see [`shape`].

mod config;
mod error;
mod files;
mod message;
mod port;
mod postgres;
mod reader;
mod rows;
pub mod shape;
mod sql;
mod sqlite;
mod uuid;

pub use config::{FileFormat, FilesConfig, PostgresConfig, SourceConfig, SqliteConfig};
pub use error::SourceError;
pub use port::{Batch, Extraction, Fault, FilesQuery, Query, Source, Sql};
pub use reader::{Batches, Wanted};

use std::path::Path;
use std::sync::Arc;

/// Opens the source that `config` describes, which errors call `name`; its references to secrets must be resolved. Relative
/// paths begin at `root`.
pub fn open(name: &str, config: &SourceConfig, root: &Path) -> Arc<dyn Source> {
    match config {
        SourceConfig::Files(config) => Arc::new(files::Files::new(config.clone(), root)),
        SourceConfig::Postgres(config) => Arc::new(postgres::Postgres::new(name, config.clone())),
        SourceConfig::Sqlite(config) => Arc::new(sqlite::Sqlite::new(root.join(&config.path))),
    }
}
