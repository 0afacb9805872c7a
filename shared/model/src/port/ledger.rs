//! The database that accounts for runs, chunks and outcomes.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::Result;
use super::clock::Clock;
use super::pauses::Pauses;
use crate::change::{Change, Operation};
use crate::id::{Attempt, ChunkNo, RunId};
use crate::limit::Micros;
use crate::merge::Merged;
use crate::outcome::{Refusal, Status};
use crate::run::RunState;
use crate::tally::Tally;
use crate::wire::{Next, ParkedV1, ReportV1};

/// What a run was asked to do beside the plain job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunOptions {
    /// Send every row again.
    pub full: bool,
    /// Send refused rows again though nothing changed.
    pub retry_rejected: bool,
}

/// A run as the ledger knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// The sync that it executes.
    pub sync: String,
    /// The destination account.
    pub destination: String,
    /// Where it stands.
    pub state: RunState,
    /// What it was asked to do.
    pub options: RunOptions,
    /// When it was asked for.
    pub requested: Micros,
    /// When it began to plan.
    pub started: Option<Micros>,
    /// When its plan was complete.
    pub planned: Option<Micros>,
    /// When it ended.
    pub ended: Option<Micros>,
    /// Its accounting.
    pub tally: Tally,
    /// Requests sent to the destination.
    pub requests: u64,
    /// Fingerprint of the sync's settings when it was planned.
    pub settings: String,
    /// The plan's key in the store.
    pub plan: Option<String>,
    /// The snapshot that it was planned against.
    pub base: Option<String>,
    /// The header of the snapshot that it will leave.
    pub header: Option<String>,
    /// Operations of its plan that may not be sent twice.
    #[serde(default)]
    pub non_repeatable: Vec<Operation>,
    /// A user wants it stopped.
    pub cancel: bool,
    /// A user wants it delivered though the guard holds it.
    #[serde(default)]
    pub approved: bool,
    /// The destination made it impossible to go on.
    pub failed: bool,
    /// Why it was held, failed or stopped.
    pub reason: Option<String>,
    /// What stopped its delivery: the records without an outcome have none for the same reason.
    #[serde(default)]
    pub cause: Option<Refusal>,
    /// How often its planning was begun and not ended in order: a process that dies of it must not be followed by all others.
    #[serde(default)]
    pub plannings: u32,
    /// Some records of a plan that waits for a decision; sensitive values are masked.
    #[serde(default)]
    pub samples: Vec<Sample>,
    /// W3C trace context of the span that it began with: whoever goes on with it goes on with its trace.
    #[serde(default)]
    pub trace: Option<String>,
}

/// A planned record, for showing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The row's change.
    pub change: Change,
    /// What addresses the record; sensitive values masked.
    pub key: String,
    /// What addresses the record, for asking the destination about it; never kept or shown.
    #[serde(skip)]
    pub address: String,
    /// Field and value, as they will be sent; sensitive values masked.
    pub fields: Vec<(String, String)>,
}

impl Run {
    /// The id of its trace.
    pub fn trace_id(&self) -> Option<&str> {
        self.trace.as_deref()?.split('-').nth(1)
    }

    /// True if an operation of its plan may be sent again without harm.
    pub fn repeats(&self, operation: Operation) -> bool {
        !self.non_repeatable.contains(&operation)
    }

    /// A run that was asked for and has not begun.
    pub fn queued(id: RunId, sync: &str, destination: &str, options: RunOptions, requested: Micros) -> Self {
        Self {
            id,
            sync: sync.to_owned(),
            destination: destination.to_owned(),
            state: RunState::Queued,
            options,
            requested,
            started: None,
            planned: None,
            ended: None,
            tally: Tally::default(),
            requests: 0,
            settings: String::new(),
            plan: None,
            base: None,
            header: None,
            non_repeatable: Vec::new(),
            cancel: false,
            approved: false,
            failed: false,
            reason: None,
            cause: None,
            plannings: 0,
            samples: Vec::new(),
            trace: None,
        }
    }
}

/// A request for a run, answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requested {
    /// The run that will do it.
    pub run: RunId,
    /// False where a queued follow-up already stood for it.
    pub fresh: bool,
}

