//! `outflow plan`: what a run would send.

use std::path::Path;

use anyhow::{Result, anyhow};
use outflow_coordinator::project::OnBreach;
use outflow_model::port::ledger::RunOptions;

use super::before;
use super::inspect::planned;
use super::run::lock;
use crate::compose;
use crate::exit::Exit;
use crate::signals::interrupted;
use crate::ui::{Ui, message, value};

/// Rows of a plan that are named though they will not be sent.
const SHOWN: usize = 10;

pub(super) async fn plan(ui: &Ui, root: &Path, sync: &str, options: RunOptions) -> Result<Exit> {
    let project = compose::project(root)?;
    let start = compose::start(&project, sync, options)?;
    // Where the state is shared, a preview needs no lock.
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
            "requests_a_day": plan.a_day,
            "breach": plan.breach, "on_breach": plan.on_breach, "rekeys": plan.rekeys, "first_run": plan.first,
            "samples": samples, "problems": plan.problems,
        }));
        return Ok(Exit::Succeeded);
    }
    planned(ui, &plan.tally);
    ui.line(format!("{} request(s), at least {:.1} s within the account's limits.", plan.requests, plan.seconds));
    if let Some(quota) = plan.a_day {
        ui.line(format!("`limits.daily` allows {quota} request(s) a day: what they do not carry is deferred."));
    }
    samples.iter().for_each(|sample| ui.line(sample.to_string()));
    before::more(&plan.tally, &samples).into_iter().for_each(|line| ui.line(line));
    for problem in plan.problems.iter().take(SHOWN) {
        let what = if problem.status.is_none() { "invalid" } else { "skipped" };
        let key = if problem.key.is_empty() { "(no key)".into() } else { value(&problem.key) };
        ui.line(format!("  {what} {key}: {}", message(&problem.refusal.message)));
    }
    if plan.problems.len() > SHOWN {
        ui.line(format!("  and at least {} more", plan.problems.len() - SHOWN));
    }
    if let Some(rekeys) = plan.rekeys {
        ui.line(format!("{rekeys}."));
    }
    if let Some(breach) = plan.breach {
        ui.line(match plan.on_breach {
            Some(OnBreach::Warn) => {
                format!("A run would warn, and send this plan all the same (`on_breach: warn`): {breach}.")
            }
            Some(OnBreach::Fail) => format!("The guard would fail the run (`on_breach: fail`): {breach}."),
            Some(OnBreach::Hold) | None => format!("The guard would stop this plan until `outflow approve`: {breach}."),
        });
    }
    Ok(Exit::Succeeded)
}
