//! Secrets go into requests by `[auth]` alone: no path, header or body names one.

use super::{Manifest, OperationSpec};

/// The places of requests that name a secret setting.
pub(super) fn lint(manifest: &Manifest) -> Vec<String> {
    let secrets = manifest.config.iter().filter(|(_, field)| field.secret).map(|(name, _)| name);
    let mut problems = Vec::new();
    for name in secrets {
        for (operation, spec) in &manifest.operations {
            if texts(spec).iter().any(|text| names(text, name)) {
                problems.push(format!(
                    "operations.{operation}: \"{name}\" is a secret: it goes into requests by [auth] alone. Where it must stand elsewhere, it is no \
                     secret."
                ));
            }
        }
    }
    problems
}

/// Every text of an operation that may have placeholders.
fn texts(spec: &OperationSpec) -> Vec<String> {
    let bodies = [&spec.body, &spec.record].into_iter().flatten().map(toml::Value::to_string);
    std::iter::once(spec.path.clone()).chain(spec.headers.values().cloned()).chain(bodies).collect()
}

fn names(text: &str, setting: &str) -> bool {
    let is_end = |rest: &str| !rest.starts_with(|letter: char| letter.is_alphanumeric() || letter == '_');
    text.contains(&format!("{{{setting}}}"))
        || text.match_indices("$config.").any(|(at, found)| {
            text.get(at + found.len()..).and_then(|rest| rest.strip_prefix(setting)).is_some_and(is_end)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_a_request_names_is_refused() {
        let sound = include_str!("../hubspot/manifest.toml");
        assert!(Manifest::parse(sound).is_ok());
        let place = "[operations.upsert]";
        for (from, to) in [
            (place, "[operations.upsert]\nheaders = { \"x-key\" = \"{token}\" }"),
            ("idProperty = \"$identity_name\"", "idProperty = \"$config.token\""),
            ("path = \"{prefix}/{object}/batch/upsert\"", "path = \"{prefix}/{object}/{token}/upsert\""),
        ] {
            assert!(sound.contains(from), "{from}");
            let told = Manifest::parse(&sound.replacen(from, to, 1)).err().unwrap_or_default();
            assert!(told.contains("\"token\" is a secret"), "{to}: {told}");
        }
        assert!(names("a $config.token b", "token") && !names("$config.tokens $config.to", "token"));
    }
}
