//! Which files a model names.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, Pattern};

use super::stamp::Stamp;
use super::text::trouble;
use crate::config::FileFormat;
use crate::error::SourceError;

/// Endings of compressed files and archives, which are not read.
const COMPRESSED: [&str; 11] = ["gz", "gzip", "zst", "bz2", "xz", "lz4", "br", "zip", "7z", "tar", "snappy"];

/// Folders that a table format keeps beside its data files. The files alone hold rows that the table no longer has.
const TABLES: [(&str, &str); 2] = [("_delta_log", "Delta Lake"), (".hoodie", "Hudi")];

/// Reading it may never end, and each read gives something else.
const IRREGULAR: &str = "it is not a regular file but a pipe, a socket or a device, which is not read; remove it, or leave it out \
                         with a pattern in `files:`";

const LITERAL: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };

/// A file and how to read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// Its name in messages: the path below the source's folder.
    pub(super) label: String,
    pub(super) format: FileFormat,
    pub(super) stamp: Stamp,
}

/// What `files:` of a model says, taken apart.
struct Wanted {
    /// The folder or file before the first component with `*`, `?` or `[`.
    base: PathBuf,
    /// The rest.
    pattern: Option<Pattern>,
    /// How many folders below `base` may hold matches; none where `**` allows any.
    depth: Option<usize>,
    /// First characters of components that the pattern itself names.
    named: String,
}

/// Finds the files that `pattern` names below `folder`, sorted, so that every run reads them in the same order.
///
/// Names that begin with `.` or `_` are left out unless the pattern names them. A file that would have to be passed over is an
/// error: its rows would be missing, and a mirror would remove them.
pub(super) fn find(folder: &Path, pattern: &str, format: Option<FileFormat>) -> Result<Vec<Found>, SourceError> {
    let wanted = take_apart(folder, pattern)?;
    let mut files = Vec::new();
    if wanted.pattern.is_none() && wanted.base.is_file() {
        files.push(wanted.base.clone());
    } else if wanted.base.is_dir() {
        walk(&wanted, &mut files)?;
    } else if wanted.base.exists() {
        return Err(trouble(&wanted.base, IRREGULAR));
    }
    if files.is_empty() {
        for named in [folder, wanted.base.as_path()] {
            if matches!(named.try_exists(), Ok(false)) {
                return Err(SourceError::absent(named));
            }
        }
        return Err(trouble(&folder.join(pattern), "no file matches"));
    }
    files.sort();
    files.into_iter().map(|path| found(folder, path, format)).collect()
}

fn found(folder: &Path, path: PathBuf, format: Option<FileFormat>) -> Result<Found, SourceError> {
    let format = format.or_else(|| format_of(&path)).ok_or_else(|| trouble(&path, unreadable(&path)))?;
    let label = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
    let stamp = Stamp::of(&path)?;
    Ok(Found { path, label, format, stamp })
}

fn ending(path: &Path) -> Option<String> {
    path.extension()?.to_str().map(str::to_ascii_lowercase)
}

/// The format that a file's ending stands for.
pub(super) fn format_of(path: &Path) -> Option<FileFormat> {
    match ending(path)?.as_str() {
        "parquet" | "pq" => Some(FileFormat::Parquet),
        "csv" | "tsv" => Some(FileFormat::Csv),
        "ndjson" | "jsonl" => Some(FileFormat::Ndjson),
        _ => None,
    }
}

fn unreadable(path: &Path) -> String {
    let ending = ending(path);
    let what = match ending.as_deref() {
        Some(ending) if COMPRESSED.contains(&ending) => "compressed files are not read; decompress it",
        Some("json") => {
            "the ending .json is not known; if it has one object per line, name it .ndjson or set `format: ndjson`"
        }
        _ => "its ending is not one of .parquet, .pq, .csv, .tsv, .ndjson, .jsonl; set `format:` or rename it",
    };
    format!("{what}, or leave it out with a pattern in `files:`. Its rows would be missing")
}

