//! Transport of chunks to workers and of reports back. It may deliver twice, and may lose everything: plan and ledger
//! are the truth.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::Result;
use crate::id::Lane;

/// A message on its way. Whatever carries it may show its id and its trace, never its body.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Which message it is.
    pub id: String,
    /// W3C trace context of its sender.
    pub traceparent: Option<String>,
    /// What it says.
    pub body: Bytes,
}

impl Outgoing {
    /// A message outside any trace.
    pub fn new(id: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { id: id.into(), traceparent: None, body: body.into() }
    }
}

/// Which chunks of a lane a consumer takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// Urgent ones first, else normal ones.
    Any,
    /// Urgent ones only: they find a consumer though all others are busy.
    Urgent,
}

/// Chunks out, reports back.
///
/// 1. `publish` returns when the message will survive whatever the backend survives.
/// 2. A message is delivered at least once to one consumer of its lane; of those that are at hand, urgent ones before
///    normal ones.
/// 3. A message that was neither acknowledged nor handed back is delivered again when its consumer has gone.
/// 4. `report` returns when the report will survive; reports are delivered like chunks.
/// 5. A message keeps the id and the body that it was given.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Puts a chunk on its lane.
    async fn publish(&self, lane: &Lane, urgent: bool, message: Outgoing) -> Result<()>;
    /// Takes part in consuming a lane, with at most `most` chunks of each kind in hand, until the answer is dropped: what
    /// it holds then goes to other consumers.
    fn consume(&self, lane: &Lane, most: u16) -> Arc<dyn Consumer>;
    /// Chunks of a lane that wait for a consumer.
    async fn waiting(&self, lane: &Lane) -> Result<u64>;
    /// Whether chunks survive the process that published them.
    fn outlives_processes(&self) -> bool;
    /// Sends a report to the coordinators.
    async fn report(&self, message: Outgoing) -> Result<()>;
    /// An error where messages can neither be sent nor taken right now.
    async fn check(&self) -> Result<()>;
    /// Takes part in consuming reports, which are all of one kind, until the answer is dropped: what it holds then goes to other
    /// consumers.
    fn reports(&self) -> Arc<dyn Consumer>;
}

/// A consumer of a lane, or of the reports.
#[async_trait]
pub trait Consumer: Send + Sync {
    /// Waits for the next message. A caller may stop waiting at any moment: the message then goes to another call, or back to the
    /// queue.
    async fn next(&self, take: Take) -> Result<Delivery>;
    /// Takes no more: what waits here goes to other consumers at once; what was taken can still be acknowledged.
    fn stop(&self);
}

/// A message in a consumer's hands. Dropping it unacknowledged hands it back.
pub struct Delivery {
    /// Which message it is, as its sender named it.
    pub id: String,
    /// The message.
    pub body: Bytes,
    /// How often it was delivered before.
    pub redelivered: u32,
    receipt: Option<Box<dyn Receipt>>,
}

/// A backend's way to settle a delivery.
#[async_trait]
pub trait Receipt: Send {
    /// The message is done with.
    async fn ack(self: Box<Self>) -> Result<()>;
    /// The message is to be delivered again.
    fn hand_back(self: Box<Self>);
    /// The message is of no use to anybody, and not to be delivered again.
    async fn put_aside(self: Box<Self>) -> Result<()>;
}

impl Delivery {
    /// A delivery of the message `id` that `receipt` settles.
    pub fn new(id: String, body: Bytes, redelivered: u32, receipt: Box<dyn Receipt>) -> Self {
        Self { id, body, redelivered, receipt: Some(receipt) }
    }

    /// The message is done with. Consumes the delivery: acknowledging twice does not compile.
    pub async fn ack(mut self) -> Result<()> {
        match self.receipt.take() {
            Some(receipt) => receipt.ack().await,
            None => Ok(()),
        }
    }

    /// The message is of no use to anybody: it is given up (see [`super::dead_letters`]).
    pub async fn put_aside(mut self) -> Result<()> {
        match self.receipt.take() {
            Some(receipt) => receipt.put_aside().await,
            None => Ok(()),
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(receipt) = self.receipt.take() {
            receipt.hand_back();
        }
    }
}
