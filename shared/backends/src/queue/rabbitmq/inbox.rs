//! Consuming a queue: the broker pushes as many messages as may be unacknowledged, and the inbox holds them until somebody
//! takes them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Acker, BasicProperties, Channel, Consumer};
use outflow_model::port::Result;
use outflow_model::port::queue::{Delivery, Receipt};
use outflow_model::text::with_causes;
use tokio::sync::{Notify, watch};
use tracing::{debug, info, warn};

use super::link::{Link, within};
use super::topology::Topology;

/// How long after a failure the queue is consumed anew; doubles up to the last.
const AGAIN: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];

/// A broker that has not begun to deliver by then is asked anew.
const SUBSCRIBE: Duration = Duration::from_secs(30);
/// What becomes of a message is told within this, or not.
const TELL: Duration = Duration::from_secs(5);

/// Messages of one queue that this process may take, as long as this lives.
pub(super) struct Inbox {
    waiting: Arc<Waiting>,
    stopped: watch::Sender<bool>,
}

/// Messages that wait to be taken.
#[derive(Default)]
struct Waiting(Mutex<VecDeque<lapin::message::Delivery>>);

impl Waiting {
    fn messages(&self) -> MutexGuard<'_, VecDeque<lapin::message::Delivery>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inbox {
    /// Begins to consume `queue`, with at most `prefetch` messages unacknowledged; tells `arrived` of each.
    pub(super) fn open(
        link: Arc<Link>,
        topology: Topology,
        queue: String,
        prefetch: u16,
        arrived: Arc<Notify>,
    ) -> Self {
        let (waiting, (stopped, stop)) = (Arc::<Waiting>::default(), watch::channel(false));
        let supply = Supply { link, topology, queue, prefetch, waiting: waiting.clone(), arrived };
        // Never cut short, which would leave a consumer half made: it ends by itself once nobody has the inbox any more.
        tokio::spawn(supply.run(stop));
        Self { waiting, stopped }
    }

    /// Takes no more from the broker, and gives what waits here back to it.
    pub(super) fn stop(&self) {
        self.stopped.send_replace(true);
    }

    /// The next message, if one is here.
    pub(super) fn take(&self) -> Option<Delivery> {
        self.take_whole().map(delivery_of)
    }

    /// The next message as the broker gave it.
    pub(super) fn take_whole(&self) -> Option<lapin::message::Delivery> {
        let mut waiting = self.waiting.messages();
        std::iter::from_fn(|| waiting.pop_front()).find(|delivery| delivery.acker.usable())
    }
}

/// What fills an inbox.
struct Supply {
    link: Arc<Link>,
    topology: Topology,
    queue: String,
    prefetch: u16,
    waiting: Arc<Waiting>,
    arrived: Arc<Notify>,
}

impl Supply {
    /// Consumes the queue, anew whenever that ends, until the inbox is gone.
    async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut pause = AGAIN[0];
        loop {
            if *stop.borrow() {
                // Where nothing may be taken there is nothing to ask for.
                return gone(&mut stop).await;
            }
            match self.consume().await {
                Ok((channel, consumer)) => {
                    pause = AGAIN[0];
                    if self.fill(&channel, consumer, &mut stop).await {
                        return;
                    }
                    info!(queue = self.queue, "The broker has ended the delivery of messages; it is asked for anew");
                }
                Err(error) => {
                    warn!(
                        queue = self.queue,
                        error = with_causes(&error),
                        "Messages cannot be consumed; it is tried again"
                    );
                }
            }
            // What is held here can no longer be acknowledged: the broker delivers it again.
            self.waiting.messages().clear();
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(AGAIN[1]),
                () = gone(&mut stop) => return,
            }
        }
    }

    /// Takes what comes until it is told to stop, and waits until the inbox is gone: true. False when nothing comes any more: the
    /// channel is lost, the queue deleted or the consumer cancelled. Each is answered alike, for some of them the library never
    /// comes back from.
    async fn fill(&self, channel: &Channel, mut consumer: Consumer, stop: &mut watch::Receiver<bool>) -> bool {
        loop {
            let delivery = tokio::select! {
                delivery = consumer.next() => delivery,
                () = async { _ = stop.wait_for(|stop| *stop).await } => {
                    // What was taken is acknowledged over this channel.
                    self.hand_over(channel, consumer, stop).await;
                    return true;
                }
            };
            let Some(Ok(delivery)) = delivery else { return false };
            self.waiting.messages().push_back(delivery);
            self.arrived.notify_waiters();
        }
    }

    /// The channel is the consumer's own, and lives as long as it.
    async fn consume(&self) -> Result<(Channel, Consumer)> {
        let channel = self.link.channel().await?;
        let work = async {
            self.topology.declare(&channel, &self.queue).await?;
            channel.basic_qos(self.prefetch, BasicQosOptions::default()).await?;
            let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
            channel.basic_consume(self.queue.as_str().into(), "".into(), options, none).await
        };
        // A connection that is lost at the wrong moment leaves calls without an answer.
        match within(SUBSCRIBE, work).await {
            Ok(consumer) => Ok((channel, consumer)),
            Err(error) => {
                give_up(&channel).await;
                Err(error)
            }
        }
    }

    /// Ends a consumer: what it was given and nobody has taken goes back to the queue, as does what is still on its way, until the
    /// inbox is gone.
    async fn hand_over(&self, channel: &Channel, mut consumer: Consumer, stop: &mut watch::Receiver<bool>) {
        let told = within(TELL, channel.basic_cancel(consumer.tag(), BasicCancelOptions::default())).await;
        for delivery in std::mem::take(&mut *self.waiting.messages()) {
            Box::new(Held(delivery.acker)).hand_back();
        }
        while let Some(Ok(delivery)) = tokio::select! {
            next = consumer.next() => next,
            () = gone(stop) => None,
        } {
            Box::new(Held(delivery.acker)).hand_back();
        }
        gone(stop).await;
        if let Err(error) = told {
            debug!(%error, "A consumer could not be cancelled");
            give_up(channel).await;
        }
    }
}

