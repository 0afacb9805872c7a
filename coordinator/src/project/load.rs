//! Reading a project's files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use outflow_sources::Query;

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
}

impl Project {
    /// A mistake at `field` of `outflow.yml`.
    pub fn problem(&self, field: &str, reason: impl Into<String>) -> Problem {
        self.document.problem(field, reason)
    }

    /// Reads the project in `root`; every file that cannot be read is a problem.
    pub fn load(root: &Path) -> Result<Self, Vec<Problem>> {
        let text = read(root, Path::new("outflow.yml")).map_err(|mut problem| {
            problem.reason = format!("{} Make a project with `outflow init`.", problem.reason);
            vec![problem]
        })?;
        let (config, document) =
            Document::read::<ProjectConfig>("outflow.yml", &text, 0).map_err(|problem| vec![problem])?;
        let mut problems = Vec::new();
        if config.version != 1 {
            problems.push(document.problem("version", "This Outflow reads version 1; upgrade Outflow or write 1."));
        }
        let (mut models, mut syncs) = (BTreeMap::new(), BTreeMap::new());
        for path in files(root, "models", &["sql", "yml", "yaml"]) {
            let name = stem(&path);
            if models.contains_key(&name) || (is_yaml(&path) && root.join(path.with_extension("sql")).exists()) {
                continue;
            }
            match load_model(root, &path) {
                Ok(model) => _ = models.insert(name, model),
                Err(problem) => problems.push(problem),
            }
        }
        for path in files(root, "syncs", &["yml", "yaml"]) {
            let named = named(&path).and_then(|()| read(root, &path));
            match named.and_then(|text| Document::read::<SyncConfig>(&path.to_string_lossy(), &text, 0)) {
                Ok((mut config, document)) => {
                    document.keep_digits(&mut config.mapping);
                    syncs.insert(stem(&path), Sync { config, document });
                }
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self { root: root.to_owned(), config, models, syncs, document })
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
        return Ok(Model { config, query: Query::Files(files), document });
    }
    let (yaml, yaml_name, sql, above) = match front_matter(&text) {
        Some((yaml, sql)) => (yaml.to_owned(), name, sql.to_owned(), 1),
        None => {
            let beside = ["yml", "yaml"].map(|ending| path.with_extension(ending));
            let beside = beside.into_iter().find(|beside| root.join(beside).exists()).ok_or_else(|| Problem {
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
    let query = config.files.clone().map_or(Query::Sql(sql), Query::Files);
    Ok(Model { config, query, document })
}

fn front_matter(text: &str) -> Option<(&str, &str)> {
    let rest = text.strip_prefix("---\n").or_else(|| text.strip_prefix("---\r\n"))?;
    let at = rest.find("\n---").map(|at| at + 1)?;
    let (yaml, sql) = rest.split_at(at);
    Some((yaml, sql.split_once('\n').map_or("", |(_, sql)| sql)))
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "yml" || ending == "yaml")
}

/// A sync's name is part of the keys under which its snapshots are stored.
fn named(path: &Path) -> Result<(), Problem> {
    let name = stem(path);
    let begins = name.starts_with(|letter: char| letter.is_ascii_alphanumeric() || letter == '_');
    if begins && name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-')) {
        return Ok(());
    }
    Err(Problem {
        file: path.to_string_lossy().into_owned(),
        line: 0,
        column: 0,
        field: String::new(),
        reason: format!(
            "A sync cannot be called \"{name}\". Name its file with letters a to z, digits, `.`, `_` and `-`, a letter or digit first."
        ),
    })
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn read(root: &Path, path: &Path) -> Result<String, Problem> {
    std::fs::read_to_string(root.join(path)).map_err(|error| Problem {
        file: path.to_string_lossy().into_owned(),
        line: 0,
        column: 0,
        field: String::new(),
        reason: format!("The file cannot be read: {error}."),
    })
}

/// Files of a folder of the project with one of these endings, sorted; `.sql` before the rest.
fn files(root: &Path, folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(root.join(folder))
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .map(|entry| Path::new(folder).join(entry.file_name()))
        .filter(|path| path.extension().is_some_and(|ending| endings.iter().any(|known| ending == *known)))
        .collect();
    found.sort_by_key(|path| (is_yaml(path), path.clone()));
    found
}
