//! Plans that wait for a decision: they give way to newer ones that are whole, and remove nothing that has come back.

use std::collections::VecDeque;

use outflow_model::change::Change;
use outflow_model::outcome::Refusal;
use outflow_model::port::ledger::{Chunk, Run, RunPatch};
use outflow_model::run::RunState;
use outflow_model::text::with_causes;
use tokio::sync::watch;

use super::base::BASE_LOST;
use super::plan_file::Index;
use super::plannings::is_deadly;
use super::start::interrupted;
use super::{CANCELLED, Engine, EngineError, Finished, Signal, Start};

/// Why a held plan ends where a newer one is wanted.
const NEWER: &str = "A newer run plans in place of the held plan";
/// Why an approved plan is not delivered.
const RETURNED: &str = "Rows that the held plan would remove are in the model again; a newer run plans in its place";

impl Engine {
    /// Whether a held run that nobody has decided about gives way to a newer one, which is asked for: it plans from the rows as they
    /// are, and ends the held one when its own plan is there.
    pub(super) async fn gives_way(&self, run: &Run, start: &Start) -> Result<bool, EngineError> {
        if !is_undecided(run) {
            return Ok(false);
        }
        self.request(start).await?;
        Ok(true)
    }

    /// The held run of a sync that nobody has decided about.
    pub(super) async fn undecided(&self, sync: &str) -> Result<Option<Run>, EngineError> {
        Ok(self.active(sync).await?.filter(is_undecided))
    }

    /// Ends a held run for a newer one; false where somebody has decided about it meanwhile.
    pub(super) async fn ends_held(&self, held: &Run, start: &Start) -> Result<bool, EngineError> {
        match self.ledger.run(&held.id).await?.filter(is_undecided) {
            Some(held) => self.fold_cancelled(&held, Some(start), NEWER).await.map(|_| true),
            None => Ok(false),
        }
    }

    /// Delivers a held plan that was approved. One that would remove rows which are in the model again gives way to a newer run.
    pub(super) async fn deliver_held(
        &self,
        run: Run,
        start: &Start,
        signal: watch::Receiver<Signal>,
    ) -> Result<Finished, EngineError> {
        if run.tally.remove.planned == 0 {
            return self.deliver(run, start, signal, Vec::new()).await;
        }
        if let Some(reason) = is_deadly(&run) {
            return self.fold_failed(&run, start, reason, None).await;
        }
        let run = self.begin_planning(&run, RunPatch::default()).await?;
        let returned = tokio::select! {
            returned = self.have_returned(&run, start) => Some(returned),
            () = self.cancelled(&run.id) => None,
            () = interrupted(signal.clone()) => None,
        };
        self.end_planning(&run.id).await;
        let Some(returned) = returned else {
            let left = self.finished(&run.id, Vec::new()).await?;
            return if left.run.cancel {
                self.fold_cancelled(&left.run, Some(start), CANCELLED).await
            } else {
                Ok(left)
            };
        };
        match returned {
            Ok(false) => self.deliver(run, start, signal, Vec::new()).await,
            Ok(true) => {
                self.request(start).await?;
                self.fold_cancelled(&run, Some(start), RETURNED).await
            }
            Err(error) if error.may_pass() => Err(error),
            Err(error) => {
                let cause = matches!(error, EngineError::BaseLost(_))
                    .then(|| Refusal::transient(BASE_LOST, "The snapshot of what was acknowledged cannot be read"));
                self.fold_failed(&run, start, with_causes(&error), cause).await
            }
        }
    }

    /// Ends a held run that cannot be delivered.
    async fn fold_failed(
        &self,
        run: &Run,
        start: &Start,
        reason: String,
        cause: Option<Refusal>,
    ) -> Result<Finished, EngineError> {
        let (state, reason) = (Some(RunState::Folding), Some(reason));
        let patch = RunPatch { state, failed: true, reason, cause, ..RunPatch::default() };
        self.ledger.patch(&run.id, run.state, patch).await?;
        self.finish(&run.id, Some(start), Vec::new()).await
    }

    /// Whether the model has a row again that the held plan would remove.
    async fn have_returned(&self, run: &Run, start: &Start) -> Result<bool, EngineError> {
        let draft = self.draft(start, run.options, run.id.as_str()).await?;
        let chunks = draft.drafted.planned.chunks.clone();
        // Read like any other plan, and deleted at once; one that stays is swept as what a planning has left.
        let key = format!("plans/{}-{:016x}.fresh", run.id, self.clock.entropy());
        self.store.put(&key, &draft.path()).await?;
        let fresh = Run { plan: Some(key.clone()), ..run.clone() };
        let held = self.light_chunks(&run.id).await?;
        let returned = has_more(&mut Removed::of(self, run, held), &mut Removed::of(self, &fresh, chunks)).await;
        self.discard(&key).await;
        match returned {
            // The held plan cannot be read: its delivery says so.
            Err(error) if error.is_damage() => Ok(false),
            returned => returned,
        }
    }
}

fn is_undecided(run: &Run) -> bool {
    run.state == RunState::Held && !run.approved && !run.cancel
}

/// Whether one plan removes a row that the other does not. Both name their rows in the order of their keys' hashes.
async fn has_more(held: &mut Removed<'_>, fresh: &mut Removed<'_>) -> Result<bool, EngineError> {
    let mut now = fresh.next().await?;
    while let Some(then) = held.next().await? {
        while now.is_some_and(|now| now < then) {
            now = fresh.next().await?;
        }
        if now != Some(then) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The rows that a plan removes, by the hashes of their keys.
struct Removed<'a> {
    engine: &'a Engine,
    run: &'a Run,
    chunks: VecDeque<Chunk>,
    index: Index,
    at: usize,
}

impl<'a> Removed<'a> {
    fn of(engine: &'a Engine, run: &'a Run, chunks: Vec<Chunk>) -> Self {
        let chunks = chunks
            .into_iter()
            // What is skipped is final already, and removes nothing.
            .filter(|chunk| chunk.change == Change::Remove && !chunk.merged.is_final())
            .collect();
        Self { engine, run, chunks, index: Index::default(), at: 0 }
    }

    async fn next(&mut self) -> Result<Option<u128>, EngineError> {
        while self.at == self.index.len() {
            let Some(chunk) = self.chunks.pop_front() else { return Ok(None) };
            (self.index, self.at) = (self.engine.frame(self.run, &chunk).await?.index, 0);
        }
        self.at += 1;
        Ok(self.index.get(self.at - 1).map(|(key_hash, ..)| key_hash))
    }
}
