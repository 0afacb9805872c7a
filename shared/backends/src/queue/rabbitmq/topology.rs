//! Names and declarations. Whoever needs a queue declares it: a broker that was wiped is as good as a new one.
//!
//! Arguments say what a queue is and never change; what an operator tunes (delivery limit, length) belongs in policies,
//! since declaring a queue again with other arguments closes the channel.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind, Queue};
use outflow_model::id::Lane;

/// RabbitMQ 4.0 and later take -1 for no limit; before, that gives up a message the first time it comes back.
const UNLIMITED: i32 = 1_000_000_000;
/// So many messages are kept for people; older ones go.
const KEPT: i32 = 10_000;

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

    /// The queue of what was given up, until that is settled.
    pub(super) fn dead(&self) -> String {
        format!("{}.dead", self.prefix)
    }

    /// The queue of what was given up and settled, for people.
    pub(super) fn kept(&self) -> String {
        format!("{}.kept", self.prefix)
    }

    /// Declares `queue`, and where its messages go when the broker gives them up; tells how many wait in it.
    pub(super) async fn declare(&self, channel: &Channel, queue: &str) -> lapin::Result<Queue> {
        let (dead, kept) = (self.dead(), self.kept());
        let mut last = quorum();
        last.insert("x-max-length".into(), AMQPValue::LongInt(KEPT));
        last.insert("x-delivery-limit".into(), AMQPValue::LongInt(UNLIMITED));
        channel.queue_declare(kept.as_str().into(), QueueDeclareOptions::durable(), last).await?;
        let exchange = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let none = FieldTable::default;
        channel.exchange_declare(dead.as_str().into(), ExchangeKind::Fanout, exchange, none()).await?;
        let mut arguments = leading_to("");
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(UNLIMITED));
        arguments.insert("x-dead-letter-routing-key".into(), AMQPValue::LongString(kept.as_str().into()));
        let declared = channel.queue_declare(dead.as_str().into(), QueueDeclareOptions::durable(), arguments).await?;
        let bind = QueueBindOptions::default();
        channel.queue_bind(dead.as_str().into(), dead.as_str().into(), "".into(), bind, none()).await?;
        if queue == dead {
            return Ok(declared);
        }
        let mut arguments = leading_to(&dead);
        if queue == self.reports() {
            // What was delivered is known there alone; it waits for the ledger however often that is away.
            arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(UNLIMITED));
        }
        channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await
    }
}

/// A queue whose messages go to an exchange when they are given up.
fn leading_to(exchange: &str) -> FieldTable {
    let mut arguments = quorum();
    for (name, value) in [
        ("x-dead-letter-exchange", exchange),
        // A message is not gone from here before it is safe there; that needs a queue that refuses when it is full.
        ("x-dead-letter-strategy", "at-least-once"),
        ("x-overflow", "reject-publish"),
    ] {
        arguments.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    arguments
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments
}
