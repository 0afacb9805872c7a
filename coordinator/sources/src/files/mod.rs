//! Files: Parquet, CSV and NDJSON, one file after the other, as one table.

mod csv;
mod describe;
mod find;
mod gather;
mod ndjson;
mod parquet;
mod split;
mod stamp;
mod text;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use outflow_model::mapping::SourceColumn;
use outflow_model::suggest::did_you_mean;

use self::describe::{Columns, Described, merge};
use self::find::{Found, find, format_of};
use self::gather::Gather;
use crate::config::{FileFormat, FilesConfig};
use crate::error::SourceError;
use crate::port::{Batch, Extraction, FilesQuery, Query, Source};
use crate::reader::Batches;
use crate::shape;

/// Files in a folder.
#[derive(Clone)]
pub(crate) struct Files {
    config: FilesConfig,
    folder: PathBuf,
}

impl Files {
    pub(crate) fn new(config: FilesConfig, root: &Path) -> Self {
        let folder = root.join(&config.path);
        Self { config, folder }
    }

    /// The files of a model, and the columns that each of them must have.
    fn find<'q>(&self, query: &'q Query) -> Result<(Vec<Found>, &'q [String]), SourceError> {
        let Query::Files(FilesQuery { pattern, key }) = query else {
            return Err(SourceError::Query(
                "a model on files names a path, not SQL; set `files:` in its front matter".to_owned(),
            ));
        };
        Ok((find(&self.folder, pattern, self.config.format)?, key))
    }

    /// Finds and describes the files where that may block: a disk may take its time, and whoever waits may stop waiting.
    async fn look(&self, query: &Query, wanted: &[String]) -> Result<(Vec<Found>, Columns), SourceError> {
        let (files, query, wanted) = (self.clone(), query.clone(), wanted.to_vec());
        let looking = tokio::task::spawn_blocking(move || {
            let (found, key) = files.find(&query)?;
            let columns = files.describe(&found, key, &wanted)?;
            Ok((found, columns))
        });
        // What a panic says may hold a value.
        let reason = || {
            "its reader broke off in panic: a file is damaged in a way that it does not know, or Outflow has a defect"
                .to_owned()
        };
        looking.await.unwrap_or_else(|_| Err(SourceError::Broken { rows: 0, reason: reason() }))
    }

    fn describe(&self, files: &[Found], key: &[String], wanted: &[String]) -> Result<Columns, SourceError> {
        let mut described: Vec<(&Path, Described)> = Vec::with_capacity(files.len());
        for file in files {
            let opened = file.stamp.open(&file.path)?;
            let of_file = match file.format {
                FileFormat::Csv => csv::describe((file, &opened), &self.config, wanted),
                FileFormat::Ndjson => ndjson::describe((file, &opened), wanted),
                FileFormat::Parquet => parquet::describe((file, &opened), wanted),
            };
            described.push((&file.path, file.stamp.check(&file.path, &opened, of_file)?));
        }
        if !self.config.types.is_empty() && files.iter().any(|file| file.format == FileFormat::Csv) {
            self.check_types(&described)?;
        }
        check_key(&described, key)?;
        check_header(files, &described)?;
        merge(described, wanted)
    }

    /// Checks that each name in `types:` is a column of some CSV file: of these, or else of another one in the folder.
    fn check_types(&self, described: &[(&Path, Described)]) -> Result<(), SourceError> {
        let names = described.iter().flat_map(|(_, file)| file.columns.iter().map(|(name, _)| name.clone()));
        let mut known: BTreeSet<String> = names.collect();
        let is_known = |known: &BTreeSet<String>| self.config.types.keys().all(|name| known.contains(name));
        if !is_known(&known) {
            // Files of other models may have it. What cannot be read there is for their syncs to say.
            for path in csv_files(&self.folder, self.config.format) {
                known.extend(csv::header(&path, &self.config).unwrap_or_default());
            }
        }
        match self.config.types.keys().find(|name| !known.contains(*name)) {
            None => Ok(()),
            Some(name) => {
                let hint = did_you_mean(name, known.iter().map(String::as_str));
                let reason = format!("`types:` names the column \"{name}\", which no CSV file here has.{hint}");
                Err(SourceError::Query(format!("{}: {reason}", self.folder.display())))
            }
        }
    }
}

/// Checks that some file names columns. An empty CSV file among others is a day without rows.
fn check_header(files: &[Found], described: &[(&Path, Described)]) -> Result<(), SourceError> {
    if described.iter().any(|(_, file)| file.is_open || !file.columns.is_empty()) {
        return Ok(());
    }
    match files.iter().find(|file| file.format == FileFormat::Csv) {
        None => Ok(()),
        Some(file) => Err(text::trouble(&file.path, "it is empty; a CSV file begins with a line of column names")),
    }
}

