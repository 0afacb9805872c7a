//! A queue that takes no reports for a while.

use std::sync::Arc;

use async_trait::async_trait;
use outflow_backends::MemoryQueue;
use outflow_model::id::Lane;
use outflow_model::port::Result;
use outflow_model::port::queue::{Consumer, Outgoing, Queue};
use tokio::sync::watch;

/// A queue in memory, whose reports wait as long as it is held.
pub struct HeldQueue {
    inner: MemoryQueue,
    is_held: watch::Sender<bool>,
    /// Reports that have come so far, taken or not.
    pub come: watch::Sender<u64>,
}

impl HeldQueue {
    /// One that is held from the beginning.
    pub fn new() -> Self {
        Self { inner: MemoryQueue::default(), is_held: watch::Sender::new(true), come: watch::Sender::new(0) }
    }

    /// Takes reports from now on.
    pub fn release(&self) {
        self.is_held.send_replace(false);
    }
}

impl Default for HeldQueue {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Queue for HeldQueue {
    async fn publish(&self, lane: &Lane, urgent: bool, message: Outgoing) -> Result<()> {
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
        self.come.send_modify(|come| *come += 1);
        // It lives as long as this.
        _ = self.is_held.subscribe().wait_for(|is_held| !is_held).await;
        self.inner.report(message).await
    }

    fn reports(&self) -> Arc<dyn Consumer> {
        self.inner.reports()
    }
}
