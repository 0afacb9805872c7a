//! An announcement that a coordinator holds unread.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicNackOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use outflow_backends::RabbitQueue;
use outflow_model::id::Lane;
use outflow_model::port::ledger::Chunks;
use outflow_model::port::queue::Queue;
use outflow_model::run::RunState;
use outflow_model::wire::Next;
use outflow_simulators::{HubSpot, Options};
use outflow_testkit::services::signal;
use outflow_tests::{Cluster, Moment, Plan, Snare, block, until};

use super::plan;

/// What comes at all comes within this.
const LONG: Duration = Duration::from_mins(1);

/// Records that may not be sent twice: a worker has announced some, sent them, and died, and whoever holds the announcement is
/// busy with something else. Until it is heard nothing of the chunk goes out again.
pub(super) fn waited_for() -> Result<()> {
    block(async {
        let sync = "object: contacts\nmode: create\ndelivery: { chunk_rows: 300 }\nmapping: { email: email }\n";
        let plan = Plan { sync: sync.to_owned(), ..plan(300, "") };
        let mut cluster = Cluster::new(Snare::new(HubSpot::new(Options::default())), &plan).await?;
        cluster.start_worker()?;
        let dies = cluster.workers.first().context("a worker")?.pid();
        signal(dies, "STOP")?;
        cluster.start_coordinator()?;
        let run = cluster.request().await?;
        let queue = RabbitQueue::new(&cluster.rabbitmq.url, &cluster.prefix, "test")?;
        let lane = Lane("crm".to_owned());
        until("the chunk is published", async || Ok(queue.waiting(&lane).await? > 0)).await?;
        cluster.coordinators.clear();
        let connection = Connection::connect(&cluster.rabbitmq.url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.basic_qos(1, BasicQosOptions::default()).await?;
        let reports = format!("{}.reports", cluster.prefix);
        let consume = BasicConsumeOptions::default();
        let mut busy = channel.basic_consume(reports.into(), "busy".into(), consume, FieldTable::default()).await?;
        cluster.portal.set(1, "/batch/create", Moment::Applied, move || _ = signal(dies, "KILL"));
        signal(dies, "CONT")?;

        let announcement = tokio::time::timeout(LONG, busy.next()).await.context(cluster.logs())?;
        let announcement = announcement.context("an announcement")??;

        until("the worker has died", async || Ok(cluster.portal.has_struck())).await?;

        cluster.workers.clear();
        cluster.start_coordinator()?;
        cluster.start_worker()?;
        let lost = until("another worker tells that it is lost", async || {
            let chunks = cluster.ledger.chunks(&run).await?;
            Ok(chunks.iter().any(|chunk| matches!(chunk.ended, Some((1, Next::Lost)))))
        });
        lost.await.with_context(|| cluster.logs())?;
        // The coordinator looks every half second: what it would do it has done by then.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let chunks = cluster.ledger.chunks(&run).await?;
        ensure!(
            chunks.iter().all(|chunk| chunk.attempt == 1),
            "it was published again before the announcement was heard"
        );
        announcement.acker.nack(BasicNackOptions { requeue: true, ..BasicNackOptions::default() }).await?;
        channel.basic_cancel("busy".into(), lapin::options::BasicCancelOptions::default()).await?;
        let run = cluster.ended(&run).await?;
        let add = run.tally.add;
        ensure!((add.unknown, add.succeeded) == (100, 200), "{:?} {:?}", run.tally, run.state);
        ensure!(run.state == RunState::Partial && cluster.portal.inner.written() == 300, "{:?}", run.state);
        Ok(())
    })
}
