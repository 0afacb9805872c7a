//! Messages that no coordinator has written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use outflow_backends::RabbitQueue;
use outflow_model::cell::{Cell, Kind};
use outflow_model::change::Operation;
use outflow_model::column::Column;
use outflow_model::id::{AttemptId, Lane, RunId};
use outflow_model::limit::Limits;
use outflow_model::port::queue::{Outgoing, Queue};
use outflow_model::run::RunState;
use outflow_model::table::{Field, NullPolicy, Table};
use outflow_model::wire::{AccountV1, ChunkV1, VERSION, pack};
use outflow_simulators::{HubSpot, Options, start};
use outflow_tests::{Cluster, block, until};

use super::plan;

/// A chunk that sends the worker's token to an address of the forger's own.
fn forged(id: AttemptId, address: String) -> Result<ChunkV1> {
    let mut column = Column::new(Kind::Text);
    column.push(Cell::Text("a@x.io"));
    let field = Field { path: "email".to_owned(), null: NullPolicy::Send, sensitive: false, column };
    let table = Table { rows: 1, fields: vec![field], identity: 1, record_ids: None };
    Ok(ChunkV1 {
        version: VERSION,
        id,
        sync: "people".to_owned(),
        weight: 1,
        urgent: true,
        account: AccountV1 {
            name: "crm".to_owned(),
            kind: "hubspot".to_owned(),
            manifest: None,
            base_url: Some(address),
            settings: BTreeMap::from([("token".to_owned(), "${file:token}".to_owned())]),
            allow_private_addresses: true,
            allow_plain_http: true,
            proxy: None,
            ca: None,
            timeout_ms: 5_000,
            limits: Limits::default(),
        },
        object: "contacts".to_owned(),
        operation: Operation::Upsert,
        repeatable: true,
        wants_ids: false,
        bulk: false,
        rows: 1,
        only: None,
        tries: 0,
        waited: 0,
        max_wait: 60_000_000,
        parked: None,
        traceparent: None,
        payload: pack(&table)?,
    })
}

/// Whoever may publish to the broker has no worker send anything: what is not encrypted with the installation's keys is kept for
/// people, and the run beside it goes on.
pub(super) fn rejected() -> Result<()> {
    block(async {
        let portal = HubSpot::new(Options { latency: Duration::from_millis(50), ..Options::default() });
        let plan = plan(2_000, "");
        let mut cluster = Cluster::new(portal, &plan).await?;
        cluster.encrypt();
        cluster.write(&plan)?;
        cluster.start_coordinator()?;
        let run = cluster.request().await?;
        cluster.reached(&run, RunState::Delivering).await?;

        let thief = Arc::new(HubSpot::new(Options::default()));
        let listens = start(thief.clone(), 0).await?;
        let queue = RabbitQueue::new(&cluster.rabbitmq.url, &cluster.prefix, "forger")?;
        let lane = Lane("crm".to_owned());
        // One of a run that is nobody's, and one of the run under way, before anything of its chunk is delivered.
        for run in [RunId::new(1, 2), run.clone()] {
            let id = AttemptId { run, chunk: 0, attempt: 9 };
            let body = forged(id.clone(), listens.url())?.encode()?;
            queue.publish(&lane, true, Outgoing::new(id.to_string(), body)).await?;
        }
        cluster.start_worker()?;
        let ended = cluster.ended(&run).await.with_context(|| cluster.logs())?;
        ensure!(ended.state == RunState::Succeeded && cluster.portal.written() == 2_000, "{ended:?}");
        until("the forged messages are kept for people", async || {
            let kept = cluster.command(&["dead", "list"])?;
            Ok(String::from_utf8_lossy(&kept.stdout).lines().filter(|line| line.contains("#9")).count() == 2)
        })
        .await?;
        ensure!(thief.requests().0 == 0, "a worker sent something to the forger");
        Ok(())
    })
}
