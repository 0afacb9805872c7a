//! Cases of the queue.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use outflow_model::id::Lane;
use outflow_model::port::queue::{Outgoing, Queue, Take};

use crate::Case;

/// Every case.
pub const QUEUE: &[Case<dyn Queue>] = &[
    ("urgent_chunks_do_not_wait_behind_normal_ones", |queue| Box::pin(urgent(queue))),
    ("a_consumer_of_urgent_chunks_takes_no_others", |queue| Box::pin(urgent_only(queue))),
    ("what_is_dropped_is_delivered_again", |queue| Box::pin(dropped(queue))),
    ("what_is_acknowledged_is_gone", |queue| Box::pin(acknowledged(queue))),
    ("what_is_put_aside_is_not_delivered_again", |queue| Box::pin(put_aside(queue))),
    ("a_message_keeps_its_id_and_its_body", |queue| Box::pin(kept(queue))),
    ("lanes_do_not_mix", |queue| Box::pin(lanes(queue))),
    ("a_consumer_holds_no_more_than_it_may", |queue| Box::pin(most(queue))),
    ("what_waits_is_counted", |queue| Box::pin(counted(queue))),
    ("a_consumer_waits_for_the_next_chunk", |queue| Box::pin(waits(queue))),
    ("a_consumer_that_stops_gives_what_waits_to_others", |queue| Box::pin(stopped(queue))),
    ("a_report_comes_back_however_often_it_is_handed_back", |queue| Box::pin(returned(queue))),
    ("a_report_is_sent_once_it_is_settled", |queue| Box::pin(reports(queue))),
];

/// What arrives at all arrives within this.
const LONG: Duration = Duration::from_secs(20);
/// What does not arrive within this does not arrive.
const SHORT: Duration = Duration::from_millis(300);

fn lane(name: &str) -> Lane {
    Lane(name.to_owned())
}

fn message(body: &'static str) -> Outgoing {
    Outgoing::new(format!("message-{body}"), body)
}

async fn urgent(queue: Arc<dyn Queue>) -> Result<()> {
    let lane = lane("a");
    queue.publish(&lane, false, message("normal")).await?;
    queue.publish(&lane, true, message("urgent")).await?;
    let consumer = queue.consume(&lane, 4);
    let first = consumer.next(Take::Urgent).await?;
    ensure!(first.body == "urgent");
    ensure!(consumer.next(Take::Any).await?.body == "normal");
    Ok(())
}

async fn urgent_only(queue: Arc<dyn Queue>) -> Result<()> {
    let lane = lane("a");
    queue.publish(&lane, false, message("normal")).await?;
    let consumer = queue.consume(&lane, 4);
    ensure!(tokio::time::timeout(SHORT, consumer.next(Take::Urgent)).await.is_err(), "it took a normal one");
    ensure!(consumer.next(Take::Any).await?.body == "normal");
    Ok(())
}

async fn dropped(queue: Arc<dyn Queue>) -> Result<()> {
    let lane = lane("a");
    queue.publish(&lane, false, message("1")).await?;
    let consumer = queue.consume(&lane, 4);
    drop(consumer.next(Take::Any).await?);
    let again = consumer.next(Take::Any).await?;
    ensure!(again.body == "1" && again.redelivered == 1, "delivered {} times before", again.redelivered);
    Ok(())
}

async fn acknowledged(queue: Arc<dyn Queue>) -> Result<()> {
    let lane = lane("a");
    queue.publish(&lane, false, message("1")).await?;
    let consumer = queue.consume(&lane, 4);
    consumer.next(Take::Any).await?.ack().await?;
    ensure!(tokio::time::timeout(SHORT, consumer.next(Take::Any)).await.is_err(), "it was delivered again");
    Ok(())
}

async fn put_aside(queue: Arc<dyn Queue>) -> Result<()> {
    let lane = lane("a");
    queue.publish(&lane, false, message("1")).await?;
    let consumer = queue.consume(&lane, 4);
    consumer.next(Take::Any).await?.put_aside().await?;
    ensure!(tokio::time::timeout(SHORT, consumer.next(Take::Any)).await.is_err(), "it was delivered again");
    Ok(())
}

