//! Folding: base snapshot, plan and outcomes make the next snapshot, and the run ends with its totals.

use outflow_model::id::{ChunkNo, RunId};
use outflow_model::port::Result as PortResult;
use outflow_model::port::ledger::{Chunk, Closing, Ledger, Resend, Run};
use outflow_model::run::RunState;
use outflow_model::tally::Tally;
use outflow_snapshot::{Fold, Header, SnapshotReader};
use tracing::{error, info};

use super::base::BASE_LOST;
use super::figures::count_ended;
use super::gather::Gathered;
use super::{Engine, EngineError, Finished, Start};

const MEMORY: usize = 32 * 1024 * 1024;
/// Chunks that are looked at together: what is known of their records is large.
const PAGE: u32 = 64;

impl Engine {
    /// Folds a run in state *folding* and ends it. May be done again after a crash. One that has sent nothing needs no sync
    /// any more; one whose plan or base is lost ends *failed*, with what the ledger has counted.
    #[tracing::instrument(name = "fold", skip_all)]
    pub(super) async fn finish(
        &self,
        id: &RunId,
        start: Option<&Start>,
        warnings: Vec<String>,
    ) -> Result<Finished, EngineError> {
        let run = self.ledger.run(id).await?.ok_or_else(|| EngineError::Lost(id.clone()))?;
        self.show(|progress| progress.state = Some(RunState::Folding));
        let due = self.ledger.is_resend_due(&run.sync).await?;
        let mut fold = Fold::new(&self.folder, MEMORY);
        let mut gathered = self.gather(&run, &mut fold).await?;
        if let Err(reason) = gathered.tally.closes() {
            error!(run = %id, reason, "The accounting does not close, which is a defect of Outflow");
            gathered
                .lost
                .get_or_insert(format!("The accounting does not close, which is a defect of Outflow: {reason}"));
        }
        let pointed = self.ledger.snapshot(&run.sync).await?;
        let rebased = run.base.clone().filter(|base| pointed.as_ref() != Some(base));
        let snapshot = self.next_snapshot(&run, fold, &mut gathered, rebased.clone()).await?;
        let named = [std::mem::take(&mut gathered.problems), std::mem::take(&mut gathered.withheld)].concat();
        self.ledger.add_problems(id, &named).await?;
        let state = end_state(&run, start, &gathered);
        info!(run = %id, state = state.name(), succeeded = gathered.tally.total().succeeded, "The run has ended");
        let resend = resend(&run, due, &gathered);
        let reason = gathered.lost.map(|reason| format!("{reason}. The next run plans every row"));
        let (tally, ended) = (gathered.tally, self.clock.now());
        let closing = Closing { state, tally, snapshot: snapshot.clone(), resend, reason, ended };
        self.ledger.close(id, RunState::Folding, closing).await?;
        count_ended(&run, state, &tally);
        // Only now: until the ledger points to the new snapshot, the old one is the only one.
        let kept = snapshot.or_else(|| pointed.clone());
        let old = [run.plan.clone(), pointed, rebased].into_iter().flatten();
        for key in old.filter(|key| Some(key) != kept.as_ref()) {
            self.discard(&key).await;
        }
        self.finished(id, warnings).await
    }

    /// The snapshot that the run leaves; nothing where it leaves the old one as it is.
    async fn next_snapshot(
        &self,
        run: &Run,
        fold: Fold,
        gathered: &mut Gathered,
        rebased: Option<String>,
    ) -> Result<Option<String>, EngineError> {
        // What never reached a worker moves nothing, not even to another mapping.
        if is_unsent(run, gathered) {
            return Ok(None);
        }
        if gathered.learned == 0 {
            return Ok(rebased.filter(|_| gathered.lost.is_none()));
        }
        match self.write_snapshot(run, fold).await {
            Ok(key) => Ok(Some(key)),
            Err(error) if error.is_damage() => {
                gathered.lost.get_or_insert(format!("What the run has sent cannot be kept: {error}"));
                Ok(None)
            }
            Err(error) => Err(error),
        }
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
            .ok_or_else(|| EngineError::Damaged(format!("{} has a plan without a header", run.id)))?;
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

/// The chunks of a run from number `from` on, some at a time; none after the last.
pub(super) async fn page(ledger: &dyn Ledger, run: &RunId, from: ChunkNo) -> PortResult<Vec<Chunk>> {
    let numbers: Vec<ChunkNo> = (from..from.saturating_add(PAGE)).collect();
    ledger.some_chunks(run, &numbers).await
}

/// Whether a run was stopped before anything was published.
const fn is_unsent(run: &Run, gathered: &Gathered) -> bool {
    !gathered.sent && (run.cancel || run.failed)
}

fn resend(run: &Run, due: bool, gathered: &Gathered) -> Resend {
    let has_lost_base = run.cause.as_ref().is_some_and(|cause| cause.code == BASE_LOST);
    if gathered.lost.is_some() || has_lost_base {
        Resend::Due
    } else if due && !gathered.open && !is_unsent(run, gathered) {
        // What was sent without an outcome is doubtful, and so planned again.
        Resend::Done
    } else {
        Resend::Stays
    }
}

fn end_state(run: &Run, start: Option<&Start>, gathered: &Gathered) -> RunState {
    let tally: &Tally = &gathered.tally;
    let total = tally.total();
    let tolerated =
        start.map_or(tally.invalid + tally.missing_invalid == 0, |start| start.sync.config.guard.tolerates(tally));
    if run.failed || gathered.lost.is_some() {
        RunState::Failed
    } else if run.cancel {
        RunState::Cancelled
    } else if total.planned == total.succeeded + total.skipped && tolerated {
        RunState::Succeeded
    } else {
        RunState::Partial
    }
}
