//! A ledger under a fate: at one of its writing operations, before or after it is written, its process dies and nothing
//! goes on any more; or, again and again, the answer to such an operation is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use outflow_model::id::{ChunkNo, RunId};
use outflow_model::limit::Micros;
use outflow_model::port::clock::Clock;
use outflow_model::port::ledger::{
    Chunk, Chunks, Closing, Ledger, Problem, Quotas, Requested, Run, RunPatch, Runs, Times,
};
use outflow_model::port::pauses::{Pause, Pauses};
use outflow_model::port::{PortError, Result, Trouble};
use outflow_model::run::RunState;
use outflow_model::wire::ReportV1;
use tokio::sync::Notify;

/// What befalls writing operations.
pub struct Fate {
    /// Writing operations until it strikes.
    left: AtomicI64,
    /// Whether the operation that it strikes is written.
    after: bool,
    /// Only the answer is lost, of one operation in about so many.
    every: Option<i64>,
    strikes: AtomicI64,
    died: Notify,
}

impl Fate {
    /// The process dies at the writing operation number `at`, from 0, once it is written where `after` is set.
    pub fn at(at: i64, after: bool) -> Arc<Self> {
        Arc::new(Self { left: AtomicI64::new(at), after, every: None, strikes: AtomicI64::new(0), died: Notify::new() })
    }

    /// Of one operation in about `every` the answer is lost: it may be written, as `after` says.
    pub fn lost_answers(every: i64, after: bool) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicI64::new(every),
            after,
            every: Some(every),
            strikes: AtomicI64::new(0),
            died: Notify::new(),
        })
    }

    /// Waits for the death.
    pub async fn wait(&self) {
        self.died.notified().await;
    }

    async fn write<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        if left > 0 {
            return work.await;
        }
        if left == 0 && self.after {
            work.await?;
        }
        if let Some(every) = self.every {
            // Not evenly: what is begun anew would be struck at the same place for ever.
            let strikes = self.strikes.fetch_add(1, Ordering::SeqCst);
            self.left.store(every + strikes * 7 % 5, Ordering::SeqCst);
            return Err(PortError::new(Trouble::Unavailable, "The connection broke"));
        }
        self.died.notify_one();
        std::future::pending().await
    }
}

/// A ledger under a fate.
pub struct FatedLedger {
    /// The ledger itself, which survives.
    pub inner: Arc<dyn Ledger>,
    /// Its fate.
    pub fate: Arc<Fate>,
}

#[async_trait]
impl Runs for FatedLedger {
    async fn request(&self, run: &Run) -> Result<Requested> {
        self.fate.write(self.inner.request(run)).await
    }

    async fn run(&self, id: &RunId) -> Result<Option<Run>> {
        self.inner.run(id).await
    }

    async fn runs(&self, sync: Option<&str>, limit: u32) -> Result<Vec<Run>> {
        self.inner.runs(sync, limit).await
    }

    async fn unended(&self) -> Result<Vec<Run>> {
        self.inner.unended().await
    }

    async fn patch(&self, id: &RunId, from: RunState, patch: RunPatch) -> Result<()> {
        self.fate.write(self.inner.patch(id, from, patch)).await
    }

    async fn close(&self, id: &RunId, from: RunState, closing: Closing) -> Result<()> {
        self.fate.write(self.inner.close(id, from, closing)).await
    }

    async fn snapshot(&self, sync: &str) -> Result<Option<String>> {
        self.inner.snapshot(sync).await
    }

    async fn is_resend_due(&self, sync: &str) -> Result<bool> {
        self.inner.is_resend_due(sync).await
    }

    async fn point(&self, sync: &str, snapshot: Option<&str>) -> Result<()> {
        self.fate.write(self.inner.point(sync, snapshot)).await
    }
}

#[async_trait]
impl Chunks for FatedLedger {
    async fn plan(&self, run: &RunId, chunks: &[Chunk]) -> Result<()> {
        self.fate.write(self.inner.plan(run, chunks)).await
    }

    async fn chunks(&self, run: &RunId) -> Result<Vec<Chunk>> {
        self.inner.chunks(run).await
    }

    async fn some_chunks(&self, run: &RunId, numbers: &[ChunkNo]) -> Result<Vec<Chunk>> {
        self.inner.some_chunks(run, numbers).await
    }

    async fn published(&self, run: &RunId, chunks: &[ChunkNo]) -> Result<()> {
        self.fate.write(self.inner.published(run, chunks)).await
    }

    async fn settle(&self, reports: &[ReportV1], now: Micros) -> Result<Vec<(RunId, Chunk)>> {
        self.fate.write(self.inner.settle(reports, now)).await
    }

    async fn add_problems(&self, run: &RunId, problems: &[Problem]) -> Result<()> {
        self.fate.write(self.inner.add_problems(run, problems)).await
    }

    async fn problems(&self, run: &RunId, limit: u32) -> Result<Vec<Problem>> {
        self.inner.problems(run, limit).await
    }

    async fn expire(&self, before: Micros) -> Result<Vec<String>> {
        self.fate.write(self.inner.expire(before)).await
    }
}

#[async_trait]
impl Pauses for FatedLedger {
    async fn pause(&self, pause: &Pause) -> Result<()> {
        self.fate.write(self.inner.pause(pause)).await
    }

    async fn resume(&self, account: &str, whoever: bool) -> Result<bool> {
        self.fate.write(self.inner.resume(account, whoever)).await
    }

    async fn pauses(&self) -> Result<Vec<Pause>> {
        self.inner.pauses().await
    }
}

#[async_trait]
impl Times for FatedLedger {
    async fn clock(&self) -> Result<Arc<dyn Clock>> {
        self.inner.clock().await
    }
}

#[async_trait]
impl Quotas for FatedLedger {
    async fn daily(&self, account: &str, day: i64) -> Result<u64> {
        self.inner.daily(account, day).await
    }

    async fn set_daily(&self, account: &str, day: i64, used: u64) -> Result<()> {
        self.inner.set_daily(account, day, used).await
    }

    async fn give_back(&self, account: &str, day: i64, unused: u64) -> Result<()> {
        self.inner.give_back(account, day, unused).await
    }

    async fn windows(&self, account: &str) -> Result<Option<String>> {
        self.inner.windows(account).await
    }

    async fn set_windows(&self, account: &str, used: &str) -> Result<()> {
        self.inner.set_windows(account, used).await
    }
}
