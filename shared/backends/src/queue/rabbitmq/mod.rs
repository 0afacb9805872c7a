//! The queue between processes: quorum queues in RabbitMQ, two per lane, one for reports.

mod dead;
mod inbox;
mod link;
mod outbox;
mod publisher;
mod topology;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use outflow_model::id::Lane;
use outflow_model::port::Result;
use outflow_model::port::queue::{Consumer, Delivery, Outgoing, Queue, Take};
use tokio::sync::Notify;

pub use dead::RabbitDeadLetters;
use inbox::Inbox;
use link::Link;
pub(crate) use publisher::LARGEST;
use publisher::Publisher;
use topology::Topology;

/// Reports in a coordinator's hands at one time: two groups of those that are settled together.
const REPORTS: u16 = 128;
/// A chunk that the broker has not taken by then is left to the coordinator to publish again.
const PATIENCE: Duration = Duration::from_secs(30);

/// A broker that does not answer a question by then is away.
const ANSWER: Duration = Duration::from_secs(30);

/// Chunks and reports in RabbitMQ.
pub struct RabbitQueue {
    publisher: Publisher,
    /// Its own connection: on one that the broker blocks, no acknowledgement leaves either.
    link: Arc<Link>,
    topology: Topology,
}

/// A lane, or the reports, as this process consumes them.
struct Served {
    urgent: Option<Inbox>,
    normal: Inbox,
    arrived: Arc<Notify>,
}

impl Served {
    fn take(&self, take: Take) -> Option<Delivery> {
        let urgent = self.urgent.as_ref().and_then(Inbox::take);
        urgent.or_else(|| if take == Take::Any { self.normal.take() } else { None })
    }
}

impl RabbitQueue {
    /// The broker at `url` (`amqp://` or `amqps://`), in queues whose names begin with `prefix`, as the process `name`. It
    /// connects when it is first used, and again whenever a
    /// connection is lost.
    pub fn new(url: &str, prefix: &str, name: &str) -> Result<Self> {
        let topology = Topology::new(prefix);
        Ok(Self {
            publisher: Publisher::new(Link::new(url, &format!("{name} publishes"))?, topology.clone()),
            link: Arc::new(Link::new(url, &format!("{name} consumes"))?),
            topology,
        })
    }

    /// What the broker gave up.
    pub fn dead_letters(&self) -> RabbitDeadLetters {
        RabbitDeadLetters::new(self.link.clone(), self.topology.clone())
    }

    fn inbox(&self, queue: String, prefetch: u16, arrived: &Arc<Notify>) -> Inbox {
        Inbox::open(self.link.clone(), self.topology.clone(), queue, prefetch, arrived.clone())
    }
}

/// Waits until `take` has something; `arrived` is told whenever that may be.
async fn next<T>(arrived: &Notify, take: impl Fn() -> Option<T>) -> T {
    loop {
        // Registered before the look: what arrives in between is not missed.
        let mut told = std::pin::pin!(arrived.notified());
        told.as_mut().enable();
        if let Some(delivery) = take() {
            return delivery;
        }
        told.await;
    }
}

#[async_trait]
impl Queue for RabbitQueue {
    async fn publish(&self, lane: &Lane, urgent: bool, message: Outgoing) -> Result<()> {
        self.publisher.publish(&self.topology.lane(lane, urgent), "outflow.chunk.v1", &message, PATIENCE).await
    }

    fn consume(&self, lane: &Lane, most: u16) -> Arc<dyn Consumer> {
        let arrived = Arc::new(Notify::new());
        let open = |urgent| self.inbox(self.topology.lane(lane, urgent), most.max(1), &arrived);
        Arc::new(Served { urgent: Some(open(true)), normal: open(false), arrived: arrived.clone() })
    }

    async fn waiting(&self, lane: &Lane) -> Result<u64> {
        let queues = [self.topology.lane(lane, true), self.topology.lane(lane, false)];
        Ok(self.publisher.waiting(&queues[0]).await? + self.publisher.waiting(&queues[1]).await?)
    }

    /// What is blocked sends nothing, and delivers no more than what is on its way.
    async fn check(&self) -> Result<()> {
        self.publisher.check().await?;
        self.link.check().await
    }

    fn outlives_processes(&self) -> bool {
        true
    }

    /// What was delivered is known here alone: a broker that is away is waited for, however long.
    async fn report(&self, message: Outgoing) -> Result<()> {
        self.publisher.publish(&self.topology.reports(), "outflow.report.v1", &message, Duration::MAX).await
    }

    fn reports(&self) -> Arc<dyn Consumer> {
        let arrived = Arc::new(Notify::new());
        Arc::new(Served { urgent: None, normal: self.inbox(self.topology.reports(), REPORTS, &arrived), arrived })
    }
}

#[async_trait]
impl Consumer for Served {
    async fn next(&self, take: Take) -> Result<Delivery> {
        Ok(next(&self.arrived, || self.take(take)).await)
    }

    fn stop(&self) {
        self.urgent.iter().chain([&self.normal]).for_each(Inbox::stop);
    }
}
