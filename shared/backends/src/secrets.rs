//! Secrets from the environment and from files, and who may read which.

use std::path::{Component, Path, PathBuf};

use outflow_model::secret::Reference;

/// What a worker may read where its settings name nothing and it has no project.
pub const USUAL: &str = "env:OUTFLOW_SECRET_*,file:/run/secrets";
/// What processes reach their services with: no reference of a message is ever given these.
const OWN: [&str; 5] = ["OUTFLOW_KEYS", "OUTFLOW_LEDGER", "OUTFLOW_LIMITER", "OUTFLOW_QUEUE", "OUTFLOW_STORE"];

/// Resolves a reference; relative files begin at `root` and do not leave it. The line end, and a byte order mark, are not part of
/// a secret: editors, `echo` and Kubernetes put them there.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads secrets from the environment")]
pub fn resolve(reference: Reference<'_>, root: &Path) -> Result<String, String> {
    let text = match reference {
        Reference::Env(name) => std::env::var(name).map_err(|error| match error {
            std::env::VarError::NotPresent => format!("The environment variable {name} is not set."),
            std::env::VarError::NotUnicode(_) => format!("The environment variable {name} is not UTF-8 text."),
        })?,
        Reference::File(path) => {
            let path = placed(Path::new(path), root)?;
            std::fs::read_to_string(&path)
                .map_err(|error| format!("The secret file {} cannot be read: {error}.", path.display()))?
        }
    };
    Ok(text.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']).to_owned())
}

/// Where a file is. One that is named relative to the project stays in it.
fn placed(path: &Path, root: &Path) -> Result<PathBuf, String> {
    if !path.is_absolute() && path.components().any(|part| part == Component::ParentDir) {
        return Err(format!(
            "The secret file {} is outside the project's folder; write its whole path if that is meant.",
            path.display()
        ));
    }
    Ok(root.join(path))
}

/// Which references a process resolves for messages: `env:NAME`, `env:BEGINNING*`, `file:/FOLDER` and `file:/PATH`, separated by
/// commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed(Vec<Rule>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Variable(String),
    Beginning(String),
    Below(PathBuf),
}

impl Allowed {
    /// Reads what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rules = text.split(',').map(str::trim).filter(|rule| !rule.is_empty()).map(|rule| {
            let wrong = || format!("\"{rule}\" allows no secret; write env:NAME, env:BEGINNING* or file:/FOLDER");
            match rule.split_once(':') {
                Some(("env", name)) => Ok(match name.strip_suffix('*') {
                    Some(beginning) => Rule::Beginning(beginning.to_owned()),
                    None => Rule::Variable(name.to_owned()),
                }),
                Some(("file", path)) if is_straight(Path::new(path)) => Ok(Rule::Below(PathBuf::from(path))),
                _ => Err(wrong()),
            }
        });
        rules.collect::<Result<_, _>>().map(Self)
    }

    /// Whether a reference may be resolved.
    pub fn allows(&self, reference: &Reference<'_>) -> bool {
        self.0.iter().any(|rule| match (rule, reference) {
            (Rule::Variable(allowed), Reference::Env(name)) => !is_own(name) && name == allowed,
            (Rule::Beginning(beginning), Reference::Env(name)) => !is_own(name) && name.starts_with(beginning.as_str()),
            (Rule::Below(folder), Reference::File(path)) => {
                is_straight(Path::new(path)) && Path::new(path).starts_with(folder)
            }
            _ => false,
        })
    }
}

/// Whether a variable is one of the process itself.
pub fn is_own(name: &str) -> bool {
    OWN.contains(&name)
}

/// A whole path without a way up.
fn is_straight(path: &Path) -> bool {
    path.is_absolute() && !path.components().any(|part| part == Component::ParentDir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_and_a_byte_order_mark_are_not_part_of_a_secret() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        for text in ["s3cret", "s3cret\n", "s3cret\r\n", "\u{feff}s3cret\n\n"] {
            std::fs::write(folder.path().join("token"), text)?;
            assert_eq!(resolve(Reference::File("token"), folder.path()), Ok("s3cret".to_owned()), "{text:?}");
        }
        std::fs::write(folder.path().join("token"), " s3\ncret")?;
        assert_eq!(resolve(Reference::File("token"), folder.path()), Ok(" s3\ncret".to_owned()));
        Ok(())
    }

    #[test]
    fn a_relative_file_does_not_leave_the_project() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let project = folder.path().join("project");
        std::fs::create_dir(&project)?;
        std::fs::write(folder.path().join("other"), "s3cret")?;
        for path in ["../other", "./../other", "sub/../../other"] {
            let told = resolve(Reference::File(path), &project).err().unwrap_or_default();
            assert!(told.contains("outside the project"), "{path}: {told}");
        }
        let whole = folder.path().join("other");
        assert_eq!(resolve(Reference::File(&whole.to_string_lossy()), &project), Ok("s3cret".to_owned()));
        Ok(())
    }

    #[test]
    fn only_what_is_allowed_is_resolved() {
        let allowed = Allowed::parse("env:HUBSPOT_*, env:TOKEN,file:/run/secrets, env:OUTFLOW_*");
        let allows = |reference| allowed.as_ref().is_ok_and(|allowed| allowed.allows(&reference));
        for reference in
            [Reference::Env("HUBSPOT_TOKEN"), Reference::Env("TOKEN"), Reference::File("/run/secrets/crm/token")]
        {
            assert!(allows(reference.clone()), "{reference:?}");
        }
        for reference in [
            Reference::Env("TOKENS"),
            Reference::Env("PATH"),
            // Keys and passwords of the process itself are never given away.
            Reference::Env("OUTFLOW_KEYS"),
            Reference::Env("OUTFLOW_QUEUE"),
            Reference::File("/run/secrets/../../etc/shadow"),
            Reference::File("/run/secretsandmore"),
            Reference::File("/etc/shadow"),
            Reference::File("run/secrets/token"),
        ] {
            assert!(!allows(reference.clone()), "{reference:?}");
        }
        for text in ["HUBSPOT_TOKEN", "file:secrets", "file:/run/../etc", "vault:x"] {
            assert!(Allowed::parse(text).is_err(), "{text}");
        }
    }
}
