//! Ending a run whose sync can no longer be read: nothing more is published, and what the ledger and the workers know is settled.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use outflow_model::id::{AttemptId, ChunkNo, RunId};
use outflow_model::port::ledger::{Chunk, Run};
use outflow_model::port::limiter::Revoked;
use outflow_model::port::queue::Take;
use outflow_model::run::RunState;
use outflow_model::text::with_causes;
use outflow_model::wire::{Next, ReportV1};
use tracing::warn;

use super::board::{remaining, unknown};
use super::settle::PATIENCE;
use super::{CANCELLED, Engine, EngineError, Finished, LOOK};

impl Engine {
    /// Cancels a run whose sync is missing or cannot be read. Records of a delivery that fell silent become unknown where its
    /// plan says that they may not be sent twice.
    pub async fn cancel_orphan(&self, id: &RunId) -> Result<Finished, EngineError> {
        let run = self.ledger.run(id).await?.ok_or_else(|| EngineError::Lost(id.clone()))?;
        match run.state {
            RunState::Queued | RunState::Planning => self.close_unplanned(&run, RunState::Cancelled, CANCELLED).await,
            RunState::Folding => self.finish(id, None, Vec::new()).await,
            state if state.is_end() => Err(EngineError::State { run: id.clone(), state, wanted: "under way" }),
            _ => {
                self.settle_orphan(&run).await?;
                self.fold_cancelled(&run, None, CANCELLED).await
            }
        }
    }

    /// Closes the run's gate and waits until no delivery of it is under way.
    async fn settle_orphan(&self, run: &Run) -> Result<(), EngineError> {
        self.limiter.close_gate(&run.destination, &run.id).await?;
        let (reports, began) = (self.queue.reports(), Instant::now());
        let chunks = self.light_chunks(&run.id).await?;
        let mut open: Vec<ChunkNo> = chunks.iter().map(|chunk| chunk.number).collect();
        // On one machine deliveries end with their process.
        while self.queue.outlives_processes() {
            let (chunks, waited) = (self.ledger.some_chunks(&run.id, &open).await?, began.elapsed());
            open.clear();
            for chunk in chunks {
                if self.is_under_way(run, &chunk, waited).await? {
                    open.push(chunk.number);
                }
            }
            if open.is_empty() {
                break;
            }
            if let Ok(first) = tokio::time::timeout(LOOK, reports.next(Take::Any)).await {
                self.settle_reports(&run.id, reports.as_ref(), first?).await?;
            }
        }
        // Whatever comes yet is a copy; it must not keep the run from its end.
        if let Err(error) = self.limiter.forget(&run.destination, &run.id).await {
            warn!(run = %run.id, error = with_causes(&error), "The run's gate could not be closed; it closes by itself");
        }
        Ok(())
    }

    /// Whether a delivery of this chunk may still report; from now on none begins.
    async fn is_under_way(&self, run: &Run, chunk: &Chunk, waited: Duration) -> Result<bool, EngineError> {
        let is_late = waited >= self.silence * PATIENCE;
        let has_ended = chunk.ended.as_ref().is_some_and(|(attempt, _)| *attempt == chunk.attempt);
        let is_heard = has_ended && !chunk.merged.is_unheard(chunk.attempt);
        if chunk.attempt == 0 || chunk.merged.is_final() || is_heard {
            return Ok(false);
        }
        let id = AttemptId { run: run.id.clone(), chunk: chunk.number, attempt: chunk.attempt };
        let report = match self.limiter.revoke(&run.destination, &id, 0).await? {
            // Nobody has begun it.
            Revoked::Taken => ReportV1::empty(id, chunk.rows, Next::Done),
            // What was not announced has not left.
            Revoked::Lapsed { announced } => ReportV1 { announced, ..ReportV1::empty(id, chunk.rows, Next::Done) },
            Revoked::Finished | Revoked::Forgotten if is_late => {
                // Its report is lost, and what it announced may be.
                let rows = if run.repeats(chunk.operation) { BTreeSet::new() } else { remaining(chunk) };
                ReportV1 { next: Next::Done, ..unknown(&run.id, chunk, &rows) }
            }
            // Its report may be on its way here.
            Revoked::Finished | Revoked::Forgotten | Revoked::Held => return Ok(true),
        };
        let attempt = report.id.attempt;
        let settled = self.ledger.settle(&[report], self.clock.now()).await?;
        Ok(settled.iter().any(|(_, chunk)| chunk.merged.is_unheard(attempt)))
    }
}