/// Checks that no file with rows lacks a column of the key that another file has.
fn check_key(described: &[(&Path, Described)], key: &[String]) -> Result<(), SourceError> {
    let has = |file: &Described, name: &String| file.columns.iter().any(|(column, _)| column == name);
    for name in key {
        let Some((first, _)) = described.iter().find(|(_, file)| file.has_rows && has(file, name)) else { continue };
        let lacks = |file: &Described| file.has_rows && !file.is_open && !has(file, name);
        if let Some((path, _)) = described.iter().find(|(_, file)| lacks(file)) {
            let first = first.display();
            let reason = format!(
                "it lacks the column \"{name}\" of the model's key, which {first} has: nobody can say which rows it holds. Add \
                 the column, or leave the file out of `files:`"
            );
            return Err(text::trouble(path, reason));
        }
    }
    Ok(())
}

/// The CSV files below a folder.
fn csv_files(folder: &Path, format: Option<FileFormat>) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let is_hidden = entry.file_name().to_string_lossy().starts_with(['.', '_']);
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !is_hidden => folders.push(entry.path()),
                Ok(kind) if kind.is_file() && format.or_else(|| format_of(&entry.path())) == Some(FileFormat::Csv) => {
                    files.push(entry.path());
                }
                _ => {}
            }
        }
    }
    files
}

/// Reads all files; the wanted columns in their order and kinds. Each that was guessed must be in some row.
fn read(
    files: &[Found],
    config: &FilesConfig,
    wanted: &[SourceColumn],
    guessed: &BTreeSet<String>,
    send: &mut dyn FnMut(Batch) -> bool,
) -> Result<(), SourceError> {
    let mut gather = Gather::new(wanted, send);
    let mut seen = ndjson::Seen::new(wanted);
    for file in files {
        let opened = file.stamp.open(&file.path)?;
        let goes_on = match file.format {
            FileFormat::Csv => csv::read((file, &opened), config, wanted, &mut gather),
            FileFormat::Ndjson => ndjson::read((file, &opened), wanted, &mut seen, &mut gather),
            FileFormat::Parquet => parquet::read((file, &opened), wanted, &mut gather),
        };
        if !file.stamp.check(&file.path, &opened, goes_on)? {
            return Ok(());
        }
    }
    seen.check(wanted, guessed)?;
    gather.flush().map(|_| ())
}

#[async_trait]
impl Source for Files {
    async fn check(&self) -> Result<(), SourceError> {
        if self.folder.is_dir() {
            return Ok(());
        }
        if matches!(self.folder.try_exists(), Ok(false)) {
            return Err(SourceError::absent(&self.folder));
        }
        Err(text::trouble(&self.folder, "it is not a folder"))
    }

    async fn columns(&self, query: &Query, wanted: &[String]) -> Result<Vec<SourceColumn>, SourceError> {
        Ok(self.look(query, wanted).await?.1.all)
    }

