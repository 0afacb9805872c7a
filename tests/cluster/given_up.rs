//! Messages that the broker gives up, for they came back too often.

use anyhow::{Context, Result, ensure};
use outflow_backends::RabbitQueue;
use outflow_model::id::Lane;
use outflow_model::port::queue::{Queue, Take};
use outflow_model::run::RunState;
use outflow_simulators::{HubSpot, Options};
use outflow_testkit::services::signal;
use outflow_tests::{Cluster, Moment, Snare, block, until};

use super::plan;

/// A broker whose policy allows no second delivery: one message comes back from somebody who did nothing with it, others from a
/// worker that died over them. Coordinators have each chunk delivered anew, and keep the messages for people.
pub(super) fn delivered() -> Result<()> {
    block(async {
        let mut cluster = Cluster::new(Snare::new(HubSpot::new(Options::default())), &plan(400, "")).await?;
        let queues = format!("^{}\\.work\\.", cluster.prefix);
        let once = r#"{"delivery-limit":0}"#;
        cluster.rabbitmq.control(&["set_policy", &cluster.prefix, &queues, once, "--apply-to", "queues"])?;
        cluster.start_coordinator()?;
        let run = cluster.request().await?;
        let idle = RabbitQueue::new(&cluster.rabbitmq.url, &cluster.prefix, "idle")?;
        let consumer = idle.consume(&Lane("crm".to_owned()), 1);
        let first = consumer.next(Take::Any).await?;
        let id = first.id.clone();
        consumer.stop();
        drop(first);
        until("what came back is given up", async || Ok(kept(&cluster)?.contains(&id))).await?;

        cluster.start_worker()?;
        let dies = cluster.workers.first().context("a worker")?.pid();
        cluster.portal.set(2, "", Moment::Before, move || _ = signal(dies, "KILL"));
        until("the worker has died", async || Ok(cluster.portal.has_struck())).await?;
        cluster.workers.clear();
        cluster.start_worker()?;

        let ended = cluster.ended(&run).await.with_context(|| cluster.logs())?;
        let total = ended.tally.total();
        ensure!(ended.state == RunState::Succeeded && total.succeeded == 400, "{ended:?}");
        ensure!(cluster.portal.inner.records("contacts", "email").len() == 400);
        until("what the worker held is given up", async || {
            Ok(kept(&cluster)?.lines().filter(|line| line.contains("delivered too often")).count() > 1)
        })
        .await
    })
}

fn kept(cluster: &Cluster<Snare<HubSpot>>) -> Result<String> {
    Ok(String::from_utf8_lossy(&cluster.command(&["dead", "list"])?.stdout).into_owned())
}