/// A change of a run; fields that are absent stay.
#[derive(Clone, Debug, Default)]
pub struct RunPatch {
    /// The next state.
    pub state: Option<RunState>,
    /// When it began to plan.
    pub started: Option<Micros>,
    /// When its plan was complete.
    pub planned: Option<Micros>,
    /// Its accounting.
    pub tally: Option<Tally>,
    /// Fingerprint of the sync's settings.
    pub settings: Option<String>,
    /// The plan's key in the store.
    pub plan: Option<String>,
    /// The snapshot that it was planned against.
    pub base: Option<String>,
    /// The header of the snapshot that it will leave.
    pub header: Option<String>,
    /// Operations of its plan that may not be sent twice.
    pub non_repeatable: Option<Vec<Operation>>,
    /// A user wants it stopped.
    pub cancel: bool,
    /// A user wants it delivered though the guard holds it.
    pub approved: bool,
    /// The destination made it impossible to go on.
    pub failed: bool,
    /// Why it was held, failed or stopped.
    pub reason: Option<String>,
    /// What stopped its delivery.
    pub cause: Option<Refusal>,
    /// What is added to the count of its plannings, which is never less than zero.
    pub plannings: i32,
    /// Some records of a plan that waits for a decision.
    pub samples: Option<Vec<Sample>>,
    /// W3C trace context of the span that it began with.
    pub trace: Option<String>,
}

/// A planned chunk and what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// Its number in the run.
    pub number: ChunkNo,
    /// The rows' change.
    pub change: Change,
    /// What the destination is asked to do.
    pub operation: Operation,
    /// How many records.
    pub rows: u32,
    /// Where it begins in the plan.
    pub offset: u64,
    /// Its bytes in the plan.
    pub length: u64,
    /// Publications so far.
    pub attempt: Attempt,
    /// Tries that counted.
    pub tries: u32,
    /// Not to be published before.
    pub not_before: Micros,
    /// Requests that its deliveries sent.
    pub requests: u64,
    /// Protocol state to resume with.
    pub parked: Option<ParkedV1>,
    /// The newest attempt whose delivery has ended, and what its worker asked for then.
    pub ended: Option<(Attempt, Next)>,
    /// What its records came to.
    pub merged: Merged,
}

/// What a run's end means for the rows that its sync has sent before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resend {
    /// Nothing new.
    #[default]
    Stays,
    /// What was sent is not known any more: the next plan holds every row.
    Due,
    /// Every row of a full plan was sent, or is planned again by itself: what was due is done.
    Done,
}

/// How an ended run is written down.
#[derive(Clone, Debug)]
pub struct Closing {
    /// The end state.
    pub state: RunState,
    /// The final accounting.
    pub tally: Tally,
    /// The new snapshot's key, where there is one.
    pub snapshot: Option<String>,
    /// Whether the sync's rows are all to be sent again.
    pub resend: Resend,
    /// Why it failed or stopped.
    pub reason: Option<String>,
    /// When it ended.
    pub ended: Micros,
}

/// A record that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The rows' change; rows refused before planning have none.
    pub change: Option<Change>,
    /// The record's key, as text.
    pub key: String,
    /// Where the record stands; nothing where Outflow refused the row itself.
    pub status: Option<Status>,
    /// The chunk that it was in; rows refused before planning are in none.
    #[serde(default)]
    pub chunk: Option<ChunkNo>,
    /// The earlier run since which the row is withheld, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<RunId>,
    /// Why.
    pub refusal: Refusal,
}

impl Problem {
    /// True where the row was not sent, since an earlier run's outcome still holds.
    pub fn is_withheld(&self) -> bool {
        self.chunk.is_none() && matches!(self.status, Some(Status::Rejected | Status::Unknown))
    }
}

