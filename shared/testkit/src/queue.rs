//! Cases of the queue.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use outflow_model::id::Lane;
use outflow_model::port::queue::{Outgoing, Queue, Take};

use crate::Case;

/// Every case.
pub const QUEUE: &[Case<dyn Queue>] = &[
    ("urgent_chunks_do_not_wait_behind_normal_ones", |queue| Box::pin(urgent(queue))),
    ("a_consumer_of_urgent_chunks_takes_no_others", |queue| Box::pin(urgent_only(queue))),
    ("what_is_dropped_is_delivered_again", |queue| Box::pin(dropped(queue))),
    ("what_is_acknowledged_is_gone", |queue| Box::pin(acknowledged(queue))),
    ("lanes_do_not_mix", |queue| Box::pin(lanes(queue))),
    ("what_waits_is_counted", |queue| Box::pin(counted(queue))),
    ("a_consumer_waits_for_the_next_chunk", |queue| Box::pin(waits(queue))),
    ("a_report_is_sent_once_it_is_settled", |queue| Box::pin(reports(queue))),
];

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
    let first = queue.next_chunk(&lane, Take::Urgent).await?;
    ensure!(first.body == "urgent");
    ensure!(queue.next_chunk(&lane, Take::Any).await?.body == "normal");
    Ok(())
}

async fn urgent_only(queue: Arc<dyn Queue>) -> Result<()> {
    let lane = lane("a");
    queue.publish(&lane, false, message("normal")).await?;
    ensure!(tokio::time::timeout(SHORT, queue.next_chunk(&lane, Take::Urgent)).await.is_err(), "it took a normal one");
    ensure!(queue.next_chunk(&lane, Take::Any).await?.body == "normal");
    Ok(())
}

async fn dropped(queue: Arc<dyn Queue>) -> Result<()> {
    let lane = lane("a");
    queue.publish(&lane, false, message("1")).await?;
    drop(queue.next_chunk(&lane, Take::Any).await?);
    let again = queue.next_chunk(&lane, Take::Any).await?;
    ensure!(again.body == "1" && again.redelivered == 1, "delivered {} times before", again.redelivered);
    Ok(())
}

async fn acknowledged(queue: Arc<dyn Queue>) -> Result<()> {
    let lane = lane("a");
    queue.publish(&lane, false, message("1")).await?;
    queue.next_chunk(&lane, Take::Any).await?.ack().await?;
    ensure!(tokio::time::timeout(SHORT, queue.next_chunk(&lane, Take::Any)).await.is_err(), "it was delivered again");
    Ok(())
}

async fn lanes(queue: Arc<dyn Queue>) -> Result<()> {
    queue.publish(&lane("a"), false, message("1")).await?;
    ensure!(
        tokio::time::timeout(SHORT, queue.next_chunk(&lane("b"), Take::Any)).await.is_err(),
        "it came on another lane"
    );
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
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.next_chunk(&lane("a"), Take::Any).await }
    });
    tokio::task::yield_now().await;
    queue.publish(&lane("a"), false, message("1")).await?;
    ensure!(waiting.await??.body == "1");
    Ok(())
}

async fn reports(queue: Arc<dyn Queue>) -> Result<()> {
    let sent = tokio::spawn({
        let queue = queue.clone();
        async move { queue.report(message("r")).await }
    });
    let report = queue.reports().next().await?;
    ensure!(report.body == "r");
    report.ack().await?;
    sent.await??;
    Ok(())
}
