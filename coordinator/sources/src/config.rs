//! Sources as users write them in `outflow.yml`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use outflow_model::cell::Kind;
use outflow_model::mapping::Name;
use schemars::JsonSchema;
use serde::de::value::{Error as ValueError, StrDeserializer};
use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};

/// A source, by its `type`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SourceConfig {
    /// Parquet, CSV or NDJSON files.
    Files(FilesConfig),
    /// PostgreSQL.
    Postgres(PostgresConfig),
    /// A SQLite database file.
    Sqlite(SqliteConfig),
}

/// PostgreSQL.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// `postgres://user:password@host:port/database?sslmode=verify-full`; keep the password in `${env:…}` or `${file:…}`.
    pub url: String,
    /// The server stops a query that takes longer, in seconds.
    #[serde(default = "default_timeout")]
    pub statement_timeout_seconds: u32,
}

const fn default_timeout() -> u32 {
    3_600
}

/// A SQLite database file.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SqliteConfig {
    /// The file, from the project's folder.
    pub path: PathBuf,
}

/// Files in a folder.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilesConfig {
    /// The folder that models name files in, from the project's folder.
    pub path: PathBuf,
    /// The format; where absent, the file name's ending says it.
    pub format: Option<FileFormat>,
    /// Types of CSV columns that are not text. Each name must be a column of a CSV file in the folder.
    #[serde(default, deserialize_with = "types")]
    pub types: BTreeMap<String, Kind>,
    /// The character between CSV values; where absent, a comma, or a tab in files that end in `.tsv`.
    pub delimiter: Option<char>,
}

/// Reads the types of columns. What is wrong with one is told as `types.COLUMN`, so that its place can be found.
fn types<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Kind>, D::Error> {
    let written = BTreeMap::<String, Name>::deserialize(deserializer)?;
    let kinds = written.into_iter().map(|(column, Name(word))| {
        let kind = Kind::deserialize(StrDeserializer::<ValueError>::new(&word));
        kind.map_err(|error| D::Error::custom(format_args!("`types.{column}`: {error}"))).map(|kind| (column, kind))
    });
    kinds.collect()
}

/// A file's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileFormat {
    /// Apache Parquet.
    Parquet,
    /// Comma-separated values with a header line. An empty value is null.
    Csv,
    /// One JSON object per line.
    Ndjson,
}

impl SourceConfig {
    /// The strings that may hold references to secrets.
    pub fn secrets_mut(&mut self) -> Vec<&mut String> {
        match self {
            Self::Postgres(config) => vec![&mut config.url],
            Self::Files(_) | Self::Sqlite(_) => Vec::new(),
        }
    }

    /// True where models are SQL; else they name files.
    pub const fn speaks_sql(&self) -> bool {
        !matches!(self, Self::Files(_))
    }
}
