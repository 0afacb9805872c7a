//! Settings that cannot mean what they say: zeros, and words that have no effect where they stand.

use outflow_model::mode::Mode;

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

/// Checks the settings of the destination `name`.
pub(super) fn check_destination(project: &Project, name: &str, config: &DestinationConfig) -> Vec<Problem> {
    let zero = [("timeout_seconds", config.timeout_seconds), ("concurrency", config.concurrency)];
    let zero = zero.into_iter().filter(|(_, value)| *value == 0);
    zero.map(|(field, _)| project.document.problem(&format!("destinations.{name}.{field}"), AT_LEAST_ONE)).collect()
}

const AT_LEAST_ONE: &str = "It must be at least 1.";
