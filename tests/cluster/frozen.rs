//! A worker that stands still.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use outflow_simulators::{HubSpot, Options};
use outflow_tests::{Cluster, Plan, block};

const MANIFEST: &str = include_str!("../../worker/destinations/src/hubspot/manifest.toml");
/// Records of a request, and requests that a worker has on their way at a time.
const RECORDS: usize = 10;
const CONCURRENCY: usize = 2;

/// What a worker had announced when it stood still may have been sent; the rest of its chunks has not been.
pub(super) fn knows_what_it_sent() -> Result<()> {
    block(async {
        let portal = HubSpot::new(Options { latency: Duration::from_millis(30), ..Options::default() });
        let sync = "object: contacts\nmode: append\ndelivery: { chunk_rows: 200 }\nmapping: { email: email, firstname: name }\n";
        let destination = format!(
            "    type: http\n    manifest: events.toml\n    settings: {{ token: \"${{file:token}}\" }}\n    concurrency: {CONCURRENCY}\n    limits: {{}}\n"
        );
        let plan = Plan { rows: 4_000, table: None, sync: sync.to_owned(), destination };
        let mut cluster = Cluster::new(portal, &plan).await?;
        let manifest =
            MANIFEST.replace("[operations.create]", "[operations.append]").replace("\"create\"", "\"append\"");
        let manifest = manifest.replace("records = 100", &format!("records = {RECORDS}"));
        std::fs::write(cluster.path().join("events.toml"), manifest)?;
        cluster.start_coordinator()?;
        cluster.start_worker()?;
        cluster.start_worker()?;
        let run = cluster.request().await?;
        cluster.under_way(&run, 3).await?;
        cluster.workers.first().context("a worker")?.signal("STOP")?;
        let run = cluster.ended(&run).await?;
        let output = cluster.command(&["--output", "json", "unknown", "people"])?;
        let unknown: Vec<String> = serde_json::from_slice(&output.stdout)?;
        let there = cluster.portal.records("contacts", "email");
        let never = unknown.iter().filter(|key| !there.contains_key(*key)).count();
        ensure!(
            never <= RECORDS * CONCURRENCY,
            "{never} of {} unknown records were never sent: {run:?}",
            unknown.len()
        );
        ensure!(run.tally.total().unknown == unknown.len() as u64, "{run:?}");
        let lost = (0..4_000).filter(|n| {
            let key = format!("p{n}@x.io");
            !there.contains_key(&key) && !unknown.contains(&key)
        });
        ensure!(lost.count() == 0 && cluster.portal.written() == there.len() as u64, "{run:?}");
        Ok(())
    })
}