fn take_apart(folder: &Path, pattern: &str) -> Result<Wanted, SourceError> {
    let whole = folder.join(pattern);
    let literal = |path: PathBuf| Wanted { base: path, pattern: None, depth: None, named: String::new() };
    if whole.exists() {
        return Ok(literal(whole));
    }
    let parts: Vec<Component<'_>> = Path::new(pattern).components().collect();
    let is_wild = |part: &Component<'_>| part.as_os_str().to_string_lossy().contains(['*', '?', '[']);
    let Some(first) = parts.iter().position(is_wild) else { return Ok(literal(whole)) };
    let (before, after) = parts.split_at(first);
    let base = before.iter().fold(folder.to_owned(), |base, part| base.join(part));
    let names: Vec<String> = after.iter().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    let compiled = Pattern::new(&names.join("/")).map_err(|error| trouble(&whole, error.to_string()))?;
    Ok(Wanted {
        base,
        pattern: Some(compiled),
        depth: (!names.iter().any(|name| name == "**")).then_some(names.len()),
        named: names.iter().filter_map(|name| name.chars().next()).collect(),
    })
}

/// Collects the files below the base that match. Links are followed, each folder is entered once.
fn walk(wanted: &Wanted, files: &mut Vec<PathBuf>) -> Result<(), SourceError> {
    let mut entered = BTreeSet::new();
    let mut folders = vec![(wanted.base.clone(), 1)];
    while let Some((folder, depth)) = folders.pop() {
        let real = folder.canonicalize().map_err(|error| trouble(&folder, error.to_string()))?;
        if !entered.insert(real) {
            continue;
        }
        for entry in std::fs::read_dir(&folder).map_err(|error| trouble(&folder, error.to_string()))? {
            let entry = entry.map_err(|error| trouble(&folder, error.to_string()))?;
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if let Some((_, table)) = TABLES.iter().find(|(known, _)| *known == name) {
                let reason = format!("the folder is a {table} table; its files hold rows that the table no longer has");
                return Err(trouble(&folder, reason));
            }
            let is_hidden = name.starts_with(['.', '_']);
            if is_hidden && !name.chars().next().is_some_and(|first| wanted.named.contains(first)) {
                continue;
            }
            if path.is_dir() {
                if wanted.depth.is_none_or(|most| depth < most) {
                    folders.push((path, depth + 1));
                }
            } else if matches(wanted, &path) {
                if !path.exists() {
                    return Err(trouble(&path, "the link leads nowhere"));
                }
                if !path.is_file() {
                    return Err(trouble(&path, IRREGULAR));
                }
                files.push(path);
            }
        }
    }
    Ok(())
}

/// True for what the pattern names, and for its compressed form, which must not be passed over.
fn matches(wanted: &Wanted, path: &Path) -> bool {
    let Some(pattern) = &wanted.pattern else { return true };
    let Ok(below) = path.strip_prefix(&wanted.base) else { return false };
    let is_compressed = ending(path).is_some_and(|ending| COMPRESSED.contains(&ending.as_str()));
    pattern.matches_path_with(below, LITERAL)
        || (is_compressed && pattern.matches_path_with(&below.with_extension(""), LITERAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(names: &[&str]) -> std::io::Result<tempfile::TempDir> {
        let folder = tempfile::tempdir()?;
        for name in names {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap_or(folder.path()))?;
            std::fs::write(path, "email\na@x.io\n")?;
        }
        Ok(folder)
    }

    fn names(folder: &Path, pattern: &str) -> Result<Vec<String>, String> {
        find(folder, pattern, None)
            .map(|found| found.into_iter().map(|file| file.label).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn hidden_and_temporary_names_are_left_out_unless_named() -> std::io::Result<()> {
        let folder = folder(&[
            "p/a.csv",
            "p/b.CSV",
            "p/sub/c.ndjson",
            "p/._a.csv",
            "p/.ipynb_checkpoints/a-checkpoint.csv",
            "p/_temporary/0/b.csv",
            "p/_SUCCESS",
            "p/.~lock.a.csv#",
            "_named.csv",
        ])?;
        let all = ["p/a.csv", "p/b.CSV", "p/sub/c.ndjson"].map(str::to_owned).to_vec();
        assert_eq!(names(folder.path(), "p"), Ok(all.clone()));
        assert_eq!(names(folder.path(), "p/**/*"), Ok(all));
        assert_eq!(names(folder.path(), "p/*.csv"), Ok(vec!["p/a.csv".to_owned()]));
        assert_eq!(names(folder.path(), "_named.csv"), Ok(vec!["_named.csv".to_owned()]));
        assert_eq!(names(folder.path(), "_*.csv"), Ok(vec!["_named.csv".to_owned()]));
        Ok(())
    }

    #[test]
    fn a_file_that_would_be_passed_over_is_an_error() -> std::io::Result<()> {
        for (other, pattern, said) in [
            ("p/b.csv.gz", "p", "compressed files are not read"),
            ("p/b.csv.gz", "p/*.csv", "compressed files are not read"),
            ("p/b.json", "p", "the ending .json is not known"),
            ("p/b.csv.bak", "p", "its ending is not one of"),
            ("p/_delta_log/0.json", "p", "Delta Lake table"),
        ] {
            let folder = folder(&["p/a.csv", other])?;
            let error = names(folder.path(), pattern).err().unwrap_or_default();
            assert!(error.contains(said), "{other} {pattern}: {error}");
        }
        let folder = folder(&["p/a.csv", "p/b.json"])?;
        assert_eq!(names(folder.path(), "p/*.csv"), Ok(vec!["p/a.csv".to_owned()]));
        std::os::unix::fs::symlink("nowhere", folder.path().join("p/c.csv"))?;
        let error = names(folder.path(), "p/*.csv").err().unwrap_or_default();
        assert!(error.contains("the link leads nowhere"), "{error}");
        Ok(())
    }

    #[test]
    fn what_is_not_a_regular_file_is_named_and_not_opened() -> std::io::Result<()> {
        let folder = folder(&["p/a.csv"])?;
        let path = |name: &str| folder.path().join(name);
        let _socket = std::os::unix::net::UnixListener::bind(path("p/b.csv"))?;
        std::os::unix::fs::symlink("/dev/zero", path("c.csv"))?;
        for (pattern, named) in [("p", "p/b.csv"), ("p/*.csv", "p/b.csv"), ("p/b.csv", "p/b.csv"), ("c.csv", "c.csv")] {
            let error = names(folder.path(), pattern).err().unwrap_or_default();
            assert!(error.contains(named) && error.contains("it is not a regular file"), "{pattern}: {error}");
        }
        assert_eq!(names(folder.path(), "p/a*.csv"), Ok(vec!["p/a.csv".to_owned()]));
        Ok(())
    }

    #[test]
    fn brackets_in_folders_are_letters() -> std::io::Result<()> {
        let folder = folder(&["x[1]/data[26]/a.csv", "x[1]/data[26]/b.csv", "x[1]/c[2].csv"])?;
        let inner = folder.path().join("x[1]");
        assert_eq!(names(&inner, "data[26]"), Ok(vec!["data[26]/a.csv".to_owned(), "data[26]/b.csv".to_owned()]));
        assert_eq!(names(&inner.join("data[26]"), "[ab].csv"), Ok(vec!["a.csv".to_owned(), "b.csv".to_owned()]));
        assert_eq!(names(&inner, "c[2].csv"), Ok(vec!["c[2].csv".to_owned()]));
        Ok(())
    }

    #[test]
    fn linked_folders_are_read_once() -> std::io::Result<()> {
        let folder = folder(&["p/a.csv", "other/b.csv"])?;
        std::os::unix::fs::symlink("../other", folder.path().join("p/linked"))?;
        std::os::unix::fs::symlink("..", folder.path().join("other/back"))?;
        let found = names(folder.path(), "p").unwrap_or_default();
        assert_eq!(found.iter().filter(|name| name.ends_with("b.csv")).count(), 1, "{found:?}");
        Ok(())
    }
}
