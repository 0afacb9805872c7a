//! NDJSON: every value with the type and the digits that it is written with.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::fs::File;

use outflow_model::cell::{Cell, Kind};
use outflow_model::json;
use outflow_model::mapping::SourceColumn;
use outflow_model::suggest::did_you_mean;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::describe::Described;
use super::find::Found;
use super::gather::Gather;
use super::text::{begin, read_line, trouble};
use crate::error::SourceError;

/// Bytes that are looked through for the names of columns. What lies behind them may have others. In tests all is smaller.
pub(super) const LOOK: usize = if cfg!(test) { 64 * 1024 } else { 64 * 1024 * 1024 };
/// Names that are kept for suggestions.
const NAMES: usize = 1_000;

/// The value of a wanted column in one line.
#[derive(Clone, Copy)]
enum Value<'a> {
    /// The name is not there, or null.
    Null,
    Raw(&'a str),
    /// The name is there twice: which of the values is meant cannot be known.
    Twice,
}

/// One object, of which `take` gets each member.
struct Object<F>(F);

impl<'de, F: FnMut(&'de str, Option<&'de RawValue>) -> bool> Visitor<'de> for Object<F> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<&'de RawValue>()? {
            if (self.0)(name.get(), None) {
                let value = map.next_value::<&'de RawValue>()?;
                (self.0)(name.get(), Some(value));
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// A member's name, which stands in its quotes; none if it is no text.
fn name(quoted: &str) -> Option<Cow<'_, str>> {
    if quoted.contains('\\') {
        return serde_json::from_str::<String>(quoted).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default()))
}

/// Calls `take` with each member's name, and again with its value if the first call answers true. The error is a reason.
fn members<'a>(line: &'a str, take: impl FnMut(&'a str, Option<&'a RawValue>) -> bool) -> Result<(), String> {
    let mut reader = serde_json::Deserializer::from_str(line);
    let read = reader.deserialize_map(Object(take)).and_then(|()| reader.end());
    // Serde's messages repeat values.
    read.map_err(|error| match line.trim_start().bytes().next() {
        Some(b'{') => format!("it is not valid JSON (column {})", error.column()),
        Some(b'[') => "it is not a JSON object; NDJSON has one object per line, and no list around them".to_owned(),
        _ => "it is not a JSON object; NDJSON has one object per line".to_owned(),
    })
}

/// Calls `each` with each line that holds something, its number and whether it is UTF-8, until that answers false.
fn lines(
    (file, opened): (&Found, &File),
    mut each: impl FnMut(&str, bool, u64) -> Result<bool, SourceError>,
) -> Result<bool, SourceError> {
    let mut input = begin(opened, &file.path)?;
    let (mut line, mut number) = (Vec::new(), 1);
    let at = |number: u64, reason: String| trouble(&file.path, format!("line {number}: {reason}"));
    while read_line(&mut input, &mut line).map_err(|reason| at(number, reason))? {
        let text = String::from_utf8_lossy(&line);
        let is_text = matches!(text, Cow::Borrowed(_));
        if !text.trim().is_empty() && !each(&text, is_text, number)? {
            return Ok(false);
        }
        number += 1;
    }
    Ok(true)
}

/// What was seen of the wanted columns in all lines so far.
pub(super) struct Seen {
    wanted: Vec<bool>,
    has_rows: bool,
    /// Other names, for a suggestion.
    others: BTreeSet<String>,
}

impl Seen {
    pub(super) fn new(wanted: &[SourceColumn]) -> Self {
        Self { wanted: vec![false; wanted.len()], has_rows: false, others: BTreeSet::new() }
    }

    /// Checks that each wanted column that was guessed was there in some line, if there was one.
    pub(super) fn check(&self, wanted: &[SourceColumn], guessed: &BTreeSet<String>) -> Result<(), SourceError> {
        let is_missing = |seen: bool, column: &SourceColumn| !seen && self.has_rows && guessed.contains(&column.name);
        match self.wanted.iter().zip(wanted).find(|(seen, column)| is_missing(**seen, column)) {
            None => Ok(()),
            Some((_, column)) => Err(SourceError::Column {
                name: column.name.clone(),
                hint: did_you_mean(&column.name, self.others.iter().map(String::as_str)),
            }),
        }
    }

    fn other(&mut self, name: Option<Cow<'_, str>>) {
        if let Some(name) = name
            && self.others.len() < NAMES
            && self.wanted.contains(&false)
            && !self.others.contains(&*name)
        {
            self.others.insert(name.into_owned());
        }
    }
}

/// Describes a file by the names in its first lines, or in all until each wanted one was seen.
pub(super) fn describe((file, opened): (&Found, &File), wanted: &[String]) -> Result<Described, SourceError> {
    let (mut names, mut looked, mut has_rows) = (Vec::new(), 0, false);
    let mut known = BTreeSet::new();
    let is_whole = lines((file, opened), |line, _, number| {
        has_rows = true;
        members(line, |quoted, _| {
            if let Some(name) = name(quoted)
                && !known.contains(&*name)
                && (known.len() < NAMES || wanted.iter().any(|wanted| *wanted == name))
            {
                known.insert(name.clone().into_owned());
                names.push(name.into_owned());
            }
            false
        })
        .map_err(|reason| trouble(&file.path, format!("line {number}: {reason}")))?;
        looked += line.len();
        Ok(looked < LOOK && !wanted.iter().all(|name| known.contains(name)))
    })?;
    let columns = names.into_iter().map(|name| (name, Some(Kind::Json))).collect();
    Ok(Described { columns, has_rows, is_open: !is_whole || !has_rows })
}

