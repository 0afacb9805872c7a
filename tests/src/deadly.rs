//! A queue on which one record ends every worker that takes it.

use std::sync::Arc;

use async_trait::async_trait;
use outflow_backends::MemoryQueue;
use outflow_model::id::Lane;
use outflow_model::port::Result;
use outflow_model::port::queue::{Consumer, Delivery, Outgoing, Queue, Take};
use outflow_model::wire::{ChunkV1, unpack};

/// A queue in memory; whoever takes a message with this record is gone before it can do anything, which hands the
/// message back.
pub struct DeadlyQueue {
    /// What addresses the record.
    pub record: String,
    /// The queue itself.
    pub inner: MemoryQueue,
}

struct Deadly {
    record: String,
    inner: Arc<dyn Consumer>,
}

impl Deadly {
    fn is_deadly(&self, body: &[u8]) -> bool {
        let Ok(chunk) = ChunkV1::decode(body) else { return false };
        let Ok(table) = unpack(&chunk.payload, 1 << 24) else { return false };
        chunk.pending().iter().any(|row| table.identity_text(*row as usize) == self.record)
    }
}

#[async_trait]
impl Consumer for Deadly {
    async fn next(&self, take: Take) -> Result<Delivery> {
        loop {
            let message = self.inner.next(take).await?;
            // The tenth delivery is looked at, not processed.
            if message.redelivered >= 10 || !self.is_deadly(&message.body) {
                return Ok(message);
            }
        }
    }

    fn stop(&self) {
        self.inner.stop();
    }
}

#[async_trait]
impl Queue for DeadlyQueue {
    async fn publish(&self, lane: &Lane, urgent: bool, message: Outgoing) -> Result<()> {
        self.inner.publish(lane, urgent, message).await
    }

    fn consume(&self, lane: &Lane, most: u16) -> Arc<dyn Consumer> {
        Arc::new(Deadly { record: self.record.clone(), inner: self.inner.consume(lane, most) })
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
        self.inner.report(message).await
    }

    fn reports(&self) -> Arc<dyn Consumer> {
        self.inner.reports()
    }
}
