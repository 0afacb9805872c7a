//! `outflow plan`: what a run would send.

use std::path::Path;

use anyhow::{Result, anyhow};
use outflow_model::port::ledger::RunOptions;

use super::before;
use super::inspect::planned;
use super::run::lock;
use crate::compose;
use crate::exit::Exit;
use crate::signals::interrupted;
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
            ui.error(&anyhow!("Interrupted before the plan was complete; nothing was kept"));
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
