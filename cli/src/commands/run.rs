//! `outflow plan`, `run`, `approve` and `cancel`.

use std::path::Path;

use anyhow::{Result, anyhow};
use outflow_backends::StateLock;
use outflow_coordinator::project::Project;
use outflow_coordinator::{Finished, Signal, Start, new_run, withdraw};
use outflow_model::id::RunId;
use outflow_model::port::ledger::{Run, RunOptions};
use outflow_model::port::pauses::Pause;
use outflow_model::run::RunState;
use tracing::warn;

use super::inspect::{known, planned, report, run_json};
use super::{before, follow};
use crate::compose::{self, Embedded};
use crate::exit::Exit;
use crate::mistakes::Mistakes;
use crate::progress;
use crate::signals::{interrupted, signals};
use crate::ui::{Ui, message, value};

pub(super) async fn plan(ui: &Ui, root: &Path, sync: &str, options: RunOptions) -> Result<Exit> {
    let project = compose::project(root)?;
    let start = compose::start(&project, sync, options)?;
    // Where the state is shared a preview is in nobody's way.
    let _lock = match project.config.state.shared {
        Some(_) => None,
        None => Some(lock(ui, &project).await?),
    };
    let engine = compose::engine(&project).await?;
    let plan = tokio::select! {
        plan = engine.preview(&start) => plan?,
        () = interrupted() => {
            ui.note("Interrupted before the plan was complete; nothing was kept.");
            return Ok(Exit::Stopped);
        }
    };
    let samples = before::samples(&project, &start, plan.samples).await;
    if ui.is_json() {
        ui.json(&serde_json::json!({
            "sync": sync, "tally": plan.tally, "requests": plan.requests, "seconds": plan.seconds,
            "breach": plan.breach, "first_run": plan.first, "samples": samples, "problems": plan.problems,
        }));
        return Ok(Exit::Succeeded);
    }
    planned(ui, &plan.tally);
    ui.line(format!("{} request(s), at least {:.1} s within the account's limits.", plan.requests, plan.seconds));
    samples.iter().for_each(|sample| ui.line(sample.to_string()));
    for problem in plan.problems.iter().take(10) {
        let what = if problem.status.is_none() { "invalid" } else { "skipped" };
        ui.line(format!("  {what} {}: {}", value(&problem.key), message(&problem.refusal.message)));
    }
    if let Some(breach) = plan.breach {
        ui.line(format!("The guard would stop this plan: {breach}."));
    }
    Ok(Exit::Succeeded)
}

pub(super) async fn run(ui: &Ui, root: &Path, syncs: &[String], options: RunOptions, no_wait: bool) -> Result<Exit> {
    let project = compose::project(root)?;
    let (starts, wrong) = prepared(&project, syncs, options)?;
    let mut worst = if wrong.is_empty() { Exit::Succeeded } else { Exit::Configuration };
    for (name, error) in &wrong {
        // Programs find it beside the runs of the others.
        ui.note(format!("error: Sync {name}: {error:#}"));
    }
    if project.config.state.shared.is_some() {
        return Ok(worst.or_worse(follow::run(ui, &project, &starts, no_wait).await?));
    }
    let _lock = match compose::try_lock(&project)? {
        Some(lock) => lock,
        None if no_wait => return queue(ui, &project, &starts).await,
        None => lock(ui, &project).await?,
    };
    let embedded = compose::embed(&project).await?;
    let pauses = embedded.engine.ledger.pauses().await?;
    let signal = signals(ui.clone());
    let mut done: Vec<_> =
        wrong.iter().map(|(sync, error)| serde_json::json!({ "sync": sync, "error": format!("{error:#}") })).collect();
    for start in &starts {
        if let Some(pause) = pauses.iter().find(|pause| pause.account == start.sync.account.name) {
            // It may be for long that nothing resumes it: a run that waits would wait for ever. The others go on.
            let Pause { account, reason, .. } = pause;
            let name = &start.sync.name;
            let error = anyhow!("Sync {name}: {account} is paused ({reason}); `outflow resume {account}` lifts that");
            if starts.len() == 1 {
                return Err(error);
            }
            ui.error(&error);
            worst = worst.or_worse(Exit::Trouble);
            continue;
        }
        loop {
            let work = embedded.engine.execute(start, signal.clone());
            let finished = match watched(ui, &embedded, start, work).await {
                Ok(finished) => finished,
                Err(error) => {
                    worst = worst.or_worse(Exit::of(&error));
                    let error = error.context(format!("Sync {}", start.sync.name));
                    if ui.is_json() {
                        done.push(failed_json(&embedded, start, &error).await);
                        ui.note(format!("{error:#}"));
                    } else {
                        ui.error(&error);
                    }
                    break;
                }
            };
            worst = worst.or_worse(match finished.run.state {
                RunState::Queued if *signal.borrow() == Signal::Interrupt => Exit::Stopped,
                state => Exit::of_state(state),
            });
            report(ui, &finished);
            done.push(run_json(&finished.run));
            // What another process has asked for meanwhile is this one's to do.
            let follow_up = finished.run.state.is_end() && embedded.engine.queued(&start.sync.name).await?.is_some();
            if !follow_up || *signal.borrow() == Signal::Interrupt {
                break;
            }
        }
        if *signal.borrow() == Signal::Interrupt {
            break;
        }
    }
    if ui.is_json() {
        ui.json(&done);
    }
    expire(&project, &embedded).await;
    Ok(worst)
}

