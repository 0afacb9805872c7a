//! One execution of a sync, from request to end.

mod base;
mod board;
mod columns;
mod dispatch;
mod error;
mod extract;
mod figures;
mod finish;
mod gather;
mod guard;
mod held;
mod keys;
mod mapped;
mod named;
mod news;
mod orphan;
mod partition;
mod pause;
mod plan_file;
mod plannings;
mod poison;
mod progress;
mod publish;
mod request;
mod settle;
mod start;
mod upkeep;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use outflow_model::id::RunId;
use outflow_model::limit::Micros;
use outflow_model::outcome::Refusal;
use outflow_model::port::clock::Clock;
use outflow_model::port::ledger::{Ledger, Run, RunOptions, RunPatch, Sample};
use outflow_model::port::limiter::Limiter;
use outflow_model::port::queue::Queue;
use outflow_model::port::store::Store;
use outflow_model::run::RunState;
use outflow_model::tally::Tally;
use outflow_snapshot::SnapshotError;
use outflow_sources::Source;
use tokio::sync::watch;
use tracing::field::Empty;
use tracing::{Instrument, info_span};

use crate::project::{OnBreach, ResolvedSync, Sync};

pub(crate) use dispatch::LOOK;
pub use error::EngineError;
pub use news::News;
pub use plannings::Plannings;
pub use progress::Progress;
pub use request::{new_run, withdraw};
pub use upkeep::{Decision, SnapshotCounts, count_snapshot};

/// Why a run is cancelled where nobody says more.
const CANCELLED: &str = "Cancelled by a user";

/// What a user asks of a run under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signal {
    /// Go on.
    #[default]
    Run,
    /// Settle what is in flight, then stop; the next start goes on.
    Interrupt,
}

/// How a start ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The run, as the ledger knows it now.
    pub run: Run,
    /// Warnings of the guard.
    pub warnings: Vec<String>,
}

/// A plan that was made and thrown away, for showing.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its accounting.
    pub tally: Tally,
    /// Some of its records.
    pub samples: Vec<Sample>,
    /// Rows that were refused.
    pub problems: Vec<outflow_model::port::ledger::Problem>,
    /// Requests that delivering it takes.
    pub requests: u64,
    /// Seconds that the account's limits make it take at least.
    pub seconds: f64,
    /// Requests that the account's daily quota allows, where they are fewer.
    pub a_day: Option<u64>,
    /// What the guard says.
    pub breach: Option<String>,
    /// What becomes of a run with this plan, where the guard says something.
    pub on_breach: Option<OnBreach>,
    /// Why it sends rows that did not change, where the mode before kept no keys.
    pub rekeys: Option<String>,
    /// True where nothing was acknowledged before.
    pub first: bool,
}

/// A sync made ready to run.
pub struct Start {
    /// The sync.
    pub sync: ResolvedSync,
    /// As written, to tell where a mistake is.
    pub written: Sync,
    /// Its source.
    pub source: Arc<dyn Source>,
    /// What the run is asked to do.
    pub options: RunOptions,
}

/// The engine: plans and accounts, over whatever backends it is given. A clone shares them.
#[derive(Clone)]
pub struct Engine {
    /// Accounts for everything.
    pub ledger: Arc<dyn Ledger>,
    /// Holds plans and snapshots.
    pub store: Arc<dyn Store>,
    /// Carries chunks out and reports back.
    pub queue: Arc<dyn Queue>,
    /// Gates, pauses and budgets.
    pub limiter: Arc<dyn Limiter>,
    /// Time and chance.
    pub clock: Arc<dyn Clock>,
    /// For temporary files.
    pub folder: PathBuf,
    /// A published chunk that no worker has taken and that waits in no queue is published again after so long.
    pub silence: Duration,
    /// Whether an account is paused that refuses its credentials: other runs would only be refused as well, and some destinations
    /// lock an account that is refused too often.
    pub pauses_refused: bool,
    /// What runs tell one another.
    pub news: Arc<News>,
    /// What is to be taken back of the plannings that it counts.
    pub plannings: Arc<Plannings>,
    /// Where progress is shown.
    pub progress: watch::Sender<Progress>,
}

impl Engine {
    /// Executes a sync: finishes what an earlier start left, then runs what is queued, else a new run.
    pub async fn execute(&self, start: &Start, signal: watch::Receiver<Signal>) -> Result<Finished, EngineError> {
        let span = info_span!("run", sync = start.sync.name, run = Empty, state = Empty);
        let finished = Box::pin(self.execute_traced(start, signal)).instrument(span.clone()).await?;
        span.record("run", finished.run.id.as_str());
        span.record("state", finished.run.state.name());
        Ok(finished)
    }

