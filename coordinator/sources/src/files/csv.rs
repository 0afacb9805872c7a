//! CSV: text, but for the columns that `types:` names.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use outflow_model::cell::{Cell, Kind};
use outflow_model::mapping::SourceColumn;

use super::describe::Described;
use super::find::Found;
use super::gather::Gather;
use super::split::{Record, Splitter};
use super::text::{open, trouble};
use crate::config::FilesConfig;
use crate::error::SourceError;

/// Opens a file and reads its header: the columns' names, of which an empty file has none.
fn begin(path: &Path, config: &FilesConfig) -> Result<(Vec<String>, Splitter<BufReader<File>>), SourceError> {
    let mut records = Splitter::new(open(path)?, delimiter(path, config)?);
    let mut record = Record::default();
    if !records.read(&mut record).map_err(|reason| trouble(path, reason))? {
        return Ok((Vec::new(), records));
    }
    let name = |at| std::str::from_utf8(record.value(at)).map(|name| name.trim().to_owned());
    let names: Vec<String> = (0..record.len())
        .map(name)
        .collect::<Result<_, _>>()
        .map_err(|_| trouble(path, "line 1: a column's name is not UTF-8; save the file as UTF-8"))?;
    for (at, name) in names.iter().enumerate() {
        if !name.is_empty() && names.iter().skip(at + 1).any(|other| other == name) {
            return Err(trouble(path, format!("line 1: two columns are called \"{name}\"; rename one")));
        }
    }
    Ok((names, records))
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
    begin(path, config).map(|(names, _)| names)
}

/// Describes a file by its header and by whether a record follows.
pub(super) fn describe(file: &Found, config: &FilesConfig, wanted: &[String]) -> Result<Described, SourceError> {
    let (names, mut records) = begin(&file.path, config)?;
    if let [only] = names.as_slice()
        && !wanted.iter().all(|name| name == only)
        && let Some(other) = [';', '\t', '|', ','].into_iter().find(|other| only.contains(*other))
    {
        let reason = format!("line 1: it names one column, with {other:?} in it; set `delimiter: {other:?}`");
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
    file: &Found,
    config: &FilesConfig,
    wanted: &[SourceColumn],
    gather: &mut Gather<'_>,
) -> Result<bool, SourceError> {
    let (names, mut records) = begin(&file.path, config)?;
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
