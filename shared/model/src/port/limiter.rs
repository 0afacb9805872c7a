//! The shared budget of an account, and who may send.

use async_trait::async_trait;

use super::Result;
use crate::id::{AttemptId, Lane, RunId};
use crate::limit::{Ask, Cause, Limits, Micros};

/// A request that wants to leave.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The account whose budget it uses.
    pub account: &'a str,
    /// What the account allows.
    pub limits: &'a Limits,
    /// The delivery that sends it; requests outside a run (probes, tokens) have none.
    pub attempt: Option<&'a AttemptId>,
    /// Who delivers: one delivery of one worker.
    pub worker: &'a str,
    /// The worker's number for this request, of its own choice and new each time.
    pub slot: u64,
    /// The claim lapses after so much silence.
    pub lease: Micros,
    /// The request is given up after so long: its place among those under way lapses.
    pub timeout: Micros,
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
    /// The longest that a request of this process has left after its permit since it last asked.
    pub late: Micros,
}

impl<'a> Request<'a> {
    /// What it would use.
    pub const fn ask(&self) -> Ask<'a> {
        let Self { records, cost, urgent, sync, weight, slot, timeout, late, .. } = *self;
        Ask { records, cost, urgent, sync, weight, slot, timeout, late }
    }
}

/// May the request leave?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Now. `end` must be called with the request's slot when it has ended.
    Go {
        /// Its moment came so long after it was asked for, at the earliest.
        after: Micros,
        /// It may leave within so long from then on; later it takes another permit.
        within: Micros,
    },
    /// Not yet: ask again after so many microseconds.
    Later {
        /// How long.
        wait: Micros,
        /// What stands in the way.
        cause: Cause,
    },
    /// The run may not send: stopped, or its owner is gone.
    Closed,
    /// The attempt is not this worker's, or no more.
    Lost,
}

impl Verdict {
    /// True where the request may leave.
    pub const fn is_go(&self) -> bool {
        matches!(self, Self::Go { .. })
    }
}

/// What became of an attempt that was to be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// Nobody ever held it, and nobody will.
    Taken,
    /// Its holder is gone, and may have sent; nobody else will.
    Lapsed {
        /// Requests of the attempt that were announced (see [`Limiter::announced`]).
        announced: u32,
    },
    /// A worker holds it, or did a moment ago: it stays there.
    Held,
    /// It was finished before: its report is on its way, or here.
    Finished,
    /// Nothing is known of it: nobody takes it from now on, and whether somebody had it cannot be said.
    Forgotten,
}

/// Whose is an attempt?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// The worker's that asked, and no other's before.
    Mine,
    /// The worker's that asked, from one that is gone and may have sent.
    Inherited {
        /// Requests of the attempt that were announced by then (see [`Limiter::announced`]).
        announced: u32,
    },
    /// Another worker's, until its lease lapses.
    Held,
    /// Nobody's any more: it was reported on to its end.
    Done,
    /// Nobody's: it was never granted, or that was forgotten. Nothing of it may be sent.
    Ungranted,
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
/// 1. `permit` books budget, checks the account's pause, the run's gate and the attempt's claim, and renews that claim, in
///    one step; where it answers [`Verdict::Go`] the request may leave at once, and for as long as that says.
/// 2. Requests that leave as their permits say exceed `limits` in no window, whoever asks, from however many processes. A limiter that
///    cannot be reached permits nothing.
/// 3. A gate that was never opened, was closed, or was not renewed in time is closed: the run may not send.
/// 4. Only an attempt that was granted is claimed. A claim belongs to one delivery of one worker until its lease lapses and another
///    takes it over, which that one is told; one that is finished is taken by nobody. Of each chunk's attempts only the newest that
///    was ever granted, closed or revoked is anybody's. What a limiter has forgotten it takes for never granted: only `close`,
///    `grant` and `revoke` of a known chunk make it known.
/// 5. `pause` stops every permit of the account until its end, and never shortens a pause.
/// 6. The day's use of an account survives a restart.
/// 7. A request that its worker never ends leaves its place among those under way after its timeout.
/// 8. A lane is known as long as a gate of its account is open, with the concurrency that was told last.
#[async_trait]
pub trait Limiter: Send + Sync {
    /// Opens or renews the gate of a run that sends to an account, for so many microseconds; each worker delivers
    /// `concurrency` of the account's chunks at a time.
    async fn open_gate(&self, account: &str, run: &RunId, concurrency: u32, ttl: Micros) -> Result<()>;
    /// Closes a run's gate; what is known of its claims is kept as when it is renewed.
    async fn close_gate(&self, account: &str, run: &RunId) -> Result<()>;
    /// Closes a run's gate and forgets its claims: nothing more of it is sent that is not granted again.
    async fn forget(&self, account: &str, run: &RunId) -> Result<()>;
    /// Ends these attempts of one run, and those before them, held or not; an attempt 0 stands for a chunk that was never published.
    async fn close(&self, account: &str, attempts: &[AttemptId]) -> Result<()>;
    /// Lets these attempts of one run be claimed, where nothing as new is known of their chunks. Right before they are published,
    /// and after they were counted.
    async fn grant(&self, account: &str, attempts: &[AttemptId]) -> Result<()>;
    /// An error where the limiter cannot be asked right now.
    async fn check(&self) -> Result<()>;
    /// The lanes that have chunks, and how many of them a worker delivers at a time; whoever asks is a worker.
    async fn lanes(&self) -> Result<Vec<(Lane, u32)>>;
    /// Claims an attempt for a delivery that has announced nothing since it claimed it last.
    async fn claim(&self, account: &str, attempt: &AttemptId, worker: &str, lease: Micros) -> Result<Claimed> {
        self.announced(account, attempt, worker, lease, 0).await
    }
    /// Claims an attempt for a delivery that has announced so many requests and is about to send the last of them. Who takes the
    /// attempt over is told how many.
    async fn announced(
        &self,
        account: &str,
        attempt: &AttemptId,
        worker: &str,
        lease: Micros,
        requests: u32,
    ) -> Result<Claimed>;
    /// Finishes an attempt unless a worker holds it, or did within `grace`, in one step: whoever is given its message waits for
    /// the end of a claim before it claims.
    async fn revoke(&self, account: &str, attempt: &AttemptId, grace: Micros) -> Result<Revoked>;
    /// Marks an attempt as reported on to its end, where it is known: nobody delivers it from now on.
    async fn finish(&self, account: &str, attempt: &AttemptId) -> Result<()>;
    /// Asks whether a request may leave.
    async fn permit(&self, request: &Request<'_>) -> Result<Verdict>;
    /// The permitted request with this slot has ended.
    async fn end(&self, account: &str, slot: u64, ended: Ended) -> Result<()>;
    /// Closes an account for so many microseconds.
    async fn pause(&self, account: &str, wait: Micros) -> Result<()>;
    /// The destination says how much of the day's quota is used, and how much there is; the lower of this and the
    /// configured quota holds.
    async fn learn_daily(&self, account: &str, used: u64, allowed: Option<u64>) -> Result<()>;
}
