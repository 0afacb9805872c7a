//! What befalls a run before it has sent anything.

use anyhow::{Context, Result, ensure};
use outflow_model::port::ledger::Runs;
use outflow_model::run::RunState;
use outflow_simulators::{HubSpot, Options};
use outflow_tests::{Cluster, Plan, block};

use super::plan;

/// The source takes longer than anybody waits here.
pub(super) fn cancelled() -> Result<()> {
    block(async {
        let slow =
            Plan { table: Some("(VALUES ('a@x.io', 'A')) AS people (email, name), pg_sleep(600)"), ..plan(0, "") };
        let mut cluster = Cluster::new(HubSpot::new(Options::default()), &slow).await?;
        cluster.start_coordinator()?;
        cluster.start_worker()?;
        let run = cluster.request().await?;
        cluster.reached(&run, RunState::Planning).await?;
        let asked = cluster.command(&["cancel", run.as_str(), "--detach"])?;
        ensure!(asked.status.success(), "{asked:?}");
        ensure!(cluster.ended(&run).await?.state == RunState::Cancelled);
        cluster.write(&plan(10, ""))?;
        std::fs::remove_file(cluster.path().join("models/people.sql"))?;
        let next = cluster.ended(&cluster.request().await?).await?;
        ensure!(next.state == RunState::Succeeded && cluster.portal.written() == 10, "{next:?}");
        Ok(())
    })
}

/// What was asked for is done where it belongs by now.
pub(super) fn led_elsewhere() -> Result<()> {
    block(async {
        let mut cluster = Cluster::new(HubSpot::new(Options::default()), &plan(100, "")).await?;
        let first = cluster.request().await?;
        for (file, before, now) in [
            ("outflow.yml", "\n  crm:\n", "\n  other:\n"),
            ("syncs/people.yml", "destination: crm", "destination: other"),
        ] {
            let path = cluster.path().join(file);
            let text = std::fs::read_to_string(&path)?;
            ensure!(text.contains(before), "{text}");
            std::fs::write(&path, text.replace(before, now))?;
        }
        cluster.start_coordinator()?;
        cluster.start_worker()?;
        let given_up = cluster.ended(&first).await?;
        let why = given_up.reason.clone().unwrap_or_default();
        ensure!(given_up.state == RunState::Cancelled && why.contains("another destination"), "{given_up:?}");
        let next = cluster.ledger.runs(Some("people"), 1).await?.pop().context("a run")?;
        let next = cluster.ended(&next.id).await?;
        ensure!(next.state == RunState::Succeeded && next.destination == "other", "{next:?}");
        ensure!(next.id != first && cluster.portal.written() == 100, "{next:?}");
        Ok(())
    })
}
