//! Runs and syncs as people name them.

use anyhow::Result;
use outflow_coordinator::EngineError;
use outflow_coordinator::project::Project;
use outflow_model::id::RunId;
use outflow_model::port::ledger::{Ledger, Run};
use outflow_model::run::RunState;
use outflow_model::suggest::did_you_mean;

use crate::mistakes::Usage;

/// Runs among which the beginning of an ID is looked for.
const RECENT_RUNS: u32 = 1_000;

/// Finds the run that `name` means: a run's ID or its beginning, or a sync, whose newest run it is. Without a name it is the
/// newest run of all.
pub(super) async fn run(project: &Project, ledger: &dyn Ledger, name: Option<&str>) -> Result<Run> {
    let Some(name) = name else {
        let newest = ledger.runs(None, 1).await?.into_iter().next();
        return newest.ok_or_else(|| Usage("There is no run yet; `outflow run` makes one".to_owned()).into());
    };
    if let Some(id) = RunId::parse(name) {
        return Ok(ledger.run(&id).await?.ok_or(EngineError::Lost(id))?);
    }
    if project.names().contains(name) {
        let newest = ledger.runs(Some(name), 1).await?.into_iter().next();
        return newest.ok_or_else(|| Usage(format!("The sync \"{name}\" has no run yet")).into());
    }
    let recent = ledger.runs(None, RECENT_RUNS).await?;
    let mut begins = recent.into_iter().filter(|run| run.id.as_str().starts_with(name));
    match (begins.next(), begins.next()) {
        (Some(run), None) => Ok(run),
        (Some(_), Some(_)) => Err(Usage(format!("Several runs begin with \"{name}\"; write more of the ID")).into()),
        (None, _) => {
            let names = project.names();
            let hint = did_you_mean(name, names.iter().map(String::as_str));
            let reason = format!("\"{name}\" is neither a run nor a sync; `outflow runs` lists the runs.{hint}");
            Err(Usage(reason).into())
        }
    }
}

/// Finds the run that `name` wants approved: a run by its ID, or the one of a sync that is held.
pub(super) async fn to_approve(project: &Project, ledger: &dyn Ledger, name: &str) -> Result<Run> {
    let Some(runs) = open(project, ledger, name).await? else { return run(project, ledger, Some(name)).await };
    let stands: Vec<_> = runs.iter().map(|run| format!("; {} is {}", run.id, run.state.name())).collect();
    let held = runs.into_iter().find(|run| run.state == RunState::Held);
    held.ok_or_else(|| Usage(format!("The sync \"{name}\" has no held run{}", stands.concat())).into())
}

/// Finds what `name` wants cancelled: a run by its ID; or what a sync has not ended, which may be a run under way and the one that
/// is queued to follow it.
pub(super) async fn to_cancel(project: &Project, ledger: &dyn Ledger, name: &str) -> Result<(Run, Option<Run>)> {
    let Some(runs) = open(project, ledger, name).await? else {
        return Ok((run(project, ledger, Some(name)).await?, None));
    };
    let mut runs = runs.into_iter();
    let Some(run) = runs.next() else {
        let reason =
            format!("The sync \"{name}\" has no run to cancel; `outflow runs {name}` lists those that have ended");
        return Err(Usage(reason).into());
    };
    Ok((run, runs.next()))
}

/// The runs of the sync `name` that have not ended, a queued one last; nothing where `name` is not a sync's.
async fn open(project: &Project, ledger: &dyn Ledger, name: &str) -> Result<Option<Vec<Run>>> {
    if RunId::parse(name).is_some() {
        return Ok(None);
    }
    let mut runs = ledger.unended().await?;
    runs.retain(|run| run.sync == name);
    runs.sort_by_key(|run| run.state == RunState::Queued);
    Ok((!runs.is_empty() || project.names().contains(name)).then_some(runs))
}

/// Refuses the name of a sync that the project does not have, and of which the ledger knows no run either.
pub(super) async fn sync(project: &Project, ledger: &dyn Ledger, name: &str) -> Result<()> {
    if project.names().contains(name) || !ledger.runs(Some(name), 1).await?.is_empty() {
        return Ok(());
    }
    let names = project.names();
    let hint = did_you_mean(name, names.iter().map(String::as_str));
    Err(Usage(format!("There is no sync \"{name}\".{hint}")).into())
}
