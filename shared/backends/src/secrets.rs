//! Secrets from the environment and from files.

use std::path::Path;

use outflow_model::secret::Reference;

/// What a reference stands for; relative files begin at `root`.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads secrets from the environment")]
pub fn resolve(reference: Reference<'_>, root: &Path) -> Result<String, String> {
    match reference {
        Reference::Env(name) => std::env::var(name).map_err(|_| format!("The environment variable {name} is not set.")),
        Reference::File(path) => {
            let path = root.join(path);
            let text = std::fs::read_to_string(&path)
                .map_err(|error| format!("The secret file {} cannot be read: {error}.", path.display()))?;
            Ok(text.trim_end_matches(['\r', '\n']).to_owned())
        }
    }
}
