//! `outflow dead`: messages that were given up.

use std::path::Path;

use anyhow::Result;
use outflow_coordinator::project::Project;
use outflow_model::id::AttemptId;
use outflow_model::port::dead_letters::{DeadLetters, Kept, Why};
use serde_json::json;

use crate::args::DeadAction;
use crate::compose;
use crate::exit::Exit;
use crate::mistakes::usage;
use crate::ui::{Ui, moment};

pub(super) async fn dead(ui: &Ui, root: &Path, action: &DeadAction) -> Result<Exit> {
    let project = compose::project(root)?;
    let letters = compose::dead_letters(&project)?;
    match action {
        DeadAction::List { limit } => list(ui, &letters, *limit).await,
        DeadAction::Show { message } => show(ui, &project, &letters, message).await,
        DeadAction::Discard { message, all } => {
            if message.is_none() && !all {
                return Err(usage("Name the message, as `outflow dead list` does, or say --all").into());
            }
            let discarded = letters.discard(message.as_deref()).await?;
            if ui.is_json() {
                ui.json(&discarded);
            } else {
                ui.line(format!("{discarded} message(s) discarded."));
            }
            Ok(Exit::Succeeded)
        }
    }
}

const fn because(why: Why) -> &'static str {
    match why {
        Why::PutAside => "cannot be used",
        Why::TooOften => "delivered too often",
        Why::Other => "given up by the broker",
    }
}

/// A message, what became of its run, and where to look further. Its body may hold records' values and is not shown.
async fn show(ui: &Ui, project: &Project, letters: &impl DeadLetters, message: &str) -> Result<Exit> {
    let kept = letters.kept(usize::MAX).await?.into_iter().find(|kept| kept.id == message);
    let Some(kept) = kept else {
        return Err(
            usage(&format!("No message \"{message}\" is kept; `outflow dead list` names those that are")).into()
        );
    };
    let about = AttemptId::parse(&kept.id);
    let run = match &about {
        Some(attempt) => compose::ledger(project).await?.run(&attempt.run).await?,
        None => None,
    };
    if ui.is_json() {
        let run =
            run.map(|run| json!({ "id": run.id, "sync": run.sync, "state": run.state, "trace_id": run.trace_id() }));
        ui.json(&json!({ "message": kept, "chunk": about.map(|about| about.chunk), "run": run }));
        return Ok(Exit::Succeeded);
    }
    let Kept { id, queue, why, since, bytes } = kept;
    ui.line(format!("{id} {}, {bytes} bytes", because(why)));
    ui.line(format!("queue     {queue}"));
    ui.line(format!("since     {}", moment(since * 1_000_000)));
    let Some(about) = about else { return Ok(Exit::Succeeded) };
    ui.line(format!("chunk     {}, attempt {}", about.chunk, about.attempt));
    let Some(run) = run else {
        ui.line(format!("run       {} is not known any more", about.run));
        return Ok(Exit::Succeeded);
    };
    ui.line(format!("run       {} {} {}", run.id, run.sync, run.state.name()));
    if let Some(trace) = run.trace_id() {
        ui.line(format!("trace     {trace}"));
    }
    ui.line(format!("What did not succeed of it: `outflow errors {}`", run.id));
    Ok(Exit::Succeeded)
}

async fn list(ui: &Ui, letters: &impl DeadLetters, limit: usize) -> Result<Exit> {
    let kept = letters.kept(limit).await?;
    if ui.is_json() {
        ui.json(&kept);
        return Ok(Exit::Succeeded);
    }
    if kept.is_empty() {
        ui.line("No message was given up.");
        return Ok(Exit::Succeeded);
    }
    let rows: Vec<Vec<String>> = kept
        .into_iter()
        .map(|kept| {
            let why = because(kept.why).to_owned();
            vec![kept.id, kept.queue, why, moment(kept.since * 1_000_000), kept.bytes.to_string()]
        })
        .collect();
    ui.table(&["message", "queue", "why", "since", "bytes"], &rows);
    Ok(Exit::Succeeded)
}
