//! `outflow approve` and `cancel`: decisions about a run. Programs get that run as it stands then.

use std::path::Path;

use anyhow::Result;
use outflow_coordinator::{EngineError, Finished, withdraw};
use outflow_model::id::RunId;
use outflow_model::port::ledger::{Ledger, Run};
use outflow_model::run::RunState;

use super::inspect::{known, report, run_json};
use super::run::{lock, watched};
use super::{follow, named};
use crate::compose;
use crate::exit::Exit;
use crate::signals::signals;
use crate::ui::Ui;

pub(super) async fn approve(ui: &Ui, root: &Path, name: &str, detach: bool) -> Result<Exit> {
    let project = compose::project(root)?;
    let run = named::to_approve(&project, compose::ledger(&project).await?.as_ref(), name).await?;
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

pub(super) async fn cancel(ui: &Ui, root: &Path, name: &str, detach: bool) -> Result<Exit> {
    let project = compose::project(root)?;
    let ledger = compose::ledger(&project).await?;
    let (run, follow_up) = named::to_cancel(&project, ledger.as_ref(), name).await?;
    if run.state.is_end() {
        return Err(EngineError::State { run: run.id, state: run.state, wanted: "under way" }.into());
    }
    if let Some(follow_up) = follow_up {
        // First: it would begin as soon as the other ends.
        stopped(ui, ledger.as_ref(), &follow_up.id).await?;
    }
    if project.config.state.shared.is_some() {
        return follow::cancel(ui, ledger.as_ref(), &run.id, detach).await;
    }
    let Some(_lock) = compose::try_lock(&project)? else {
        left(ui, &stopped(ui, ledger.as_ref(), &run.id).await?);
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

/// Withdraws a run that others may execute, and says where it stands then.
pub(super) async fn stopped(ui: &Ui, ledger: &dyn Ledger, id: &RunId) -> Result<Run> {
    withdraw(ledger, id, ledger.clock().await?.as_ref()).await?;
    let run = known(ledger, id).await?;
    ui.line(match run.state {
        RunState::Cancelled => format!("{id} is cancelled."),
        state if state.is_end() => format!("{id} had ended before: it is {}.", state.name()),
        _ => format!("{id} is being cancelled by the process that runs it."),
    });
    Ok(run)
}

/// Gives programs a run that is left to others, as it stands.
pub(super) fn left(ui: &Ui, run: &Run) {
    if ui.is_json() {
        ui.json(&run_json(run));
    }
}

/// Tells how the run has ended, or where it stands.
pub(super) fn tell(ui: &Ui, finished: &Finished) {
    report(ui, finished);
    left(ui, &finished.run);
}
