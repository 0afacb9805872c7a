//! Commands that look: runs, show, errors, state.

use std::path::Path;

use anyhow::Result;
use outflow_coordinator::{Decision, EngineError, Finished};
use outflow_model::change::Change;
use outflow_model::id::RunId;
use outflow_model::port::ledger::{Ledger, Run};
use outflow_model::run::RunState;
use outflow_model::table::MASKED;
use outflow_model::tally::Tally;
use serde_json::Value;

use super::{before, named};
use crate::args::StateAction;
use crate::compose;
use crate::exit::Exit;
use crate::mistakes::Usage;
use crate::ui::{Ui, moment, value};

fn extracted(ui: &Ui, tally: &Tally) {
    let ignored = tally.missing_ignored.saturating_sub(tally.missing_invalid);
    let kept = [(ignored, "ignored"), (tally.missing_invalid, "invalid"), (tally.missing_withheld, "withheld")];
    let kept = kept.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    let kept = kept.collect::<Vec<_>>().join(", ");
    let kept = if kept.is_empty() { kept } else { format!(" ({kept})") };
    ui.line(format!(
        "{} row(s) extracted: {} unchanged, {} ignored, {} withheld, {} invalid; {} missing{kept}.",
        tally.extracted, tally.unchanged, tally.ignored, tally.withheld, tally.invalid, tally.missing
    ));
    unsure(tally).into_iter().chain(unaddressed(tally)).for_each(|line| ui.line(line));
}

/// Says that removed rows stay at the destination, since nothing says which records they are.
pub(super) fn unaddressed(tally: &Tally) -> Option<String> {
    let rows = tally.missing_invalid;
    (rows > 0).then(|| {
        format!(
            "{rows} removed row(s) stay at the destination (OF-5004): the sync's mode kept no keys when they were sent, so they cannot be \
             addressed. Remove them there by hand, then forget them with `outflow state reset`."
        )
    })
}

/// Says that removes are withheld since rows without a readable key may be those that are missing.
pub(super) fn unsure(tally: &Tally) -> Option<String> {
    let (removes, rows) = (tally.missing_unsure, tally.keyless);
    (removes > 0).then(|| {
        format!(
            "{removes} remove(s) are withheld: the key of {rows} row(s) is null or cannot be read, and any of them may be a row that \
             seems to be gone. Correct these rows, or leave them out in the model."
        )
    })
}

/// Prints what a plan comes to, before anything is sent.
pub(super) fn planned(ui: &Ui, tally: &Tally) {
    extracted(ui, tally);
    let counts = Change::ALL.into_iter().map(|change| (change, tally.delivered(change).pending()));
    let counts: Vec<String> =
        counts.filter(|(_, count)| *count > 0).map(|(change, count)| format!("{} {count}", change.name())).collect();
    ui.line(if counts.is_empty() { "Nothing to send.".to_owned() } else { format!("To send: {}.", counts.join(", ")) });
}

/// Prints an accounting.
pub(super) fn accounting(ui: &Ui, tally: &Tally) {
    extracted(ui, tally);
    let head = ["", "planned", "succeeded", "skipped", "rejected", "deferred", "unknown", "aborted"];
    let row = |change: Change| {
        let counts = tally.delivered(change);
        let numbers = [
            counts.planned,
            counts.succeeded,
            counts.skipped,
            counts.rejected,
            counts.deferred,
            counts.unknown,
            counts.aborted,
        ];
        std::iter::once(change.name().to_owned()).chain(numbers.map(|number| number.to_string())).collect()
    };
    let rows: Vec<Vec<String>> = Change::ALL.into_iter().filter(|c| tally.delivered(*c).planned > 0).map(row).collect();
    if !rows.is_empty() {
        ui.table(&head, &rows);
    }
}

/// A run for programs.
pub(super) fn run_json(run: &Run) -> Value {
    serde_json::to_value(run).unwrap_or_default()
}

