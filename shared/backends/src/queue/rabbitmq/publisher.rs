//! Publishing with confirms, many at a time, within a bound of bytes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lapin::options::{ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel};
use metrics::gauge;
use outflow_model::port::queue::Outgoing;
use outflow_model::port::{PortError, Result, Trouble};
use tokio::sync::{Mutex, Semaphore};
use tracing::warn;

use crate::count_trouble;

use super::link::{Link, unanswered, within};
use super::outbox::Outbox;
use super::topology::Topology;

/// Unconfirmed bytes, in KiB.
const WINDOW: u32 = 64 * 1024;
/// A quorum queue confirms within half a second when it is slow; a broker under alarm does not at all.
const CONFIRM: Duration = Duration::from_secs(30);
const PERSISTENT: u8 = 2;
/// RabbitMQ 4 refuses larger messages, and closes the channel of all others with them.
pub(crate) const LARGEST: usize = 16 * 1024 * 1024;
/// How long after a failure a message is published again; doubles up to the last.
const AGAIN: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];

/// Puts messages into queues.
pub(super) struct Publisher {
    link: Link,
    topology: Topology,
    open: Mutex<Option<Arc<Open>>>,
    window: Semaphore,
}

/// A channel, and the queues that it knows to be there.
struct Open {
    channel: Channel,
    outbox: Outbox,
    declared: Mutex<BTreeSet<String>>,
}

impl Publisher {
    pub(super) fn new(link: Link, topology: Topology) -> Self {
        Self { link, topology, open: Mutex::new(None), window: Semaphore::new(WINDOW as usize) }
    }

    /// Returns when the broker has confirmed the message; an error where it has not within `patience`. Whatever failed may
    /// be there all the same, once or more often: who reads it has to bear that.
    pub(super) async fn publish(&self, queue: &str, kind: &str, message: &Outgoing, patience: Duration) -> Result<()> {
        if message.body.len() > LARGEST {
            let size = message.body.len() >> 20;
            let text =
                format!("{} has {size} MiB, and RabbitMQ takes 16; smaller `delivery.chunk_rows` help", message.id);
            return Err(PortError::new(Trouble::Corrupt, text));
        }
        let began = Instant::now();
        let work = async {
            let weight = (message.body.len() / 1024 + 1).min(WINDOW as usize) as u32;
            let _room = self.window.acquire_many(weight).await;
            let mut pause = AGAIN[0];
            loop {
                match self.try_publish(queue, kind, message).await {
                    Err(error) if error.trouble == Trouble::Unavailable && began.elapsed() + pause < patience => {
                        warn!(queue, message = message.id, %error, "A message was not taken; it is published again");
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(AGAIN[1]);
                    }
                    done => return done,
                }
            }
        };
        tokio::time::timeout(patience, work).await.unwrap_or_else(|_| Err(unanswered()))
    }

    /// An error where nothing can be published right now.
    pub(super) async fn check(&self) -> Result<()> {
        let (there, is_blocked) = (self.link.check().await, self.link.is_blocked().await);
        gauge!("outflow_queue_blocked").set(f64::from(is_blocked));
        there.and(if is_blocked { Err(blocked()) } else { Ok(()) })
    }

    /// How many messages of a queue wait for a consumer.
    pub(super) async fn waiting(&self, queue: &str) -> Result<u64> {
        // A channel of its own: the broker closes the one over which a queue is asked for that is not there.
        let channel = self.link.channel().await?;
        // Only looked at: it is asked often.
        let looked = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        match within(CONFIRM, channel.queue_declare(queue.into(), looked, FieldTable::default())).await {
            Ok(found) => Ok(u64::from(found.message_count())),
            Err(_) => {
                let channel = self.link.channel().await?;
                within(CONFIRM, self.topology.declare(&channel, queue))
                    .await
                    .map(|found| u64::from(found.message_count()))
            }
        }
    }

    async fn try_publish(&self, queue: &str, kind: &str, message: &Outgoing) -> Result<()> {
        // What is published now would wait in the library, once per try.
        if self.link.is_blocked().await {
            return Err(blocked());
        }
        let open = self.open().await?;
        self.declare(&open, queue).await?;
        let sending = open.outbox.send(queue, properties(kind, message), message.body.clone());
        match tokio::time::timeout(CONFIRM, sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) if self.link.is_blocked().await => Err(blocked()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(unanswered()),
        }
    }

    async fn open(&self) -> Result<Arc<Open>> {
        // Of all who find no connection one waits for it, before they queue here.
        self.link.check().await?;
        let mut held = self.open.lock().await;
        if let Some(open) = held.as_ref().filter(|open| open.channel.status().connected() && open.outbox.is_open()) {
            return Ok(open.clone());
        }
        let channel = self.link.channel().await?;
        within(CONFIRM, channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let outbox = Outbox::new(channel.clone());
        Ok(held.insert(Arc::new(Open { channel, outbox, declared: Mutex::default() })).clone())
    }

    /// Over a channel of its own: the broker closes the one over which a queue is declared that is there and of another kind.
    async fn declare(&self, open: &Open, queue: &str) -> Result<()> {
        let mut declared = open.declared.lock().await;
        if !declared.contains(queue) {
            let channel = self.link.channel().await?;
            within(CONFIRM, self.topology.declare(&channel, queue)).await?;
            declared.insert(queue.to_owned());
        }
        Ok(())
    }
}

fn blocked() -> PortError {
    count_trouble("rabbitmq");
    PortError::new(Trouble::Unavailable, "RabbitMQ takes no messages: it is short of memory or disk")
}

fn properties(kind: &str, message: &Outgoing) -> BasicProperties {
    let mut headers = FieldTable::default();
    if let Some(traceparent) = &message.traceparent {
        headers.insert("traceparent".into(), AMQPValue::LongString(traceparent.as_str().into()));
    }
    BasicProperties::default()
        .with_message_id(message.id.as_str().into())
        .with_type(kind.into())
        .with_content_type("application/vnd.outflow+msgpack".into())
        .with_delivery_mode(PERSISTENT)
        .with_headers(headers)
}
