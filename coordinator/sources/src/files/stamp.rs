//! Files that somebody writes while they are read: what is read of them is neither what they were nor what they will be.

use std::fs::{File, Metadata};
use std::path::Path;
use std::time::SystemTime;

use super::text::trouble;
use crate::error::SourceError;

const CHANGED: &str = "the file changed while it was read; run again when its writer has finished";

/// What tells that a file is still the one that was found, and holds the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    length: u64,
    written: Option<SystemTime>,
    /// Device and number of the file, where the system has them.
    node: Option<(u64, u64)>,
}

impl Stamp {
    /// The stamp of the file at `path`.
    pub(super) fn of(path: &Path) -> Result<Self, SourceError> {
        std::fs::metadata(path).map(|found| Self::new(&found)).map_err(|error| trouble(path, error.to_string()))
    }

    fn new(found: &Metadata) -> Self {
        #[cfg(unix)]
        let node = {
            use std::os::unix::fs::MetadataExt;
            Some((found.dev(), found.ino()))
        };
        #[cfg(not(unix))]
        let node = None;
        Self { length: found.len(), written: found.modified().ok(), node }
    }

    /// Opens the file at `path`, if it is still the one with this stamp.
    pub(super) fn open(&self, path: &Path) -> Result<File, SourceError> {
        let opened = File::open(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => trouble(path, CHANGED),
            _ => trouble(path, error.to_string()),
        })?;
        self.check(path, &opened, Ok(()))?;
        Ok(opened)
    }

    /// What a reader of `opened` came to, if nobody has written to it meanwhile. A file that was replaced by another is read to its
    /// end.
    pub(super) fn check<T>(&self, path: &Path, opened: &File, read: Result<T, SourceError>) -> Result<T, SourceError> {
        let found = opened.metadata().map_err(|error| trouble(path, error.to_string()))?;
        if Self::new(&found) == *self { read } else { Err(trouble(path, CHANGED)) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use ::parquet::arrow::ArrowWriter;
    use arrow_array::{ArrayRef, RecordBatch, StringArray};

    use super::*;
    use crate::config::FilesConfig;
    use crate::files::Files;
    use crate::port::{FilesQuery, Query, Source};

    /// More rows than a reader has ready before the first is taken.
    const ROWS: usize = 100_000;
    const FORMATS: [&str; 3] = ["csv", "ndjson", "parquet"];

    /// A file whose rows are `ROWS` times `text`.
    fn write(path: &Path, text: &str) {
        match path.extension().and_then(std::ffi::OsStr::to_str) {
            Some("csv") => std::fs::write(path, format!("id\n{}", format!("{text}\n").repeat(ROWS))).unwrap(),
            Some("ndjson") => std::fs::write(path, format!("{{\"id\":\"{text}\"}}\n").repeat(ROWS)).unwrap(),
            _ => {
                let ids: ArrayRef = Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, ROWS)));
                let batch = RecordBatch::try_from_iter([("id", ids)]).unwrap();
                let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
                writer.write(&batch).unwrap();
                writer.close().unwrap();
            }
        }
    }

    /// Begins to read the file and calls `meanwhile`: the rows, or the error.
    async fn read(path: &Path, meanwhile: impl FnOnce()) -> Result<usize, String> {
        let folder = path.parent().unwrap();
        let config = FilesConfig { path: folder.into(), format: None, types: BTreeMap::new(), delimiter: None };
        let query = Query::Files(FilesQuery { pattern: ".".to_owned(), key: Vec::new() });
        let mut extraction = Files::new(config, folder).extract(&query, &["id".to_owned()]).await.unwrap();
        let first = extraction.batches.recv().await.unwrap().unwrap();
        meanwhile();
        let mut rows = first.num_rows();
        while let Some(batch) = extraction.batches.recv().await {
            rows += batch.map_err(|error| error.to_string())?.num_rows();
        }
        Ok(rows)
    }

    #[tokio::test]
    async fn a_file_that_is_written_to_while_it_is_read_ends_the_read() {
        for format in FORMATS {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(format!("people.{format}"));
            let change = |change: &dyn Fn(&File)| change(&File::options().write(true).open(&path).unwrap());
            let row = if format == "csv" { 8 } else { 16 };
            let cut = |file: &File, more: u64| {
                let length = file.metadata().unwrap().len();
                file.set_len(length - length / 10 / row * row - more).unwrap();
            };
            let changes: [&dyn Fn(); 4] = [
                // At the end of a row, within its last value, and one row more.
                &|| change(&|file| cut(file, 0)),
                &|| change(&|file| cut(file, 2)),
                &|| change(&|file| file.set_len(file.metadata().unwrap().len() + 8).unwrap()),
                // As long as it was.
                &|| change(&|file| file.set_modified(SystemTime::UNIX_EPOCH).unwrap()),
            ];
            for (at, change) in changes.into_iter().enumerate() {
                write(&path, "aaaaaaa");
                let error = read(&path, change).await.err().unwrap_or_default();
                assert!(error.contains(&format!("people.{format}: {CHANGED}")), "{format}, {at}: {error}");
            }
        }
    }

    #[tokio::test]
    async fn a_file_that_is_replaced_or_removed_is_read_to_its_end() {
        for format in FORMATS {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(format!("people.{format}"));
            write(&path, "aaaaaaa");
            let replace = || {
                let other = tempfile::tempdir().unwrap();
                let other = other.path().join(format!("people.{format}"));
                write(&other, "b");
                std::fs::copy(&other, path.with_extension("new")).unwrap();
                std::fs::rename(path.with_extension("new"), &path).unwrap();
            };
            assert_eq!(read(&path, replace).await, Ok(ROWS), "{format}");
            assert_eq!(read(&path, || std::fs::remove_file(&path).unwrap()).await, Ok(ROWS), "{format}");
        }
    }

    #[test]
    fn another_file_than_the_one_that_was_found_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("people.csv");
        std::fs::write(&path, "id\n1\n").unwrap();
        let stamp = Stamp::of(&path).unwrap();
        assert!(stamp.open(&path).is_ok());
        std::fs::write(&path, "id\n1\n2\n").unwrap();
        let told = |stamp: &Stamp| stamp.open(&path).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(told(&stamp).ends_with(CHANGED), "{}", told(&stamp));
        let stamp = Stamp::of(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(told(&stamp).ends_with(CHANGED), "{}", told(&stamp));
    }
}