/// Runs and their end.
///
/// 1. Of one sync at most one run is not queued and has not ended, and at most one is queued.
/// 2. `request` adds a queued run, or answers with the one that is queued already.
/// 3. `patch` changes the state only from `from`, else it is a [`super::Trouble::Conflict`] and changes nothing.
/// 4. `close` writes end state, totals, the snapshot pointer and whether a full resend is due in one transaction; only of a run
///    that has not ended.
/// 5. What an operation returned `Ok` for survives a crash of the process and of the machine.
#[async_trait]
pub trait Runs: Send + Sync {
    /// Asks for a run of `run.sync`.
    async fn request(&self, run: &Run) -> Result<Requested>;
    /// A run by its id.
    async fn run(&self, id: &RunId) -> Result<Option<Run>>;
    /// The newest `limit` runs, of one sync or of all, newest first.
    async fn runs(&self, sync: Option<&str>, limit: u32) -> Result<Vec<Run>>;
    /// Every run that has not ended, the oldest first.
    async fn unended(&self) -> Result<Vec<Run>>;
    /// Changes a run that is in state `from`.
    async fn patch(&self, id: &RunId, from: RunState, patch: RunPatch) -> Result<()>;
    /// Ends a run that is in state `from`.
    async fn close(&self, id: &RunId, from: RunState, closing: Closing) -> Result<()>;
    /// The snapshot that a sync's last ended run left.
    async fn snapshot(&self, sync: &str) -> Result<Option<String>>;
    /// Whether a full resend of a sync is due, since an ended run could not tell what it had sent; until a run closes it, or what
    /// was acknowledged is forgotten.
    async fn is_resend_due(&self, sync: &str) -> Result<bool>;
    /// Points a sync to another snapshot, or to none: what was acknowledged is then forgotten.
    async fn point(&self, sync: &str, snapshot: Option<&str>) -> Result<()>;
}

/// Chunks and what their records came to.
///
/// 1. `plan` writes all chunks or none.
/// 2. `published` counts the attempt before the chunk is published, so that a chunk that was never published is known
///    to be unsent.
/// 3. `settle` joins reports into their chunks and returns the joined chunks; settling a report twice changes nothing.
///    Of reports for one chunk from several callers none is lost.
/// 4. `problem` rows of a run are kept until the run is.
#[async_trait]
pub trait Chunks: Send + Sync {
    /// Writes the chunks of a run's plan, in place of any that were there.
    async fn plan(&self, run: &RunId, chunks: &[Chunk]) -> Result<()>;
    /// The chunks of a run, by number.
    async fn chunks(&self, run: &RunId) -> Result<Vec<Chunk>>;
    /// Those of a run's chunks that have these numbers, by number.
    async fn some_chunks(&self, run: &RunId, numbers: &[ChunkNo]) -> Result<Vec<Chunk>>;
    /// Counts one more attempt of each of these chunks.
    async fn published(&self, run: &RunId, chunks: &[ChunkNo]) -> Result<()>;
    /// Joins reports; returns each touched chunk with its run, once.
    async fn settle(&self, reports: &[ReportV1], now: Micros) -> Result<Vec<(RunId, Chunk)>>;
    /// Adds records that did not succeed, in place of any that were there.
    async fn add_problems(&self, run: &RunId, problems: &[Problem]) -> Result<()>;
    /// Records that did not succeed, at most `limit`.
    async fn problems(&self, run: &RunId, limit: u32) -> Result<Vec<Problem>>;
    /// Forgets ended runs and their chunks that ended before `before`, but for each sync's newest and the one that its snapshot is of;
    /// returns the keys of their plans.
    async fn expire(&self, before: Micros) -> Result<Vec<String>>;
}

/// The use of daily quotas, which must survive a restart.
#[async_trait]
pub trait Quotas: Send + Sync {
    /// Requests of an account counted on `day` (days since 1970-01-01, UTC).
    async fn daily(&self, account: &str, day: i64) -> Result<u64>;
    /// Writes the use of an account on `day`; the greater of two holds.
    async fn set_daily(&self, account: &str, day: i64, used: u64) -> Result<()>;
    /// Takes back what was written of a day's use and will not be used; nothing where that is never written ahead.
    async fn give_back(&self, _account: &str, _day: i64, _unused: u64) -> Result<()> {
        Ok(())
    }
    /// What was written last of an account's use of its windows; nothing where the limiter keeps that elsewhere.
    async fn windows(&self, _account: &str) -> Result<Option<String>> {
        Ok(None)
    }
    /// Writes an account's use of its windows.
    async fn set_windows(&self, _account: &str, _used: &str) -> Result<()> {
        Ok(())
    }
}

/// The time that everybody who shares a ledger goes by: the clocks of their machines may differ.
#[async_trait]
pub trait Times: Send + Sync {
    /// A clock that tells it.
    async fn clock(&self) -> Result<Arc<dyn Clock>>;
}

/// Everything the ledger keeps.
pub trait Ledger: Runs + Chunks + Quotas + Pauses + Times {}

impl<T: Runs + Chunks + Quotas + Pauses + Times> Ledger for T {}