/// Tells how a run has ended, or where it stands.
pub(super) fn report(ui: &Ui, finished: &Finished) {
    finished.warnings.iter().for_each(|warning| ui.note(format!("warning: {warning}")));
    if ui.is_json() {
        return;
    }
    let run = &finished.run;
    if matches!(run.state, RunState::Queued | RunState::Planning) {
        let Run { sync, id, .. } = run;
        return ui.line(format!(
            "{sync} {} {id}\nIts plan was not complete; nothing was sent. The next run plans again.",
            run.state.name()
        ));
    }
    let color = if run.state == RunState::Succeeded { "32;1" } else { "33;1" };
    ui.line(format!("{} {} {}", run.sync, ui.paint(run.state.name(), color), run.id));
    accounting(ui, &run.tally);
    ui.line(format!("{} request(s) sent.", run.requests));
    if let Some(reason) = &run.reason {
        ui.line(reason);
    }
    if run.state == RunState::Held {
        ui.line(format!(
            "Look at it with `outflow show {0}`, then `outflow approve {0}` or `outflow cancel {0}`.",
            run.id
        ));
    } else if run.state == RunState::Partial {
        ui.line(format!("`outflow errors {}` shows why records did not succeed.", run.id));
    } else if run.state == RunState::Failed && run.tally.total().succeeded + run.requests > 0 {
        ui.line(format!("`outflow errors {}` shows what to do.", run.id));
    }
    open(run).into_iter().for_each(|line| ui.line(line));
}

/// What holds for a run that has not ended: its records are counted once it has.
pub(super) fn open(run: &Run) -> Option<String> {
    let is_open = matches!(run.state, RunState::Delivering | RunState::Interrupted | RunState::Folding);
    let who = format!("`outflow run {}`, or a coordinator, goes on with it", run.sync);
    is_open.then(|| match run.state {
        RunState::Interrupted => format!("The run has not ended: what has succeeded is counted when it ends. {who}."),
        _ => {
            format!("The run has not ended: what has succeeded is counted when it ends. If its process is gone, {who}.")
        }
    })
}

pub(super) async fn runs(ui: &Ui, root: &Path, sync: Option<&str>, limit: u32) -> Result<Exit> {
    let project = compose::project(root)?;
    let ledger = compose::ledger(&project).await?;
    if let Some(sync) = sync {
        named::sync(&project, ledger.as_ref(), sync).await?;
    }
    let runs = ledger.runs(sync, limit).await?;
    if ui.is_json() {
        ui.json(&runs.iter().map(run_json).collect::<Vec<_>>());
        return Ok(Exit::Succeeded);
    }
    let row = |run: &Run| {
        let total = run.tally.total();
        vec![
            run.id.to_string(),
            run.sync.clone(),
            run.state.name().to_owned(),
            moment(run.requested),
            total.planned.to_string(),
            total.succeeded.to_string(),
            (run.tally.invalid + run.tally.missing_invalid + total.planned
                - total.succeeded
                - total.skipped
                - total.pending())
            .to_string(),
        ]
    };
    let head = ["run", "sync", "state", "requested", "planned", "succeeded", "failed"];
    ui.table(&head, &runs.iter().map(row).collect::<Vec<_>>());
    Ok(Exit::Succeeded)
}

pub(super) async fn known(ledger: &dyn Ledger, run: &RunId) -> Result<Run> {
    Ok(ledger.run(run).await?.ok_or_else(|| EngineError::Lost(run.clone()))?)
}

pub(super) async fn show(ui: &Ui, root: &Path, name: Option<&str>) -> Result<Exit> {
    let project = compose::project(root)?;
    let ledger = compose::ledger(&project).await?;
    let run = named::run(&project, ledger.as_ref(), name).await?;
    if ui.is_json() {
        ui.json(&run_json(&run));
        return Ok(Exit::Succeeded);
    }
    ui.line(format!("{} {} {}", run.id, run.sync, run.state.name()));
    ui.line(format!("requested {}", moment(run.requested)));
    if let Some(ended) = run.ended {
        ui.line(format!("ended     {}", moment(ended)));
    }
    if let Some(trace) = run.trace_id() {
        ui.line(format!("trace     {trace}"));
    }
    if run.state == RunState::Held {
        held(ui, &run);
        return Ok(Exit::Succeeded);
    }
    accounting(ui, &run.tally);
    ui.line(format!("{} request(s) sent.", run.requests));
    if let Some(reason) = &run.reason {
        ui.line(reason);
    }
    open(&run).into_iter().for_each(|line| ui.line(line));
    if !run.state.is_end() {
        let pauses = ledger.pauses().await?;
        for pause in pauses.iter().filter(|pause| pause.account == run.destination) {
            ui.line(format!(
                "Destination {0} is paused: {1}. `outflow resume {0}` lets it go on.",
                pause.account, pause.reason
            ));
        }
    }
    if let (false, Err(error)) = (run.state.is_end(), compose::resolved(&project, &run.sync)) {
        ui.line(format!("The run stands still, since its sync cannot be read: {error:#}"));
        ui.line(format!("Put the sync back, or end the run with `outflow cancel {}`.", run.id));
    }
    // A run that was never planned has no records to name; its reason is shown above.
    let names = run.planned.is_some() || run.tally.invalid > 0;
    if names && run.state.is_end() && (run.state != RunState::Succeeded || run.tally.withheld > 0) {
        ui.line(format!("`outflow errors {}` shows what did not succeed, and why.", run.id));
    }
    Ok(Exit::Succeeded)
}

