//! `outflow run` and `retry`.

use std::path::Path;

use anyhow::{Result, anyhow};
use outflow_backends::StateLock;
use outflow_coordinator::project::Project;
use outflow_coordinator::{Finished, Signal, Start, new_run};
use outflow_model::port::ledger::{Run, RunOptions};
use outflow_model::port::pauses::Pause;
use outflow_model::run::RunState;
use tokio::sync::watch;
use tracing::warn;

use super::follow;
use super::outcomes::Outcomes;
use crate::compose::{self, Embedded};
use crate::exit::Exit;
use crate::mistakes::{Mistakes, Usage};
use crate::progress;
use crate::signals::signals;
use crate::ui::Ui;

pub(super) async fn run(ui: &Ui, root: &Path, syncs: &[String], options: RunOptions, no_wait: bool) -> Result<Exit> {
    let project = compose::project(root)?;
    let (starts, wrong) = prepared(&project, syncs, options)?;
    let mut outcomes = Outcomes::new(ui, starts.iter().map(|start| start.sync.name.clone()));
    for (name, error) in wrong {
        outcomes.failed(&name, None, error, Exit::Configuration);
    }
    let worked = match project.config.state.shared {
        Some(_) => follow::run(&project, &starts, no_wait, &mut outcomes).await,
        None => here(&project, &starts, no_wait, &mut outcomes).await,
    };
    match worked {
        Ok(()) => {}
        Err(error) if outcomes.is_empty() => return Err(error),
        Err(error) => outcomes.broke_off(&error),
    }
    Ok(outcomes.end())
}

/// What to say where there is nothing to run.
const NO_SYNC: &str = "Nothing to run: syncs/ has no file that ends in .yml or .yaml";

/// What is said of a sync that is not reached.
const NOT_REACHED: &str = "It did not run: the command was stopped before its turn";

/// A sync that cannot be executed, and why.
type Wrong = (String, anyhow::Error);

/// Makes the named syncs ready, or all of the project. One with a mistake stops no other; a name that is unknown stops all, and so
/// does the mistake of one that stands alone.
fn prepared(project: &Project, syncs: &[String], options: RunOptions) -> Result<(Vec<Start>, Vec<Wrong>)> {
    let known = project.names();
    let names: Vec<String> = if syncs.is_empty() { known.iter().cloned().collect() } else { syncs.to_vec() };
    let (mut starts, mut wrong) = (Vec::new(), Vec::new());
    if syncs.is_empty() {
        for mistake in project.unread_syncs() {
            let name = mistake.file.trim_start_matches("syncs/").rsplit_once('.').map_or("", |(name, _)| name);
            wrong.push((name.to_owned(), Mistakes(vec![mistake.clone()]).into()));
        }
    }
    if names.is_empty() {
        let unread: Vec<_> = project.unread_syncs().cloned().collect();
        return Err(if unread.is_empty() { Usage(NO_SYNC.to_owned()).into() } else { Mistakes(unread).into() });
    }
    for name in &names {
        let start = compose::start(project, name, options).and_then(|start| {
            // The worker beside it reads the same references: what is missing is said before anything is read or sent.
            let is_embedded = project.config.state.shared.is_none();
            let mut missing =
                if is_embedded { compose::check_settings(project, &start.sync.config.destination) } else { Vec::new() };
            if is_embedded && missing.is_empty() {
                missing.extend(compose::check_account(project, &start.sync.account, &compose::keys(project)?));
            }
            if missing.is_empty() { Ok(start) } else { Err(Mistakes(missing).into()) }
        });
        match start {
            Ok(start) => starts.push(start),
            Err(error) if (names.len() == 1 && wrong.is_empty()) || !known.contains(name) => return Err(error),
            Err(error) => wrong.push((name.clone(), error)),
        }
    }
    Ok((starts, wrong))
}

