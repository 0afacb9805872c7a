//! A queue that is watched: what leaves too early, and what becomes of messages whose reports are refused, or that come twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use outflow_model::id::{AttemptId, Lane};
use outflow_model::port::ledger::Ledger;
use outflow_model::port::queue::{Consumer, Outgoing, Queue};
use outflow_model::port::{PortError, Result, Trouble};

/// A watched queue.
pub struct WatchedQueue {
    inner: Arc<dyn Queue>,
    ledger: Arc<dyn Ledger>,
    copies: u32,
    refusals: AtomicU32,
    uncounted: AtomicU32,
}

impl WatchedQueue {
    /// Watches `inner`, and compares what leaves with `ledger`.
    pub fn new(inner: Arc<dyn Queue>, ledger: Arc<dyn Ledger>) -> Self {
        Self { inner, ledger, copies: 1, refusals: AtomicU32::new(0), uncounted: AtomicU32::new(0) }
    }

    /// Puts each chunk on its lane twice.
    #[must_use]
    pub fn twice(self) -> Self {
        Self { copies: 2, ..self }
    }

    /// Refuses so many reports.
    #[must_use]
    pub fn refusing(self, reports: u32) -> Self {
        Self { refusals: AtomicU32::new(reports), ..self }
    }

    /// Messages that left before their attempt was counted.
    pub fn uncounted(&self) -> u32 {
        self.uncounted.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Queue for WatchedQueue {
    async fn publish(&self, lane: &Lane, urgent: bool, message: Outgoing) -> Result<()> {
        if let Some(AttemptId { run, chunk, attempt }) = AttemptId::parse(&message.id) {
            let known = self.ledger.some_chunks(&run, &[chunk]).await?;
            if known.iter().all(|chunk| chunk.attempt != attempt) {
                self.uncounted.fetch_add(1, Ordering::SeqCst);
            }
        }
        for _ in 1..self.copies {
            self.inner.publish(lane, urgent, message.clone()).await?;
        }
        self.inner.publish(lane, urgent, message).await
    }

    fn consume(&self, lane: &Lane, most: u16) -> Arc<dyn Consumer> {
        self.inner.consume(lane, most)
    }

    async fn waiting(&self, lane: &Lane) -> Result<u64> {
        self.inner.waiting(lane).await
    }

    fn outlives_processes(&self) -> bool {
        self.inner.outlives_processes()
    }

    async fn check(&self) -> Result<()> {
        self.inner.check().await
    }

    async fn report(&self, message: Outgoing) -> Result<()> {
        let one_less = |left: u32| left.checked_sub(1);
        if self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
            return Err(PortError::new(Trouble::Unavailable, "The queue takes no report"));
        }
        self.inner.report(message).await
    }

    fn reports(&self) -> Arc<dyn Consumer> {
        self.inner.reports()
    }
}