/// Shows what a held run would do.
fn held(ui: &Ui, run: &Run) {
    if let Some(planned) = run.planned {
        ui.line(format!("held      since {}", moment(planned)));
    }
    ui.line(run.reason.as_deref().unwrap_or("no reason was kept"));
    planned(ui, &run.tally);
    let samples: Vec<_> = before::kept(&run.samples).collect();
    samples.iter().for_each(|sample| ui.line(sample.to_string()));
    before::more(&run.tally, &samples).into_iter().for_each(|line| ui.line(line));
    ui.line(format!("Decide with `outflow approve {0}` or `outflow cancel {0}`.", run.id));
}

pub(super) async fn unknown(
    ui: &Ui,
    root: &Path,
    sync: &str,
    key: Option<&str>,
    decision: Option<Decision>,
) -> Result<Exit> {
    let project = compose::project(root)?;
    named::sync(&project, compose::ledger(&project).await?.as_ref(), sync).await?;
    let keys = match decision {
        None if project.config.state.shared.is_some() => {
            compose::engine(&project).await?.unknown(sync, key, None).await?
        }
        decision => {
            let alone = compose::alone(&project, sync).await?;
            let keys = alone.engine.unknown(sync, key, decision).await;
            alone.done().await;
            keys?
        }
    };
    if let (true, Some(_), Some(key)) = (keys.is_empty(), decision, key) {
        let hint = format!("`outflow unknown {sync}` lists those that are");
        return Err(Usage(format!("No record with the key \"{key}\" of {sync} is unknown; {hint}")).into());
    }
    let is_hidden = compose::resolved(&project, sync).is_ok_and(|sync| sync.hides_keys());
    let keys: Vec<_> = keys.into_iter().map(|key| if is_hidden { MASKED.to_owned() } else { key }).collect();
    if ui.is_json() {
        ui.json(&keys);
        return Ok(Exit::Succeeded);
    }
    keys.iter().for_each(|key| ui.line(value(key)));
    ui.line(match decision {
        None if keys.is_empty() => "No record is unknown.".to_owned(),
        None => format!("{} record(s) are unknown; decide with --sent or --resend.", keys.len()),
        Some(Decision::Sent) => format!("{} record(s) are taken as acknowledged.", keys.len()),
        Some(Decision::Resend) => format!("{} record(s) go out with the next run.", keys.len()),
    });
    Ok(Exit::Succeeded)
}

pub(super) async fn state(ui: &Ui, root: &Path, action: &StateAction) -> Result<Exit> {
    let project = compose::project(root)?;
    let ledger = compose::ledger(&project).await?;
    let (StateAction::Show { sync } | StateAction::Reset { sync }) = action;
    named::sync(&project, ledger.as_ref(), sync).await?;
    match action {
        StateAction::Reset { sync } => {
            let alone = compose::alone(&project, sync).await?;
            let forgotten = alone.engine.forget(sync).await;
            alone.done().await;
            forgotten?;
            if ui.is_json() {
                ui.json(&serde_json::json!({ "sync": sync, "forgotten": true }));
            } else {
                ui.line(format!("{sync}: what was acknowledged is forgotten; the next run sends every row."));
            }
        }
        StateAction::Show { sync } => {
            let Some(key) = ledger.snapshot(sync).await? else {
                if ui.is_json() {
                    ui.json(&Value::Null);
                } else {
                    ui.line(format!("{sync}: nothing is acknowledged yet."));
                }
                return Ok(Exit::Succeeded);
            };
            let copy = compose::store(&project).await?.local(&key).await?;
            let counts = outflow_coordinator::count_snapshot(&copy.path)?;
            if ui.is_json() {
                ui.json(&counts);
            } else {
                ui.line(format!(
                    "{sync}: {} row(s) known: {} acknowledged, {} refused, {} doubtful, {} unknown (by {}).",
                    counts.rows, counts.acknowledged, counts.refused, counts.doubtful, counts.unknown, counts.run
                ));
            }
        }
    }
    Ok(Exit::Succeeded)
}
