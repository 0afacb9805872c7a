//! The queue within one process. Chunks survive nothing: plan and ledger do. A report survives once it is settled, so
//! `report` waits for that.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use outflow_model::id::Lane;
use outflow_model::port::queue::{Delivery, Queue, Receipt};
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
        self.arrived.notify_one();
    }

    async fn next(self: &Arc<Self>) -> Delivery {
        loop {
            let arrived = self.arrived.notified();
            let message = {
                let mut waiting = self.lock();
                waiting.urgent.pop_front().or_else(|| waiting.normal.pop_front())
            };
            if let Some(message) = message {
                let (body, before) = (message.body.clone(), message.deliveries);
                return Delivery::new(body, before, Box::new(Held { channel: self.clone(), message }));
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
}

impl MemoryQueue {
    fn lane(&self, lane: &Lane) -> Arc<Channel> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.entry(lane.clone()).or_default().clone()
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn publish(&self, lane: &Lane, urgent: bool, body: Bytes) -> Result<()> {
        self.lane(lane).push(Message { body, urgent, deliveries: 0, settled: None }, false);
        Ok(())
    }

    async fn next_chunk(&self, lane: &Lane) -> Result<Delivery> {
        Ok(self.lane(lane).next().await)
    }

    async fn report(&self, body: Bytes) -> Result<()> {
        let (settled, done) = oneshot::channel();
        self.reports.push(Message { body, urgent: false, deliveries: 0, settled: Some(settled) }, false);
        done.await.map_err(|_| PortError::new(Trouble::Unavailable, "Nobody settles reports any more"))
    }

    async fn next_report(&self) -> Result<Delivery> {
        Ok(self.reports.next().await)
    }
}
