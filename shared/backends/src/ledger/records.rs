//! What every ledger does with a record between reading and writing it, whatever its database.

use outflow_model::change::{Change, Operation};
use outflow_model::id::{ChunkNo, RunId};
use outflow_model::limit::Micros;
use outflow_model::port::ledger::{Chunk, Closing, Problem, Resend, Run, RunPatch};
use outflow_model::port::{PortError, Result, Trouble};
use outflow_model::run::RunState;
use outflow_model::wire::{Next, ReportV1};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A run's row: document, state, requested, ended, requests.
pub(super) type RunRow = (String, String, i64, Option<i64>, i64);

/// A chunk's row: number, change, operation, records, start, length, attempt, tries, `not_before`, requests, parked, ended,
/// merged.
pub(super) type ChunkRow =
    (i64, String, String, i64, i64, i64, i64, i64, i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<u8>);

pub(super) fn corrupt(context: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> PortError {
    PortError::caused(Trouble::Corrupt, context, error)
}

pub(super) fn conflict(id: &RunId, from: RunState) -> PortError {
    PortError::new(Trouble::Conflict, format!("{id} is not {}", from.name()))
}

pub(super) fn run((document, state, requested, ended, requests): RunRow) -> Result<Run> {
    let mut run: Run =
        serde_json::from_str(&document).map_err(|error| corrupt("A run in the ledger cannot be read", error))?;
    run.state = RunState::parse(&state)
        .ok_or_else(|| PortError::new(Trouble::Newer, format!("The ledger has a run in the unknown state {state}")))?;
    (run.requested, run.ended, run.requests) = (requested, ended, requests as u64);
    Ok(run)
}

pub(super) fn document(run: &Run) -> Result<String> {
    serde_json::to_string(run).map_err(|error| corrupt("A run cannot be written", error))
}

/// `run` changed by `patch`, where it is in state `from`.
pub(super) fn patched(mut run: Run, from: RunState, patch: RunPatch) -> Result<Run> {
    let RunPatch {
        state,
        started,
        planned,
        tally,
        settings,
        plan,
        base,
        header,
        non_repeatable,
        cancel,
        approved,
        failed,
        reason,
        cause,
        plannings,
        samples,
        trace,
    } = patch;
    if let Some(state) = state {
        if run.state != from || !from.may_become(state) {
            return Err(conflict(&run.id, from));
        }
        run.state = state;
    }
    run.started = started.or(run.started);
    run.planned = planned.or(run.planned);
    run.tally = tally.unwrap_or(run.tally);
    run.settings = settings.unwrap_or(run.settings);
    run.plan = plan.or(run.plan);
    run.base = base.or(run.base);
    run.header = header.or(run.header);
    run.non_repeatable = non_repeatable.unwrap_or(run.non_repeatable);
    run.cancel |= cancel;
    run.approved |= approved;
    run.failed |= failed;
    run.reason = reason.or(run.reason);
    run.cause = cause.or(run.cause);
    run.plannings = run.plannings.saturating_add_signed(plannings);
    run.samples = samples.unwrap_or(run.samples);
    run.trace = trace.or(run.trace);
    Ok(run)
}

/// `run` ended by `closing`, where it is in state `from`; the snapshot that it leaves, and whether a full resend is due.
pub(super) fn closed(mut run: Run, from: RunState, closing: Closing) -> Result<(Run, Option<String>, Resend)> {
    let Closing { state, tally, snapshot, resend, reason, ended } = closing;
    if run.state != from || !state.is_end() || !from.may_become(state) {
        return Err(conflict(&run.id, from));
    }
    (run.state, run.tally, run.ended) = (state, tally, Some(ended));
    run.reason = reason.or(run.reason);
    Ok((run, snapshot, resend))
}

pub(super) fn word<T: Serialize>(value: T) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn from_word<T: DeserializeOwned>(word: &str) -> Result<T> {
    serde_json::from_value(serde_json::Value::String(word.to_owned()))
        .map_err(|_| PortError::new(Trouble::Newer, format!("The ledger has the unknown word {word}")))
}

pub(super) fn pack<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    rmp_serde::to_vec_named(value).map_err(|error| corrupt("A chunk cannot be written", error))
}

fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    rmp_serde::from_slice(bytes).map_err(|error| corrupt("A chunk in the ledger cannot be read", error))
}

pub(super) fn chunk(row: ChunkRow) -> Result<Chunk> {
    let (number, change, operation, rows, offset, length, attempt, tries, not_before, requests, parked, ended, merged) =
        row;
    Ok(Chunk {
        number: number as ChunkNo,
        change: from_word::<Change>(&change)?,
        operation: from_word::<Operation>(&operation)?,
        rows: rows as u32,
        offset: offset as u64,
        length: length as u64,
        attempt: attempt as u32,
        tries: tries as u32,
        not_before,
        requests: requests as u64,
        parked: parked.map(|bytes| unpack(&bytes)).transpose()?,
        ended: ended.map(|bytes| unpack(&bytes)).transpose()?,
        merged: unpack(&merged)?,
    })
}

/// Joins `report` into `chunk`. What a late report of an older attempt asks for no longer counts, and the end of a delivery
/// counts once, however often it is reported.
pub(super) fn join(chunk: &mut Chunk, report: &ReportV1, now: Micros) {
    chunk.merged.join(report);
    let attempt = report.id.attempt;
    if chunk.ended.as_ref().is_some_and(|(ended, _)| *ended >= attempt) {
        return;
    }
    if report.next != Next::Continue {
        chunk.requests += u64::from(report.requests);
        chunk.ended = Some((attempt, report.next.clone()));
    }
    if attempt < chunk.attempt {
        return;
    }
    if let Some(checkpoint) = &report.checkpoint {
        chunk.parked = Some(checkpoint.clone());
    }
    match &report.next {
        Next::Again { after, counted, parked, .. } => {
            chunk.not_before = chunk.not_before.max(now + after);
            chunk.parked.clone_from(parked);
            chunk.tries += u32::from(*counted);
        }
        // A checkpoint stays: a later delivery goes on from it, unless its records are done.
        Next::Continue | Next::Returned | Next::Poison | Next::Done | Next::Stop { .. } => {}
        Next::Lost => chunk.tries += 1,
    }
}

pub(super) fn problem(text: &str) -> Result<Problem> {
    serde_json::from_str(text).map_err(|error| corrupt("A problem in the ledger cannot be read", error))
}

pub(super) fn problem_text(problem: &Problem) -> Result<String> {
    serde_json::to_string(problem).map_err(|error| corrupt("A problem cannot be written", error))
}
