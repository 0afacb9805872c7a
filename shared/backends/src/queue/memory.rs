//! The queue within one process. Chunks survive nothing: plan and ledger do. A report survives once it is settled, so
//! `report` waits for that.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use outflow_model::id::Lane;
use outflow_model::port::queue::{Consumer, Delivery, Outgoing, Queue, Receipt, Reports, Take};
use outflow_model::port::{PortError, Result, Trouble};
use tokio::sync::{Notify, oneshot};

/// Chunks and reports in memory.
#[derive(Default)]
pub struct MemoryQueue {
    lanes: Mutex<BTreeMap<Lane, Arc<Channel>>>,
    reports: Arc<Channel>,
}

#[derive(Default)]
struct Channel {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Default)]
struct Waiting {
    urgent: VecDeque<Message>,
    normal: VecDeque<Message>,
}

struct Message {
    id: String,
    body: Bytes,
    urgent: bool,
    deliveries: u32,
    /// Told when the message has been acknowledged.
    settled: Option<oneshot::Sender<()>>,
}

impl Channel {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, message: Message, first: bool) {
        let mut waiting = self.lock();
        let queue = if message.urgent { &mut waiting.urgent } else { &mut waiting.normal };
        if first {
            queue.push_front(message);
        } else {
            queue.push_back(message);
        }
        drop(waiting);
        // All: the one that is woken may not take what has arrived.
        self.arrived.notify_waiters();
    }

    async fn take(self: &Arc<Self>, take: Take) -> Delivery {
        loop {
            // Registered before the look: what arrives in between is not missed.
            let mut arrived = std::pin::pin!(self.arrived.notified());
            arrived.as_mut().enable();
            let message = {
                let mut waiting = self.lock();
                let urgent = waiting.urgent.pop_front();
                if take == Take::Any { urgent.or_else(|| waiting.normal.pop_front()) } else { urgent }
            };
            if let Some(message) = message {
                let (id, body, before) = (message.id.clone(), message.body.clone(), message.deliveries);
                return Delivery::new(id, body, before, Box::new(Held { channel: self.clone(), message }));
            }
            arrived.await;
        }
    }
}

struct Held {
    channel: Arc<Channel>,
    message: Message,
}

#[async_trait]
impl Receipt for Held {
    async fn ack(self: Box<Self>) -> Result<()> {
        if let Some(settled) = self.message.settled {
            _ = settled.send(());
        }
        Ok(())
    }

    fn hand_back(self: Box<Self>) {
        let Self { channel, message } = *self;
        channel.push(Message { deliveries: message.deliveries + 1, ..message }, true);
    }

    /// Who sent it is in this process, and can do no better.
    async fn put_aside(self: Box<Self>) -> Result<()> {
        self.ack().await
    }
}

impl MemoryQueue {
    fn lane(&self, lane: &Lane) -> Arc<Channel> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.entry(lane.clone()).or_default().clone()
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn publish(&self, lane: &Lane, urgent: bool, message: Outgoing) -> Result<()> {
        let Outgoing { id, body, .. } = message;
        self.lane(lane).push(Message { id, body, urgent, deliveries: 0, settled: None }, false);
        Ok(())
    }

    fn consume(&self, lane: &Lane, _most: u16) -> Arc<dyn Consumer> {
        Arc::new(Reader(self.lane(lane)))
    }

    async fn waiting(&self, lane: &Lane) -> Result<u64> {
        let lane = self.lane(lane);
        let waiting = lane.lock();
        Ok((waiting.urgent.len() + waiting.normal.len()) as u64)
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }

    fn outlives_processes(&self) -> bool {
        false
    }

    async fn report(&self, message: Outgoing) -> Result<()> {
        let Outgoing { id, body, .. } = message;
        let (settled, done) = oneshot::channel();
        self.reports.push(Message { id, body, urgent: false, deliveries: 0, settled: Some(settled) }, false);
        done.await.map_err(|_| PortError::new(Trouble::Unavailable, "Nobody settles reports any more"))
    }

    fn reports(&self) -> Arc<dyn Reports> {
        Arc::new(Reader(self.reports.clone()))
    }
}

struct Reader(Arc<Channel>);

#[async_trait]
impl Consumer for Reader {
    async fn next(&self, take: Take) -> Result<Delivery> {
        Ok(self.0.take(take).await)
    }

    /// Nothing waits here: the queue itself is asked.
    fn stop(&self) {}
}

#[async_trait]
impl Reports for Reader {
    async fn next(&self) -> Result<Delivery> {
        Ok(self.0.take(Take::Any).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn urgent_chunks_come_before_normal_ones() -> Result<()> {
        let (queue, lane) = (MemoryQueue::default(), Lane("a".to_owned()));
        queue.publish(&lane, false, Outgoing::new("1", "normal")).await?;
        queue.publish(&lane, true, Outgoing::new("2", "urgent")).await?;
        let consumer = queue.consume(&lane, 2);
        let (first, second) = (consumer.next(Take::Any).await?, consumer.next(Take::Any).await?);
        assert_eq!((&first.body[..], &second.body[..]), (&b"urgent"[..], &b"normal"[..]));
        Ok(())
    }
}