/// Executes syncs one after the other in this process, or leaves them to the one that holds the state directory.
async fn here(project: &Project, starts: &[Start], no_wait: bool, outcomes: &mut Outcomes<'_>) -> Result<()> {
    let _lock = match compose::try_lock(project)? {
        Some(lock) => lock,
        None if no_wait => return queue(project, starts, outcomes).await,
        None => lock(outcomes.ui, project).await?,
    };
    let embedded = compose::embed(project).await?;
    let pauses = embedded.engine.ledger.pauses().await?;
    let signal = signals(outcomes.ui.clone());
    for start in starts {
        if *signal.borrow() == Signal::Interrupt {
            break;
        }
        let name = &start.sync.name;
        if let Some(pause) = pauses.iter().find(|pause| pause.account == start.sync.account.name) {
            // It may be for long that nothing resumes it: a run that waits would wait for ever. The others go on.
            let Pause { account, reason, .. } = pause;
            let error = anyhow!("{account} is paused ({reason}); `outflow resume {account}` lifts that");
            if starts.len() == 1 && outcomes.is_empty() {
                return Err(error.context(format!("Sync {name}")));
            }
            outcomes.failed(name, None, error, Exit::Trouble);
            continue;
        }
        execute(project, &embedded, start, &signal, outcomes).await;
    }
    outcomes.stopped(NOT_REACHED);
    if let Err(error) = embedded.engine.expire(project.config.state.keep_days).await {
        warn!(%error, "Old runs could not be forgotten");
    }
    Ok(())
}

/// Executes a sync, and again where another process has asked for that meanwhile.
async fn execute(
    project: &Project,
    embedded: &Embedded,
    start: &Start,
    signal: &watch::Receiver<Signal>,
    outcomes: &mut Outcomes<'_>,
) {
    let name = &start.sync.name;
    let mut follow_up = None;
    loop {
        let start = follow_up.as_ref().unwrap_or(start);
        let work = embedded.engine.execute(start, signal.clone());
        let finished = match watched(outcomes.ui, embedded, start, work).await {
            Ok(finished) => finished,
            Err(error) => {
                let exit = Exit::of(&error);
                return outcomes.failed(name, failed(embedded, name).await.as_ref(), error, exit);
            }
        };
        let is_interrupted = *signal.borrow() == Signal::Interrupt;
        let exit = match finished.run.state {
            RunState::Queued if is_interrupted => Exit::Stopped,
            state => Exit::of_state(state),
        };
        outcomes.finished(&finished, exit);
        if is_interrupted || !finished.run.state.is_end() {
            return;
        }
        match embedded.engine.queued(name).await {
            // What was asked of this command was not asked of that one.
            Ok(Some(_)) => match compose::start(project, name, RunOptions::default()) {
                Ok(next) => follow_up = Some(next),
                Err(error) => {
                    let exit = Exit::of(&error);
                    return outcomes.failed(name, None, error, exit);
                }
            },
            Ok(None) => return,
            Err(error) => {
                let error = anyhow::Error::from(error).context("Whether another run was asked for could not be read");
                let exit = Exit::of(&error);
                return outcomes.failed(name, None, error, exit);
            }
        }
    }
}

/// The newest run of the sync that has begun, where that has failed.
async fn failed(embedded: &Embedded, sync: &str) -> Option<Run> {
    // A follow-up may be queued behind it.
    let newest = embedded.engine.ledger.runs(Some(sync), 2).await.ok()?;
    newest.into_iter().find(|run| run.state != RunState::Queued).filter(|run| run.state == RunState::Failed)
}

/// Queues follow-ups for the process that holds the state directory.
async fn queue(project: &Project, starts: &[Start], outcomes: &mut Outcomes<'_>) -> Result<()> {
    let ledger = compose::ledger(project).await?;
    let clock = ledger.clock().await?;
    for start in starts {
        outcomes.queued(&start.sync.name, &ledger.request(&new_run(start, clock.as_ref())).await?.run);
    }
    Ok(())
}

/// Takes the state directory's lock; says so if another process has it.
pub(super) async fn lock(ui: &Ui, project: &Project) -> Result<StateLock> {
    if let Some(lock) = compose::try_lock(project)? {
        return Ok(lock);
    }
    ui.note("Another process runs in this state directory; waiting for it.");
    compose::lock(project).await
}

/// Runs `work` with a worker beside it and, where a person watches, a bar.
pub(super) async fn watched(
    ui: &Ui,
    embedded: &Embedded,
    start: &Start,
    work: impl Future<Output = Result<Finished, outflow_coordinator::EngineError>>,
) -> Result<Finished> {
    let worker = embedded.serve(start);
    let bar = ui.is_watched().then(|| tokio::spawn(progress::show(embedded.progress.clone())));
    let finished = work.await;
    worker.abort();
    if let Some(bar) = bar {
        bar.abort();
        // Cleared before anything else is printed.
        _ = bar.await;
    }
    Ok(finished?)
}
