//! A ledger whose process dies: at one of its operations, before or after it is written, nothing goes on any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use outflow_model::id::{ChunkNo, RunId};
use outflow_model::limit::Micros;
use outflow_model::port::Result;
use outflow_model::port::ledger::{Chunk, Chunks, Closing, Ledger, Problem, Quotas, Requested, Run, RunPatch, Runs};
use outflow_model::run::RunState;
use outflow_model::wire::ReportV1;
use tokio::sync::Notify;

/// When the process dies.
pub struct Death {
    /// Writing operations that it still has.
    left: AtomicI64,
    /// Whether the fatal operation is written.
    after: bool,
    died: Notify,
}

impl Death {
    /// Dies at the writing operation number `at`, from 0, once it is written where `after` is set.
    pub fn at(at: i64, after: bool) -> Arc<Self> {
        Arc::new(Self { left: AtomicI64::new(at), after, died: Notify::new() })
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
        self.died.notify_one();
        std::future::pending().await
    }
}

/// A ledger in a process that dies.
pub struct MortalLedger {
    /// The ledger itself, which survives.
    pub inner: Arc<dyn Ledger>,
    /// When.
    pub death: Arc<Death>,
}

#[async_trait]
impl Runs for MortalLedger {
    async fn request(&self, run: &Run) -> Result<Requested> {
        self.death.write(self.inner.request(run)).await
    }

    async fn run(&self, id: &RunId) -> Result<Option<Run>> {
        self.inner.run(id).await
    }

    async fn runs(&self, sync: Option<&str>, limit: u32) -> Result<Vec<Run>> {
        self.inner.runs(sync, limit).await
    }

    async fn patch(&self, id: &RunId, from: RunState, patch: RunPatch) -> Result<()> {
        self.death.write(self.inner.patch(id, from, patch)).await
    }

    async fn close(&self, id: &RunId, from: RunState, closing: Closing) -> Result<()> {
        self.death.write(self.inner.close(id, from, closing)).await
    }

    async fn snapshot(&self, sync: &str) -> Result<Option<String>> {
        self.inner.snapshot(sync).await
    }

    async fn point(&self, sync: &str, snapshot: Option<&str>) -> Result<()> {
        self.death.write(self.inner.point(sync, snapshot)).await
    }
}

#[async_trait]
impl Chunks for MortalLedger {
    async fn plan(&self, run: &RunId, chunks: &[Chunk]) -> Result<()> {
        self.death.write(self.inner.plan(run, chunks)).await
    }

    async fn chunks(&self, run: &RunId) -> Result<Vec<Chunk>> {
        self.inner.chunks(run).await
    }

    async fn some_chunks(&self, run: &RunId, numbers: &[ChunkNo]) -> Result<Vec<Chunk>> {
        self.inner.some_chunks(run, numbers).await
    }

    async fn published(&self, run: &RunId, chunks: &[ChunkNo]) -> Result<()> {
        self.death.write(self.inner.published(run, chunks)).await
    }

    async fn settle(&self, reports: &[ReportV1], now: Micros) -> Result<Vec<(RunId, Chunk)>> {
        self.death.write(self.inner.settle(reports, now)).await
    }

    async fn add_problems(&self, run: &RunId, problems: &[Problem]) -> Result<()> {
        self.death.write(self.inner.add_problems(run, problems)).await
    }

    async fn problems(&self, run: &RunId, limit: u32) -> Result<Vec<Problem>> {
        self.inner.problems(run, limit).await
    }

    async fn expire(&self, before: Micros) -> Result<Vec<String>> {
        self.death.write(self.inner.expire(before)).await
    }
}

#[async_trait]
impl Quotas for MortalLedger {
    async fn daily(&self, account: &str, day: i64) -> Result<u64> {
        self.inner.daily(account, day).await
    }

    async fn set_daily(&self, account: &str, day: i64, used: u64) -> Result<()> {
        self.inner.set_daily(account, day, used).await
    }
}
