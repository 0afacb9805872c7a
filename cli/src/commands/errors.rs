//! `outflow errors`: the records that did not succeed, by cause.

use std::path::Path;

use anyhow::Result;
use outflow_model::change::Change;
use outflow_model::invalid::InvalidCode;
use outflow_model::outcome::Status;
use outflow_model::port::ledger::{Problem, Run};
use outflow_model::run::RunState;
use outflow_model::tally::Tally;
use serde_json::{Value, json};

use super::inspect::{open, unaddressed, unsure};
use super::named;
use crate::compose;
use crate::exit::Exit;
use crate::ui::{Ui, message, value};

/// Which of the kept records are named.
#[derive(Clone, Copy)]
pub(super) struct Page {
    pub(super) limit: u32,
    pub(super) skip: u32,
}

impl Page {
    /// Whether the record is named that comes at this place among all that are kept.
    const fn has(self, place: usize) -> bool {
        place >= self.skip as usize && place - (self.skip as usize) < self.limit as usize
    }

    fn of<'p>(self, kept: &[&'p Problem]) -> Vec<&'p Problem> {
        kept.iter().copied().skip(self.skip as usize).take(self.limit as usize).collect()
    }
}

/// What is known of the records of a run that did not succeed.
struct Kept<'p> {
    failed: Vec<&'p Problem>,
    /// Removes that planning has left out.
    skipped: Vec<&'p Problem>,
    withheld: Vec<&'p Problem>,
}

impl<'p> Kept<'p> {
    fn new(problems: &'p [Problem]) -> Self {
        let (withheld, others): (Vec<_>, Vec<_>) = problems.iter().partition(|problem| problem.is_withheld());
        let (skipped, failed) = others.into_iter().partition(|problem| problem.status == Some(Status::Skipped));
        Self { failed, skipped, withheld }
    }
}

/// Prints why records of a run did not succeed, and which rows are withheld. Names those of `page`, and counts all.
pub(super) async fn errors(ui: &Ui, root: &Path, name: Option<&str>, page: Page) -> Result<Exit> {
    let project = compose::project(root)?;
    let ledger = compose::ledger(&project).await?;
    let run = named::run(&project, ledger.as_ref(), name).await?;
    let problems = ledger.problems(&run.id, u32::MAX >> 1).await?;
    let kept = Kept::new(&problems);
    if ui.is_json() {
        ui.json(&errors_json(&run, &kept, page));
        return Ok(Exit::Succeeded);
    }
    ui.line(format!("{} {} {}", run.sync, run.state.name(), run.id));
    if let Some(trace) = run.trace_id() {
        ui.line(format!("trace {trace}"));
    }
    situation(&run).into_iter().for_each(|line| ui.line(line));
    let failed = failed(&run.tally);
    if failed > 0 && run.planned.is_none() && kept.failed.is_empty() {
        ui.line(format!("{} would have been sent.", records(failed)));
    } else if failed > 0 {
        ui.line(format!("{} did not succeed{}.", records(failed), named_of(&kept.failed, page, failed)));
    }
    print(ui, &kept.failed, page, failed);
    print(ui, &kept.skipped, page, kept.skipped.len() as u64);
    let withheld = withheld(&run.tally);
    if withheld > 0 {
        ui.line(format!(
            "{} withheld, since the outcome of an earlier run still holds{}. `outflow retry {}` sends rejected ones again, \
             `outflow unknown {}` lists unknown ones.",
            if withheld == 1 { "1 row is".to_owned() } else { format!("{withheld} rows are") },
            named_of(&kept.withheld, page, withheld),
            run.sync,
            run.sync
        ));
    }
    print(ui, &kept.withheld, page, withheld);
    Ok(Exit::Succeeded)
}

fn errors_json(run: &Run, kept: &Kept<'_>, page: Page) -> Value {
    let json = |problems: &[&Problem]| -> Vec<Value> {
        page.of(problems).into_iter().map(|problem| problem_json(problem, run)).collect()
    };
    let problems = json(&kept.failed);
    json!({
        "run": run.id, "sync": run.sync, "state": run.state, "reason": run.reason, "trace_id": run.trace_id(),
        "failed": failed(&run.tally), "named": kept.failed.len(), "shown": problems.len(), "problems": problems,
        "skipped_rows": json(&kept.skipped), "withheld": withheld(&run.tally), "withheld_named": kept.withheld.len(),
        "withheld_rows": json(&kept.withheld), "removes_withheld": run.tally.missing_unsure,
        "rows_without_key": run.tally.keyless,
    })
}