    async fn extract(&self, query: &Query, columns: &[String]) -> Result<Extraction, SourceError> {
        let (files, Columns { all, guessed }) = self.look(query, columns).await?;
        let columns: Vec<_> = shape::pick(&all, columns)?.into_iter().map(|(_, column)| column).collect();
        let schema = shape::schema(&columns);
        let (config, wanted) = (self.config.clone(), columns.clone());
        let batches = Batches::read_blocking(move |sink| {
            read(&files, &config, &wanted, &guessed, &mut |batch| sink.blocking_send(batch))
        });
        Ok(Extraction { columns, schema, batches })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ::parquet::arrow::ArrowWriter;
    use arrow_array::builder::{Int64Builder, ListBuilder, StringBuilder};
    use arrow_array::cast::AsArray;
    use arrow_array::{
        Array, ArrayRef, BinaryArray, DictionaryArray, Float64Array, Int32Array, RecordBatch, StringArray, StructArray,
        TimestampNanosecondArray,
    };
    use outflow_model::cell::Kind;

    use super::*;
    use crate::port::Fault;

    fn write(path: &Path, columns: Vec<(&str, ArrayRef)>) {
        let batch =
            RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, a)| (name, a, true))).unwrap();
        let mut writer = ArrowWriter::try_new(std::fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }

    /// A column of text in the physical form of its kind, and its faulty rows.
    async fn read_all(folder: &Path, names: &[&str]) -> Result<(Vec<Kind>, Vec<Vec<String>>, Vec<Fault>), SourceError> {
        let config = FilesConfig {
            path: folder.into(),
            format: None,
            types: std::collections::BTreeMap::new(),
            delimiter: None,
        };
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let query = FilesQuery { pattern: ".".to_owned(), key: Vec::new() };
        let mut extraction = Files::new(config, folder).extract(&Query::Files(query), &names).await?;
        let (mut values, mut faults) = (vec![Vec::new(); names.len()], Vec::new());
        while let Some(batch) = extraction.batches.recv().await {
            let batch = batch?;
            for (values, array) in values.iter_mut().zip(batch.records.columns()) {
                let text = array.as_string_opt::<i32>();
                let of_row =
                    |row| text.filter(|text| text.is_valid(row)).map_or("-", |text| text.value(row)).to_owned();
                values.extend((0..batch.num_rows()).map(of_row));
            }
            faults.extend(batch.faults);
        }
        Ok((extraction.columns.iter().map(|column| column.kind).collect(), values, faults))
    }

    #[tokio::test]
    async fn a_column_that_no_file_has_is_an_error_whatever_lies_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        // Longer than what is looked through for names.
        let lines = "{\"id\":1}\n".repeat(ndjson::LOOK / 9 + 1);
        std::fs::write(path("1.ndjson"), lines + "{\"id\":0,\"spent\":5}\n").unwrap();
        std::fs::write(path("2.csv"), "id,name\n1,Ada\n").unwrap();
        write(&path("3.parquet"), vec![("city", Arc::new(StringArray::from(vec!["Graz"])))]);
        let error = read_all(folder.path(), &["spnet"]).await.err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("The model has no column \"spnet\". Did you mean \"spent\"?"));
        let (_, values, _) = read_all(folder.path(), &["spent", "name", "city"]).await.unwrap();
        let last = values.iter().map(|values| values.iter().rfind(|value| *value != "-").unwrap().as_str());
        assert_eq!(last.collect::<Vec<_>>(), ["5", "Ada", "Graz"]);
    }

    #[tokio::test]
    async fn a_value_that_is_too_long_concerns_no_other_row() {
        let folder = tempfile::tempdir().unwrap();
        let long = "x".repeat((64 << 20) + 1);
        let mut list = ListBuilder::new(StringBuilder::new());
        list.append_value([Some(&long[..])]);
        list.append_value([Some("y")]);
        write(
            &folder.path().join("1.parquet"),
            vec![
                ("id", Arc::new(StringArray::from(vec!["1", "2"]))),
                ("text", Arc::new(StringArray::from(vec![&long[..], "y"]))),
                ("list", Arc::new(list.finish())),
                ("bytes", Arc::new(BinaryArray::from_vec(vec![&long.as_bytes()[..50 << 20], b"y"]))),
            ],
        );
        let (_, values, faults) = read_all(folder.path(), &["id", "text", "list", "bytes"]).await.unwrap();
        assert_eq!(values, [["1", "2"], ["-", "y"], ["-", "[\"y\"]"], ["-", "eQ=="]]);
        let reasons: Vec<_> = faults.iter().map(|fault| (fault.row, fault.column, &*fault.reason)).collect();
        assert_eq!(reasons, [1, 2, 3].map(|column| (0, column, "the value is longer than 64 MiB")));
    }

    #[tokio::test]
    async fn a_text_that_is_not_utf_8_concerns_no_other_row() {
        use ::parquet::data_type::{ByteArray, ByteArrayType};
        use ::parquet::file::writer::SerializedFileWriter;
        let folder = tempfile::tempdir().unwrap();
        let schema = "message m { required binary id (STRING); optional group in { required binary text (UTF8); } \
                      required binary json (JSON); }";
        let schema = Arc::new(::parquet::schema::parser::parse_message_type(schema).unwrap());
        let file = std::fs::File::create(folder.path().join("1.parquet")).unwrap();
        let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let columns: [[&[u8]; 3]; 3] = [[b"1", b"2", b"3\xff"], [b"x", b"\xc3", b"z"], [b"\"\xff\"", b"{}", b"[]"]];
        for values in columns {
            let mut column = group.next_column().unwrap().unwrap();
            let values = values.map(|value| ByteArray::from(value.to_vec()));
            column.typed::<ByteArrayType>().write_batch(&values, Some(&[1; 3]), None).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();
        let (kinds, values, faults) = read_all(folder.path(), &["id", "in", "json"]).await.unwrap();
        assert_eq!(kinds, [Kind::Text, Kind::Json, Kind::Json]);
        assert_eq!(values, [["1", "2", "-"], ["{\"text\":\"x\"}", "-", "{\"text\":\"z\"}"], ["-", "{}", "[]"]]);
        let faults: Vec<_> = faults.iter().map(|fault| (fault.row, fault.column, &*fault.reason)).collect();
        assert_eq!(faults, [(0, 2), (1, 1), (2, 0)].map(|(row, column)| (row, column, "the text is not UTF-8")));
    }

    #[tokio::test]
    async fn an_arrow_type_that_the_reader_does_not_know_stops_no_file() {
        use ::parquet::arrow::{ARROW_SCHEMA_META_KEY, encode_arrow_schema};
        use ::parquet::file::metadata::KeyValue;
        use base64::Engine;
        use base64::engine::general_purpose::STANDARD;
        let folder = tempfile::tempdir().unwrap();
        let columns: [(&str, ArrayRef); 2] =
            [("id", Arc::new(StringArray::from(vec!["1"]))), ("big", Arc::new(BinaryArray::from_vec(vec![b"\x01"])))];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        // As writers do that know whole numbers of 128 bits.
        let big = arrow_schema::Field::new("big", arrow_schema::DataType::Int64, false);
        let schema = arrow_schema::Schema::new(vec![batch.schema().field(0).clone(), big]);
        let mut schema = STANDARD.decode(encode_arrow_schema(&schema)).unwrap();
        let width: Vec<_> = (0..schema.len() - 3).filter(|at| schema[*at..*at + 4] == 64_i32.to_le_bytes()).collect();
        let [width] = width[..] else { panic!("the width is not found") };
        schema[width..width + 4].copy_from_slice(&128_i32.to_le_bytes());
        let pair = KeyValue::new(ARROW_SCHEMA_META_KEY.to_owned(), STANDARD.encode(schema));
        let options = ::parquet::file::properties::WriterProperties::builder().set_key_value_metadata(Some(vec![pair]));
        let options = ::parquet::arrow::arrow_writer::ArrowWriterOptions::new()
            .with_properties(options.build())
            .with_skip_arrow_metadata(true);
        let file = std::fs::File::create(folder.path().join("1.parquet")).unwrap();
        let mut writer = ArrowWriter::try_new_with_options(file, batch.schema(), options).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        std::fs::write(folder.path().join("2.parquet"), "").unwrap();
        let (kinds, values, _) = read_all(folder.path(), &["id", "big"]).await.unwrap();
        assert_eq!(kinds, [Kind::Text, Kind::Bytes]);
        assert_eq!(values, [["1"], ["AQ=="]]);
    }

    #[tokio::test]
    async fn parquet_files_of_one_folder_may_differ_and_keep_every_value() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut list = ListBuilder::new(Int64Builder::new());
        list.append_value([Some(1), None]);
        list.append_null();
        let names = StringArray::from(vec![Some("x"), None]);
        let inner = StructArray::from(vec![(
            Arc::new(arrow_schema::Field::new("a", arrow_schema::DataType::Utf8, true)),
            Arc::new(names.clone()) as ArrayRef,
        )]);
        let words: DictionaryArray<arrow_array::types::Int32Type> = vec![Some("w"), None].into_iter().collect();
        write(
            &path("1.parquet"),
            vec![
                ("n", Arc::new(Int32Array::from(vec![7, 8]))),
                ("list", Arc::new(list.finish())),
                ("inner", Arc::new(inner)),
                ("word", Arc::new(words)),
                ("at", Arc::new(TimestampNanosecondArray::from(vec![1_000, 1_001]))),
            ],
        );
        write(&path("2.parquet"), vec![("n", Arc::new(Float64Array::from(vec![0.1])))]);
        write(&path("3.parquet"), vec![("n", Arc::new(StringArray::from(Vec::<&str>::new())))]);
        let (kinds, values, faults) = read_all(folder.path(), &["n", "list", "inner", "word", "at"]).await.unwrap();
        assert_eq!(kinds, [Kind::Decimal, Kind::Json, Kind::Json, Kind::Text, Kind::Timestamp]);
        assert_eq!(values[0], ["7", "8", "0.1"]);
        assert_eq!(values[1], ["[1,null]", "-", "-"]);
        assert_eq!(values[2], ["{\"a\":\"x\"}", "{\"a\":null}", "-"]);
        assert_eq!(values[3], ["w", "-", "-"]);
        assert_eq!(faults.iter().map(|fault| (fault.row, fault.column)).collect::<Vec<_>>(), [(1, 4)]);
        write(&path("4.parquet"), vec![("n", Arc::new(StringArray::from(vec!["x"])))]);
        let error = read_all(folder.path(), &["n"]).await.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("4.parquet") && error.contains("1.parquet"), "{error}");
    }
}
