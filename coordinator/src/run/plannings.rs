//! Counting plannings: one that ends with its process counts, and a run that three have died of is planned no more.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use outflow_model::id::RunId;
use outflow_model::port::Result;
use outflow_model::port::ledger::{Run, RunPatch};
use outflow_model::run::RunState;
use outflow_model::text::with_causes;
use tracing::warn;

use super::{Engine, EngineError};

/// Plannings of one run that may end with their process.
const PLANNINGS: u32 = 3;

/// The plannings that this process has counted and not yet taken back, with their syncs.
#[derive(Default)]
pub struct Plannings(Mutex<BTreeMap<RunId, String>>);

impl Plannings {
    fn counted(&self) -> MutexGuard<'_, BTreeMap<RunId, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a run's planning is over and written down as such.
    pub(super) fn remove(&self, id: &RunId) {
        self.counted().remove(id);
    }

    fn of(&self, sync: &str) -> Vec<RunId> {
        self.counted().iter().filter(|(_, of)| *of == sync).map(|(id, _)| id.clone()).collect()
    }
}

/// Why a run is planned no more; nothing where it may be.
pub(super) fn is_deadly(run: &Run) -> Option<String> {
    (run.plannings >= PLANNINGS).then(|| {
        format!(
            "The process that planned it ended {PLANNINGS} times while it did: look at its log or its exit code for the cause, \
             such as too little memory"
        )
    })
}

impl Engine {
    /// Counts a planning before it begins: a process that dies of it counts nothing any more. Returns the run as it is then.
    pub(super) async fn begin_planning(&self, run: &Run, patch: RunPatch) -> std::result::Result<Run, EngineError> {
        self.plannings.counted().insert(run.id.clone(), run.sync.clone());
        self.ledger.patch(&run.id, run.state, RunPatch { plannings: 1, ..patch }).await?;
        // A request may have joined it until then.
        self.ledger.run(&run.id).await?.ok_or_else(|| EngineError::Lost(run.id.clone()))
    }

    /// Takes back the count of a planning that has ended in order. Where the ledger is away it is taken back later.
    pub(super) async fn end_planning(&self, id: &RunId) {
        if let Err(error) = self.uncount(id).await {
            warn!(run = %id, error = with_causes(&error), "A planning that has ended in order counts until the ledger answers");
        }
    }

    /// Takes back the counts of a sync's plannings that this process has left without dying of them.
    pub(crate) async fn forgive_plannings(&self, sync: &str) -> Result<()> {
        for id in self.plannings.of(sync) {
            self.uncount(&id).await?;
        }
        Ok(())
    }

    async fn uncount(&self, id: &RunId) -> Result<()> {
        let run = self.ledger.run(id).await?;
        let is_planned = |run: &Run| matches!(run.state, RunState::Queued | RunState::Planning | RunState::Held);
        if let Some(run) = run.filter(is_planned) {
            self.ledger.patch(id, run.state, RunPatch { plannings: -1, ..RunPatch::default() }).await?;
        }
        self.plannings.remove(id);
        Ok(())
    }
}
