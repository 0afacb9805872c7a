//! Where in a manifest a mistake is.

use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What is wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError {
    /// Each mistake, in the order of their lines.
    pub problems: Vec<ManifestProblem>,
}

/// A mistake in a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestProblem {
    /// The line, from 1.
    pub line: u64,
    /// The column, from 1.
    pub column: u64,
    /// The key, as a path with dots; empty where it is about the whole file.
    pub key: String,
    /// What is wrong and what to do.
    pub reason: String,
}

impl fmt::Display for ManifestProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.reason)
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problems: Vec<String> = self.problems.iter().map(ManifestProblem::to_string).collect();
        f.write_str(&problems.join("\n"))
    }
}

impl std::error::Error for ManifestError {}

/// A mistake as the lint finds it.
pub(super) struct Mistake {
    /// The names and positions that lead to its key.
    pub(super) path: Vec<String>,
    pub(super) reason: String,
}

/// Mistakes at their places in `text`.
pub(super) fn placed(text: &str, mistakes: Vec<Mistake>) -> ManifestError {
    let document = DeTable::parse(text).ok();
    let mut problems: Vec<ManifestProblem> = mistakes
        .into_iter()
        .map(|Mistake { path, reason }| {
            let offset = document.as_ref().map_or(0, |document| offset(document.get_ref(), &path));
            let (line, column) = position(text, offset);
            ManifestProblem { line, column, key: path.join("."), reason }
        })
        .collect();
    problems.sort_by(|one, other| (one.line, one.column, &one.reason).cmp(&(other.line, other.column, &other.reason)));
    problems.dedup();
    ManifestError { problems }
}

/// A text that is no manifest.
pub(super) fn unreadable(text: &str, error: &toml::de::Error) -> ManifestError {
    let (line, column) = position(text, error.span().map_or(0, |span| span.start));
    let reason = error.message().trim_end().replace('\n', " ");
    ManifestError { problems: vec![ManifestProblem { line, column, key: String::new(), reason }] }
}

/// Where the key is, or the innermost table that would hold it.
fn offset(document: &DeTable<'_>, path: &[String]) -> usize {
    let Some((first, mut rest)) = path.split_first() else { return 0 };
    let Some((name, mut value)) = member(document, first) else { return 0 };
    let mut found = name;
    while let Some((next, after)) = rest.split_first() {
        rest = after;
        match value.get_ref() {
            DeValue::Table(table) => match member(table, next) {
                Some((name, inner)) => (found, value) = (name, inner),
                None => return found,
            },
            DeValue::Array(items) => match next.parse::<usize>().ok().and_then(|at| items.get(at)) {
                Some(inner) => (found, value) = (inner.span().start, inner),
                None => return found,
            },
            _ => return found,
        }
    }
    found
}

fn member<'a>(table: &'a DeTable<'a>, name: &str) -> Option<(usize, &'a Spanned<DeValue<'a>>)> {
    table.iter().find(|(key, _)| key.get_ref() == name).map(|(key, value)| (key.span().start, value))
}

fn position(text: &str, offset: usize) -> (u64, u64) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() as u64 + 1;
    let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) as u64 + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use crate::manifest::Manifest;

    #[test]
    fn a_mistake_has_its_line_and_its_key() {
        let text = "name = \"a\"\ntitle = \"A\"\n[objects.people]\nmodes = [\"upsert\"]\n[operations.upsert]\nmethod = \"POST\"\n\
                    path = \"/x/{workspce}\"\nrecords = 10\nbody = \"$record\"\n";
        let error = Manifest::parse(text).unwrap_err();
        let placed: Vec<_> = error.problems.iter().map(|p| (p.line, p.column, p.key.as_str())).collect();
        assert_eq!(placed, [(7, 1, "operations.upsert.path"), (8, 1, "operations.upsert.records")], "{error}");
        let error = Manifest::parse("name = \"a\"\ntitle = 1\n").unwrap_err();
        assert_eq!((error.problems[0].line, error.problems[0].key.as_str()), (2, ""), "{error}");
    }
}
