//! `outflow run`, `approve` and `cancel` where coordinators execute: what is wanted is written to the ledger, and followed.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use outflow_coordinator::project::Project;
use outflow_coordinator::{EngineError, Finished, Progress, Start, new_run, withdraw};
use outflow_model::id::{ChunkNo, RunId};
use outflow_model::port::Trouble;
use outflow_model::port::ledger::{Ledger, Run, RunPatch};
use outflow_model::port::pauses::Pause;
use outflow_model::run::RunState;
use tokio::sync::watch;

use super::inspect::{report, run_json};
use crate::compose;
use crate::exit::Exit;
use crate::progress;
use crate::signals::interrupted;
use crate::ui::Ui;

/// The ledger is asked this often.
const LOOK: Duration = Duration::from_millis(100);
/// Where a person watches, the chunks are asked for this often at most.
const LOOK_ON: Duration = Duration::from_millis(500);
/// Chunks of a run that are read at a time.
const PAGE: ChunkNo = 256;
/// A ledger that is away is asked again after so long.
const AWAY: Duration = Duration::from_secs(1);
/// A run that nobody begins for so long is wondered about.
const WONDER: u32 = 100;

/// Asks for a run of each sync.
pub(super) async fn run(ui: &Ui, project: &Project, starts: &[Start], detach: bool) -> Result<Exit> {
    let ledger = compose::ledger(project).await?;
    let clock = ledger.clock().await?;
    let mut runs = Vec::new();
    for start in starts {
        let run = ledger.request(&new_run(start, clock.as_ref())).await?.run;
        if detach && !ui.is_json() {
            ui.line(format!("{}: queued as {run}", start.sync.name));
        }
        runs.push(run);
    }
    if detach {
        if ui.is_json() {
            ui.json(&runs);
        }
        return Ok(Exit::Succeeded);
    }
    follow_all(ui, ledger.as_ref(), &runs).await
}

/// Lets a held run go on.
pub(super) async fn approve(ui: &Ui, project: &Project, run: &Run, detach: bool) -> Result<Exit> {
    // What is being cancelled goes on no more.
    let state = if run.cancel { RunState::Cancelled } else { run.state };
    if state != RunState::Held {
        return Err(EngineError::State { run: run.id.clone(), state, wanted: "held" }.into());
    }
    let ledger = compose::ledger(project).await?;
    ledger.patch(&run.id, run.state, RunPatch { approved: true, ..RunPatch::default() }).await?;
    end(ui, ledger.as_ref(), &run.id, detach, "approved").await
}

/// Stops a run.
pub(super) async fn cancel(ui: &Ui, project: &Project, run: &Run, detach: bool) -> Result<Exit> {
    if run.state.is_end() {
        return Err(EngineError::State { run: run.id.clone(), state: run.state, wanted: "under way" }.into());
    }
    let ledger = compose::ledger(project).await?;
    withdraw(ledger.as_ref(), &run.id, ledger.clock().await?.as_ref()).await?;
    let exit = end(ui, ledger.as_ref(), &run.id, detach, "being cancelled").await?;
    let ended = ledger.run(&run.id).await?;
    // That it was cancelled is what was asked for.
    Ok(if ended.is_some_and(|run| run.state == RunState::Cancelled) { Exit::Succeeded } else { exit })
}

async fn end(ui: &Ui, ledger: &dyn Ledger, run: &RunId, detach: bool, what: &str) -> Result<Exit> {
    if detach {
        if ui.is_json() {
            ui.json(&[run]);
        } else {
            ui.line(format!("{run} is {what}."));
        }
        return Ok(Exit::Succeeded);
    }
    follow_all(ui, ledger, std::slice::from_ref(run)).await
}

