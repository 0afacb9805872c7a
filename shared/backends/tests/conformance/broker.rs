//! Cases of RabbitMQ alone: what it does to channels, queues and messages that no other queue does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use lapin::options::{BasicGetOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties};
use libtest_mimic::Trial;
use outflow_backends::{Codec, OFFLOAD, RabbitQueue};
use outflow_model::id::Lane;
use outflow_model::port::Trouble;
use outflow_model::port::dead_letters::{Dead, DeadLetters, Kept, Why};
use outflow_model::port::queue::{Outgoing, Queue, Take};
use outflow_testkit::services::{RabbitMq, Service};

use crate::{fresh, keys, stores, trial};

/// What comes at all comes within this.
pub(crate) const LONG: Duration = Duration::from_secs(20);

pub(crate) fn trials() -> Vec<Trial> {
    let found = RabbitMq::is_found();
    let of = |name: &str| format!("queue::{name}");
    vec![
        trial(of("checked::rabbitmq::what_is_larger_than_the_broker_takes_arrives"), found, larger),
        trial(of("rabbitmq::a_message_that_is_too_large_is_refused"), found, too_large),
        trial(of("rabbitmq::what_comes_back_among_many_is_published_again"), found, returned),
        trial(of("rabbitmq::what_is_put_aside_is_settled_and_then_kept_for_people"), found, put_aside),
        trial(
            of("rabbitmq::what_is_delivered_as_often_as_its_policy_allows_is_given_up"),
            RabbitMq::is_installed(),
            too_often,
        ),
        trial(of("rabbitmq::who_leaves_before_the_broker_has_answered_is_given_nothing"), found, left_early),
        trial(of("rabbitmq::what_is_held_longer_than_it_allows_comes_again"), RabbitMq::is_installed(), held_too_long),
        trial(of("rabbitmq::one_that_takes_no_messages_is_seen_to"), RabbitMq::is_installed(), blocked),
        trial(of("rabbitmq::a_trace_goes_on_over_its_headers"), found, traced),
        trial(of("rabbitmq::a_queue_of_another_kind_holds_up_only_its_own_lane"), found, another_kind),
    ]
}

fn open(prefix: &str) -> Result<Arc<RabbitQueue>> {
    Ok(Arc::new(RabbitQueue::new(&RabbitMq::shared()?.url, prefix, "conformance")?))
}

/// A channel of the test's own. The connection lives as long as it is held.
async fn operator() -> Result<(Connection, Channel)> {
    operator_of(&RabbitMq::shared()?.url).await
}

async fn operator_of(url: &str) -> Result<(Connection, Channel)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