/// A sync that cannot be executed, and why.
type Wrong = (String, anyhow::Error);

/// Makes the named syncs ready, or all of the project. One with a mistake stops no other; a name that is unknown stops all, and so
/// does the mistake of one that stands alone.
fn prepared(project: &Project, syncs: &[String], options: RunOptions) -> Result<(Vec<Start>, Vec<Wrong>)> {
    let known = project.names();
    let names: Vec<String> = if syncs.is_empty() { known.iter().cloned().collect() } else { syncs.to_vec() };
    let (mut starts, mut wrong) = (Vec::new(), Vec::new());
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
            Err(error) if names.len() == 1 || !known.contains(name) => return Err(error),
            Err(error) => wrong.push((name.clone(), error)),
        }
    }
    Ok((starts, wrong))
}

/// The run of a sync that could not be executed, for programs: as the ledger has it, with the error beside.
async fn failed_json(embedded: &Embedded, start: &Start, error: &anyhow::Error) -> serde_json::Value {
    let newest = embedded.engine.ledger.runs(Some(&start.sync.name), 1).await;
    let run = newest.ok().and_then(|runs| runs.into_iter().next()).filter(|run| run.state == RunState::Failed);
    let mut json = run.map_or_else(|| serde_json::json!({ "sync": start.sync.name }), |run| run_json(&run));
    if let Some(members) = json.as_object_mut() {
        members.insert("error".to_owned(), format!("{error:#}").into());
    }
    json
}

/// Queues follow-ups for the process that holds the state directory.
async fn queue(ui: &Ui, project: &Project, starts: &[Start]) -> Result<Exit> {
    let ledger = compose::ledger(project).await?;
    let clock = ledger.clock().await?;
    for start in starts {
        let run = ledger.request(&new_run(start, clock.as_ref())).await?.run;
        ui.line(format!("{}: queued as {run}", start.sync.name));
    }
    Ok(Exit::Succeeded)
}

pub(super) async fn approve(ui: &Ui, root: &Path, run: &RunId, detach: bool) -> Result<Exit> {
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
    report(ui, &finished);
    if ui.is_json() {
        ui.json(&run_json(&finished.run));
    }
    Ok(Exit::of_state(finished.run.state))
}

pub(super) async fn cancel(ui: &Ui, root: &Path, run: &RunId, detach: bool) -> Result<Exit> {
    let (project, run) = find(root, run).await?;
    if project.config.state.shared.is_some() {
        return follow::cancel(ui, &project, &run, detach).await;
    }
    let Some(_lock) = compose::try_lock(&project)? else {
        let ledger = compose::ledger(&project).await?;
        withdraw(ledger.as_ref(), &run.id, ledger.clock().await?.as_ref()).await?;
        ui.line(format!("{} is being cancelled by the process that runs it.", run.id));
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
    report(ui, &finished);
    Ok(Exit::Succeeded)
}

/// Takes the state directory's lock; says so if another process has it.
async fn lock(ui: &Ui, project: &Project) -> Result<StateLock> {
    if let Some(lock) = compose::try_lock(project)? {
        return Ok(lock);
    }
    ui.note("Another process runs in this state directory; waiting for it.");
    compose::lock(project).await
}

/// A run by its id.
async fn find(root: &Path, run: &RunId) -> Result<(Project, Run)> {
    let project = compose::project(root)?;
    let run = known(compose::ledger(&project).await?.as_ref(), run).await?;
    Ok((project, run))
}

/// Runs `work` with a worker beside it and, where a person watches, a bar.
async fn watched(
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

/// Forgets what is older than the project keeps.
async fn expire(project: &Project, embedded: &Embedded) {
    if let Err(error) = embedded.engine.expire(project.config.state.keep_days).await {
        warn!(%error, "Old runs could not be forgotten");
    }
}
