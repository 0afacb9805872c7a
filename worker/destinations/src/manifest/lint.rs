//! Mistakes in a manifest that its types cannot rule out.

use outflow_model::change::Change;
use outflow_model::mode::{Append, Removal};

use super::{By, Manifest};

/// What is wrong with `manifest`.
pub(super) fn lint(manifest: &Manifest) -> Vec<String> {
    let mut problems = Vec::new();
    for setting in manifest.auth.settings() {
        if !manifest.config.contains_key(setting) {
            problems.push(format!("auth: there is no [config.{setting}]."));
        }
    }
    let throttle = &manifest.throttle;
    if throttle.window_limit.is_none() && (throttle.window_remaining.is_some() || throttle.window_ms.is_some()) {
        problems.push("throttle: `window_remaining` and `window_ms` need `window_limit`.".to_owned());
    }
    if throttle.window_limit.is_some() && throttle.window_ms.is_none() && manifest.one_window().is_none() {
        problems.push(
            "throttle: `window_limit` needs `window_ms`, for limits.windows has not just one of requests.".to_owned(),
        );
    }
    if throttle.daily_limit.is_some() != throttle.daily_remaining.is_some() {
        problems.push("throttle: `daily_limit` and `daily_remaining` need each other.".to_owned());
    }
    for (name, object) in &manifest.objects {
        for mode in &object.modes {
            let removals = if object.removals.is_empty() { &[Removal::Delete][..] } else { &object.removals };
            for change in Change::ALL {
                for removal in removals {
                    let Some(operation) = mode.operation(change, *removal, Append::OnAdd) else { continue };
                    if manifest.operation(operation).is_none() {
                        let operation = operation.name();
                        problems.push(format!(
                            "objects.{name}: mode {} needs [operations.{operation}], which is missing.",
                            mode.name()
                        ));
                    }
                }
            }
        }
    }
    for (name, operation) in &manifest.operations {
        let answer = &operation.answer;
        let mut need = |key: &str, value: &Option<String>| {
            if value.is_none() {
                problems.push(format!("operations.{name}.answer: by = {:?} needs `{key}`.", answer.by));
            }
        };
        match answer.by {
            By::All => {}
            By::Index | By::Identity => {
                need("errors", &answer.errors);
                need("error_key", &answer.error_key);
            }
            By::Position => need("results", &answer.results),
        }
        if operation.records == 0 {
            problems.push(format!("operations.{name}.records: at least 1."));
        }
        for (place, _) in operation.path.match_indices('{') {
            let setting = operation.path.get(place + 1..).and_then(|rest| rest.split_once('}')).map(|(name, _)| name);
            match setting {
                Some("object" | "identity") => {}
                Some(setting) if manifest.config.contains_key(setting) => {}
                _ => problems
                    .push(format!("operations.{name}.path: \"{}\" is no setting.", setting.unwrap_or(&operation.path))),
            }
        }
    }
    problems.extend(super::secrets::lint(manifest));
    problems.sort();
    problems.dedup();
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_tell_of_limits_come_together() {
        let sound = include_str!("../hubspot/manifest.toml")
            .replace("windows = [", "windows = [{ limit = 9, per_ms = 1000 }, ");
        let cases = [
            ("window_limit", "`window_ms` need `window_limit`"),
            ("window_ms", "`window_limit` needs `window_ms`"),
            ("daily_limit", "need each other"),
        ];
        for (left_out, said) in cases {
            let manifest: Vec<_> = sound.lines().filter(|line| !line.starts_with(left_out)).collect();
            let problem = Manifest::parse(&manifest.join("\n")).err().unwrap_or_default();
            assert!(problem.contains(said), "{left_out}: {problem}");
        }
    }
}
