//! `outflow dead`: messages that were given up.

use std::path::Path;

use anyhow::{Result, bail};
use outflow_model::port::dead_letters::{DeadLetters, Why};

use crate::args::DeadAction;
use crate::compose;
use crate::exit::Exit;
use crate::ui::{Ui, moment};

pub(super) async fn dead(ui: &Ui, root: &Path, action: &DeadAction) -> Result<Exit> {
    let letters = compose::dead_letters(&compose::project(root)?)?;
    match action {
        DeadAction::List { limit } => list(ui, &letters, *limit).await,
        DeadAction::Discard { message, all } => {
            if message.is_none() && !all {
                bail!("Name the message, as `outflow dead list` does, or say --all");
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
            let why = match kept.why {
                Why::PutAside => "cannot be used",
                Why::TooOften => "delivered too often",
                Why::Other => "given up by the broker",
            };
            vec![kept.id, kept.queue, why.to_owned(), moment(kept.since * 1_000_000), kept.bytes.to_string()]
        })
        .collect();
    ui.table(&["message", "queue", "why", "since", "bytes"], &rows);
    Ok(Exit::Succeeded)
}
