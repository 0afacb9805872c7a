//! YAML files whose mistakes are told with their place.

use std::collections::BTreeMap;
use std::fmt;

use outflow_model::mapping::Name;
use outflow_model::suggest::did_you_mean;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

/// A mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file, from the project's folder.
    pub file: String,
    /// The line, from 1; 0 where it is about the whole file.
    pub line: u64,
    /// The column, from 1.
    pub column: u64,
    /// The field, as a path with dots.
    pub field: String,
    /// What is wrong and what to do.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// Where each field of a file stands.
#[derive(Clone, Debug, Default)]
pub struct Document {
    file: String,
    /// Lines above the YAML.
    above: u64,
    places: BTreeMap<String, (u64, u64)>,
}

impl Document {
    /// Reads `text`, which begins `above` lines into the file `name`.
    pub fn read<T: DeserializeOwned>(name: &str, text: &str, above: u64) -> Result<(T, Self), Problem> {
        let mut document = Self { file: name.to_owned(), above, places: BTreeMap::new() };
        let parsed: T = serde_saphyr::from_str(text).map_err(|error| {
            let (line, column) = error.location().map_or((0, 0), |at| (at.line() + above, at.column()));
            let reason = explain(&error.without_snippet().to_string());
            Problem { file: name.to_owned(), line, column, field: String::new(), reason }
        })?;
        if let Ok(tree) = serde_saphyr::from_str::<Tree>(text) {
            document.index("", &tree);
        }
        Ok((parsed, document))
    }

    fn index(&mut self, path: &str, tree: &Tree) {
        for (name, value) in &tree.0 {
            let path = if path.is_empty() { name.value.0.clone() } else { format!("{path}.{}", name.value.0) };
            self.places.insert(path.clone(), (name.referenced.line() + self.above, name.referenced.column()));
            self.index(&path, value);
        }
    }

    /// True if the file says something at `field`.
    pub(crate) fn has(&self, field: &str) -> bool {
        self.places.contains_key(field)
    }

    /// A mistake at `field`, or at the nearest field above it that the file has.
    pub fn problem(&self, field: &str, reason: impl Into<String>) -> Problem {
        let mut path = field;
        let place = loop {
            if let Some(place) = self.places.get(path) {
                break *place;
            }
            match path.rsplit_once('.') {
                Some((parent, _)) => path = parent,
                None => break (self.above.max(1), 1),
            }
        };
        Problem {
            file: self.file.clone(),
            line: place.0,
            column: place.1,
            field: field.to_owned(),
            reason: reason.into(),
        }
    }
}

/// The parser's message on one line, with the nearest valid name where it lists the valid ones.
fn explain(message: &str) -> String {
    let message = message.lines().next().unwrap_or_default().trim();
    let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message);
    let wrong = message.split('`').nth(1);
    let hint = match (wrong, message.split_once("expected one of ")) {
        (Some(wrong), Some((_, names))) => did_you_mean(wrong, names.split(", ").map(|name| name.trim_matches('`'))),
        _ => String::new(),
    };
    format!("{message}.{hint}")
}

/// The names of all maps in a document, with their places.
#[derive(Default)]
struct Tree(Vec<(Spanned<Name>, Tree)>);

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Tree;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("YAML")
            }

            fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
                Ok(Tree::default())
            }

            fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
                Ok(Tree::default())
            }

            fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
                Ok(Tree::default())
            }

            fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
                Ok(Tree::default())
            }

            fn visit_str<E>(self, _: &str) -> Result<Tree, E> {
                Ok(Tree::default())
            }

            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Tree::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
                let mut tree = Tree::default();
                while let Some(entry) = map.next_entry()? {
                    tree.0.push(entry);
                }
                Ok(tree)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::SyncConfig;

    const SYNC: &str = "model: customers\ndestination: crm\nobject: contacts\nmode: upsert\nmapping:\n  email: mail\n";

    #[test]
    fn a_mistake_is_told_with_its_place_and_the_nearest_name() {
        let wrong = SYNC.replace("mode:", "mod:");
        let problem = Document::read::<SyncConfig>("syncs/a.yml", &wrong, 0).expect_err("a problem");
        assert_eq!((problem.line, problem.column), (4, 1), "{problem}");
        assert!(problem.reason.contains("Did you mean \"mode\"?") || problem.reason.contains("\"model\""), "{problem}");
        let wrong = SYNC.replace("upsert", "upsrt");
        let problem = Document::read::<SyncConfig>("syncs/a.yml", &wrong, 0).expect_err("a problem");
        assert_eq!(problem.line, 4, "{problem}");
        assert!(problem.reason.contains("Did you mean \"upsert\"?"), "{problem}");
    }

    #[test]
    fn a_field_is_found_again() {
        let (_, document) = Document::read::<SyncConfig>("syncs/a.yml", SYNC, 2).expect("sound");
        let problem = document.problem("mapping.email", "no such column");
        assert_eq!(problem.to_string(), "syncs/a.yml:8:3: mapping.email: no such column");
        assert_eq!(document.problem("guard.max", "x").line, 2);
    }
}
