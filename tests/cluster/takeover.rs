//! Another coordinator takes over as soon as it does where nobody says how soon.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use outflow_coordinator::lease_of;
use outflow_model::port::ledger::Runs;
use outflow_model::run::RunState;
use outflow_simulators::{HubSpot, Options};
use outflow_tests::{Cluster, Process, block, program, until};
use sqlx::{Connection, PgConnection};

use super::plan;

/// The default lease, and what it takes to notice that it has lapsed.
const SOON: Duration = Duration::from_secs(20);

/// A coordinator as it is started without a word about its lease.
fn coordinator(cluster: &Cluster<HubSpot>, name: &str) -> Result<Process> {
    let mut command = Command::new(program()?);
    command.arg("-C").arg(cluster.path()).args(["--log", "info", "coordinator"]);
    Process::start(&mut command, cluster.path().join(format!("{name}.log")))
}

/// How often the sync's lease has changed hands.
async fn epoch(ledger: &mut PgConnection) -> Result<i64> {
    let asked = sqlx::query_scalar("SELECT epoch FROM leases WHERE name = $1").bind(lease_of("people"));
    Ok(asked.fetch_one(ledger).await?)
}

/// Whoever stops in order gives the schedules back before it ends.
pub(super) fn schedules() -> Result<()> {
    block(async {
        let mut cluster =
            Cluster::new(HubSpot::new(Options::default()), &plan(100, "schedule: { every: 1s }\n")).await?;
        cluster.start_coordinator()?;
        cluster.start_worker()?;
        let mut ledger = PgConnection::connect(&cluster.database).await?;
        let mut keeper = cluster.coordinators.pop().context("a coordinator")?;
        until("the schedules are kept", async || Ok(!cluster.ledger.runs(Some("people"), 1).await?.is_empty())).await?;
        keeper.signal("TERM")?;
        until("the coordinator has ended", async || Ok(keeper.ended()?.is_some())).await?;
        let asked = sqlx::query_scalar("SELECT until <= clock_timestamp() FROM leases WHERE name = 'schedules'");
        let is_free: bool = asked.fetch_one(&mut ledger).await?;
        ensure!(is_free, "the lease of a coordinator that has ended is held");
        Ok(())
    })
}

pub(super) fn soon() -> Result<()> {
    block(async {
        let portal = HubSpot::new(Options { latency: Duration::from_millis(200), ..Options::default() });
        let mut cluster = Cluster::new(portal, &plan(6_000, "")).await?;
        let mut dies = coordinator(&cluster, "first")?;
        cluster.start_worker()?;
        let run = cluster.request().await?;
        cluster.under_way(&run, 2).await?;
        let mut ledger = PgConnection::connect(&cluster.database).await?;
        let before = epoch(&mut ledger).await?;
        let other = coordinator(&cluster, "second")?;
        cluster.coordinators.push(other);
        dies.kill();
        let died = Instant::now();
        let left = cluster.ledger.run(&run).await?.context("a run")?;
        ensure!(!left.state.is_end(), "the run ended before its coordinator died");
        while epoch(&mut ledger).await? == before {
            ensure!(died.elapsed() < SOON, "nobody has taken it over\n{}", cluster.logs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let run = cluster.ended(&run).await?;
        ensure!(run.state == RunState::Succeeded && cluster.portal.written() == 6_000, "{run:?}");
        Ok(())
    })
}
