//! Messages on their way to the broker over one channel, and its answer to each.
//!
//! The library hands a message that came back for want of a queue to whichever confirm it resolves next, which may be another
//! message's. So one task reads all confirms, and one return fails whatever is under way over the channel: the publisher declares
//! the queues again over a new one, and publishes again. What the broker has taken is there twice then, which every reader bears.

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Channel, Confirmation};
use outflow_model::port::{PortError, Result, Trouble};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::link::unavailable;

/// A message that leaves.
struct Leaving {
    queue: String,
    properties: BasicProperties,
    body: bytes::Bytes,
    answer: oneshot::Sender<Result<()>>,
}

/// The way out over one channel, in confirm mode.
pub(super) struct Outbox(mpsc::UnboundedSender<Leaving>);

impl Outbox {
    pub(super) fn new(channel: Channel) -> Self {
        let (outbox, leaving) = mpsc::unbounded_channel();
        tokio::spawn(send(channel, leaving));
        Self(outbox)
    }

    /// False once a message came back: another channel is needed.
    pub(super) fn is_open(&self) -> bool {
        !self.0.is_closed()
    }

    /// Publishes a message and waits until the broker has it. Whoever stops waiting does not take it back.
    pub(super) async fn send(&self, queue: &str, properties: BasicProperties, body: bytes::Bytes) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        let gone = || PortError::new(Trouble::Unavailable, "The channel to RabbitMQ is closed");
        self.0.send(Leaving { queue: queue.to_owned(), properties, body, answer }).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

/// Publishes what comes until a message comes back, or nothing more can come. After that nobody waits for an answer either, and on
/// a connection that was lost some never come.
async fn send(channel: Channel, mut leaving: mpsc::UnboundedReceiver<Leaving>) {
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            message = leaving.recv() => {
                let Some(message) = message else { return };
                under_way.push(publish(&channel, message));
            }
            Some(first) = under_way.next() => {
                // One that was resolved earlier may be read later: it waited, and this one had yet to be asked.
                let others = std::iter::from_fn(|| under_way.next().now_or_never().flatten());
                let confirmed: Vec<_> = std::iter::once(first).chain(others).collect();
                if confirmed.iter().any(|(confirmation, _)| has_return(confirmation)) {
                    warn!("RabbitMQ has lost a queue; what is under way is published again");
                    return;
                }
                for (confirmation, answer) in confirmed {
                    // A caller that has stopped waiting needs no answer.
                    _ = answer.send(confirmation.map_err(unavailable).and_then(|confirmation| taken(&confirmation)));
                }
            }
        }
    }
}

async fn publish(channel: &Channel, message: Leaving) -> (lapin::Result<Confirmation>, oneshot::Sender<Result<()>>) {
    let Leaving { queue, properties, body, answer } = message;
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let confirmation =
        async { channel.basic_publish("".into(), queue.into(), options, &body, properties).await?.await };
    (confirmation.await, answer)
}

const fn has_return(confirmation: &lapin::Result<Confirmation>) -> bool {
    matches!(confirmation, Ok(Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_))))
}

fn taken(confirmation: &Confirmation) -> Result<()> {
    let text = match confirmation {
        Confirmation::Ack(_) => return Ok(()),
        Confirmation::Nack(_) => "RabbitMQ has no room in the queue",
        Confirmation::NotRequested => "RabbitMQ does not confirm what is published",
    };
    Err(PortError::new(Trouble::Unavailable, text))
}