    async fn execute_traced(&self, start: &Start, signal: watch::Receiver<Signal>) -> Result<Finished, EngineError> {
        if let Some(run) = self.active(&start.sync.name).await?
            && !self.gives_way(&run, start).await?
        {
            let fresh_wanted = self.outdated(&run, start).is_some();
            let finished = self.resume(run, start, signal.clone()).await?;
            if !finished.run.state.is_end() || !fresh_wanted {
                return Ok(finished);
            }
        }
        loop {
            let id = self.request(start).await?;
            let run = self.ledger.run(&id).await?.ok_or_else(|| EngineError::Lost(id.clone()))?;
            let finished = self.plan_and_deliver(run, start, signal.clone()).await?;
            // One that was queued for another destination has given way to a new one.
            if !start::leads_elsewhere(&finished.run, start) {
                return Ok(finished);
            }
        }
    }

    /// Ends a run whose sync is not ready to run, if nothing of it was sent, everything is settled, or a user has cancelled it;
    /// else it stays where it is.
    pub async fn refuse(&self, run: &Run, reason: &str) -> Result<bool, EngineError> {
        match run.state {
            _ if run.cancel => {
                self.cancel_orphan(&run.id).await?;
            }
            RunState::Queued | RunState::Planning => {
                self.close_unplanned(run, RunState::Failed, reason).await?;
            }
            RunState::Folding => {
                self.finish(&run.id, None, Vec::new()).await?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Goes on with a sync's run under way, or begins the one that is queued; nothing where there is none, or where it waits
    /// for a decision.
    pub async fn go_on(&self, start: &Start, signal: watch::Receiver<Signal>) -> Result<Option<Finished>, EngineError> {
        let run = match (self.active(&start.sync.name).await?, self.queued(&start.sync.name).await?) {
            (Some(held), Some(queued)) if self.gives_way(&held, start).await? => Some(queued),
            (Some(run), _) | (None, Some(run)) => Some(run),
            (None, None) => None,
        };
        let Some(run) = run.filter(|run| self.may_go_on(run, start)) else { return Ok(None) };
        figures::begin(&run.destination);
        let span = info_span!("run", sync = start.sync.name, run = %run.id, state = Empty);
        if let Some(trace) = &run.trace {
            outflow_trace::follow(&span, trace);
        }
        if !run.cancel && self.outdated(&run, start).is_some() {
            // Asked for before the run is given up: whatever dies in between, what was wanted is done.
            self.request(start).await?;
        }
        let work = async {
            if run.state == RunState::Queued {
                self.plan_and_deliver(run, start, signal).await
            } else {
                self.resume(run, start, signal).await
            }
        };
        let finished = Box::pin(work).instrument(span.clone()).await?;
        span.record("state", finished.run.state.name());
        Ok(Some(finished))
    }

    fn may_go_on(&self, run: &Run, start: &Start) -> bool {
        run.state != RunState::Held || run.approved || run.cancel || self.outdated(run, start).is_some()
    }

    /// Goes on with a run where it stands.
    async fn resume(&self, run: Run, start: &Start, signal: watch::Receiver<Signal>) -> Result<Finished, EngineError> {
        match run.state {
            RunState::Planning => self.plan_and_deliver(run, start, signal).await,
            RunState::Delivering | RunState::Interrupted => {
                if let Some(why) = self.outdated(&run, start).filter(|_| !run.cancel) {
                    return self.abandon(run, start, &format!("{why}; a new run plans again")).await;
                }
                self.deliver(run, start, signal, Vec::new()).await
            }
            RunState::Held if run.cancel => self.abandon(run, start, CANCELLED).await,
            RunState::Held if let Some(why) = self.outdated(&run, start) => self.abandon(run, start, why).await,
            RunState::Held if run.approved => self.deliver_held(run, start, signal).await,
            RunState::Folding => self.finish(&run.id, Some(start), Vec::new()).await,
            _ => Ok(Finished { run, warnings: Vec::new() }),
        }
    }

    /// Why a run may not be continued as it was meant.
    fn outdated(&self, run: &Run, start: &Start) -> Option<&'static str> {
        let max_age = Micros::from(start.sync.config.delivery.plan_max_age_hours) * 3_600_000_000;
        let planned = matches!(run.state, RunState::Delivering | RunState::Interrupted | RunState::Held);
        let too_old = run.planned.is_some_and(|planned| self.clock.now() - planned > max_age);
        let elsewhere = run.state == RunState::Planning && start::leads_elsewhere(run, start);
        if elsewhere || (planned && run.settings != fingerprint(start)) {
            return Some("The settings of the sync or of its model have changed since it was planned");
        }
        (planned && too_old).then_some("The plan is older than `delivery.plan_max_age_hours` allows")
    }

    /// Approves a held plan: the very same plan is delivered.
    pub async fn approve(
        &self,
        id: &RunId,
        start: &Start,
        signal: watch::Receiver<Signal>,
    ) -> Result<Finished, EngineError> {
        let run = self.ledger.run(id).await?.ok_or_else(|| EngineError::Lost(id.clone()))?;
        if run.state != RunState::Held {
            return Err(EngineError::State { run: id.clone(), state: run.state, wanted: "held" });
        }
        if let Some(why) = self.outdated(&run, start) {
            return self.abandon(run, start, &format!("{why}; run the sync again")).await;
        }
        let span = info_span!("run", sync = start.sync.name, run = %run.id);
        let finished = self.deliver_held(run, start, signal.clone()).instrument(span).await?;
        if finished.run.state == RunState::Cancelled && self.queued(&start.sync.name).await?.is_some() {
            // What it would have done is planned again.
            return self.execute(start, signal).await;
        }
        Ok(finished)
    }

    /// Folds what a run has delivered and ends it cancelled; the rest is aborted.
    async fn abandon(&self, run: Run, start: &Start, reason: &str) -> Result<Finished, EngineError> {
        if !self.queue.outlives_processes() || run.state == RunState::Held {
            return self.fold_cancelled(&run, Some(start), reason).await;
        }
        // What is under way elsewhere is settled first.
        let patch = RunPatch { cancel: true, reason: Some(reason.to_owned()), ..RunPatch::default() };
        self.ledger.patch(&run.id, run.state, patch).await?;
        let (_go_on, signal) = watch::channel(Signal::Run);
        self.deliver(run, start, signal, Vec::new()).await
    }

    async fn fold_cancelled(&self, run: &Run, start: Option<&Start>, reason: &str) -> Result<Finished, EngineError> {
        let patch = RunPatch {
            state: Some(RunState::Folding),
            cancel: true,
            reason: Some(reason.to_owned()),
            ..RunPatch::default()
        };
        self.ledger.patch(&run.id, run.state, patch).await?;
        self.finish(&run.id, start, Vec::new()).await
    }

    /// Cancels a run that nobody executes; one that is executed notices by itself.
    pub async fn cancel(&self, id: &RunId, start: &Start) -> Result<Finished, EngineError> {
        let run = self.ledger.run(id).await?.ok_or_else(|| EngineError::Lost(id.clone()))?;
        match run.state {
            RunState::Delivering | RunState::Interrupted | RunState::Held => self.abandon(run, start, CANCELLED).await,
            RunState::Folding => self.finish(id, Some(start), Vec::new()).await,
            RunState::Queued | RunState::Planning => self.close_unplanned(&run, RunState::Cancelled, CANCELLED).await,
            _ => Err(EngineError::State { run: id.clone(), state: run.state, wanted: "under way" }),
        }
    }

    /// A folder for temporary files, gone when it is dropped.
    fn own_folder(&self, name: &str) -> Result<tempfile::TempDir, EngineError> {
        let failed = |action| move |source| SnapshotError::Io { action, path: self.folder.clone(), source };
        std::fs::create_dir_all(&self.folder).map_err(failed("make"))?;
        Ok(tempfile::Builder::new().prefix(name).tempdir_in(&self.folder).map_err(failed("make a folder in"))?)
    }

    fn show(&self, change: impl FnOnce(&mut Progress)) {
        self.progress.send_modify(change);
    }
}

/// Fingerprint of the settings that a plan depends on.
fn fingerprint(start: &Start) -> String {
    outflow_snapshot::fingerprint(start.sync.settings_text().as_bytes())
}

/// Why a run stopped before its plan was done.
#[derive(Clone)]
enum Stopped {
    /// A user cancelled it.
    Cancelled,
    /// A user interrupted it; it goes on later.
    Interrupted,
    /// The destination made it impossible to go on.
    Fatal(Refusal),
    /// The destination took nothing for as long as a record may wait: what is left is deferred.
    Exhausted,
}

impl Stopped {
    /// For logs and traces, which hold nothing that a destination has said.
    fn name(&self) -> &str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
            Self::Fatal(refusal) => &refusal.code,
            Self::Exhausted => "exhausted",
        }
    }
}