/// Closes a channel over which the broker may deliver to nobody. The library closes what is dropped, but not where an answer about a
/// consumer is yet to come.
async fn give_up(channel: &Channel) {
    if channel.status().connected() {
        _ = within(TELL, channel.close(200, "given up".into())).await;
    }
}

/// Waits until nobody has the inbox any more.
async fn gone(stop: &mut watch::Receiver<bool>) {
    while stop.changed().await.is_ok() {}
}

/// Quorum queues count; where they have not begun to, a flag tells at least of one.
fn delivered_before(delivery: &lapin::message::Delivery) -> u32 {
    let headers = delivery.properties.headers().as_ref().map(FieldTable::inner);
    let counted = headers.and_then(|headers| headers.get("x-delivery-count")).and_then(|count| match count {
        AMQPValue::LongLongInt(count) => u32::try_from(*count).ok(),
        AMQPValue::LongInt(count) => u32::try_from(*count).ok(),
        AMQPValue::ShortInt(count) => u32::try_from(*count).ok(),
        AMQPValue::ShortShortInt(count) => u32::try_from(*count).ok(),
        AMQPValue::LongUInt(count) => Some(*count),
        AMQPValue::ShortUInt(count) => Some(u32::from(*count)),
        AMQPValue::ShortShortUInt(count) => Some(u32::from(*count)),
        _ => None,
    });
    counted.unwrap_or(0).max(u32::from(delivery.redelivered))
}

/// Which message it is.
pub(super) fn id_of(properties: &BasicProperties) -> String {
    properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default()
}

/// What a consumer is given of the broker's delivery.
pub(super) fn delivery_of(delivery: lapin::message::Delivery) -> Delivery {
    let (id, before) = (id_of(&delivery.properties), delivered_before(&delivery));
    Delivery::new(id, delivery.data.into(), before, Box::new(Held(delivery.acker)))
}

/// Waits until the broker is told what becomes of a message. Untold means delivered again, which every reader of a queue has to
/// bear anyway; a connection that is lost at the wrong moment leaves the call without an end.
async fn settled(telling: impl Future<Output = lapin::Result<bool>>) {
    match tokio::time::timeout(TELL, telling).await {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => debug!("A message was taken back by the broker before it was settled"),
        Ok(Err(error)) => debug!(%error, "A message could not be settled"),
        Err(_) => debug!("RabbitMQ does not take what becomes of a message; it delivers it again"),
    }
}

struct Held(Acker);

#[async_trait]
impl Receipt for Held {
    async fn ack(self: Box<Self>) -> Result<()> {
        settled(self.0.ack(BasicAckOptions::default())).await;
        Ok(())
    }

    fn hand_back(self: Box<Self>) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                settled(self.0.nack(BasicNackOptions { requeue: true, ..BasicNackOptions::default() })).await;
            });
        }
    }

    async fn put_aside(self: Box<Self>) -> Result<()> {
        settled(self.0.nack(BasicNackOptions { requeue: false, ..BasicNackOptions::default() })).await;
        Ok(())
    }
}
