//! `outflow run`, `approve` and `cancel` where coordinators execute: what is wanted is written to the ledger, and followed.

use std::convert::Infallible;
use std::pin::{Pin, pin};
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

use super::decide::{left, stopped, tell};
use super::inspect::known;
use super::outcomes::Outcomes;
use crate::compose;
use crate::exit::Exit;
use crate::progress;
use crate::signals::interruption;
use crate::ui::Ui;

/// The ledger is asked this often.
const LOOK: Duration = Duration::from_millis(100);
/// Where a person watches, the chunks are asked for this often at most.
const LOOK_ON: Duration = Duration::from_millis(500);
/// Chunks of a run that are read at a time.
const PAGE: ChunkNo = 256;
/// A ledger that is away is asked again after so long.
const AWAY: Duration = Duration::from_secs(1);
/// A run that does not get on for so long is wondered about, and again after so many times as long.
const WONDER: Duration = Duration::from_secs(10);
const AGAIN: u32 = 3;

/// What is said of a run that was asked for where nothing more is known.
const UNHEARD: &str = "The command was stopped before it heard of the run; `outflow runs` tells where it stands";

/// Asks for a run of each sync, and follows them to their ends. Ctrl-C leaves them to the coordinators.
pub(super) async fn run(project: &Project, starts: &[Start], detach: bool, outcomes: &mut Outcomes<'_>) -> Result<()> {
    let ledger = compose::ledger(project).await?;
    let clock = ledger.clock().await?;
    let mut stop = pin!(interruption());
    let mut asked = Vec::new();
    for start in starts {
        let (sync, wanted) = (&start.sync.name, new_run(start, clock.as_ref()));
        let run = tokio::select! {
            requested = ledger.request(&wanted) => requested?.run,
            () = &mut stop => {
                leave(ledger.as_ref(), outcomes).await;
                return Ok(());
            }
        };
        if detach {
            outcomes.queued(sync, &run);
        } else {
            outcomes.asked(sync, &run);
            asked.push((sync, run));
        }
    }
    for (sync, run) in asked {
        match followed(outcomes.ui, ledger.as_ref(), &run, stop.as_mut()).await {
            Ok(Some(ended)) => {
                let exit = Exit::of_state(ended.state);
                outcomes.finished(&Finished { run: ended, warnings: Vec::new() }, exit);
            }
            Ok(None) => {
                leave(ledger.as_ref(), outcomes).await;
                break;
            }
            Err(error) => {
                let exit = Exit::of(&error);
                outcomes.failed(sync, None, error, exit);
            }
        }
    }
    Ok(())
}

/// Leaves the runs that have not ended to the coordinators, and tells where they stand as far as the ledger answers.
async fn leave(ledger: &dyn Ledger, outcomes: &mut Outcomes<'_>) {
    for run in outcomes.open_runs() {
        match tokio::time::timeout(AWAY, ledger.run(&run)).await {
            Ok(Ok(Some(run))) => outcomes.left(&run, Exit::Stopped),
            _ => break,
        }
    }
    outcomes.stopped(UNHEARD);
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
    if detach {
        ui.line(format!("{} is approved.", run.id));
        left(ui, &known(ledger.as_ref(), &run.id).await?);
        return Ok(Exit::Succeeded);
    }
    Ok(end(ui, ledger.as_ref(), &run.id).await?.map_or(Exit::Stopped, Exit::of_state))
}

/// Stops a run.
pub(super) async fn cancel(ui: &Ui, ledger: &dyn Ledger, id: &RunId, detach: bool) -> Result<Exit> {
    if detach {
        left(ui, &stopped(ui, ledger, id).await?);
        return Ok(Exit::Succeeded);
    }
    withdraw(ledger, id, ledger.clock().await?.as_ref()).await?;
    Ok(match end(ui, ledger, id).await? {
        // That it was cancelled is what was asked for.
        Some(RunState::Cancelled) => Exit::Succeeded,
        ended => ended.map_or(Exit::Stopped, Exit::of_state),
    })
}

