//! The columns of files that are read as one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use outflow_model::cell::Kind;
use outflow_model::mapping::SourceColumn;

use super::text::trouble;
use crate::error::SourceError;

/// What a file says about its columns.
pub(super) struct Described {
    /// Names and kinds; a column of nulls alone has no kind.
    pub(super) columns: Vec<(String, Option<Kind>)>,
    /// False if it is known to have no row. Such a file has no say.
    pub(super) has_rows: bool,
    /// It may have columns beside those.
    pub(super) is_open: bool,
}

/// The columns of all files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Columns {
    pub(super) all: Vec<SourceColumn>,
    /// Those of them that no file declares: some row of a file whose columns are not all known must have each.
    pub(super) guessed: BTreeSet<String>,
}

/// The columns of all files, those of the first file first.
///
/// Whole, decimal and floating-point numbers are one number: if files differ, its digits. Another difference in a wanted column is
/// an error that names both files.
pub(super) fn merge<'a>(
    files: impl IntoIterator<Item = (&'a Path, Described)>,
    wanted: &[String],
) -> Result<Columns, SourceError> {
    let (full, empty): (Vec<_>, Vec<_>) = files.into_iter().partition(|(_, file)| file.has_rows);
    let files = if full.is_empty() { empty } else { full };
    let mut merged = Merged::default();
    for (path, file) in &files {
        for (name, kind) in &file.columns {
            merged.add(path, name, *kind, wanted)?;
        }
    }
    let mut guessed = BTreeSet::new();
    if files.iter().any(|(_, file)| file.is_open) {
        guessed.extend(wanted.iter().filter(|name| !merged.places.contains_key(*name)).cloned());
        merged.columns.extend(guessed.iter().map(|name| (name.clone(), Some(Kind::Json))));
    }
    let column = |(name, kind): (String, Option<Kind>)| SourceColumn { name, kind: kind.unwrap_or(Kind::Text) };
    Ok(Columns { all: merged.columns.into_iter().map(column).collect(), guessed })
}

#[derive(Default)]
struct Merged<'a> {
    columns: Vec<(String, Option<Kind>)>,
    /// Each column's place, and the file that its kind is from.
    places: BTreeMap<String, (usize, &'a Path)>,
}

impl<'a> Merged<'a> {
    fn add(&mut self, path: &'a Path, name: &str, kind: Option<Kind>, wanted: &[String]) -> Result<(), SourceError> {
        let Some((at, first)) = self.places.get_mut(name) else {
            self.places.insert(name.to_owned(), (self.columns.len(), path));
            self.columns.push((name.to_owned(), kind));
            return Ok(());
        };
        let Some((_, known)) = self.columns.get_mut(*at) else { return Ok(()) };
        match (*known, kind) {
            (_, None) => {}
            (None, Some(_)) => (*known, *first) = (kind, path),
            (Some(a), Some(b)) if a == b => {}
            (Some(a), Some(b)) if is_number(a) && is_number(b) => *known = Some(Kind::Decimal),
            (Some(a), Some(b)) if wanted.iter().any(|wanted| wanted == name) => {
                let first = first.display();
                let reason = format!("its column \"{name}\" is {}, but {} in {first}", b.name(), a.name());
                return Err(trouble(path, reason));
            }
            _ => {}
        }
        Ok(())
    }
}

const fn is_number(kind: Kind) -> bool {
    matches!(kind, Kind::Int | Kind::Float | Kind::Decimal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(columns: &[(&str, Option<Kind>)], has_rows: bool) -> Described {
        let columns = columns.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect();
        Described { columns, has_rows, is_open: false }
    }

    fn merged(files: Vec<Described>) -> Result<Vec<(String, Kind)>, String> {
        let names = ["a.csv", "b.csv", "c.csv"].map(Path::new);
        let merged = merge(names.into_iter().zip(files), &["n".to_owned()]).map_err(|error| error.to_string())?;
        Ok(merged.all.into_iter().map(|column| (column.name, column.kind)).collect())
    }

    #[test]
    fn numbers_of_several_files_are_one_number() {
        for (other, kind) in [(Kind::Int, Kind::Int), (Kind::Float, Kind::Decimal), (Kind::Decimal, Kind::Decimal)] {
            let files = vec![file(&[("n", Some(Kind::Int))], true), file(&[("n", Some(other)), ("m", None)], true)];
            assert_eq!(merged(files), Ok(vec![("n".to_owned(), kind), ("m".to_owned(), Kind::Text)]));
        }
    }

    #[test]
    fn a_conflict_names_both_files_and_files_without_rows_have_no_say() {
        let files = || [file(&[("n", Some(Kind::Int))], true), file(&[("n", None)], true)];
        let [a, b] = files();
        let error = merged(vec![a, b, file(&[("n", Some(Kind::Text))], true)]).err().unwrap_or_default();
        assert_eq!(error, "Cannot read c.csv: its column \"n\" is text, but int in a.csv");
        let [a, b] = files();
        assert_eq!(merged(vec![a, b, file(&[("n", Some(Kind::Text))], false)]), Ok(vec![("n".to_owned(), Kind::Int)]));
        assert_eq!(merged(vec![file(&[("n", None)], false)]), Ok(vec![("n".to_owned(), Kind::Text)]));
    }

    #[test]
    fn a_conflict_in_a_column_that_is_not_wanted_is_none() {
        let files = [Kind::Int, Kind::Text].map(|kind| file(&[("n", Some(Kind::Int)), ("other", Some(kind))], true));
        assert_eq!(merged(files.into()).map(|columns| columns.len()), Ok(2));
    }
}
