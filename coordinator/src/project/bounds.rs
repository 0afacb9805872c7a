//! Settings that cannot mean what they say: zeros, and words that have no effect where they stand.

use outflow_destinations::catalog;
use outflow_model::limit::Limits;
use outflow_model::mapping::MappingProblem;
use outflow_model::mode::Mode;
use outflow_model::suggest::did_you_mean;

use super::config::DestinationConfig;
use super::load::{Project, Sync};
use super::yaml::Problem;

/// Checks a sync's settings.
pub(super) fn check_sync(sync: &Sync) -> Vec<Problem> {
    let config = &sync.config;
    let mut problems = Vec::new();
    for (field, value) in [
        ("priority", config.priority),
        ("delivery.tries", config.delivery.tries),
        ("delivery.chunk_rows", config.delivery.chunk_rows),
        ("delivery.plan_max_age_hours", config.delivery.plan_max_age_hours),
    ] {
        problems.extend((value == 0).then(|| sync.document.problem(field, AT_LEAST_ONE)));
    }
    let mode = config.mode.name();
    if config.remove.is_some() && config.mode != Mode::Mirror {
        let reason =
            format!("`remove` has an effect in mode mirror only, and this sync's mode is {mode}. Leave it out.");
        problems.push(sync.document.problem("remove", reason));
    }
    if sync.document.has("append") && config.mode != Mode::Append {
        let reason =
            format!("`append` has an effect in mode append only, and this sync's mode is {mode}. Leave it out.");
        problems.push(sync.document.problem("append", reason));
    }
    problems
}

/// The mistakes of a mapping, where they stand in the sync's file.
pub(super) fn placed(sync: &Sync, problems: Vec<MappingProblem>) -> Vec<Problem> {
    let place = |field: &str, key: Option<&str>| match key {
        Some(key) => format!("mapping.{field}.{key}"),
        None => format!("mapping.{field}"),
    };
    problems.into_iter().map(|p| sync.document.problem(&place(&p.field, p.key), p.reason)).collect()
}

/// Refuses a manifest beside another type than http.
pub(super) fn check_type(project: &Project, name: &str, config: &DestinationConfig) -> Option<Problem> {
    let own = &config.r#type;
    if config.manifest.is_none() || own == "http" {
        return None;
    }
    let reason = if catalog::names().any(|known| known == own) {
        format!(
            "`manifest:` has an effect with `type: http` only. Leave it out, or write `type: http` in place of {own}."
        )
    } else {
        format!(
            "There is no destination type \"{own}\".{} A manifest of your own goes with `type: http`.",
            did_you_mean(own, catalog::names().chain(["http"]))
        )
    };
    Some(project.document.problem(&format!("destinations.{name}.type"), reason))
}

/// Checks the settings of the destination `name`.
pub(super) fn check_destination(project: &Project, name: &str, config: &DestinationConfig) -> Vec<Problem> {
    let zero = [("timeout_seconds", config.timeout_seconds), ("concurrency", config.concurrency)];
    let zero = zero.into_iter().filter(|(_, value)| *value == 0);
    let zero = zero.map(|(field, _)| (field.to_owned(), AT_LEAST_ONE.to_owned()));
    let limits = config.limits.iter().flat_map(Limits::mistakes);
    let limits = limits.map(|(path, reason)| (format!("limits.{}", path.join(".")), reason));
    let mistakes = zero.chain(limits);
    mistakes.map(|(field, reason)| project.document.problem(&format!("destinations.{name}.{field}"), reason)).collect()
}

const AT_LEAST_ONE: &str = "It must be at least 1.";