/// Follows a run, and tells how it has ended; nothing if it was left before.
async fn end(ui: &Ui, ledger: &dyn Ledger, id: &RunId) -> Result<Option<RunState>> {
    let Some(run) = followed(ui, ledger, id, pin!(interruption())).await? else {
        left(ui, &known(ledger, id).await?);
        return Ok(None);
    };
    let state = run.state;
    tell(ui, &Finished { run, warnings: Vec::new() });
    Ok(Some(state))
}

/// Follows a run until it has ended or waits for a decision; nothing if `stop` came first.
async fn followed(
    ui: &Ui,
    ledger: &dyn Ledger,
    run: &RunId,
    stop: Pin<&mut impl Future<Output = ()>>,
) -> Result<Option<Run>> {
    tokio::select! {
        ended = follow(ui, ledger, run) => ended.map(Some),
        () = stop => {
            ui.note(format!("{run} goes on; `outflow show {run}` tells how it ends, `outflow cancel {run}` stops it."));
            Ok(None)
        }
    }
}

/// Why a run may not get on, where that is known.
async fn cause(ledger: &dyn Ledger, run: &Run) -> outflow_model::port::Result<Option<String>> {
    let id = &run.id;
    let pauses = ledger.pauses().await?;
    Ok(if let Some(Pause { account, reason, .. }) = pauses.iter().find(|pause| pause.account == run.destination) {
        Some(format!("{id} waits: {account} is paused ({reason}); `outflow resume {account}` lifts that."))
    } else if run.state == RunState::Queued {
        Some(format!("{id} is still queued: is an `outflow coordinator` running, or is the sync's last run held?"))
    } else if run.cancel {
        Some(format!("{id} ends when what is under way has been settled; a coordinator's log says what it waits for."))
    } else {
        None
    })
}

/// Where a run stands that does not get on.
fn standing(id: &RunId, state: RunState, now: &Progress) -> String {
    let (settled, planned, open) = (now.settled, now.planned, now.in_flight + now.waiting);
    let state = state.name();
    if open == 0 {
        return format!("{id} is still {state}; {settled} of {planned} records are settled.");
    }
    format!(
        "{id} is still {state}: {settled} of {planned} records are settled, and {open} chunk(s) wait for a worker, a limit or the \
         destination's answer. Is an `outflow worker` running?"
    )
}

/// Says at long intervals why a run does not get on, or where it stands; only once where a bar shows that.
async fn wonder(ui: &Ui, ledger: &dyn Ledger, id: &RunId) -> Infallible {
    let (mut before, mut still) = (None, 0_u32);
    loop {
        let began = Instant::now();
        // The wait for the run's end says that a ledger is away.
        if let (Ok(Some(run)), Ok(now)) = (ledger.run(id).await, chunks(ledger, id).await) {
            let stands = Some((run.state, now.settled));
            still = if before == stands { still + 1 } else { 0 };
            before = stands;
            if still % AGAIN == 1
                && let Ok(cause) = cause(ledger, &run).await
            {
                match cause {
                    Some(cause) if still == 1 || !ui.is_watched() => ui.note(cause),
                    None if !ui.is_watched() => ui.note(standing(id, run.state, &now)),
                    _ => {}
                }
            }
        }
        tokio::time::sleep(WONDER.max(began.elapsed() * 20)).await;
    }
}

/// Follows a run to its end, or to where it waits for a decision; with a bar where a person watches.
async fn follow(ui: &Ui, ledger: &dyn Ledger, id: &RunId) -> Result<Run> {
    let (progress, shown) = watch::channel(Progress::default());
    let watched = async {
        if !ui.is_watched() {
            return std::future::pending().await;
        }
        ui.note(format!("{id} goes on though you leave; `outflow cancel {id}` stops it."));
        tokio::select! {
            never = look_on(ledger, id, &progress) => match never {},
            () = progress::show(shown) => {}
        }
    };
    tokio::select! {
        ended = wait_for(ui, ledger, id) => ended,
        never = wonder(ui, ledger, id) => match never {},
        () = watched => bail!("The bar has ended before the run"),
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
    let mut away = false;
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
        tokio::time::sleep(LOOK).await;
    }
}
