//! CSV: text, but for the columns that `types:` names.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use outflow_model::cell::{Cell, Kind};
use outflow_model::mapping::SourceColumn;

use super::describe::Described;
use super::find::Found;
use super::gather::Gather;
use super::split::{Record, Splitter};
use super::text::{self, trouble};
use crate::config::FilesConfig;
use crate::error::SourceError;

/// Reads a file's header: the columns' names, of which an empty file has none.
fn begin<'f>(
    file: &'f File,
    path: &Path,
    config: &FilesConfig,
) -> Result<(Vec<String>, Splitter<BufReader<&'f File>>), SourceError> {
    let mut input = text::begin(file, path)?;
    let mut records = match stated(&mut input).map_err(|error| trouble(path, error.to_string()))? {
        Some(delimiter) => Splitter::new(input, delimiter, 2),
        None => Splitter::new(input, delimiter(path, config)?, 1),
    };
    let mut record = Record::default();
    if !records.read(&mut record).map_err(|reason| trouble(path, reason))? {
        return Ok((Vec::new(), records));
    }
    let name = |at| std::str::from_utf8(record.value(at)).map(|name| name.trim().to_owned());
    let names: Vec<String> = (0..record.len()).map(name).collect::<Result<_, _>>().map_err(|_| {
        trouble(path, format!("line {}: a column's name is not UTF-8; save the file as UTF-8", record.line))
    })?;
    for (at, name) in names.iter().enumerate() {
        if !name.is_empty() && names.iter().skip(at + 1).any(|other| other == name) {
            return Err(trouble(path, format!("line {}: two columns are called \"{name}\"; rename one", record.line)));
        }
    }
    Ok((names, records))
}

/// The delimiter that a first line such as `sep=;` states, by which Excel reads the file whatever the country. The line is taken.
fn stated(input: &mut impl BufRead) -> std::io::Result<Option<u8>> {
    let (delimiter, end) = match input.fill_buf()? {
        [b's' | b'S', b'e' | b'E', b'p' | b'P', b'=', delimiter, b'\r', b'\n', ..] => (*delimiter, 2),
        [b's' | b'S', b'e' | b'E', b'p' | b'P', b'=', delimiter, b'\r' | b'\n', ..] => (*delimiter, 1),
        _ => return Ok(None),
    };
    if delimiter == b'"' || !(delimiter.is_ascii_punctuation() || matches!(delimiter, b'\t' | b' ')) {
        return Ok(None);
    }
    input.consume("sep=;".len() + end);
    Ok(Some(delimiter))
}

fn delimiter(path: &Path, config: &FilesConfig) -> Result<u8, SourceError> {
    let is_tsv = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("tsv"));
    let delimiter = config.delimiter.unwrap_or(if is_tsv { '\t' } else { ',' });
    if delimiter.is_ascii() && !matches!(delimiter, '"' | '\r' | '\n') {
        return Ok(delimiter as u8);
    }
    Err(trouble(path, "`delimiter:` must be one ASCII character, and neither a quote nor a line end"))
}

/// The names in a file's header.
pub(super) fn header(path: &Path, config: &FilesConfig) -> Result<Vec<String>, SourceError> {
    let file = File::open(path).map_err(|error| trouble(path, error.to_string()))?;
    begin(&file, path, config).map(|(names, _)| names)
}

/// Describes a file by its header and by whether a record follows.
pub(super) fn describe(
    (file, opened): (&Found, &File),
    config: &FilesConfig,
    wanted: &[String],
) -> Result<Described, SourceError> {
    let (names, mut records) = begin(opened, &file.path, config)?;
    if let [only] = names.as_slice()
        && !wanted.iter().all(|name| name == only)
        && let Some(other) = [';', '\t', '|', ','].into_iter().find(|other| only.contains(*other))
    {
        let reason = format!("its header names one column, with {other:?} in it; set `delimiter: {other:?}`");
        return Err(trouble(&file.path, reason));
    }
    let has_rows = records.read(&mut Record::default()).unwrap_or(true);
    let columns = names.into_iter().map(|name| {
        let kind = kind(config, &name);
        (name, Some(kind))
    });
    Ok(Described { columns: columns.collect(), has_rows, is_open: false })
}

fn kind(config: &FilesConfig, name: &str) -> Kind {
    config.types.get(name).copied().unwrap_or(Kind::Text)
}

/// Passes a file's rows on; false if no more are wanted. A column that the file lacks is null.
pub(super) fn read(
    (file, opened): (&Found, &File),
    config: &FilesConfig,
    wanted: &[SourceColumn],
    gather: &mut Gather<'_>,
) -> Result<bool, SourceError> {
    let (names, mut records) = begin(opened, &file.path, config)?;
    let places: Vec<Option<usize>> =
        wanted.iter().map(|column| names.iter().position(|name| *name == column.name)).collect();
    let mut record = Record::default();
    while records.read(&mut record).map_err(|reason| trouble(&file.path, reason))? {
        if record.len() != names.len() {
            let (line, have, want) = (record.line, record.len(), names.len());
            return Err(trouble(&file.path, format!("line {line}: it has {have} values, but the header {want}")));
        }
        for (at, place) in places.iter().enumerate() {
            let value = place.map_or(&[][..], |place| record.value(place));
            if let Err(reason) = push(value, at, gather) {
                gather.fault(at, format!("{reason} ({}, line {})", file.label, record.line));
            }
        }
        if !gather.end_row()? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Adds a value, brought into its column's kind; an empty one is null.
fn push(value: &[u8], at: usize, gather: &mut Gather<'_>) -> Result<(), String> {
    if value.is_empty() {
        return gather.push(at, Cell::Null);
    }
    let text = std::str::from_utf8(value).map_err(|_| "the value is not UTF-8".to_owned())?;
    gather.push(at, Cell::Text(text))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn names(text: &str, delimiter: Option<char>) -> Result<(Vec<String>, Vec<String>, u64), String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let path = folder.path().join("people.csv");
        std::fs::write(&path, text).map_err(|error| error.to_string())?;
        let file = File::open(&path).map_err(|error| error.to_string())?;
        let config = FilesConfig { path: folder.path().into(), format: None, types: BTreeMap::new(), delimiter };
        let (names, mut records) = begin(&file, &path, &config).map_err(|error| error.to_string())?;
        let mut record = Record::default();
        records.read(&mut record)?;
        let values = (0..record.len()).map(|at| String::from_utf8_lossy(record.value(at)).into_owned());
        Ok((names, values.collect(), record.line))
    }

    #[test]
    fn a_first_line_may_state_the_delimiter() {
        let row = |line| Ok((vec!["a".to_owned(), "b".to_owned()], vec!["1".to_owned(), "2".to_owned()], line));
        for (text, delimiter) in [
            ("sep=,\na,b\n1,2\n", None),
            ("\u{feff}sep=;\r\na;b\r\n1;2\r\n", None),
            ("SEP=\t\na\tb\n1\t2", None),
            ("sep=|\ra|b\r1|2", Some(';')),
        ] {
            assert_eq!(names(text, delimiter), row(3), "{text:?}");
        }
        assert_eq!(names("a,b\n1,2\n", None), row(2));
        let twice = names("sep=,\na,a\n", None).err().unwrap_or_default();
        assert!(twice.ends_with("line 2: two columns are called \"a\"; rename one"), "{twice}");
        for header in ["sep=x", "sep=", "sep=,,", "sep=\""] {
            assert!(
                names(&format!("{header}\n1\n"), None)
                    .is_ok_and(|(names, ..)| names[0] == "sep=" || names[0] == header),
                "{header}"
            );
        }
    }
}
