//! Files: Parquet, CSV and NDJSON by Arrow's own readers, one file after the other.

mod read;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use outflow_model::mapping::SourceColumn;

use crate::config::{FileFormat, FilesConfig};
use crate::error::SourceError;
use crate::port::{Extraction, Query, Source};
use crate::reader::Batches;
use crate::shape;

/// Files in a folder.
pub(crate) struct Files {
    config: FilesConfig,
    folder: PathBuf,
}

impl Files {
    pub(crate) fn new(config: FilesConfig, root: &Path) -> Self {
        let folder = root.join(&config.path);
        Self { config, folder }
    }

    /// The files that a model names, sorted, so that every run reads them in the same order.
    fn find(&self, query: &Query) -> Result<Vec<PathBuf>, SourceError> {
        let Query::Files(pattern) = query else {
            return Err(SourceError::Query(
                "a model on files names a path, not SQL; set `files:` in its front matter".to_owned(),
            ));
        };
        let named = self.folder.join(pattern);
        let pattern = if named.is_dir() { named.join("**/*") } else { named };
        let text = pattern.to_string_lossy().into_owned();
        let trouble = |reason: String| SourceError::File { path: text.clone(), reason };
        let mut files = Vec::new();
        for entry in glob::glob(&text).map_err(|error| trouble(error.to_string()))? {
            let path = entry.map_err(|error| trouble(error.to_string()))?;
            if path.is_file() && self.format(&path).is_some() {
                files.push(path);
            }
        }
        files.sort();
        if files.is_empty() { Err(trouble("no file matches".to_owned())) } else { Ok(files) }
    }

    fn format(&self, path: &Path) -> Option<FileFormat> {
        self.config.format.or_else(|| match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "parquet" | "pq" => Some(FileFormat::Parquet),
            "csv" | "tsv" => Some(FileFormat::Csv),
            "ndjson" | "jsonl" => Some(FileFormat::Ndjson),
            _ => None,
        })
    }

    fn described(&self, files: &[PathBuf]) -> Result<Vec<SourceColumn>, SourceError> {
        match files.first() {
            Some(first) => read::columns(first, self.format(first), &self.config),
            None => Ok(Vec::new()),
        }
    }
}

#[async_trait]
impl Source for Files {
    async fn check(&self) -> Result<(), SourceError> {
        if self.folder.is_dir() {
            return Ok(());
        }
        Err(SourceError::File { path: self.folder.display().to_string(), reason: "it is no folder".to_owned() })
    }

    async fn columns(&self, query: &Query, _wanted: &[String]) -> Result<Vec<SourceColumn>, SourceError> {
        self.described(&self.find(query)?)
    }

    async fn extract(&self, query: &Query, columns: &[String]) -> Result<Extraction, SourceError> {
        let files = self.find(query)?;
        let columns: Vec<_> = shape::pick(&self.described(&files)?, columns)?.into_iter().map(|(_, c)| c).collect();
        let schema = shape::schema(&columns);
        let formats: Vec<_> = files.iter().map(|file| self.format(file)).collect();
        let config = self.config.clone();
        let wanted = columns.clone();
        let batches = Batches::read_blocking(move |sink| {
            files.iter().zip(formats).try_for_each(|(file, format)| {
                read::batches(file, format, &config, &wanted, &mut |batch| sink.blocking_send(batch))
            })
        });
        Ok(Extraction { columns, schema, batches })
    }
}
