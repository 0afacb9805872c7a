//! The spool: what the source returned, on local disk, so that no slow destination holds the source's cursor.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_ipc::CompressionType;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow_schema::{ArrowError, SchemaRef};

use crate::error::SnapshotError;

/// Writes a spool.
pub struct SpoolWriter {
    writer: StreamWriter<BufWriter<File>>,
    path: PathBuf,
}

impl SpoolWriter {
    /// Begins a spool at `path`.
    pub fn create(path: &Path, schema: &SchemaRef) -> Result<Self, SnapshotError> {
        let file = File::create(path).map_err(SnapshotError::io("create", path))?;
        let options = IpcWriteOptions::default()
            .try_with_compression(Some(CompressionType::LZ4_FRAME))
            .map_err(arrow("begin", path))?;
        let out = BufWriter::with_capacity(256 * 1024, file);
        let writer = StreamWriter::try_new_with_options(out, schema, options).map_err(arrow("begin", path))?;
        Ok(Self { writer, path: path.to_owned() })
    }

    /// Adds a batch.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<(), SnapshotError> {
        self.writer.write(batch).map_err(arrow("write", &self.path))
    }

    /// Ends the spool.
    pub fn finish(mut self) -> Result<(), SnapshotError> {
        self.writer.finish().map_err(arrow("end", &self.path))
    }
}

/// Reads a spool from its start.
pub struct SpoolReader {
    reader: StreamReader<BufReader<File>>,
    path: PathBuf,
}

impl SpoolReader {
    /// Opens the spool at `path`.
    pub fn open(path: &Path) -> Result<Self, SnapshotError> {
        let file = File::open(path).map_err(SnapshotError::io("open", path))?;
        let input = BufReader::with_capacity(256 * 1024, file);
        let reader = StreamReader::try_new(input, None).map_err(arrow("read", path))?;
        Ok(Self { reader, path: path.to_owned() })
    }

    /// The next batch, as it was written.
    #[expect(clippy::should_implement_trait, reason = "errors end the reading, which Iterator leaves open")]
    pub fn next(&mut self) -> Result<Option<RecordBatch>, SnapshotError> {
        self.reader.next().transpose().map_err(arrow("read", &self.path))
    }
}

fn arrow(action: &'static str, path: &Path) -> impl FnOnce(ArrowError) -> SnapshotError {
    let path = path.to_owned();
    move |error| match error {
        ArrowError::IoError(_, source) => SnapshotError::Io { action, path, source },
        source => SnapshotError::Arrow { action, source },
    }
}