/// Passes a file's rows on; false if no more are wanted. `seen` learns which wanted columns some line had.
pub(super) fn read(
    (file, opened): (&Found, &File),
    wanted: &[SourceColumn],
    seen: &mut Seen,
    gather: &mut Gather<'_>,
) -> Result<bool, SourceError> {
    let places: HashMap<&str, usize> = wanted.iter().enumerate().map(|(at, c)| (c.name.as_str(), at)).collect();
    lines((file, opened), |line, is_text, number| {
        let mut values = vec![Value::Null; wanted.len()];
        members(line, |quoted, value| {
            let name = name(quoted);
            let Some(at) = name.as_deref().and_then(|name| places.get(name).copied()) else {
                seen.other(name);
                return false;
            };
            if let (Some(value), Some(slot)) = (value, values.get_mut(at)) {
                *slot = if matches!(slot, Value::Null) { Value::Raw(value.get()) } else { Value::Twice };
            }
            true
        })
        .map_err(|reason| trouble(&file.path, format!("line {number}: {reason}")))?;
        seen.has_rows = true;
        for (at, value) in values.into_iter().enumerate() {
            if let (Value::Raw(_) | Value::Twice, Some(seen)) = (value, seen.wanted.get_mut(at)) {
                *seen = true;
            }
            if let Err(reason) = push(value, is_text, at, gather) {
                gather.fault(at, format!("{reason} ({}, line {number})", file.label));
            }
        }
        gather.end_row()
    })
}

fn push(value: Value<'_>, is_text: bool, at: usize, gather: &mut Gather<'_>) -> Result<(), String> {
    match value {
        Value::Null | Value::Raw("null") => gather.push(at, Cell::Null),
        Value::Twice => Err("the name is there twice in one object".to_owned()),
        Value::Raw(raw) if !is_text && raw.contains(char::REPLACEMENT_CHARACTER) => {
            Err("the value is not UTF-8".to_owned())
        }
        Value::Raw(raw) => {
            // The line is valid JSON; what its escapes stand for was not looked at.
            if raw.contains("\\u") {
                json::check(raw).map_err(|error| error.to_string())?;
            }
            gather.push(at, Cell::Json(raw))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(text: &[u8]) -> Result<(Vec<String>, Vec<String>), String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let path = folder.path().join("a.ndjson");
        std::fs::write(&path, text).map_err(|error| error.to_string())?;
        let file = super::super::find::find(folder.path(), "a.ndjson", None).map_err(|error| error.to_string())?;
        let opened = File::open(&path).map_err(|error| error.to_string())?;
        let wanted = ["id", "v"].map(|name| SourceColumn { name: name.to_owned(), kind: Kind::Json });
        let (mut values, mut faults) = (Vec::new(), Vec::new());
        let mut send = |batch: crate::port::Batch| {
            let column = arrow_array::cast::AsArray::as_string::<i32>(batch.records.column(1));
            values.extend(column.iter().map(|value| value.unwrap_or("-").to_owned()));
            faults.extend(batch.faults.iter().map(|fault| fault.reason.to_string()));
            true
        };
        let mut gather = Gather::new(&wanted, &mut send);
        let reason = |error: SourceError| {
            let said = error.to_string();
            said.rsplit_once("a.ndjson: ").map_or(said.clone(), |(_, reason)| reason.to_owned())
        };
        read((&file[0], &opened), &wanted, &mut Seen::new(&wanted), &mut gather).map_err(reason)?;
        gather.flush().map_err(reason)?;
        Ok((values, faults))
    }

    #[test]
    fn values_keep_their_type_and_their_digits() {
        let text = "\u{feff}{\"id\":1,\"v\":1.750}\r\n\n{\"v\":\"00789\"}\n{\"v\": {\"n\":12.990, \"late\":null}}\n{\"v\":null}\n{}\n{\"\\u0076\":1e400}\n{\"v\":\"\u{fffd}\"}";
        let (values, faults) = read_all(text.as_bytes()).unwrap_or_default();
        let wanted = ["1.750", "\"00789\"", "{\"n\":12.990, \"late\":null}", "-", "-", "1e400", "\"\u{fffd}\""];
        assert_eq!(values, wanted);
        assert!(faults.is_empty(), "{faults:?}");
    }

    #[test]
    fn a_value_that_cannot_be_had_makes_its_row_invalid() {
        let text =
            b"{\"v\":\"\\ud83d\"}\n{\"v\":1,\"v\":2}\n{\"v\":\"Caf\xe9\"}\n{\"v\":3,\"other\":\"\\ud83d \xe9\"}\n";
        let (values, faults) = read_all(text).unwrap_or_default();
        assert_eq!(values, ["-", "-", "-", "3"]);
        let wanted = [
            "the JSON holds half of a surrogate pair, which is not a character (a.ndjson, line 1)",
            "the name is there twice in one object (a.ndjson, line 2)",
            "the value is not UTF-8 (a.ndjson, line 3)",
        ];
        assert_eq!(faults, wanted);
    }

    #[test]
    fn a_line_that_is_not_an_object_is_told_without_its_values() {
        for (text, reason) in [
            ("{\"v\":1}\n\n{\"v\":secret}", "line 3: it is not valid JSON (column 6)"),
            ("{\"v\":1}{\"v\":2}", "line 1: it is not valid JSON (column 8)"),
            ("{\"v\":1}\n\"secret\"", "line 2: it is not a JSON object; NDJSON has one object per line"),
            ("[{\"v\":1}]", "line 1: it is not a JSON object; NDJSON has one object per line, and no list around them"),
        ] {
            assert_eq!(read_all(text.as_bytes()).err().as_deref(), Some(reason));
        }
        let deep = format!("{{\"id\":{}{},\"v\":1}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(read_all(deep.as_bytes()).map(|(values, _)| values), Ok(vec!["1".to_owned()]));
    }
}