/// Follows runs until each has ended or waits for a decision; Ctrl-C leaves them to the coordinators.
async fn follow_all(ui: &Ui, ledger: &dyn Ledger, runs: &[RunId]) -> Result<Exit> {
    let mut worst = Exit::Succeeded;
    let mut done = Vec::new();
    for run in runs {
        let ended = tokio::select! {
            ended = follow(ui, ledger, run) => ended?,
            () = interrupted() => {
                ui.note(format!("{run} goes on; `outflow show {run}` tells how it ends, `outflow cancel {run}` stops it."));
                return Ok(Exit::Stopped);
            }
        };
        worst = worst.or_worse(Exit::of_state(ended.state));
        report(ui, &Finished { run: ended.clone(), warnings: Vec::new() });
        done.push(run_json(&ended));
    }
    if ui.is_json() {
        ui.json(&done);
    }
    Ok(worst)
}

/// Tells why a run may not get on.
async fn wonder(ui: &Ui, ledger: &dyn Ledger, run: &Run) -> Result<()> {
    let id = &run.id;
    if let Some(pause) = ledger.pauses().await?.iter().find(|pause| pause.account == run.destination) {
        let Pause { account, reason, .. } = pause;
        ui.note(format!("{id} waits: {account} is paused ({reason}); `outflow resume {account}` lifts that."));
    } else if run.state == RunState::Queued {
        ui.note(format!("{id} is still queued: is an `outflow coordinator` running, or is the sync's last run held?"));
    } else if run.cancel {
        ui.note(format!(
            "{id} ends when what is under way has been settled; a coordinator's log says what it waits for."
        ));
    }
    Ok(())
}

/// Follows a run to its end, or to where it waits for a decision; with a bar where a person watches.
async fn follow(ui: &Ui, ledger: &dyn Ledger, id: &RunId) -> Result<Run> {
    if !ui.is_watched() {
        return wait_for(ui, ledger, id).await;
    }
    ui.note(format!("{id} goes on though you leave; `outflow cancel {id}` stops it."));
    let (progress, shown) = watch::channel(Progress::default());
    tokio::select! {
        ended = wait_for(ui, ledger, id) => ended,
        never = look_on(ledger, id, &progress) => match never {},
        () = progress::show(shown) => bail!("The bar has ended before the run"),
    }
}

/// Looks how far a run has come, and at a large one less often.
async fn look_on(ledger: &dyn Ledger, id: &RunId, progress: &watch::Sender<Progress>) -> Infallible {
    loop {
        let began = Instant::now();
        // A ledger that is away is told of by whoever waits for the run's end.
        if let (Ok(Some(run)), Ok(now)) = (ledger.run(id).await, chunks(ledger, id).await) {
            progress.send_replace(Progress { state: Some(run.state), ..now });
        }
        tokio::time::sleep(LOOK_ON.max(began.elapsed() * 20)).await;
    }
}

/// What the chunks of a run have come to. Some are read at a time: what is known of their records is large.
async fn chunks(ledger: &dyn Ledger, id: &RunId) -> outflow_model::port::Result<Progress> {
    let (mut progress, mut from) = (Progress::default(), ChunkNo::MIN);
    loop {
        let numbers: Vec<ChunkNo> = (from..from.saturating_add(PAGE)).collect();
        let page = ledger.some_chunks(id, &numbers).await?;
        progress.add(&page);
        match page.last() {
            Some(last) if page.len() == numbers.len() => from = last.number + 1,
            _ => return Ok(progress),
        }
    }
}

async fn wait_for(ui: &Ui, ledger: &dyn Ledger, id: &RunId) -> Result<Run> {
    let (mut looks, mut away) = (0, false);
    loop {
        let run = match ledger.run(id).await {
            Ok(run) => run.with_context(|| format!("There is no run {id} any more"))?,
            Err(error) if error.trouble == Trouble::Unavailable => {
                if !away {
                    ui.note(format!("The ledger is away ({error}); {id} goes on meanwhile, and is looked for again."));
                }
                away = true;
                tokio::time::sleep(AWAY).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        away = false;
        if run.state.is_end() || (run.state == RunState::Held && !run.approved && !run.cancel) {
            return Ok(run);
        }
        looks += 1;
        if looks == WONDER {
            // A ledger that is away now is noticed by the next look.
            _ = wonder(ui, ledger, &run).await;
        }
        tokio::time::sleep(LOOK).await;
    }
}
