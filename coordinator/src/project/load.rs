//! Reading a project's files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use outflow_sources::{FilesQuery, Query, Sql};

use super::config::{ModelConfig, ProjectConfig, SyncConfig};
use super::yaml::{Document, Problem};

/// A model: its settings and what it asks its source for.
#[derive(Clone, Debug)]
pub struct Model {
    /// Its settings.
    pub config: ModelConfig,
    /// What it asks for.
    pub query: Query,
    pub(crate) document: Document,
}

/// A sync as written.
#[derive(Clone, Debug)]
pub struct Sync {
    /// Its settings.
    pub config: SyncConfig,
    pub(crate) document: Document,
}

/// A project as written.
#[derive(Clone, Debug)]
pub struct Project {
    /// Its folder.
    pub root: PathBuf,
    /// `outflow.yml`.
    pub config: ProjectConfig,
    /// Models by name.
    pub models: BTreeMap<String, Model>,
    /// Syncs by name.
    pub syncs: BTreeMap<String, Sync>,
    pub(crate) document: Document,
    mistakes: Vec<Problem>,
}

impl Project {
    /// The mistakes of files that could not be read; what they are about is left out, the rest can be used.
    pub fn mistakes(&self) -> &[Problem] {
        &self.mistakes
    }

    /// The names of all syncs, those with mistakes too.
    pub fn names(&self) -> BTreeSet<String> {
        let broken = self.mistakes.iter().filter(|mistake| mistake.file.starts_with("syncs/"));
        let broken =
            broken.map(|mistake| Path::new(&mistake.file)).filter(|path| path.parent() == Some(Path::new("syncs")));
        self.syncs.keys().cloned().chain(broken.map(stem)).collect()
    }

    /// The mistakes of files below syncs/ that are not read, so that they belong to no sync.
    pub fn unread_syncs(&self) -> impl Iterator<Item = &Problem> {
        let is_unread = |mistake: &&Problem| {
            mistake.file.starts_with("syncs/") && Path::new(&mistake.file).parent() != Some(Path::new("syncs"))
        };
        self.mistakes.iter().filter(is_unread)
    }

    /// The mistakes of the files `folder/name.*`.
    pub(super) fn mistakes_of(&self, folder: &str, name: &str) -> Vec<Problem> {
        let is_its = |file: &str| Path::new(file).with_extension("") == Path::new(folder).join(name);
        self.mistakes.iter().filter(|mistake| is_its(&mistake.file)).cloned().collect()
    }

    /// A mistake at `field` of `outflow.yml`.
    pub fn problem(&self, field: &str, reason: impl Into<String>) -> Problem {
        self.document.problem(field, reason)
    }

    /// Reads the project in `root`. A model or sync that cannot be read is among its mistakes and stops no other.
    pub fn load(root: &Path) -> Result<Self, Vec<Problem>> {
        let text = read(root, Path::new("outflow.yml")).map_err(|mut problem| {
            let other = root.join("outflow.yaml").exists();
            let remedy = if other { "Call outflow.yaml outflow.yml." } else { "Make a project with `outflow init`." };
            problem.reason = format!("{} {remedy}", problem.reason);
            vec![problem]
        })?;
        let (config, document) =
            Document::read::<ProjectConfig>("outflow.yml", &text, 0).map_err(|problem| vec![problem])?;
        if config.version != 1 {
            let reason = "This Outflow reads version 1; upgrade Outflow or write 1.";
            return Err(vec![document.problem("version", reason)]);
        }
        let mut mistakes = Vec::new();
        let (mut models, mut syncs) = (BTreeMap::new(), BTreeMap::new());
        for folder in ["models", "syncs"] {
            mistakes.extend(misplaced(root, folder));
        }
        for path in files(root, "models", &["sql", "yml", "yaml"]) {
            let name = stem(&path);
            if is_yaml(&path) && root.join(path.with_extension("sql")).exists() {
                continue;
            }
            match load_model(root, &path) {
                Ok(model) => _ = models.insert(name, model),
                Err(problem) => mistakes.push(problem),
            }
        }
        for path in files(root, "syncs", &["yml", "yaml"]) {
            let named = named(&path).and_then(|()| read(root, &path));
            match named.and_then(|text| Document::read::<SyncConfig>(&path.to_string_lossy(), &text, 0)) {
                Ok((mut config, document)) => {
                    mistakes.extend(document.keep_digits(&mut config.mapping));
                    syncs.insert(stem(&path), Sync { config, document });
                }
                Err(problem) => mistakes.push(problem),
            }
        }
        Ok(Self { root: root.to_owned(), config, models, syncs, document, mistakes })
    }
}

