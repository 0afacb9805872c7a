//! `outflow errors`: the records that did not succeed, by cause.

use std::path::Path;

use anyhow::Result;
use outflow_model::change::Change;
use outflow_model::invalid::InvalidCode;
use outflow_model::port::ledger::{Problem, Run};
use outflow_model::run::RunState;
use outflow_model::tally::Tally;
use serde_json::{Value, json};

use super::named;
use crate::compose;
use crate::exit::Exit;
use crate::ui::{Ui, message, value};

/// Keys that the text names per cause; `--limit` bounds the whole.
const KEYS_PER_CAUSE: usize = 10;

/// Prints why records of a run did not succeed. Names at most `limit` records, and counts all.
pub(super) async fn errors(ui: &Ui, root: &Path, name: Option<&str>, limit: u32) -> Result<Exit> {
    let project = compose::project(root)?;
    let ledger = compose::ledger(&project).await?;
    let run = named::run(&project, ledger.as_ref(), name).await?;
    let kept = ledger.problems(&run.id, u32::MAX >> 1).await?;
    let shown = kept.get(..kept.len().min(limit as usize)).unwrap_or_default();
    if ui.is_json() {
        let problems: Vec<Value> = shown.iter().map(|problem| problem_json(problem, &run)).collect();
        ui.json(&json!({
            "run": run.id, "sync": run.sync, "state": run.state, "reason": run.reason, "trace_id": run.trace_id(),
            "failed": failed(&run.tally), "withheld": run.tally.withheld + run.tally.missing_withheld,
            "named": kept.len(), "shown": shown.len(), "problems": problems,
        }));
        return Ok(Exit::Succeeded);
    }
    ui.line(format!("{} {} {}", run.sync, run.state.name(), run.id));
    if let Some(trace) = run.trace_id() {
        ui.line(format!("trace {trace}"));
    }
    situation(&run).into_iter().for_each(|line| ui.line(line));
    let failed = failed(&run.tally);
    if failed > 0 {
        let named =
            if shown.len() as u64 == failed { String::new() } else { named_of(shown.len(), kept.len(), failed) };
        ui.line(format!("{} did not succeed{named}.", records(failed)));
    }
    causes(shown).iter().for_each(|cause| print(ui, cause));
    Ok(Exit::Succeeded)
}

/// Says how many records are shown, and why not all.
fn named_of(shown: usize, kept: usize, failed: u64) -> String {
    let more = if kept > shown { format!("; --limit {kept} shows more") } else { String::new() };
    let lost = if (kept as u64) < failed { format!("; the ledger keeps the first {kept}") } else { String::new() };
    format!(", {shown} of them are shown{more}{lost}")
}

fn records(count: u64) -> String {
    if count == 1 { "1 record".to_owned() } else { format!("{count} records") }
}

/// Rows that did not succeed in this run.
fn failed(tally: &Tally) -> u64 {
    let total = tally.total();
    tally.invalid + total.rejected + total.deferred + total.unknown + total.aborted
}

/// Says what holds for the run as a whole.
fn situation(run: &Run) -> Vec<String> {
    let reason = message(run.reason.as_deref().unwrap_or("no reason was kept"));
    let (id, tally) = (&run.id, &run.tally);
    let mut lines = Vec::new();
    match run.state {
        RunState::Held => {
            lines.push(format!("The guard holds the plan, nothing was sent: {reason}"));
            lines.push(format!("Decide with `outflow approve {id}` or `outflow cancel {id}`."));
        }
        RunState::Failed => lines.push(format!("The run failed: {reason}")),
        RunState::Cancelled => lines.push("The run was cancelled; the next run finds the rest.".to_owned()),
        RunState::Queued | RunState::Planning | RunState::Delivering | RunState::Interrupted | RunState::Folding => {
            lines.push(format!("The run has not ended: it is {}.", run.state.name()));
        }
        RunState::Succeeded | RunState::Partial if failed(tally) == 0 => {
            lines.push(format!("Every record that was sent succeeded ({}).", tally.total().succeeded));
        }
        RunState::Succeeded | RunState::Partial => {}
    }
    let withheld = tally.withheld + tally.missing_withheld;
    if withheld > 0 {
        lines.push(format!(
            "{} withheld: rejected or unknown in an earlier run, and unchanged since. `outflow retry {}` sends rejected ones \
             again, `outflow unknown {}` lists unknown ones.",
            if withheld == 1 { "1 row is".to_owned() } else { format!("{withheld} rows are") },
            run.sync,
            run.sync
        ));
    }
    lines
}

/// The code, the destination's own code and the remedy of a problem.
fn explained(problem: &Problem) -> (&str, Option<&str>, &'static str) {
    let (class, code) = (problem.refusal.class, problem.refusal.code.as_str());
    match InvalidCode::parse(code) {
        Some(invalid) => (code, None, invalid.remedy()),
        None => (class.code(), Some(code), class.remedy()),
    }
}

fn problem_json(problem: &Problem, run: &Run) -> Value {
    let (code, destination_code, remedy) = explained(problem);
    let status = if problem.change.is_none() { json!("invalid") } else { json!(problem.status) };
    json!({
        "key": problem.key, "chunk": problem.chunk, "change": problem.change, "status": status,
        "class": problem.refusal.class, "code": code, "destination_code": destination_code,
        "message": problem.refusal.message, "remedy": remedy, "trace_id": run.trace_id(),
    })
}

/// Problems of one cause, in the order in which they were kept.
fn causes(problems: &[Problem]) -> Vec<Vec<&Problem>> {
    let mut causes: Vec<Vec<&Problem>> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for problem in problems {
        let cause = (problem.refusal.class, &problem.refusal.code, &problem.refusal.message);
        let place = *places.entry(cause).or_insert_with(|| {
            causes.push(Vec::new());
            causes.len() - 1
        });
        if let Some(cause) = causes.get_mut(place) {
            cause.push(problem);
        }
    }
    causes
}

fn print(ui: &Ui, cause: &[&Problem]) {
    let Some(first) = cause.first() else { return };
    let (code, destination_code, remedy) = explained(first);
    let own = destination_code.map_or_else(String::new, |code| format!(" {}", value(code)));
    ui.line(format!("{code}{own}: {} ({})", message(&first.refusal.message), records(cause.len() as u64)));
    for problem in cause.iter().take(KEYS_PER_CAUSE) {
        let what = problem.change.map_or("invalid", Change::name);
        let key = if problem.key.is_empty() { "(no key)".into() } else { value(&problem.key) };
        let chunk = problem.chunk.map_or_else(String::new, |chunk| format!(" (chunk {chunk})"));
        ui.line(format!("    {what} {key}{chunk}"));
    }
    if cause.len() > KEYS_PER_CAUSE {
        ui.line(format!("    and {} more; --output json names each", cause.len() - KEYS_PER_CAUSE));
    }
    ui.line(format!("    {remedy}"));
}
