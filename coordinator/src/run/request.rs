//! Asking for runs, and for their end.

use outflow_model::id::RunId;
use outflow_model::port::clock::Clock;
use outflow_model::port::ledger::{Closing, Ledger, Resend, Run, RunPatch};
use outflow_model::port::{Result, Trouble};
use outflow_model::run::RunState;
use outflow_model::tally::Tally;

use super::{CANCELLED, Engine, EngineError, Start};

impl Engine {
    /// Queues a run; answers with the one that is queued already, where there is one.
    pub async fn request(&self, start: &Start) -> std::result::Result<RunId, EngineError> {
        Ok(self.ledger.request(&new_run(start, self.clock.as_ref())).await?.run)
    }

    /// The run of a sync that is under way, from this or an earlier start.
    pub async fn active(&self, sync: &str) -> std::result::Result<Option<Run>, EngineError> {
        let runs = self.ledger.unended().await?;
        Ok(runs.into_iter().find(|run| run.sync == sync && run.state != RunState::Queued))
    }

    /// The follow-up of a sync that is queued.
    pub async fn queued(&self, sync: &str) -> std::result::Result<Option<Run>, EngineError> {
        let runs = self.ledger.unended().await?;
        Ok(runs.into_iter().find(|run| run.sync == sync && run.state == RunState::Queued))
    }
}

/// A run of a sync that nobody has asked for yet.
pub fn new_run(start: &Start, clock: &dyn Clock) -> Run {
    let now = clock.now();
    let id = RunId::new((now / 1_000) as u64, clock.entropy() as u32);
    Run::queued(id, &start.sync.name, &start.sync.account.name, start.options, now)
}

/// Cancels a run that others may execute: one that is queued ends here, so that no later request joins it; one that is
/// under way is ended by whoever executes it.
pub async fn withdraw(ledger: &dyn Ledger, id: &RunId, clock: &dyn Clock) -> Result<()> {
    loop {
        let state = ledger.run(id).await?.map_or(RunState::Cancelled, |run| run.state);
        let written = match state {
            RunState::Queued => ledger.close(id, state, unplanned(RunState::Cancelled, CANCELLED, clock)).await,
            state if state.is_end() => return Ok(()),
            state => ledger.patch(id, state, RunPatch { cancel: true, ..RunPatch::default() }).await,
        };
        match written {
            // It has moved on meanwhile.
            Err(error) if error.trouble == Trouble::Conflict => {}
            written => return written,
        }
    }
}

/// The end of a run that has sent nothing.
pub(super) fn unplanned(state: RunState, reason: &str, clock: &dyn Clock) -> Closing {
    let reason = Some(reason.to_owned());
    Closing { state, tally: Tally::default(), snapshot: None, resend: Resend::Stays, reason, ended: clock.now() }
}
