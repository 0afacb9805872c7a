//! Folding: base snapshot, plan and outcomes make the next snapshot, and the run ends with its totals.

use outflow_model::change::Change;
use outflow_model::id::RunId;
use outflow_model::outcome::{Refusal, Status};
use outflow_model::policy::ErrorClass;
use outflow_model::port::ledger::{Chunk, Closing, Problem, Run};
use outflow_model::run::RunState;
use outflow_model::table::Table;
use outflow_model::tally::Tally;
use outflow_model::text::one_line;
use outflow_model::wire::{Next, unpack};
use outflow_snapshot::{Fold, Header, Learned, SnapshotReader};
use tracing::info;

use super::figures::count_ended;
use super::partition::{KEY, NAMED};
use super::plan_file::read_frame;
use super::{Engine, EngineError, Finished, Start};

const MEMORY: usize = 32 * 1024 * 1024;
const CHUNK_CAP: usize = 256 * 1024 * 1024;

impl Engine {
    /// Folds a run in state *folding* and ends it. May be done again after a crash. One that has sent nothing needs no sync
    /// any more.
    #[tracing::instrument(name = "fold", skip_all)]
    pub(super) async fn finish(
        &self,
        id: &RunId,
        start: Option<&Start>,
        warnings: Vec<String>,
    ) -> Result<Finished, EngineError> {
        let run = self.ledger.run(id).await?.ok_or_else(|| EngineError::Lost(id.clone()))?;
        self.show(|progress| progress.state = Some(RunState::Folding));
        let mut chunks = self.ledger.chunks(id).await?;
        for chunk in &mut chunks {
            // Announced, and the answer was lost with its process: nobody will hear of it again.
            let lost = chunk.merged.undecided();
            chunk.merged.give_up(&lost);
        }
        let aborted = run.cancel || run.failed;
        let mut tally = run.tally;
        for change in Change::ALL {
            let planned = tally.delivered(change).planned;
            *tally.delivered_mut(change) = outflow_model::tally::Delivered { planned, ..Default::default() };
        }
        let mut problems: Vec<Problem> = self.ledger.problems(id, NAMED as u32).await?;
        problems.retain(|problem| problem.status.is_none() && problem.change.is_none());
        let mut fold = Fold::new(&self.folder, MEMORY);
        let mut learned = 0_u64;
        for chunk in &chunks {
            let plan = run.plan.as_deref().unwrap_or_default();
            let frame = self.store.read(plan, chunk.offset, chunk.length).await?;
            let (payload, index) = read_frame(&frame)?;
            let unsent = || if aborted { stopped() } else { unsent(chunk, &chunks) };
            let names_needed = problems.len() < NAMED && chunk_has_problems(chunk);
            // What cannot be unpacked costs the names of its problems, not the run's end.
            let table = if names_needed { unpack(payload, CHUNK_CAP).ok() } else { None };
            for row in 0..chunk.rows {
                let status = chunk.merged.status(row);
                count(&mut tally, chunk.change, status, aborted);
                if let Some((key_hash, row_hash, key)) = index.get(row as usize)
                    && let Some(what) = learned_of(chunk, status, start)
                {
                    fold.learn(key_hash, what, row_hash, key, chunk.merged.record_id(row))?;
                    learned += 1;
                }
                if let Some(table) = &table
                    && !matches!(status, Status::Succeeded | Status::Skipped)
                    && problems.len() < NAMED
                {
                    problems.push(problem(chunk, row, status, table, &unsent()));
                }
            }
        }
        tally.closes().map_err(EngineError::Accounting)?;
        let pointed = self.ledger.snapshot(&run.sync).await?;
        let rebased = run.base.clone().filter(|base| pointed.as_ref() != Some(base));
        let snapshot = if learned > 0 { Some(self.write_snapshot(&run, fold).await?) } else { rebased.clone() };
        self.ledger.add_problems(id, &problems).await?;
        let state = end_state(&run, &tally);
        info!(run = %id, state = state.name(), succeeded = tally.total().succeeded, "The run has ended");
        let closing = Closing { state, tally, snapshot: snapshot.clone(), reason: None, ended: self.clock.now() };
        self.ledger.close(id, RunState::Folding, closing).await?;
        count_ended(&run, state, &tally);
        if let Some(plan) = &run.plan {
            self.store.delete(plan).await?;
        }
        if snapshot.is_some() {
            for old in [&pointed, &rebased].into_iter().flatten().filter(|old| Some(*old) != snapshot.as_ref()) {
                self.store.delete(old).await?;
            }
        }
        self.finished(id, warnings).await
    }

