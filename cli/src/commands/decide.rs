//! `outflow approve` and `cancel`: decisions about a run. Programs get that run as it stands then.

use std::path::Path;

use anyhow::Result;
use outflow_coordinator::project::Project;
use outflow_coordinator::{Finished, withdraw};
use outflow_model::port::ledger::Run;

use super::inspect::{report, run_json};
use super::run::{lock, watched};
use super::{follow, named};
use crate::compose;
use crate::exit::Exit;
use crate::signals::signals;
use crate::ui::Ui;

pub(super) async fn approve(ui: &Ui, root: &Path, run: &str, detach: bool) -> Result<Exit> {
    let (project, run) = find(root, run).await?;
    if project.config.state.shared.is_some() {
        return follow::approve(ui, &project, &run, detach).await;
    }
    let start = compose::start(&project, &run.sync, run.options)?;
    let _lock = lock(ui, &project).await?;
    let embedded = compose::embed(&project).await?;
    let signal = signals(ui.clone());
    // It may plan again: kept off the stack.
    let work = Box::pin(embedded.engine.approve(&run.id, &start, signal));
    let finished = watched(ui, &embedded, &start, work).await?;
    tell(ui, &finished);
    Ok(Exit::of_state(finished.run.state))
}

pub(super) async fn cancel(ui: &Ui, root: &Path, run: &str, detach: bool) -> Result<Exit> {
    let (project, run) = find(root, run).await?;
    if project.config.state.shared.is_some() {
        return follow::cancel(ui, &project, &run, detach).await;
    }
    let Some(_lock) = compose::try_lock(&project)? else {
        let ledger = compose::ledger(&project).await?;
        withdraw(ledger.as_ref(), &run.id, ledger.clock().await?.as_ref()).await?;
        ui.line(format!("{} is being cancelled by the process that runs it.", run.id));
        if ui.is_json() {
            ui.json(&run_json(&Run { cancel: true, ..run }));
        }
        return Ok(Exit::Succeeded);
    };
    let start = compose::start(&project, &run.sync, run.options);
    let engine = compose::embed(&project).await?.engine;
    let finished = match start {
        Ok(start) => engine.cancel(&run.id, &start).await?,
        Err(error) => {
            ui.note(format!("The run ends with what was settled: its sync cannot be read. {error:#}"));
            engine.cancel_orphan(&run.id).await?
        }
    };
    tell(ui, &finished);
    Ok(Exit::Succeeded)
}

/// Tells how the run has ended, or where it stands.
pub(super) fn tell(ui: &Ui, finished: &Finished) {
    report(ui, finished);
    if ui.is_json() {
        ui.json(&run_json(&finished.run));
    }
}

/// A run as it is named.
async fn find(root: &Path, name: &str) -> Result<(Project, Run)> {
    let project = compose::project(root)?;
    let run = named::run(&project, compose::ledger(&project).await?.as_ref(), Some(name)).await?;
    Ok((project, run))
}