async fn kept(queue: Arc<dyn Queue>) -> Result<()> {
    let lane = lane("a");
    let bodies: [Vec<u8>; 4] = [Vec::new(), vec![0], vec![0xc1; 5], (0..=255).cycle().take(300_000).collect()];
    let consumer = queue.consume(&lane, 4);
    for (at, body) in bodies.into_iter().enumerate() {
        let id = format!("run_0000000000000000001/{at}#1");
        queue.publish(&lane, false, Outgoing::new(id.as_str(), body.clone())).await?;
        let arrived = consumer.next(Take::Any).await?;
        ensure!(arrived.id == id && arrived.body == body, "{} bytes under {}", arrived.body.len(), arrived.id);
        arrived.ack().await?;
        let sent = tokio::spawn({
            let (queue, message) = (queue.clone(), Outgoing::new(id.as_str(), body.clone()));
            async move { queue.report(message).await }
        });
        let report = queue.reports().next(Take::Any).await?;
        ensure!(report.id == id && report.body == body, "{} bytes under {}", report.body.len(), report.id);
        report.ack().await?;
        sent.await??;
    }
    Ok(())
}

async fn lanes(queue: Arc<dyn Queue>) -> Result<()> {
    queue.publish(&lane("a"), false, message("1")).await?;
    let other = queue.consume(&lane("b"), 4);
    ensure!(tokio::time::timeout(SHORT, other.next(Take::Any)).await.is_err(), "it came on another lane");
    Ok(())
}

/// Whoever may hold two leaves the rest to others, and gets the next one for each that it has settled.
async fn most(queue: Arc<dyn Queue>) -> Result<()> {
    let lane = lane("a");
    for body in ["1", "2", "3", "4", "5"] {
        queue.publish(&lane, false, message(body)).await?;
    }
    let holds = queue.consume(&lane, 2);
    let next = || tokio::time::timeout(LONG, holds.next(Take::Any));
    let (first, _second) = (next().await??, next().await??);
    ensure!(tokio::time::timeout(SHORT, holds.next(Take::Any)).await.is_err(), "it was given a third");
    first.ack().await?;
    let _third = next().await.context("nothing follows what was settled")??;
    let other = queue.consume(&lane, 2);
    for _ in 0..2 {
        tokio::time::timeout(LONG, other.next(Take::Any)).await.context("the rest is kept from others")??.ack().await?;
    }
    Ok(())
}

async fn counted(queue: Arc<dyn Queue>) -> Result<()> {
    let lane = lane("a");
    queue.publish(&lane, false, message("1")).await?;
    queue.publish(&lane, true, message("2")).await?;
    // A broker's count may lag behind its confirms.
    let both = async {
        while queue.waiting(&lane).await? != 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok::<_, anyhow::Error>(())
    };
    tokio::time::timeout(Duration::from_secs(10), both).await?
}

async fn waits(queue: Arc<dyn Queue>) -> Result<()> {
    let consumer = queue.consume(&lane("a"), 4);
    let waiting = tokio::spawn(async move { consumer.next(Take::Any).await });
    tokio::task::yield_now().await;
    queue.publish(&lane("a"), false, message("1")).await?;
    ensure!(waiting.await??.body == "1");
    Ok(())
}

/// A consumer that stops keeps what was taken from it, and gives the rest to others.
async fn stopped(queue: Arc<dyn Queue>) -> Result<()> {
    let lane = lane("a");
    for body in ["1", "2", "3"] {
        queue.publish(&lane, false, message(body)).await?;
    }
    let stops = queue.consume(&lane, 4);
    let taken = stops.next(Take::Any).await?;
    stops.stop();
    let stays = queue.consume(&lane, 4);
    let mut seen = std::collections::BTreeSet::from([taken.body.clone()]);
    while seen.len() < 3 {
        let other = tokio::time::timeout(LONG, stays.next(Take::Any)).await.context("the others do not come")??;
        seen.insert(other.body.clone());
        other.ack().await?;
    }
    taken.ack().await?;
    drop(stops);
    ensure!(tokio::time::timeout(SHORT, stays.next(Take::Any)).await.is_err(), "what was acknowledged came again");
    Ok(())
}

async fn returned(queue: Arc<dyn Queue>) -> Result<()> {
    let sending = tokio::spawn({
        let queue = queue.clone();
        async move { queue.report(message("r")).await }
    });
    let reports = queue.reports();
    for _ in 0..30 {
        let delivery = tokio::time::timeout(LONG, reports.next(Take::Any)).await.context("the report is lost")??;
        ensure!(delivery.body == "r");
    }
    tokio::time::timeout(LONG, reports.next(Take::Any)).await.context("the report is lost")??.ack().await?;
    sending.await??;
    Ok(())
}

async fn reports(queue: Arc<dyn Queue>) -> Result<()> {
    let sent = tokio::spawn({
        let queue = queue.clone();
        async move { queue.report(message("r")).await }
    });
    let report = queue.reports().next(Take::Any).await?;
    ensure!(report.body == "r");
    report.ack().await?;
    sent.await??;
    Ok(())
}