/// Says how many records are shown, and why not all.
fn named_of(kept: &[&Problem], page: Page, all: u64) -> String {
    let (shown, kept) = (page.of(kept).len(), kept.len());
    if shown as u64 == all {
        return String::new();
    }
    let more = match kept {
        _ if shown == kept => String::new(),
        _ if page.skip == 0 => format!("; --limit {kept} shows more"),
        _ => format!("; --skip {} leaves out", page.skip),
    };
    let lost = if (kept as u64) < all { format!("; the ledger keeps the first {kept}") } else { String::new() };
    format!(", {shown} of them are shown{more}{lost}")
}

fn records(count: u64) -> String {
    if count == 1 { "1 record".to_owned() } else { format!("{count} records") }
}

/// Rows that did not succeed in this run.
fn failed(tally: &Tally) -> u64 {
    let total = tally.total();
    tally.invalid + tally.missing_invalid + total.rejected + total.deferred + total.unknown + total.aborted
}

/// Rows that are withheld each for an outcome of its own.
fn withheld(tally: &Tally) -> u64 {
    (tally.withheld + tally.missing_withheld).saturating_sub(tally.missing_unsure)
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
        RunState::Queued | RunState::Planning => {
            lines.push(format!("The run has not ended: it is {}.", run.state.name()));
        }
        RunState::Delivering | RunState::Interrupted | RunState::Folding => lines.extend(open(run)),
        RunState::Succeeded | RunState::Partial if failed(tally) == 0 => {
            lines.push(format!("Every record that was sent succeeded ({}).", tally.total().succeeded));
        }
        RunState::Succeeded | RunState::Partial => {}
    }
    lines.extend(unsure(tally));
    lines.extend(unaddressed(tally));
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
    let status = if problem.status.is_none() { json!("invalid") } else { json!(problem.status) };
    json!({
        "key": problem.key, "chunk": problem.chunk, "change": problem.change, "status": status,
        "class": problem.refusal.class, "code": code, "destination_code": destination_code,
        "message": problem.refusal.message, "remedy": remedy, "trace_id": run.trace_id(), "since": problem.since,
    })
}

/// Splits a problem's message into its reason and the row's place in the source's file: rows of one reason share a cause.
fn reason_of(problem: &Problem) -> (&str, Option<&str>) {
    let message = problem.refusal.message.as_str();
    let place = || {
        let (reason, place) = message.strip_suffix(')')?.rsplit_once(" (")?;
        let (_, line) = place.rsplit_once(", line ")?;
        line.bytes().all(|byte| byte.is_ascii_digit()).then_some((reason, Some(place)))
    };
    let is_of_source = problem.refusal.code == InvalidCode::SourceValue.code();
    is_of_source.then(place).flatten().unwrap_or((message, None))
}

/// A cause, and the problems that it has, each with its place among all that are kept.
type Cause<'p> = Vec<(usize, &'p Problem)>;

/// Problems by cause, in the order in which they were kept.
fn causes<'p>(problems: &[&'p Problem]) -> Vec<Cause<'p>> {
    let mut causes: Vec<Cause<'p>> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for (number, problem) in problems.iter().enumerate() {
        let cause = (problem.refusal.class, &problem.refusal.code, reason_of(problem).0);
        let place = *places.entry(cause).or_insert_with(|| {
            causes.push(Vec::new());
            causes.len() - 1
        });
        if let Some(cause) = causes.get_mut(place) {
            cause.push((number, *problem));
        }
    }
    causes
}

/// Prints each cause of which a record is on the page: how many records it has, and those of the page.
fn print(ui: &Ui, kept: &[&Problem], page: Page, all: u64) {
    let at_least = if (kept.len() as u64) < all { "at least " } else { "" };
    for cause in causes(kept) {
        let mut named = cause.iter().filter(|(place, _)| page.has(*place)).peekable();
        let Some((_, first)) = named.peek() else { continue };
        let (code, destination_code, remedy) = explained(first);
        let own = destination_code.map_or_else(String::new, |code| format!(" {}", value(code)));
        let count = records(cause.len() as u64);
        ui.line(format!("{code}{own}: {} ({at_least}{count})", message(reason_of(first).0)));
        for (_, problem) in named {
            let what = problem.change.map_or(if problem.is_withheld() { "row" } else { "invalid" }, Change::name);
            let key = if problem.key.is_empty() { "(no key)".into() } else { value(&problem.key) };
            let chunk = problem.chunk.map_or_else(String::new, |chunk| format!(" (chunk {chunk})"));
            let since = problem.since.as_ref().map_or_else(String::new, |run| format!(" (since {run})"));
            let place = reason_of(problem).1.map_or_else(String::new, |place| format!(" ({})", value(place)));
            ui.line(format!("    {what} {key}{place}{chunk}{since}"));
        }
        ui.line(format!("    {remedy}"));
    }
}
