//! Names and declarations. Whoever needs a queue declares it: a broker that was wiped is as good as a new one.
//!
//! Arguments say what a queue is and never change; what an operator tunes (delivery limit, length) belongs in policies,
//! since declaring a queue again with other arguments closes the channel.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind, Queue};
use outflow_model::id::Lane;

/// The names of one installation's queues.
#[derive(Clone, Debug)]
pub(super) struct Topology {
    prefix: String,
}

impl Topology {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// The queue of a lane's urgent or normal chunks.
    pub(super) fn lane(&self, lane: &Lane, urgent: bool) -> String {
        format!("{}.work.{lane}.{}", self.prefix, if urgent { "urgent" } else { "normal" })
    }

    pub(super) fn reports(&self) -> String {
        format!("{}.reports", self.prefix)
    }

    fn dead(&self) -> String {
        format!("{}.dead", self.prefix)
    }

    /// Declares `queue`, and where its messages go when the broker gives them up; tells how many wait in it.
    pub(super) async fn declare(&self, channel: &Channel, queue: &str) -> lapin::Result<Queue> {
        let dead = self.dead();
        let exchange = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let none = FieldTable::default;
        channel.exchange_declare(dead.as_str().into(), ExchangeKind::Fanout, exchange, none()).await?;
        channel.queue_declare(dead.as_str().into(), QueueDeclareOptions::durable(), quorum()).await?;
        let bind = QueueBindOptions::default();
        channel.queue_bind(dead.as_str().into(), dead.as_str().into(), "".into(), bind, none()).await?;
        let mut arguments = quorum();
        if queue == self.reports() {
            // What was delivered is known there alone; it waits for the ledger however often that is away. (RabbitMQ before
            // 4.0 knows no limit.)
            arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(-1));
        }
        for (name, value) in [
            ("x-dead-letter-exchange", dead.as_str()),
            // A message is not gone from here before it is safe there; that needs a queue that refuses when it is full.
            ("x-dead-letter-strategy", "at-least-once"),
            ("x-overflow", "reject-publish"),
        ] {
            arguments.insert(name.into(), AMQPValue::LongString(value.into()));
        }
        channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await
    }
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments
}
