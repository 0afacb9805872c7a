//! A queue on which one record ends every worker that takes it.

use async_trait::async_trait;
use bytes::Bytes;
use outflow_backends::MemoryQueue;
use outflow_model::id::Lane;
use outflow_model::port::Result;
use outflow_model::port::queue::{Delivery, Queue};
use outflow_model::wire::{ChunkV1, unpack};

/// A queue in memory; whoever takes a message with this record is gone before it can do anything, which hands the
/// message back.
pub struct DeadlyQueue {
    /// What addresses the record.
    pub record: String,
    /// The queue itself.
    pub inner: MemoryQueue,
}

impl DeadlyQueue {
    fn is_deadly(&self, body: &[u8]) -> bool {
        let Ok(chunk) = ChunkV1::decode(body) else { return false };
        let Ok(table) = unpack(&chunk.payload, 1 << 24) else { return false };
        chunk.pending().iter().any(|row| table.identity_text(*row as usize) == self.record)
    }
}

#[async_trait]
impl Queue for DeadlyQueue {
    async fn publish(&self, lane: &Lane, urgent: bool, body: Bytes) -> Result<()> {
        self.inner.publish(lane, urgent, body).await
    }

    async fn next_chunk(&self, lane: &Lane) -> Result<Delivery> {
        loop {
            let message = self.inner.next_chunk(lane).await?;
            // The tenth delivery is looked at, not processed.
            if message.redelivered >= 10 || !self.is_deadly(&message.body) {
                return Ok(message);
            }
        }
    }

    async fn report(&self, body: Bytes) -> Result<()> {
        self.inner.report(body).await
    }

    async fn next_report(&self) -> Result<Delivery> {
        self.inner.next_report().await
    }
}