async fn larger() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let store = stores::directory(&folder).await?;
    let queue = Codec::new(keys()?, Some(store.clone())).over(open(&fresh("queue"))?);
    let lane = Lane("a".to_owned());
    let consumer = queue.consume(&lane, 2);
    for size in [OFFLOAD - 100, OFFLOAD, 40 * OFFLOAD] {
        queue.publish(&lane, false, Outgoing::new("run_1/1#1", vec![9; size])).await?;
        let delivery = consumer.next(Take::Any).await?;
        ensure!(delivery.body == vec![9; size], "{} bytes of {size}", delivery.body.len());
        // What sealing adds counts.
        ensure!(store.list("messages").await?.len() == usize::from(size >= OFFLOAD));
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

/// A broker that is short of memory takes nothing: who publishes is told so, not kept waiting, and goes on when it has room. What
/// was taken before is acknowledged meanwhile.
async fn blocked() -> Result<()> {
    let server = RabbitMq::start_own()?;
    let (prefix, (_connection, operator)) = (fresh("queue"), operator_of(&server.url).await?);
    let (queue, lane) = (Arc::new(RabbitQueue::new(&server.url, &prefix, "conformance")?), Lane("a".to_owned()));
    let consumer = queue.consume(&lane, 1);
    queue.publish(&lane, false, Outgoing::new("0", "0")).await?;
    let held = tokio::time::timeout(LONG, consumer.next(Take::Any)).await.context("the first message is lost")??;
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
    held.ack().await?;
    // No more than one is given at a time.
    let next = tokio::time::timeout(LONG, consumer.next(Take::Any)).await.context("it hears of nothing")??;
    ensure!(next.id == "1", "{} came after it was acknowledged", next.id);
    drop((next, consumer));
    left_with(&operator, &format!("{prefix}.work.a.normal"), 1).await?;
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
    ensure!(ids.iter().eq(["1", "2"]), "{ids:?} came");
    Ok(())
}

/// Waits until a queue has so many messages that nobody was given, and no consumer.
async fn left_with(operator: &Channel, name: &str, messages: u32) -> Result<()> {
    let looked = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let left = async {
        loop {
            let found = operator.queue_declare(name.into(), looked, FieldTable::default()).await?;
            if (found.consumer_count(), found.message_count()) == (0, messages) {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let context = || format!("{name} has consumers that nobody has, or not {messages} message(s)");
    tokio::time::timeout(LONG, left).await.with_context(context)?
}

/// Whoever reads the header finds the trace there, under the name that the standard has for it.
async fn traced() -> Result<()> {
    let (prefix, (_connection, operator)) = (fresh("queue"), operator().await?);
    let (queue, lane) = (open(&prefix)?, Lane("a".to_owned()));
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (id, told) in [("traced", Some(traceparent)), ("untraced", None)] {
        let message = Outgoing { traceparent: told.map(str::to_owned), ..Outgoing::new(id, "body") };
        queue.publish(&lane, false, message).await?;
        let name = format!("{prefix}.work.a.normal");
        let got =
            operator.basic_get(name.into(), BasicGetOptions { no_ack: true }).await?.context("nothing is there")?;
        let headers = got.delivery.properties.headers().as_ref().map(FieldTable::inner);
        let found = headers.and_then(|headers| headers.get("traceparent")).cloned();
        ensure!(found == told.map(|told| AMQPValue::LongString(told.into())), "{id}: {found:?}");
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

/// What the broker gave to a consumer that nobody has would be kept from all others for as long as the connection lives.
async fn left_early() -> Result<()> {
    let (prefix, (_connection, operator)) = (fresh("queue"), operator().await?);
    let queue = open(&prefix)?;
    queue.waiting(&Lane("a".to_owned())).await?;
    drop(queue.reports());
    for step in 0..400 {
        let consumers = (queue.reports(), queue.consume(&Lane("a".to_owned()), 1));
        tokio::time::sleep(Duration::from_micros(step % 100 * 100)).await;
        drop(consumers);
    }
    for name in ["reports", "work.a.urgent", "work.a.normal"] {
        left_with(&operator, &format!("{prefix}.{name}"), 0).await?;
    }
    Ok(())
}

/// Who holds a message for longer than the broker allows loses the channel: what was held comes again over the next one, and what
/// becomes of it the first time tells nothing.
async fn held_too_long() -> Result<()> {
    let server = RabbitMq::start_own()?;
    let soon =
        "application:set_env(rabbit, consumer_timeout, 1000), application:set_env(rabbit, channel_tick_interval, 200).";
    server.control(&["eval", soon])?;
    let (queue, lane) = (RabbitQueue::new(&server.url, &fresh("queue"), "conformance")?, Lane("a".to_owned()));
    queue.publish(&lane, false, Outgoing::new("1", "1")).await?;
    let consumer = queue.consume(&lane, 1);
    let held = consumer.next(Take::Any).await?;
    let again =
        tokio::time::timeout(LONG, consumer.next(Take::Any)).await.context("the lane is held up for good")??;
    ensure!(
        (again.id.as_str(), again.redelivered) == ("1", 1),
        "{} came, {} times before",
        again.id,
        again.redelivered
    );
    held.ack().await?;
    again.ack().await?;
    queue.publish(&lane, false, Outgoing::new("2", "2")).await?;
    let next =
        tokio::time::timeout(LONG, consumer.next(Take::Any)).await.context("the next message does not come")??;
    ensure!((next.id.as_str(), next.redelivered) == ("2", 0), "{} came, {} times before", next.id, next.redelivered);
    Ok(next.ack().await?)
}

/// The next message that was given up.
async fn dead(letters: &dyn DeadLetters) -> Result<Dead> {
    Ok(tokio::time::timeout(LONG, letters.next()).await.context("nothing was given up")??)
}

/// What is kept, once it is so many.
async fn kept(letters: &dyn DeadLetters, count: usize) -> Result<Vec<Kept>> {
    let kept = async {
        loop {
            let kept = letters.kept(100).await?;
            if kept.len() == count {
                return Ok(kept);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, kept).await.with_context(|| format!("not {count} are kept"))?
}

async fn put_aside() -> Result<()> {
    let (queue, lane) = (open(&fresh("queue"))?, Lane("a".to_owned()));
    let letters = queue.dead_letters();
    let consumer = queue.consume(&lane, 4);
    for id in ["run_1/1#1", "run_1/2#1"] {
        queue.publish(&lane, false, Outgoing::new(id, "body")).await?;
        consumer.next(Take::Any).await?.put_aside().await?;
    }
    queue.report(Outgoing::new("run_1/3#1", "report")).await?;
    queue.reports().next(Take::Any).await?.put_aside().await?;
    let mut found = Vec::new();
    while found.len() < 3 {
        let first = dead(&letters).await?;
        let id = first.delivery.id.clone();
        // Whoever dies over it leaves it to others.
        drop(first);
        let again = dead(&letters).await?;
        ensure!(again.why == Why::PutAside, "{id} is dead of {:?}", again.why);
        found.push((again.delivery.id.clone(), again.is_chunk));
        again.delivery.put_aside().await?;
    }
    found.sort();
    let all = [("run_1/1#1", true), ("run_1/2#1", true), ("run_1/3#1", false)];
    ensure!(found.iter().map(|(id, is_chunk)| (id.as_str(), *is_chunk)).eq(all), "{found:?}");
    let listed = kept(&letters, 3).await?;
    ensure!(listed.iter().all(|kept| kept.why == Why::PutAside && kept.since > 1_704_067_200), "{listed:?}");
    ensure!(letters.discard(Some("run_1/9#1")).await? == 0 && letters.discard(Some("run_1/2#1")).await? == 1);
    ensure!(kept(&letters, 2).await?.iter().all(|kept| kept.id != "run_1/2#1"));
    ensure!(letters.discard(None).await? == 2 && kept(&letters, 0).await?.is_empty());
    Ok(())
}

async fn too_often() -> Result<()> {
    let server = RabbitMq::start_own()?;
    let (prefix, lane) = (fresh("queue"), Lane("a".to_owned()));
    let limit = ["set_policy", "limit", r"\.work\.", r#"{"delivery-limit":2}"#, "--apply-to", "queues"];
    server.control(&limit)?;
    let queue = RabbitQueue::new(&server.url, &prefix, "conformance")?;
    queue.publish(&lane, false, Outgoing::new("run_1/1#1", "body")).await?;
    let consumer = queue.consume(&lane, 4);
    for before in 0..=2 {
        let delivery =
            tokio::time::timeout(LONG, consumer.next(Take::Any)).await.context("it was given up before")??;
        ensure!(delivery.redelivered == before, "it came for the {}th time, not the {before}th", delivery.redelivered);
    }
    let given_up = dead(&queue.dead_letters()).await?;
    ensure!(
        given_up.why == Why::TooOften && given_up.is_chunk && given_up.delivery.id == "run_1/1#1",
        "{:?}",
        given_up.why
    );
    Ok(given_up.delivery.ack().await?)
}