    async fn write_snapshot(&self, run: &Run, fold: Fold) -> Result<String, EngineError> {
        let base = match &run.base {
            Some(key) => Some(self.store.local(key).await?),
            None => None,
        };
        let reader = base.as_ref().map(|copy| SnapshotReader::open(&copy.path)).transpose()?;
        // As it was planned: the project may name another account or object by now.
        let header: Header = run
            .header
            .as_deref()
            .and_then(|header| serde_json::from_str(header).ok())
            .ok_or_else(|| EngineError::Accounting(format!("{} has a plan without a header", run.id)))?;
        let folder = self.own_folder("fold-")?;
        // Of this folding alone: one that was given up may still be writing, here or elsewhere.
        let folding = format!("{}-{:016x}", run.id, self.clock.entropy());
        let path = folder.path().join("snapshot");
        let target = path.clone();
        let written = tokio::task::spawn_blocking(move || fold.write(reader, &target, &header));
        written.await.map_err(|error| EngineError::Task(error.to_string()))??;
        let key = format!("snapshots/{}/{folding}.snapshot", run.sync);
        self.store.put(&key, &path).await?;
        Ok(key)
    }
}

fn chunk_has_problems(chunk: &Chunk) -> bool {
    (0..chunk.rows).any(|row| !matches!(chunk.merged.status(row), Status::Succeeded | Status::Skipped))
}

fn count(tally: &mut Tally, change: Change, status: Status, aborted: bool) {
    let delivered = tally.delivered_mut(change);
    match status {
        Status::Succeeded => delivered.succeeded += 1,
        Status::Skipped => delivered.skipped += 1,
        Status::Rejected => delivered.rejected += 1,
        Status::Unknown => delivered.unknown += 1,
        Status::Remaining if aborted => delivered.aborted += 1,
        Status::Remaining => delivered.deferred += 1,
    }
}

/// What the snapshot learns of a row; nothing where it keeps its old entry.
fn learned_of(chunk: &Chunk, status: Status, start: Option<&Start>) -> Option<Learned> {
    let repeatable = start.is_some_and(|start| start.sync.repeatable(chunk.operation));
    let removal = chunk.change == Change::Remove;
    match status {
        Status::Succeeded if removal => Some(Learned::Removed),
        Status::Succeeded => Some(Learned::Acknowledged),
        Status::Skipped if removal => Some(Learned::Removed),
        Status::Skipped => None,
        Status::Rejected if removal => Some(Learned::RemovalRefused),
        Status::Rejected => Some(Learned::Refused),
        Status::Unknown => Some(Learned::Unknown),
        Status::Remaining if chunk.attempt > 0 && repeatable => Some(Learned::Doubtful),
        Status::Remaining => None,
    }
}

/// Why a record of a stopped run has no outcome.
fn stopped() -> Refusal {
    Refusal::transient("ABORTED", "The run ended before this record had an outcome")
}

/// Why a record has no outcome, where nothing was heard of it: what its chunk waited for, or the others of the run.
fn unsent(chunk: &Chunk, chunks: &[Chunk]) -> Refusal {
    let asked = |chunk: &Chunk| match &chunk.ended {
        Some((_, Next::Again { class, .. })) => Some(*class),
        _ => None,
    };
    // One that only came back from a closed gate has waited for nothing of its own.
    let mut waited = std::iter::once(chunk).chain(chunks).filter(|chunk| chunk.merged.waited() > 0);
    Refusal {
        class: waited.find_map(asked).unwrap_or(ErrorClass::Backoff),
        code: "NOT_SENT".to_owned(),
        message: "The run ended before this record had an outcome".to_owned(),
    }
}

fn problem(chunk: &Chunk, row: u32, status: Status, table: &Table, unsent: &Refusal) -> Problem {
    Problem {
        change: Some(chunk.change),
        key: one_line(&table.shown_identity(row as usize), KEY).into_owned(),
        status: Some(status),
        chunk: Some(chunk.number),
        refusal: chunk.merged.refusal(row).unwrap_or(unsent).clone(),
    }
}

fn end_state(run: &Run, tally: &Tally) -> RunState {
    let total = tally.total();
    if run.failed {
        RunState::Failed
    } else if run.cancel {
        RunState::Cancelled
    } else if total.planned == total.succeeded + total.skipped && tally.invalid == 0 {
        RunState::Succeeded
    } else {
        RunState::Partial
    }
}
