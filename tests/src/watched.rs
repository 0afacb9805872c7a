//! A queue that is watched: what leaves too early, and what becomes of messages whose reports are refused, whose grants are
//! forgotten, or that come twice.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use outflow_model::id::{AttemptId, Lane};
use outflow_model::port::ledger::Ledger;
use outflow_model::port::limiter::Limiter;
use outflow_model::port::queue::{Consumer, Outgoing, Queue};
use outflow_model::port::{PortError, Result, Trouble};

const MINUTE: i64 = 60_000_000;

/// Takes one away; false where none is left.
fn one_less(left: &AtomicU32) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

/// A watched queue.
pub struct WatchedQueue {
    inner: Arc<dyn Queue>,
    ledger: Arc<dyn Ledger>,
    copies: u32,
    refusals: AtomicU32,
    forgets: AtomicU32,
    limiter: OnceLock<Arc<dyn Limiter>>,
    uncounted: AtomicU32,
}

impl WatchedQueue {
    /// Watches `inner`, and compares what leaves with `ledger`.
    pub fn new(inner: Arc<dyn Queue>, ledger: Arc<dyn Ledger>) -> Self {
        let [refusals, forgets, uncounted] = [const { AtomicU32::new(0) }; 3];
        Self { inner, ledger, copies: 1, refusals, forgets, limiter: OnceLock::new(), uncounted }
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

    /// Has the limiter forget so many grants before their messages leave.
    pub fn forget_grants(&self, limiter: Arc<dyn Limiter>, grants: u32) {
        self.limiter.get_or_init(|| limiter);
        self.forgets.store(grants, Ordering::SeqCst);
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
            if let Some(limiter) = self.limiter.get().filter(|_| one_less(&self.forgets)) {
                limiter.forget(&lane.0, &run).await?;
                limiter.open_gate(&lane.0, &run, 1, MINUTE).await?;
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
        if one_less(&self.refusals) {
            return Err(PortError::new(Trouble::Unavailable, "The queue takes no report"));
        }
        self.inner.report(message).await
    }

    fn reports(&self) -> Arc<dyn Consumer> {
        self.inner.reports()
    }
}
