//! Cases of the queue.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use outflow_model::id::Lane;
use outflow_model::port::queue::Queue;

use crate::Case;

/// Every case.
pub const QUEUE: &[Case<dyn Queue>] = &[
    ("urgent_chunks_come_before_normal_ones", |queue| Box::pin(urgent(queue))),
    ("what_is_dropped_is_delivered_again", |queue| Box::pin(dropped(queue))),
    ("what_is_acknowledged_is_gone", |queue| Box::pin(acknowledged(queue))),
    ("lanes_do_not_mix", |queue| Box::pin(lanes(queue))),
    ("a_consumer_waits_for_the_next_chunk", |queue| Box::pin(waits(queue))),
    ("a_report_is_sent_once_it_is_settled", |queue| Box::pin(reports(queue))),
];

const SHORT: Duration = Duration::from_millis(50);

fn lane(name: &str) -> Lane {
    Lane(name.to_owned())
}

async fn urgent(queue: Arc<dyn Queue>) -> Result<()> {
    let lane = lane("a");
    queue.publish(&lane, false, Bytes::from_static(b"normal")).await?;
    queue.publish(&lane, true, Bytes::from_static(b"urgent")).await?;
    let first = queue.next_chunk(&lane).await?;
    ensure!(first.body == "urgent");
    ensure!(queue.next_chunk(&lane).await?.body == "normal");
    Ok(())
}

async fn dropped(queue: Arc<dyn Queue>) -> Result<()> {
    let lane = lane("a");
    queue.publish(&lane, false, Bytes::from_static(b"1")).await?;
    drop(queue.next_chunk(&lane).await?);
    let again = queue.next_chunk(&lane).await?;
    ensure!(again.body == "1" && again.redelivered == 1, "delivered {} times before", again.redelivered);
    Ok(())
}

async fn acknowledged(queue: Arc<dyn Queue>) -> Result<()> {
    let lane = lane("a");
    queue.publish(&lane, false, Bytes::from_static(b"1")).await?;
    queue.next_chunk(&lane).await?.ack().await?;
    ensure!(tokio::time::timeout(SHORT, queue.next_chunk(&lane)).await.is_err(), "it was delivered again");
    Ok(())
}

async fn lanes(queue: Arc<dyn Queue>) -> Result<()> {
    queue.publish(&lane("a"), false, Bytes::from_static(b"1")).await?;
    ensure!(tokio::time::timeout(SHORT, queue.next_chunk(&lane("b"))).await.is_err(), "it came on another lane");
    Ok(())
}

async fn waits(queue: Arc<dyn Queue>) -> Result<()> {
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.next_chunk(&lane("a")).await }
    });
    tokio::task::yield_now().await;
    queue.publish(&lane("a"), false, Bytes::from_static(b"1")).await?;
    ensure!(waiting.await??.body == "1");
    Ok(())
}

async fn reports(queue: Arc<dyn Queue>) -> Result<()> {
    let sent = tokio::spawn({
        let queue = queue.clone();
        async move { queue.report(Bytes::from_static(b"r")).await }
    });
    let report = queue.next_report().await?;
    ensure!(report.body == "r");
    report.ack().await?;
    sent.await??;
    Ok(())
}
