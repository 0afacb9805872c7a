//! The barest way to bring messages to workers and reports back: the client library alone, over the same broker.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};

use crate::measure::{Cost, so_far};

/// Messages in flight at a time.
const AT_ONCE: u16 = 128;
const PERSISTENT: u8 = 2;

/// A channel of a connection of its own.
async fn open(url: &str) -> Result<(Connection, Channel)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok((connection, channel))
}

async fn declare(channel: &Channel, queue: &str) -> Result<()> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await?;
    Ok(())
}

async fn publish(channel: &Channel, queue: &str, body: &[u8]) -> Result<()> {
    let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
    let sent = channel.basic_publish("".into(), queue.into(), BasicPublishOptions::default(), body, properties).await?;
    ensure!(matches!(sent.await?, Confirmation::Ack(_)), "The broker did not take a message");
    Ok(())
}

/// Takes each message, reports and acknowledges.
async fn work(channel: Channel, chunks: String, reports: String, report: Bytes) -> Result<()> {
    channel.basic_qos(AT_ONCE, BasicQosOptions::default()).await?;
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    let consumer = channel.basic_consume(chunks.as_str().into(), "".into(), options, none).await?;
    let one = |message: lapin::message::Delivery| {
        let (channel, reports, report) = (&channel, &reports, &report);
        async move {
            publish(channel, reports, report).await?;
            message.ack(BasicAckOptions::default()).await?;
            Ok(())
        }
    };
    consumer.map_err(anyhow::Error::from).try_for_each_concurrent(usize::from(AT_ONCE), one).await
}

/// Sends `count` messages, whose bodies are `chunks` in turns, to as many workers, and reads a report of each.
pub(crate) async fn round_trip(
    url: &str,
    name: &str,
    chunks: &[Bytes],
    count: usize,
    report: &Bytes,
    workers: usize,
) -> Result<Cost> {
    let (to, back) = (format!("{name}.bare.chunks"), format!("{name}.bare.reports"));
    let (_publishing, publisher) = open(url).await?;
    let (_reading, reader) = open(url).await?;
    declare(&publisher, &to).await?;
    declare(&publisher, &back).await?;
    let (mut connections, mut working) = (Vec::new(), tokio::task::JoinSet::new());
    for _ in 0..workers {
        let (connection, channel) = open(url).await?;
        connections.push(connection);
        working.spawn(work(channel, to.clone(), back.clone(), report.clone()));
    }
    reader.basic_qos(AT_ONCE, BasicQosOptions::default()).await?;
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut reports = reader.basic_consume(back.as_str().into(), "".into(), options, none).await?;
    let (began, (before, _)) = (Instant::now(), so_far()?);
    let sending = async {
        let mut leaving = FuturesUnordered::new();
        for body in chunks.iter().cycle().take(count) {
            leaving.push(publish(&publisher, &to, body));
            if leaving.len() >= usize::from(AT_ONCE) {
                leaving.next().await.transpose()?;
            }
        }
        leaving.try_collect::<()>().await
    };
    let reading = async {
        for _ in 0..count {
            reports.next().await.context("the reports end")??.ack(BasicAckOptions::default()).await?;
        }
        Ok(())
    };
    let both = async { tokio::try_join!(sending, reading) };
    tokio::select! {
        done = both => drop(done?),
        Some(ended) = working.join_next() => ended??,
    }
    let (after, peak_rss_mb) = so_far()?;
    let cost = Cost { seconds: began.elapsed().as_secs_f64(), cpu_seconds: after - before, peak_rss_mb };
    working.abort_all();
    for queue in [to, back] {
        publisher.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;
    }
    Ok(cost)
}

/// Waits until messages are in a queue, and takes the bodies of at most `most` of them; the queue is gone then.
pub(crate) async fn drain(url: &str, queue: &str, most: usize) -> Result<Vec<Bytes>> {
    let (connection, _) = open(url).await?;
    let looked = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let began = Instant::now();
    let channel = loop {
        // A channel ends with the look for a queue that is not there.
        let channel = connection.create_channel().await?;
        let found = channel.queue_declare(queue.into(), looked, FieldTable::default()).await;
        if found.is_ok_and(|found| found.message_count() as usize >= most) {
            break channel;
        }
        ensure!(began.elapsed().as_secs() < 300, "Nothing comes into {queue}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    let mut bodies = Vec::new();
    while bodies.len() < most
        && let Some(message) = channel.basic_get(queue.into(), BasicGetOptions::default()).await?
    {
        bodies.push(message.delivery.data.into());
    }
    channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await?;
    Ok(bodies)
}
