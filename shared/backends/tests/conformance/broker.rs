//! Cases of RabbitMQ alone: what it does to channels, queues and messages that no other queue does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};
use libtest_mimic::Trial;
use outflow_backends::{CLAIM_CHECK, RabbitQueue, checked, sealed};
use outflow_model::id::Lane;
use outflow_model::port::Trouble;
use outflow_model::port::queue::{Outgoing, Queue, Take};
use outflow_testkit::services::{RabbitMq, Service};

use crate::{fresh, keys, stores, trial};

/// What comes at all comes within this.
const LONG: Duration = Duration::from_secs(20);

pub(crate) fn trials() -> Vec<Trial> {
    let found = RabbitMq::is_found();
    let of = |name: &str| format!("queue::{name}");
    vec![
        trial(of("checked::rabbitmq::what_is_larger_than_the_broker_takes_arrives"), found, larger),
        trial(of("rabbitmq::a_message_that_is_too_large_is_refused"), found, too_large),
        trial(of("rabbitmq::what_comes_back_among_many_is_published_again"), found, returned),
        trial(of("rabbitmq::one_that_takes_no_messages_is_seen_to"), RabbitMq::is_installed(), blocked),
        trial(of("rabbitmq::a_queue_of_another_kind_holds_up_only_its_own_lane"), found, another_kind),
    ]
}

fn open(prefix: &str) -> Result<Arc<RabbitQueue>> {
    Ok(Arc::new(RabbitQueue::new(&RabbitMq::shared()?.url, prefix, "conformance")?))
}

/// A channel of the test's own. The connection lives as long as it is held.
async fn operator() -> Result<(Connection, Channel)> {
    let connection = Connection::connect(&RabbitMq::shared()?.url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

async fn larger() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let store = stores::directory(&folder).await?;
    let queue = sealed(checked(open(&fresh("queue"))?, Some(store.clone()), CLAIM_CHECK), keys()?);
    let lane = Lane("a".to_owned());
    let consumer = queue.consume(&lane, 2);
    for size in [CLAIM_CHECK - 100, CLAIM_CHECK, 40 * CLAIM_CHECK] {
        queue.publish(&lane, false, Outgoing::new("run_1/1#1", vec![9; size])).await?;
        let delivery = consumer.next(Take::Any).await?;
        ensure!(delivery.body == vec![9; size], "{} bytes of {size}", delivery.body.len());
        // What sealing adds counts.
        ensure!(store.list("messages").await?.len() == usize::from(size >= CLAIM_CHECK));
        delivery.ack().await?;
        ensure!(store.list("messages").await?.is_empty());
    }
    Ok(())
}

async fn too_large() -> Result<()> {
    let message = Outgoing::new("large", vec![0; 17 * 1024 * 1024]);
    let refused = open(&fresh("queue"))?.publish(&Lane("a".to_owned()), false, message).await.err();
    ensure!(refused.is_some_and(|error| error.trouble == Trouble::Corrupt && error.to_string().contains("17 MiB")));
    Ok(())
}

/// The queue of one lane is gone while many messages leave for two: what the publisher says is taken is there.
async fn returned() -> Result<()> {
    let (prefix, (_connection, operator)) = (fresh("queue"), operator().await?);
    let queue = open(&prefix)?;
    let (stays, goes) = (Lane("stays".to_owned()), Lane("goes".to_owned()));
    for round in 0..10 {
        for lane in [&stays, &goes] {
            queue.publish(lane, false, Outgoing::new("first", "first")).await?;
        }
        operator.queue_delete(format!("{prefix}.work.goes.normal").into(), QueueDeleteOptions::default()).await?;
        let ids: BTreeSet<String> = (0..200).map(|number| format!("{round}-{number}")).collect();
        let leave = ids.iter().flat_map(|id| [&stays, &goes].map(|lane| (lane, id)));
        try_join_all(leave.map(|(lane, id)| queue.publish(lane, false, Outgoing::new(id.as_str(), vec![1; 4096]))))
            .await?;
        for lane in [&stays, &goes] {
            let (consumer, mut missing) = (queue.consume(lane, 64), ids.clone());
            while !missing.is_empty() {
                let delivery = tokio::time::timeout(LONG, consumer.next(Take::Any)).await;
                let delivery = delivery.with_context(|| format!("{} of {lane} are lost", missing.len()))??;
                missing.remove(&delivery.id);
                delivery.ack().await?;
            }
        }
    }
    Ok(())
}

/// A broker that is short of memory takes nothing: who publishes is told so, not kept waiting, and goes on when it has room.
async fn blocked() -> Result<()> {
    let server = RabbitMq::start_own()?;
    let (queue, lane) =
        (Arc::new(RabbitQueue::new(&server.url, &fresh("queue"), "conformance")?), Lane("a".to_owned()));
    queue.publish(&lane, false, Outgoing::new("1", "1")).await?;
    queue.check().await?;
    server.control(&["set_vm_memory_high_watermark", "0"])?;
    // What is published now goes nowhere; with it the broker says that it takes nothing.
    let waits = tokio::spawn({
        let (queue, lane) = (queue.clone(), lane.clone());
        async move { queue.publish(&lane, false, Outgoing::new("2", "2")).await }
    });
    let told = async {
        loop {
            match queue.check().await {
                Ok(()) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(error) => return error,
            }
        }
    };
    let told = tokio::time::timeout(LONG, told).await.context("the broker is taken for one that takes messages")?;
    ensure!(told.to_string().contains("short of memory or disk"), "{told}");
    ensure!(!waits.is_finished());
    server.control(&["set_vm_memory_high_watermark", "0.4"])?;
    waits.await??;
    queue.check().await?;
    let consumer = queue.consume(&lane, 2);
    let mut ids = BTreeSet::new();
    while ids.len() < 2 {
        let delivery = tokio::time::timeout(LONG, consumer.next(Take::Any)).await.context("a message is lost")??;
        ids.insert(delivery.id.clone());
        delivery.ack().await?;
    }
    Ok(())
}

/// Declaring a queue that is there with other arguments makes the broker close the channel. Other lanes are served meanwhile,
/// and the lane itself as soon as the queue can be declared.
async fn another_kind() -> Result<()> {
    let (prefix, (_connection, operator)) = (fresh("queue"), operator().await?);
    let name = format!("{prefix}.work.taken.normal");
    operator.queue_declare(name.as_str().into(), QueueDeclareOptions::durable(), FieldTable::default()).await?;
    let queue = open(&prefix)?;
    let (taken, other) = (Lane("taken".to_owned()), Lane("other".to_owned()));
    let held_up = queue.consume(&taken, 1);
    let publishes = tokio::spawn({
        let (queue, lane) = (queue.clone(), taken.clone());
        async move { queue.publish(&lane, false, Outgoing::new("1", "1")).await }
    });
    for id in ["a", "b", "c"] {
        queue.publish(&other, false, Outgoing::new(id, id)).await?;
        let served = tokio::time::timeout(LONG, queue.consume(&other, 1).next(Take::Any)).await;
        served.context("the other lane is held up")??.ack().await?;
    }
    ensure!(!publishes.is_finished(), "a queue of another kind was taken for its own");
    operator.queue_delete(name.into(), QueueDeleteOptions::default()).await?;
    publishes.await??;
    let served = tokio::time::timeout(LONG, held_up.next(Take::Any)).await;
    ensure!(served.context("the lane is held up for good")??.body == "1");
    Ok(())
}