/// A model's settings stand in front matter between two `---` lines, or in a YAML file beside it.
fn load_model(root: &Path, path: &Path) -> Result<Model, Problem> {
    let name = path.to_string_lossy().into_owned();
    let text = read(root, path)?;
    if is_yaml(path) {
        let (config, document) = Document::read::<ModelConfig>(&name, &text, 0)?;
        let files = config.files.clone();
        let files =
            files.ok_or_else(|| document.problem("files", "Name the files, or put SQL into a .sql file beside."))?;
        let query = of_files(files, &config);
        return Ok(Model { config, query, document });
    }
    let beside = ["yml", "yaml"].map(|ending| path.with_extension(ending));
    let mut beside = beside.into_iter().filter(|beside| root.join(beside).exists());
    let (yaml, yaml_name, sql, above) = match (front_matter(&text), beside.next()) {
        (Some(_), Some(beside)) => {
            let reason =
                "The model's settings stand between its two lines `---`, and in this file. Remove one of the two.";
            return Err(about(&beside, reason.to_owned()));
        }
        (Some((above, yaml, sql)), None) => (yaml.to_owned(), name, sql.to_owned(), above),
        (None, beside) => {
            let beside = beside.ok_or_else(|| Problem {
                file: name,
                line: 1,
                column: 1,
                field: String::new(),
                reason: "Begin the file with a line `---`, then `source:` and `key:`, then a line `---`.".to_owned(),
            })?;
            (read(root, &beside)?, beside.to_string_lossy().into_owned(), text.clone(), 0)
        }
    };
    let (config, document) = Document::read::<ModelConfig>(&yaml_name, &yaml, above)?;
    if sql.trim().is_empty() && config.files.is_none() {
        return Err(document.problem("", "The model has no SQL."));
    }
    let line = (text.get(..text.len() - sql.len()).unwrap_or_default().matches('\n').count() + 1) as u32;
    let sql = Sql { text: sql, file: path.to_string_lossy().into_owned(), line };
    let query = config.files.clone().map_or(Query::Sql(sql), |files| of_files(files, &config));
    Ok(Model { config, query, document })
}

fn of_files(pattern: String, config: &ModelConfig) -> Query {
    Query::Files(FilesQuery { pattern, key: config.key.0.clone() })
}

/// The lines up to the front matter, its YAML, and the SQL behind it. Blank lines and comments may stand above.
fn front_matter(text: &str) -> Option<(u64, &str, &str)> {
    let is_fence = |line: &&str| line.trim_end() == "---";
    let mut lines = text.split_inclusive('\n');
    let (mut above, mut start) = (0, 0);
    loop {
        let line = lines.next()?;
        (above, start) = (above + 1, start + line.len());
        if is_fence(&line) {
            break;
        }
        if !line.trim().is_empty() && !line.trim_start().starts_with("--") {
            return None;
        }
    }
    let rest = text.get(start..)?;
    let mut end = 0;
    for line in rest.split_inclusive('\n') {
        if is_fence(&line) {
            return Some((above, rest.get(..end)?, rest.get(end + line.len()..)?));
        }
        end += line.len();
    }
    None
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "yml" || ending == "yaml")
}

/// Files that would be passed over, or of which one would hide another.
fn misplaced(root: &Path, folder: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    for path in files(root, folder, &["yaml"]) {
        let twin = path.with_extension("yml");
        if root.join(&twin).exists() {
            let reason = format!("{} has the same name. Remove one of the two.", twin.display());
            problems.push(about(&path, reason));
        }
    }
    for below in entries(root, folder).into_iter().filter(|path| root.join(path).is_dir()) {
        let below = below.to_string_lossy().into_owned();
        for path in files(root, &below, &["sql", "yml", "yaml"]) {
            problems
                .push(about(&path, format!("Files in folders below {folder}/ are not read. Move it to {folder}/.")));
        }
    }
    problems
}

fn about(path: &Path, reason: String) -> Problem {
    Problem { file: path.to_string_lossy().into_owned(), line: 0, column: 0, field: String::new(), reason }
}

/// A sync's name is part of the keys under which its snapshots are stored.
fn named(path: &Path) -> Result<(), Problem> {
    let name = stem(path);
    let begins = name.starts_with(|letter: char| letter.is_ascii_alphanumeric() || letter == '_');
    if begins && name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-')) {
        return Ok(());
    }
    Err(about(
        path,
        format!(
            "A sync cannot be called \"{name}\". Name its file with letters a to z, digits, `.`, `_` and `-`, a letter or digit first."
        ),
    ))
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn read(root: &Path, path: &Path) -> Result<String, Problem> {
    let bytes =
        std::fs::read(root.join(path)).map_err(|error| about(path, format!("The file cannot be read: {error}.")))?;
    let is_utf16 = matches!(bytes.as_slice(), [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..]);
    if is_utf16 {
        return Err(about(path, "The file is UTF-16. Save it as UTF-8.".to_owned()));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = 1 + error.as_bytes().iter().take(error.utf8_error().valid_up_to()).filter(|b| **b == b'\n').count();
        Problem { line: line as u64, column: 1, ..about(path, "The file is not UTF-8. Save it as UTF-8.".to_owned()) }
    })?;
    // Some editors begin a file with a byte order mark.
    match text.strip_prefix('\u{feff}') {
        Some(rest) => Ok(rest.to_owned()),
        None => Ok(text),
    }
}

