//! The shared budget of an account, and who may send.

use async_trait::async_trait;

use super::Result;
use crate::id::{AttemptId, RunId};
use crate::limit::{Cause, Limits, Micros};

/// A request that wants to leave.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The account whose budget it uses.
    pub account: &'a str,
    /// What the account allows.
    pub limits: &'a Limits,
    /// The delivery that sends it; requests outside a run (probes, tokens) have none.
    pub attempt: Option<&'a AttemptId>,
    /// The worker that delivers.
    pub worker: &'a str,
    /// Records in it.
    pub records: u64,
    /// Points that it costs.
    pub cost: u64,
    /// Whether it goes before others.
    pub urgent: bool,
    /// The sync.
    pub sync: &'a str,
    /// The sync's share.
    pub weight: u32,
}

/// May the request leave?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Now. `end` must be called when it has ended.
    Go,
    /// Not yet: ask again after so many microseconds.
    Later {
        /// How long.
        wait: Micros,
        /// What stands in the way.
        cause: Cause,
    },
    /// The run may not send: stopped, or its owner is gone.
    Closed,
    /// Another worker has taken this attempt over.
    Lost,
}

/// How a permitted request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It left.
    Sent,
    /// It never left: its budget is free again.
    Unsent,
}

/// The shared limiter, gates and claims.
///
/// 1. `permit` books budget, and checks the account's pause, the run's gate and the attempt's claim, in one step; where
///    it answers [`Verdict::Go`] the request may leave at once.
/// 2. No schedule of permits exceeds `limits` in any window, whoever asks, from however many processes.
/// 3. A gate that was never opened, was closed, or was not renewed in time is closed: the run may not send.
/// 4. A claim belongs to one worker until its lease lapses; `claim` renews one's own and takes over a lapsed one.
/// 5. `pause` stops every permit of the account until its end, and never shortens a pause.
/// 6. The day's use of an account survives a restart.
#[async_trait]
pub trait Limiter: Send + Sync {
    /// Opens or renews a run's gate for so many microseconds.
    async fn open_gate(&self, run: &RunId, ttl: Micros) -> Result<()>;
    /// Closes a run's gate.
    async fn close_gate(&self, run: &RunId) -> Result<()>;
    /// Claims an attempt for a worker; false where another holds it.
    async fn claim(&self, attempt: &AttemptId, worker: &str, lease: Micros) -> Result<bool>;
    /// Asks whether a request may leave.
    async fn permit(&self, request: &Request<'_>) -> Result<Verdict>;
    /// A permitted request has ended.
    async fn end(&self, account: &str, ended: Ended) -> Result<()>;
    /// Closes an account for so many microseconds.
    async fn pause(&self, account: &str, wait: Micros) -> Result<()>;
    /// The destination says how much of the day's quota is used, and how much there is; the lower of this and the
    /// configured quota holds.
    async fn learn_daily(&self, account: &str, used: u64, allowed: Option<u64>) -> Result<()>;
}
