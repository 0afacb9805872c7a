//! The queue within one process. Chunks survive nothing: plan and ledger do. A report survives once it is settled, so
//! `report` waits for that.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use outflow_model::id::Lane;
use outflow_model::port::queue::{Consumer, Delivery, Outgoing, Queue, Receipt, Take};
use outflow_model::port::{PortError, Result, Trouble};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

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
}

struct Held {
    channel: Arc<Channel>,
    message: Message,
    place: OwnedSemaphorePermit,
}

impl Held {
    /// Another message may be held in its place.
    fn leave(self) -> (Arc<Channel>, Message) {
        let Self { channel, message, place } = self;
        drop(place);
        channel.arrived.notify_waiters();
        (channel, message)
    }
}

#[async_trait]
impl Receipt for Held {
    async fn ack(self: Box<Self>) -> Result<()> {
        if let Some(settled) = self.leave().1.settled {
            _ = settled.send(());
        }
        Ok(())
    }

    fn hand_back(self: Box<Self>) {
        let (channel, message) = self.leave();
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

    fn consume(&self, lane: &Lane, most: u16) -> Arc<dyn Consumer> {
        Arc::new(Reader::new(self.lane(lane), most.max(1).into()))
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

    fn reports(&self) -> Arc<dyn Consumer> {
        Arc::new(Reader::new(self.reports.clone(), Semaphore::MAX_PERMITS))
    }
}

struct Reader {
    channel: Arc<Channel>,
    /// How many more it may hold, of either kind.
    urgent: Arc<Semaphore>,
    normal: Arc<Semaphore>,
}

impl Reader {
    fn new(channel: Arc<Channel>, most: usize) -> Self {
        Self { channel, urgent: Arc::new(Semaphore::new(most)), normal: Arc::new(Semaphore::new(most)) }
    }

    fn try_take(&self, take: Take) -> Option<Held> {
        let mut waiting = self.channel.lock();
        let mut of = |urgent| {
            let room = if urgent { &self.urgent } else { &self.normal };
            let place = room.clone().try_acquire_owned().ok()?;
            let message = if urgent { waiting.urgent.pop_front() } else { waiting.normal.pop_front() }?;
            Some(Held { channel: self.channel.clone(), message, place })
        };
        of(true).or_else(|| if take == Take::Any { of(false) } else { None })
    }
}

#[async_trait]
impl Consumer for Reader {
    async fn next(&self, take: Take) -> Result<Delivery> {
        loop {
            // Registered before the look: what arrives in between is not missed.
            let mut arrived = std::pin::pin!(self.channel.arrived.notified());
            arrived.as_mut().enable();
            if let Some(held) = self.try_take(take) {
                let (id, body, before) = (held.message.id.clone(), held.message.body.clone(), held.message.deliveries);
                return Ok(Delivery::new(id, body, before, Box::new(held)));
            }
            arrived.await;
        }
    }

    /// Nothing waits here: the queue itself is asked.
    fn stop(&self) {}
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