/// Files of a folder of the project with one of these endings, sorted; `.sql` before the rest.
fn files(root: &Path, folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    let is_known = |path: &PathBuf| path.extension().is_some_and(|ending| endings.iter().any(|known| ending == *known));
    let mut found: Vec<PathBuf> = entries(root, folder).into_iter().filter(is_known).collect();
    found.sort_by_key(|path| (is_yaml(path), path.clone()));
    found
}

/// What lies in a folder of the project. Hidden files are an editor's or the system's, not the project's.
fn entries(root: &Path, folder: &str) -> Vec<PathBuf> {
    std::fs::read_dir(root.join(folder))
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
        .map(|entry| Path::new(folder).join(entry.file_name()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: &str = "---\nsource: db\nkey: id\n---\nSELECT 1 AS id\n";
    const SYNC: &str = "model: people\ndestination: crm\nobject: people\nmode: upsert\nmapping: { id: id }\n";

    fn load(files: &[(&str, &[u8])]) -> std::io::Result<Result<Vec<String>, Vec<String>>> {
        let folder = tempfile::tempdir()?;
        let project = "version: 1\nsources:\n  db: { type: sqlite, path: x.db }\ndestinations: {}\n";
        let own: [(&str, &[u8]); 3] = [
            ("outflow.yml", project.as_bytes()),
            ("models/people.sql", MODEL.as_bytes()),
            ("syncs/people.yml", SYNC.as_bytes()),
        ];
        for (name, text) in own.iter().chain(files) {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap_or(folder.path()))?;
            std::fs::write(path, text)?;
        }
        std::os::unix::fs::symlink("nobody@host.1", folder.path().join("syncs/.#people.yml"))?;
        let texts = |problems: &[Problem]| problems.iter().map(ToString::to_string).collect();
        Ok(match Project::load(folder.path()) {
            Ok(project) if project.mistakes.is_empty() => Ok(project.syncs.into_keys().collect()),
            Ok(project) => Err(texts(&project.mistakes)),
            Err(problems) => Err(texts(&problems)),
        })
    }

    #[test]
    fn files_of_editors_and_systems_are_left_out() -> std::io::Result<()> {
        let other: [(&str, &[u8]); 3] =
            [("syncs/._people.yml", b"\0\x05\x16\x07"), ("syncs/people.yml.bak", b"x"), ("models/._people.sql", b"\0")];
        assert_eq!(load(&other)?, Ok(vec!["people".to_owned()]));
        Ok(())
    }

    #[test]
    fn a_byte_order_mark_and_windows_line_ends_are_no_difference() -> std::io::Result<()> {
        let windows = |text: &str| format!("\u{feff}{}", text.replace('\n', "\r\n"));
        let (model, sync) = (windows(MODEL), windows(SYNC));
        let files = [("models/people.sql", model.as_bytes()), ("syncs/people.yml", sync.as_bytes())];
        assert_eq!(load(&files)?, Ok(vec!["people".to_owned()]));
        let model = format!("\n-- Customers\n{}", MODEL.replace("---\n", "--- \n"));
        assert_eq!(load(&[("models/people.sql", model.as_bytes())])?, Ok(vec!["people".to_owned()]));
        let problems =
            load(&[("models/people.sql", model.replace("key", "kye").as_bytes())])?.err().unwrap_or_default();
        assert!(problems.len() == 1 && problems[0].starts_with("models/people.sql:5:"), "{problems:?}");
        let utf16: Vec<u8> = SYNC.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let problems = load(&[("syncs/people.yml", &utf16)])?.err().unwrap_or_default();
        assert!(problems.len() == 1 && problems[0].contains("UTF-16"), "{problems:?}");
        let problems = load(&[("syncs/people.yml", b"model: x\nmode: \xe9\n")])?.err().unwrap_or_default();
        assert!(problems.len() == 1 && problems[0].starts_with("syncs/people.yml:2:1: "), "{problems:?}");
        Ok(())
    }

    #[test]
    fn two_files_of_one_name_and_files_below_are_mistakes() -> std::io::Result<()> {
        for (name, said) in [
            ("syncs/people.yaml", "syncs/people.yml has the same name"),
            ("syncs/team/other.yml", "Move it to syncs/"),
            ("models/team/other.sql", "Move it to models/"),
        ] {
            let problems = load(&[(name, SYNC.as_bytes())])?.err().unwrap_or_default();
            assert!(problems.len() == 1 && problems[0].starts_with(name) && problems[0].contains(said), "{problems:?}");
        }
        Ok(())
    }
}
