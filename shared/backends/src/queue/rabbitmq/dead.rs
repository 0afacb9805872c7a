//! What the broker gives up goes to one queue, where coordinators settle it, and from there to another, where people look.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use lapin::message::BasicGetMessage;
use lapin::options::{BasicAckOptions, BasicGetOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel};
use outflow_model::port::Result;
use outflow_model::port::dead_letters::{Dead, DeadLetters, Kept, Why};
use tokio::sync::Notify;

use super::inbox::{Inbox, delivery_of, id_of};
use super::link::{Link, within};
use super::topology::Topology;
use super::{ANSWER, next};

/// In one coordinator's hands at a time.
const PREFETCH: u16 = 16;

/// What the broker gave up of one installation.
pub struct RabbitDeadLetters {
    link: Arc<Link>,
    topology: Topology,
    inbox: OnceLock<Inbox>,
    arrived: Arc<Notify>,
}

impl RabbitDeadLetters {
    pub(super) fn new(link: Arc<Link>, topology: Topology) -> Self {
        Self { link, topology, inbox: OnceLock::new(), arrived: Arc::default() }
    }

    /// Consumed from the first call on.
    fn inbox(&self) -> &Inbox {
        self.inbox.get_or_init(|| {
            let (link, topology) = (self.link.clone(), self.topology.clone());
            Inbox::open(link, topology, self.topology.dead(), PREFETCH, self.arrived.clone())
        })
    }

    /// A channel that takes kept messages in hand; when it is closed they are back.
    async fn look(&self) -> Result<Channel> {
        let channel = self.link.channel().await?;
        within(ANSWER, self.topology.declare(&channel, &self.topology.dead())).await?;
        Ok(channel)
    }

    async fn get(&self, channel: &Channel) -> Result<Option<BasicGetMessage>> {
        within(ANSWER, channel.basic_get(self.topology.kept().as_str().into(), BasicGetOptions::default())).await
    }
}

#[async_trait]
impl DeadLetters for RabbitDeadLetters {
    async fn next(&self) -> Result<Dead> {
        let inbox = self.inbox();
        Ok(next(&self.arrived, || {
            let delivery = inbox.take_whole()?;
            let (queue, why, _) = death(&delivery.properties);
            let is_chunk = queue != self.topology.reports();
            Some(Dead { delivery: delivery_of(delivery), is_chunk, why })
        })
        .await)
    }

    async fn kept(&self, most: usize) -> Result<Vec<Kept>> {
        let channel = self.look().await?;
        let mut kept = Vec::new();
        while kept.len() < most {
            let Some(message) = self.get(&channel).await? else { break };
            let (queue, why, since) = death(&message.delivery.properties);
            let bytes = message.delivery.data.len() as u64;
            kept.push(Kept { id: id_of(&message.delivery.properties), queue, why, since, bytes });
        }
        within(ANSWER, channel.close(200, "looked".into())).await?;
        Ok(kept)
    }

    async fn discard(&self, id: Option<&str>) -> Result<u64> {
        let channel = self.look().await?;
        let mut discarded = 0;
        while let Some(message) = self.get(&channel).await? {
            if id.is_none_or(|id| id == id_of(&message.delivery.properties)) {
                within(ANSWER, message.delivery.acker.ack(BasicAckOptions::default())).await?;
                discarded += 1;
            }
        }
        within(ANSWER, channel.close(200, "discarded".into())).await?;
        Ok(discarded)
    }
}

/// The queue that a message was given up in first, why, and when, in seconds (<https://www.rabbitmq.com/docs/dlx#effects>).
fn death(properties: &BasicProperties) -> (String, Why, i64) {
    let headers = properties.headers().as_ref().map(FieldTable::inner);
    let text = |name: &str| match headers.and_then(|headers| headers.get(name)) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        _ => String::new(),
    };
    let why = match text("x-first-death-reason").as_str() {
        "rejected" => Why::PutAside,
        "delivery_limit" => Why::TooOften,
        _ => Why::Other,
    };
    let times = headers.and_then(|headers| match headers.get("x-death") {
        Some(AMQPValue::FieldArray(deaths)) => {
            let time = |death: &AMQPValue| match death {
                AMQPValue::FieldTable(death) => match death.inner().get("time") {
                    Some(AMQPValue::Timestamp(time)) => Some(*time as i64),
                    _ => None,
                },
                _ => None,
            };
            deaths.as_slice().iter().filter_map(time).min()
        }
        _ => None,
    });
    (text("x-first-death-queue"), why, times.unwrap_or(0))
}
